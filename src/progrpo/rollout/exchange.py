"""Groups that were sampled in several processes, brought together in all of them.

Objects travel pickled. Their tensors, nearly all of the bytes, travel beside them as one array for each number format, and
token ids in 32 bits: 4,096 completions of 2,000 tokens with log-probs and entropies are 98 MB.
"""

import io
import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from progrpo.processes import Processes
from progrpo.types import Group, Problem


class Parcel(NamedTuple):
    """What one process sends.

    Attributes:
        objects: pickled, with numbers where a tensor or a problem stands. numbers: by number format, all tensors' values
            one after another. shapes: of each tensor, and its number format.
    """

    objects: bytes
    numbers: dict[str, np.ndarray[Any, Any]]
    shapes: list[tuple[str, tuple[int, ...]]]


def gather_groups(groups: Sequence[Group], problems: Sequence[Problem], processes: Processes) -> tuple[Group, ...]:
    """The groups of all processes, by rank; every process has to call it.

    Args:
        groups: of this process. problems: of all of them, the same in every process.

    Raises:
        ProcessError: another process is gone.
    """
    if processes.count == 1:
        return tuple(groups)
    parcels = processes.gather(pack(groups, problems))
    # What this process has sampled, it has already.
    kept: list[Sequence[Group]] = [
        groups if rank == processes.rank else unpack(parcel, problems) for rank, parcel in enumerate(parcels)
    ]
    return tuple(group for part in kept for group in part)


def pack(groups: Sequence[Group], problems: Sequence[Problem]) -> Parcel:
    """See `Parcel`; the problems themselves stay at home."""
    places = {id(problem): place for place, problem in enumerate(problems)}
    tensors: list[Tensor] = []

    class GroupPickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, Tensor):
                tensors.append(obj)
                return "tensor", len(tensors) - 1
            if isinstance(obj, Problem):
                return "problem", places[id(obj)]
            return None

    buffer = io.BytesIO()
    GroupPickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(tuple(groups))
    parts: dict[str, list[np.ndarray[Any, Any]]] = {}
    shapes = []
    for tensor in tensors:
        values = tensor.detach().cpu().numpy()
        name = values.dtype.name
        if name == "int64" and (values.size == 0 or (values.min() >= -(2**31) and values.max() < 2**31)):
            name, values = "int64 in 32 bits", values.astype(np.int32)
        parts.setdefault(name, []).append(values.reshape(-1))
        shapes.append((name, tuple(tensor.shape)))
    return Parcel(buffer.getvalue(), {name: np.concatenate(values) for name, values in parts.items()}, shapes)


def unpack(parcel: Parcel, problems: Sequence[Problem]) -> tuple[Group, ...]:
    """The groups that were packed; their tensors are views of one tensor for each number format."""
    values = {
        name: torch.from_numpy(np.array(numbers, dtype=np.int64 if name == "int64 in 32 bits" else numbers.dtype))
        for name, numbers in parcel.numbers.items()
    }
    begin = dict.fromkeys(values, 0)
    tensors = []
    for name, shape in parcel.shapes:
        end = begin[name] + int(np.prod(shape))
        tensors.append(values[name][begin[name] : end].view(shape))
        begin[name] = end

    class GroupUnpickler(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            kind, place = pid
            return tensors[place] if kind == "tensor" else problems[place]

    groups: tuple[Group, ...] = GroupUnpickler(io.BytesIO(parcel.objects)).load()
    return groups


def size_of(parcel: Parcel) -> int:
    """Bytes of a parcel, but for the shapes (about 20 for each tensor)."""
    return len(parcel.objects) + sum(values.nbytes for values in parcel.numbers.values())
