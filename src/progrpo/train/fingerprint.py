"""A checksum of each weight tensor, taken where it lies: which weights a rollout was sampled from and a step began with."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from progrpo.train.policy import Policy

_WORD = 8
"""Bytes."""
_CHUNK = 2**17
"""Words at a time, where they and what is computed of them stay in a processor's cache."""
_LARGE_CHUNK = 2**23
"""Elsewhere: few calls, and 64 MiB beside the weights."""


@torch.no_grad()
def weight_checksums(policy: Policy) -> dict[str, str]:
    """The checksum of each of the model's parameters, and of the method's net (under "net."), by name.

        a = sum_i w_i,    c = sum_i (i + 1) w_i      (mod 2^64; w_i: word i of eight bytes, in the order of the whole tensor)

    One number that differs in one bit changes the first sum, two words that change places the second. They find faults; they
    are no proof against someone who makes up weights with the same sums. Every process has to call it: of a sharded model each
    sums its part.
    """
    named: dict[str, Tensor] = dict(policy.model.model.named_parameters())
    if policy.net is not None:
        named |= {f"net.{name}": tensor for name, tensor in policy.net.named_parameters()}
    sums = [_sums(tensor.detach()) for tensor in named.values()]
    table = torch.stack(sums).cpu() if sums else torch.zeros(0, 2, dtype=torch.int64)
    if policy.parallel.sharded:
        # What each process holds whole, a method's net for one, counts in the main one alone.
        in_parts = torch.tensor([_in_parts(tensor) for tensor in named.values()])
        table = table if policy.processes.main else table * in_parts[:, None]
        policy.processes.sum(table)
    return {name: f"{a % 2**64:016x}{c % 2**64:016x}" for name, (a, c) in zip(named, table.tolist(), strict=True)}


def fingerprint_of(checksums: Mapping[str, str]) -> str:
    """One hash of all checksums and their names."""
    return hashlib.sha256("\n".join(f"{name} {value}" for name, value in checksums.items()).encode()).hexdigest()


def changed_weights(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of the tensors that differ, are missing or are new."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _sums(tensor: Tensor) -> Tensor:
    """[2] of the numbers that this process holds."""
    local, first = _local(tensor)
    data = local.contiguous().view(-1).view(torch.uint8)
    start = first * local.element_size()
    # The words that lie whole in this part; of those that it shares with another, or that end the tensor, each its bytes.
    ahead = min(-start % _WORD, len(data))
    whole = (len(data) - ahead) // _WORD * _WORD
    total = _of_words(data[ahead : ahead + whole], (start + ahead) // _WORD)
    for piece, at in ((data[:ahead], start), (data[ahead + whole :], start + ahead + whole)):
        if len(piece):
            padded = data.new_zeros(_WORD)
            padded[at % _WORD : at % _WORD + len(piece)] = piece
            total += _of_words(padded, at // _WORD)
    return total


def _of_words(data: Tensor, first: int) -> Tensor:
    """[2] of bytes that are whole words, the first of them number `first` of the tensor."""
    # A copy where a part of a tensor does not begin at a word.
    aligned = data.data_ptr() % _WORD == 0 and data.storage_offset() % _WORD == 0
    words = (data if aligned else data.clone()).view(torch.int64)
    total = torch.zeros(2, dtype=torch.int64, device=data.device)
    size = _CHUNK if data.device.type == "cpu" else _LARGE_CHUNK
    place = torch.arange(1, min(size, len(words)) + 1, device=data.device)
    for start in range(0, len(words), size):
        chunk = words[start : start + size]
        plain = chunk.sum()
        total += torch.stack([plain, (chunk * place[: len(chunk)]).sum() + (first + start) * plain])
    return total


def _in_parts(tensor: Tensor) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _local(tensor: Any) -> tuple[Tensor, int]:
    """What this process holds of a tensor, and the place of its first number in the whole one."""
    from torch.distributed.tensor import DTensor

    if not isinstance(tensor, DTensor):
        return tensor, 0
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    local: Tensor = tensor.to_local()
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return local, offset[0] * (tensor.numel() // max(1, tensor.shape[0])) if offset else 0
