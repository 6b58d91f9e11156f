"""Checkpoints go from any number of processes to any other, and a process that dies ends the others."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from progrpo.errors import ProcessError, StorageError
from progrpo.files import read_jsonl
from progrpo.model import ModelSettings, load_model
from progrpo.model.shards import load_to_shard
from progrpo.processes import join, leave
from progrpo.settings import parse
from progrpo.train import checkpoint
from progrpo.train.follower import require_shared
from progrpo.train.parallel import Parallel, ParallelSettings
from progrpo.train.policy import Policy
from progrpo.train.settings import OptimSettings
from stand_ins.several_processes import free_port, start, train_together, with_gradients

Make = Callable[..., dict[str, Any]]


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "step-000003" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["progrpo", "ppo"])
def test_a_run_goes_on_with_another_number_of_processes(name: str, settings: Make, tmp_path: Path) -> None:
    def run(out: str, mode: str, steps: int) -> dict[str, Any]:
        batch = {"prompts": 3, "group": 4, "micro_tokens": 64}
        return settings(
            steps=steps,
            batch=batch,
            method={"name": name},
            evaluate={"every": 0},
            checkpoint={"every": 1, "keep": 3},
            optim={"lr": 1e-3, "weight_decay": 0.1},
            parallel=mode,
            out=str(tmp_path / out),
        )

    with_gradients(run("alone", "none", 3))
    expected = final_weights(tmp_path / "alone")
    # by two processes, then one, then three; replicated, then whole, then sharded, and the other way round
    for modes in (("ddp", "none", "fsdp2"), ("fsdp2", "none", "ddp"), ("fsdp2", "fsdp2", "fsdp2")):
        out = "-".join(modes)
        train_together(2, [run(out, modes[0], 1)])
        if modes[1] == "none":
            with_gradients(run(out, modes[1], 2), resume=True)
        else:
            train_together(1, [run(out, modes[1], 2)], resume=True)
        train_together(3, [run(out, modes[2], 3)], resume=True)
        assert [row["step"] for row in read_jsonl(tmp_path / out / "metrics.jsonl")] == [1, 2, 3]
        after = final_weights(tmp_path / out)
        assert after.keys() == expected.keys()
        for key, weights in expected.items():
            # a third of what a weight moves in a step (lr 1e-3): AdamW divides a gradient near 0 by its own size
            assert float((after[key] - weights).abs().max()) < 3e-4, (modes, key)
            assert float((after[key] - weights).abs().mean()) < 3e-6, (modes, key)


def _blind(rank: int, count: int, port: int, folder: str) -> None:
    from stand_ins.several_processes import enter

    enter(rank, count, port)
    with pytest.raises(ProcessError, match="processes 1 do not see .* share"):
        require_shared(join(), Path(folder) / str(rank) / "run")
    leave()
    assert not any(path.name.startswith(".shared") for path in Path(folder).rglob("*"))


@pytest.mark.slow
def test_nodes_without_a_common_file_system_are_refused(tmp_path: Path) -> None:
    start(_blind, 2, str(tmp_path))


def _full_disk(rank: int, count: int, port: int, folder: str, model: str) -> None:
    from stand_ins.several_processes import enter

    enter(rank, count, port)
    policy = _sharded(model)
    _weights_are_whole_in_the_main_process_alone(policy, model)
    if rank == 1:  # the system itself refuses what the optimiser's part takes, and in one of the processes only
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    with pytest.raises(StorageError, match="step-000001 cannot be written: "):
        checkpoint.save(Path(folder), 1, policy, keep=1, method_state={})
    policy.processes.wait()  # the main process removes what was written
    assert not list(Path(folder).iterdir())
    policy.processes.wait()  # and may go on to write only after the others have looked
    _refused_to_the_main_process(folder)
    leave()


def _sharded(model: str) -> Policy:
    settings = parse(ModelSettings, {"path": model, "device": "cpu"}, where="test")
    trained, _ = load_to_shard(settings)
    parallel = Parallel(ParallelSettings.model_validate("fsdp2"), join())
    return Policy(trained, OptimSettings(), steps=1, temperature=1.0, parallel=parallel)


def _weights_are_whole_in_the_main_process_alone(policy: Policy, model: str) -> None:
    expected = load_model(parse(ModelSettings, {"path": model, "device": "cpu"}, where="test")).model.state_dict()
    for parameter in policy.parameters:
        assert parameter.dtype == torch.float32
        assert isinstance(parameter, DTensor)
        assert 0 < parameter.to_local().numel() < parameter.numel()
    weights = policy.whole_weights(only_trained=False)
    assert weights is not None
    assert weights.keys() == (expected.keys() if policy.processes.main else set())
    for name, tensor in weights.items():
        assert torch.equal(tensor, expected[name]), name
    if weights:
        assert weights["lm_head.weight"] is weights["model.embed_tokens.weight"]
    policy.model.model.model.norm.weight.requires_grad_(False)
    partly = policy.whole_weights(only_trained=True)
    assert partly is not None
    assert partly.keys() == weights.keys() - {"model.norm.weight"}
    policy.model.model.model.norm.weight.requires_grad_(True)


def _refused_to_the_main_process(folder: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    module = SimpleNamespace(save_pretrained=refuse)
    policy = SimpleNamespace(
        processes=join(),
        model=SimpleNamespace(model=module),
        save_shards=lambda folder: None,
        whole_weights=lambda only_trained: None,
    )
    with pytest.raises(StorageError, match="No space left on device"):
        checkpoint.save(Path(folder), 1, policy, keep=1, method_state={})  # type: ignore[arg-type]
    policy.processes.wait()
    assert not list(Path(folder).iterdir())


def test_a_full_disk_ends_all_processes_with_the_reason(
    tiny_stored: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    start(_full_disk, 2, str(tmp_path_factory.mktemp("checkpoints")), str(tiny_stored(torch.bfloat16)))


def torchrun(*arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())),
        *("-m", "progrpo", *arguments),
    ]


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_it_goes_on(settings: Make, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(settings(steps=400, evaluate={"every": 0}, checkpoint={"every": 2})))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(torchrun("train", str(recipe)), stderr=log, stdout=log, env=environment)
        metrics = Path(settings()["out"]) / "metrics.jsonl"
        until = time.monotonic() + 240
        while not (metrics.exists() and len(read_jsonl(metrics)) >= 4):
            assert running.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.2)
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(running.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert running.wait(timeout=60) != 0
    text = (tmp_path / "log").read_text()
    assert "SIGKILL" in text or "Signal 9" in text, text  # torchrun says which process ended how
    done = len(read_jsonl(metrics))
    command = torchrun("train", str(recipe), "--resume", f"steps={done + 4 - done % 2}")
    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert again.returncode == 0, again.stderr
    assert [row["step"] for row in read_jsonl(metrics)] == list(range(1, done + 5 - done % 2))
