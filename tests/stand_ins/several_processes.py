"""Runs trained by several processes on this machine, for tests: started together, each with a rank, as torchrun would."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progrpo.processes import ALONE, EndOfProcess, join, leave
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.policy import Policy
from progrpo.train.settings import RunSettings

# They are forked from one process that has loaded torch and Transformers, which saves each some seconds.
multiprocessing.set_forkserver_preload(["progrpo.train.loop", "transformers.models.qwen2.modeling_qwen2"])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def train_together(count: int, runs: Sequence[dict[str, Any]], *, resume: bool = False) -> None:
    """Train each of `runs` (settings) in `count` processes, one after another; what a process raises is raised here."""
    start(_train, count, runs, resume)


def start(work: Callable[..., None], count: int, *arguments: Any) -> None:
    """Call `work(rank, count, port, *arguments)` in so many new processes; what one raises is raised here."""
    torch.multiprocessing.start_processes(
        _work_and_end, (work, count, free_port(), *arguments), nprocs=count, start_method="forkserver"
    )


def _work_and_end(rank: int, work: Callable[..., None], count: int, port: int, *arguments: Any) -> None:
    end = EndOfProcess()
    EndOfProcess.joined = True  # by `work`, and not only through `join`
    end.status = 1
    work(rank, count, port, *arguments)
    end.status = 0


def enter(rank: int, count: int, port: int) -> None:
    """Make this process one of several."""
    torch.set_num_threads(1)
    if count > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}


def _train(rank: int, count: int, port: int, runs: Sequence[dict[str, Any]], resume: bool) -> None:
    enter(rank, count, port)
    for settings in runs:
        with_gradients(settings, resume=resume)
    leave()


def with_gradients(settings: dict[str, Any], *, resume: bool = False) -> None:
    """Train, and write the gradient of every step, unclipped and whole, to the run directory: gradients.pt."""
    gradients: list[dict[str, Tensor]] = []
    clip = Policy.clip_gradient

    def keep(policy: Policy) -> float:
        clipped = clip(policy)
        scale = max(1.0, clipped)  # the limit is 1 and what `clip` gives is the norm before
        whole = {}
        for name, parameter in policy.model.model.named_parameters():
            if not parameter.requires_grad:
                continue
            assert parameter.grad is not None
            whole[name] = policy.parallel.full_tensor(parameter.grad).clone() * scale
        gradients.append(whole)
        return clipped

    Policy.clip_gradient = keep  # type: ignore[method-assign]
    try:
        run = train(parse(RunSettings, settings, where="test"), resume=resume)
    finally:
        Policy.clip_gradient = clip  # type: ignore[method-assign]
    if join() == ALONE or join().main:
        torch.save(gradients, Path(run.path) / "gradients.pt")
