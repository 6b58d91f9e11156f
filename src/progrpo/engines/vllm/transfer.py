"""Weights from the trainer to servers, by vLLM's own calls (init, start, update, finish) and a broadcast over gloo beside them.

vLLM brings transports for GPUs (NCCL, CUDA IPC). This one goes through the machine's memory and network and serves any device;
`register` makes it known to each process of a server, which finds it by its entry point: progrpo must be installed there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from progrpo.engines.vllm.start import BACKEND
from progrpo.errors import EngineError

CHUNK_BYTES = 64 * 2**20
"""Tensors that are announced together; one that is larger goes alone."""
_SUM_TOLERANCE = 1e-6


@dataclass
class InitInfo:
    """Where the trainer waits, and which of the servers' workers comes first here."""

    host: str
    port: int
    first_rank: int
    world: int
    timeout_s: float


@dataclass
class UpdateInfo:
    """What comes next over the wire, in this order. total: the sum over all of it, in float64."""

    names: list[str]
    dtypes: list[str]
    shapes: list[list[int]]
    total: float


class Wire:
    """A broadcast from the trainer, rank 0, to the workers of all servers; apart from any group of processes of either.

    Args:
        port: 0 takes a free one, on rank 0.

    Attributes:
        port: where the others find rank 0.
    """

    def __init__(self, host: str, port: int, *, rank: int, world: int, timeout_s: float) -> None:
        timeout = timedelta(seconds=timeout_s)
        store = dist.TCPStore(host, port, world, is_master=rank == 0, timeout=timeout, wait_for_workers=False)
        self.port = store.port
        self._rank, self._world, self._timeout, self._store = rank, world, timeout, store
        self._group: Any = None

    def meet(self) -> None:
        """Wait for the others.

        Raises:
            RuntimeError: they did not come.
        """
        self._group = dist.ProcessGroupGloo(
            dist.PrefixStore("progrpo", self._store), self._rank, self._world, self._timeout
        )

    def broadcast(self, tensor: Tensor) -> None:
        """Send (rank 0) or fill a tensor on the CPU."""
        options = dist.BroadcastOptions()
        options.rootRank = 0
        options.rootTensor = 0
        self._group.broadcast([tensor], options).wait()


def chunks(tensors: Iterable[tuple[str, Tensor]], size: int = CHUNK_BYTES) -> Iterator[list[tuple[str, Tensor]]]:
    """Tensors in groups of at most `size` bytes, one at least, on the CPU."""
    chunk: list[tuple[str, Tensor]] = []
    held = 0
    for name, tensor in tensors:
        on_cpu = tensor.detach().to("cpu").contiguous()
        if chunk and held + on_cpu.nbytes > size:
            yield chunk
            chunk, held = [], 0
        chunk.append((name, on_cpu))
        held += on_cpu.nbytes
    if chunk:
        yield chunk


def announcement(chunk: Sequence[tuple[str, Tensor]]) -> dict[str, Any]:
    """The fields of `UpdateInfo` for a chunk."""
    return {
        "names": [name for name, _ in chunk],
        "dtypes": [str(tensor.dtype).removeprefix("torch.") for _, tensor in chunk],
        "shapes": [list(tensor.shape) for _, tensor in chunk],
        "total": sum(float(tensor.sum(dtype=torch.float64)) for _, tensor in chunk),
    }


def received(info: UpdateInfo, wire: Wire) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a chunk as they come.

    Raises:
        EngineError: they do not add up to what was announced.
    """
    total, size = 0.0, 0.0
    for name, dtype, shape in zip(info.names, info.dtypes, info.shapes, strict=True):
        tensor = torch.empty(shape, dtype=getattr(torch, dtype))
        wire.broadcast(tensor)
        total += float(tensor.sum(dtype=torch.float64))
        size += float(tensor.abs().sum(dtype=torch.float64))
        yield name, tensor
    if not abs(total - info.total) <= _SUM_TOLERANCE * max(1.0, size):
        raise EngineError(f"weights arrived that add up to {total:.9g}; expected {info.total:.9g}")


def register() -> None:
    """Make the transfer known to vLLM, in each of its processes."""
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    if BACKEND in WeightTransferEngineFactory._registry:
        return
    WeightTransferEngineFactory.register_engine(BACKEND, "progrpo.engines.vllm.worker", "GlooWeightTransferEngine")
