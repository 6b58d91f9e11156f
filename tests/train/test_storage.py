"""A disk that fills: what is said, what is safe, and how the run goes on."""

import errno
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from progrpo.errors import ProgrpoError, StorageError
from progrpo.files import append, make_folder, read_jsonl, write_whole
from progrpo.model import LanguageModel
from progrpo.train import checkpoint
from progrpo.train.policy import Policy
from progrpo.train.record import RunDirectory
from progrpo.train.settings import OptimSettings
from stand_ins.runs import run

Make = Callable[..., dict[str, Any]]


@contextmanager
def full(pattern: str) -> Iterator[None]:
    """No room any more for files whose path matches: all that is written is flushed to the disk there and then."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if re.search(pattern, os.readlink(f"/proc/self/fd/{handle}")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: a real refusal, from whatever library writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_each_way_of_writing_names_file_and_cause(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_whole(path, "old\n")
    with small_files(10):
        with pytest.raises(StorageError, match=r"rows.jsonl cannot be written: File too large \(\d+\.\d\d GiB free"):
            write_whole(path, "x" * 100)
        assert path.read_text() == "old\n"  # whole, and no remnant beside it
        assert list(tmp_path.iterdir()) == [path]
        with pytest.raises(StorageError, match="rows.jsonl cannot be written"):
            append(path, "x" * 100)
    with pytest.raises(StorageError, match="rows.jsonl/below cannot be written: Not a directory"):
        make_folder(path / "below")
    with pytest.raises(OSError, match="Not a directory"):
        make_folder(path / "below")  # it is the standard error, too


@pytest.mark.parametrize("fails", ["model.safetensors", "trainer_state.pt"])
def test_a_checkpoint_that_finds_no_room_leaves_the_ones_before(
    tiny_model: LanguageModel, tmp_path: Path, fails: str
) -> None:
    policy = Policy(tiny_model, OptimSettings(), steps=9, temperature=1.0)
    policy.zero_grad()
    policy.step()
    checkpoint.save(tmp_path, 1, policy, keep=1, method_state={})
    written = {path.name: path.stat().st_size for path in (tmp_path / "step-000001").iterdir()}
    assert written["model.safetensors"] < written["trainer_state.pt"]
    with small_files(written[fails] - 1), pytest.raises(StorageError, match="step-000002 cannot be written"):
        checkpoint.save(tmp_path, 2, policy, keep=1, method_state={})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert checkpoint.load(checkpoint.latest_folder(tmp_path)).step == 1


def test_an_error_of_something_else_is_not_taken_for_the_disk(tiny_model: LanguageModel, tmp_path: Path) -> None:
    policy = Policy(tiny_model, OptimSettings(), steps=9, temperature=1.0)
    with pytest.raises(Exception, match="pickle|local object") as raised:
        checkpoint.save(tmp_path, 1, policy, keep=1, method_state={"hook": lambda: None})
    assert not isinstance(raised.value, ProgrpoError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "where", ["environment.json", "config.yaml", "evaluations/.step-000000", "rollouts/.step-000001"]
)
def test_before_the_first_step_the_directory_is_free_again(settings: Make, where: str) -> None:
    data = settings(steps=2)
    with full(re.escape(where)), pytest.raises(StorageError, match="No space left on device"):
        run(data)
    assert not Path(data["out"]).exists()


def test_a_folder_of_the_user_s_stays(settings: Make, make_module: Callable[[str], str]) -> None:
    data = settings(evaluate={"every": 0}, steps=2)
    out = Path(data["out"])
    out.mkdir()
    (out / ".note").write_text("mine")
    with full("rollouts"), pytest.raises(StorageError):
        run(data)
    assert [path.name for path in out.iterdir()] == [".note"]


def test_later_the_checkpoint_is_safe_and_the_run_goes_on(settings: Make, tmp_path: Path) -> None:
    data = settings()
    for where in ("rollouts/.step-000003", "/metrics.jsonl$", "checkpoints/.*step-000004"):
        with (
            full(f"{where}$" if where == "metrics.jsonl" else where),
            pytest.raises(StorageError, match=r"No space.*Safe: the run up to step 2, .*with --resume"),
        ):
            run(data, resume=Path(data["out"]).exists())
    path = run(data, resume=True)
    assert not list(path.rglob("*.writing*"))
    whole = run(data | {"out": str(tmp_path / "whole")})
    for step in (1, 3):
        name = f"step-{step:06d}.jsonl"
        assert read_jsonl(path / "rollouts" / name) == read_jsonl(whole / "rollouts" / name)
    assert [row["step"] for row in read_jsonl(path / "metrics.jsonl")] == [0, 1, 2, 3, 4]


def test_before_a_checkpoint_there_is_nothing_safe(settings: Make) -> None:
    data = settings(checkpoint={"every": 0})
    with full("rollouts/.step-000003"), pytest.raises(StorageError, match="No checkpoint was there yet: make room"):
        run(data)
    assert [row["step"] for row in read_jsonl(Path(data["out"]) / "metrics.jsonl")] == [0, 1, 2]


def test_a_rewind_leaves_nothing_of_later_steps(settings: Make) -> None:
    path = run(settings())
    kept = path / "checkpoints" / "step-000004"
    (kept / "model.safetensors").write_bytes(b"damaged")
    (path / "checkpoints" / "step-notes").mkdir()  # the user's own
    (path / "checkpoints" / ".writing-step-000006").mkdir()
    for name in (".metrics.jsonl.writing", "rollouts/.step-000003.jsonl.writing"):
        (path / name).touch()
    opened = RunDirectory(path)
    opened._rewind(2)
    opened.close()
    assert sorted(one.name for one in (path / "checkpoints").iterdir()) == ["step-000002", "step-notes"]
    assert not list(path.rglob("*.writing"))
    assert [row["step"] for row in read_jsonl(path / "metrics.jsonl")] == [0, 1, 2]


def test_an_error_of_the_first_rollout_gives_the_directory_up(
    settings: Make, make_module: Callable[[str], str]
) -> None:
    broken = make_module("from stand_ins.parity import Params\ndef score(text, problem, params):\n    return 1 / 0\n")
    data = settings(reward={"name": broken}, evaluate={"every": 0})
    with pytest.raises(ProgrpoError, match=r"ZeroDivisionError.*module.py, line 3, in score: `return 1 / 0`"):
        run(data)
    assert not Path(data["out"]).exists()
