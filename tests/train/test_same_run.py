"""A run knows what the user's own files were that it was made of."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo import rewards, sources
from progrpo.settings import Choice, parse
from progrpo.train.difficulty import cache_file
from progrpo.train.settings import RunSettings
from stand_ins.runs import run

Make = Callable[..., dict[str, Any]]


def write(path: Path, text: str) -> str:
    """A file of the user's, as a process finds it that begins now."""
    path.write_text(text)
    for known in [one for one in sys.modules if one.startswith("file:") and path.stem in one]:
        del sys.modules[known]
        sources._MODULES.pop(known, None)
    return str(path)


def judge(path: Path, verdict: bool) -> str:
    return write(path / "judging.py", f"def score(text, problem):\n    return {verdict}\n")


def test_a_run_that_goes_on_says_what_changed(settings: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    method = write(tmp_path / "mine.py", "def clip_range(step, params):\n    return 0.0, 0.2\n")
    data = settings(
        method={"name": method}, reward={"name": judge(tmp_path, False)}, steps=1, evaluate={"every": 0}
    ) | {"verify": {"check_gold": False}}

    def go_on(steps: int) -> str:
        caplog.clear()
        run(data | {"steps": steps}, resume=steps > 1)
        return caplog.text

    assert "changed since" not in go_on(1)
    assert "changed since" not in go_on(2)
    judge(tmp_path, True)
    write(tmp_path / "mine.py", "def clip_range(step, params):\n    return 0.1, 0.2\n")
    said = go_on(3)
    assert "changed since the run began: method" in said
    assert "mine.py, reward" in said
    assert "changed since" not in go_on(4)  # said once


def test_pass_rates_are_kept_by_what_judged(settings: Make, tmp_path: Path) -> None:
    def file(choice: dict[str, Any]) -> Path:
        return cache_file(parse(RunSettings, settings(reward=choice), where="test"))

    own = {"name": judge(tmp_path, False)}
    term = {"name": "length", "over": own, "limit_tokens": 9, "buffer_tokens": 1}
    before, over = file(own), file(term)
    assert file({"name": judge(tmp_path, False)}) == before
    judge(tmp_path, True)
    assert file(own) != before
    assert file(term) != over  # within another, too


def test_what_this_package_brings_has_no_digest() -> None:
    assert rewards.own_sources(Choice(name="length", over={"name": "math"}, limit_tokens=9, buffer_tokens=1)) == {}


def test_functions_are_known_by_their_text_and_by_their_code_without_one() -> None:
    def one(text: str) -> bool:
        return "1" in text

    def other(text: str) -> bool:
        return "2" in text

    spaces: list[dict[str, Any]] = [{}, {}, {}]
    for space, text in zip(spaces, ("return 1", "return 1", "return 2"), strict=True):
        exec(f"def made(text, problem):\n    {text}", space)
    made = [sources.digest_of(space["made"]) for space in spaces]
    assert made[0] == made[1] != made[2]
    assert sources.digest_of(one) != sources.digest_of(other)
