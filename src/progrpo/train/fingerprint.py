"""A checksum of each weight tensor, taken where it lies: which weights a rollout was sampled from and a step began with."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from progrpo.train.policy import Policy

_CHUNK = 2**22
"""Numbers at a time: what is needed beside the weights is eight bytes for each of them, a few times over."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def weight_checksums(policy: Policy) -> dict[str, str]:
    """The checksum of each of the model's parameters, and of the method's net (under "net."), by name.

        a = sum_i b_i,    c = sum_i (i + 1) b_i      (mod 2^64; b_i: the bits of number i, in the order of the whole tensor)

    One number that differs in one bit changes the first sum, two that change places the second. They find faults; they are no
    proof against someone who makes up weights with the same sums. Every process has to call it: of a sharded model each sums
    its part.
    """
    named: dict[str, Tensor] = dict(policy.model.model.named_parameters())
    if policy.net is not None:
        named |= {f"net.{name}": tensor for name, tensor in policy.net.named_parameters()}
    sums = [_sums(tensor.detach()) for tensor in named.values()]
    table = torch.stack(sums).cpu() if sums else torch.zeros(0, 2, dtype=torch.int64)
    if policy.parallel.sharded:
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
    bits = local.contiguous().view(-1).view(_BITS[local.element_size()])
    total = torch.zeros(2, dtype=torch.int64, device=bits.device)
    for start in range(0, len(bits), _CHUNK):
        chunk = bits[start : start + _CHUNK].long()
        place = torch.arange(first + start + 1, first + start + 1 + len(chunk), device=bits.device)
        total += torch.stack([chunk.sum(), (chunk * place).sum()])
    return total


def _local(tensor: Any) -> tuple[Tensor, int]:
    """What this process holds of a tensor, and the place of its first number in the whole one."""
    from torch.distributed.tensor import DTensor

    if not isinstance(tensor, DTensor):
        return tensor, 0
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    local: Tensor = tensor.to_local()
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return local, offset[0] * (tensor.numel() // max(1, tensor.shape[0])) if offset else 0
