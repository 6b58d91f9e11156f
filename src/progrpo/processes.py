"""The processes of a run: which one this is, and how they exchange what each has made.

`torchrun`, `accelerate launch` and Slurm's `srun` start one program several times and tell every process its rank in the
environment. What is exchanged here are Python objects and tensors on the CPU, by gloo; gradients are summed elsewhere
(`progrpo.train.parallel`). With one process nothing is initialised and every exchange gives back what was put in.
"""

import atexit
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from progrpo.errors import ConfigError, ProcessError, ProgrpoError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_PATIENCE = timedelta(hours=4)
"""How long a process waits for the others: one may still sample or verify. A process that died is noticed at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: 0 .. count - 1. local_rank: the same on this machine; the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def share(self, number: int) -> slice:
        """Which of `number` things in a row are this process's; sizes differ by one at most."""
        return slice(self.rank * number // self.count, (self.rank + 1) * number // self.count)

    def gather(self, value: T) -> list[T]:
        """What each process has put in, by rank. Every process has to call it.

        Raises:
            ProcessError: another process is gone.
        """
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        with _named_loss():
            dist.all_gather_object(values, value)
        return values

    def same(self, make: Callable[[], T]) -> T:
        """What the main process makes; the others wait for it. A known error is raised in all of them."""
        if self.count == 1:
            return make()
        result: list[Any] = [None]
        if self.main:
            try:
                result = [make()]
            except ProgrpoError as error:
                result = [error]
        import torch.distributed as dist

        with _named_loss():
            dist.broadcast_object_list(result, src=0)
        if isinstance(result[0], ProgrpoError):
            raise result[0]
        value: T = result[0]
        return value

    def sum(self, *tensors: "Tensor | None") -> None:
        """Add up tensors on the CPU over the processes, in place; None is passed over (in all processes alike)."""
        if self.count == 1:
            return
        import torch.distributed as dist

        with _named_loss():
            for tensor in tensors:
                if tensor is not None:
                    dist.all_reduce(tensor)

    def wait(self) -> None:
        """Until all processes are here."""
        self.gather(None)

    def require_same(self, what: str, *tensors: "Tensor | None") -> None:
        """Check that every process holds the same numbers, bit for bit.

        Raises:
            ProcessError: they do not, naming `what`.
        """
        if self.count == 1:
            return
        digest = 0
        for tensor in tensors:
            if tensor is not None:
                digest = zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes(), digest)
        if len(set(self.gather(digest))) > 1:
            raise ProcessError(
                f"the processes disagree on {what}, which each computes from the same rollout: they would take different "
                "steps. Expected the same library versions and hardware in all of them; nothing was stepped"
            )


ALONE = Processes()


def require_alone(verb: str) -> None:
    """Raises ConfigError if a launcher started several processes of something that works in one."""
    if (count := launched().count) > 1:
        raise ConfigError(f"{verb} works in one process, and {count} were started: call it without torchrun or srun")


def launched(environ: Mapping[str, str] = os.environ) -> Processes:
    """What the launcher says of this process; `ALONE` without one.

    Raises:
        ConfigError: the environment names several processes, but not which one this is.
    """
    if "WORLD_SIZE" in environ and "RANK" in environ:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif "SLURM_STEP_NUM_TASKS" in environ and "SLURM_PROCID" in environ:
        # Set by srun for each task it starts, and not in a batch script, which is one process whatever was reserved.
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    else:
        return ALONE
    try:
        rank, count, local_rank = (int(environ[name]) for name in names)
    except (KeyError, ValueError):
        got = ", ".join(f"{name}={environ.get(name)}" for name in names)
        raise ConfigError(
            f"the launcher's environment is incomplete: expected three whole numbers, got {got}"
        ) from None
    if not 0 <= rank < count:
        raise ConfigError(f"the launcher's environment is wrong: {names[0]}={rank} of {names[1]}={count} processes")
    return ALONE if count == 1 else Processes(rank=rank, count=count, local_rank=local_rank)


def join(environ: Mapping[str, str] = os.environ) -> Processes:
    """Join the other processes of the run, if there are any. May be called again.

    Raises:
        ConfigError: see `launched`. ProcessError: the others cannot be reached.
    """
    processes = launched(environ)
    if processes.count == 1:
        return processes
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return processes
    if torch.cuda.is_available():
        torch.cuda.set_device(processes.local_rank % torch.cuda.device_count())
    address, port = _meeting_point(environ)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            init_method=f"tcp://{address}:{port}",
            rank=processes.rank,
            world_size=processes.count,
            timeout=_PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise ProcessError(
            f"process {processes.rank} of {processes.count} cannot join the others at {address}:{port}: {error}"
        ) from error
    EndOfProcess.joined = True
    return processes


def leave() -> None:
    """End the exchange with the other processes; every one of them has to call it."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        # None of them may take its connections down while another is still reading from them.
        dist.all_gather_object([None] * dist.get_world_size(), None)
        dist.destroy_process_group()
        time.sleep(0.1)  # for gloo's threads: see `EndOfProcess`


class EndOfProcess:
    """Ends a process that has joined others once Python's exit handlers have run; its memory is left to the system.

    Gloo's threads outlive `destroy_process_group`, and give back the Python objects of an exchange a moment after it. One that
    does so while the interpreter is being taken down aborts the process ("terminate called without an active exception"),
    and a run that was done would count as failed. Exit handlers run in reverse order: to be made before any other.

    Attributes:
        joined: whether this process has joined others; one alone ends as any program does.
        status: the exit status, to be set before the interpreter ends.
    """

    joined: ClassVar[bool] = False

    def __init__(self) -> None:
        self.status = 0
        atexit.register(self._end)

    def _end(self) -> None:
        if self.joined:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.status)


def _meeting_point(environ: Mapping[str, str]) -> tuple[str, int]:
    """Where the processes meet: as the launcher says, or, under Slurm, the first node and a port made of the job's number."""
    if "MASTER_ADDR" in environ and "MASTER_PORT" in environ:
        return environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
    address = environ.get("SLURM_SRUN_COMM_HOST") or environ.get("SLURM_LAUNCH_NODE_IPADDR")
    if not address:
        raise ConfigError(
            "several processes, but nothing says where they meet: set MASTER_ADDR and MASTER_PORT, or start them by torchrun"
        )
    return address, 20_000 + int(environ.get("SLURM_JOB_ID", "0")) % 20_000


class _named_loss:  # noqa: N801 - used as a context manager
    """Turns torch's error about a lost process into one of ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: object) -> None:
        if isinstance(value, RuntimeError):
            raise ProcessError(
                f"another process of this run is gone or silent ({str(value).splitlines()[0]}); its own message says why. "
                "Go on from the last checkpoint with --resume"
            ) from value
