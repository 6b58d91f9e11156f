"""Checksums of weights."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.train import fingerprint

ONE, TWO, THREE = 0x3F800000, 0x40000000, 0x40400000  # bits of 1.0, 2.0 and 3.0 in float32


def test_words_of_eight_bytes_and_what_is_left() -> None:
    # Little end first: word 0 holds 1.0 and 2.0, word 1 holds 3.0 alone.
    words = (TWO << 32 | ONE, THREE)
    sums = fingerprint._sums(torch.tensor([1.0, 2.0, 3.0]))
    assert sums.tolist() == [words[0] + words[1], words[0] + 2 * words[1]]


def sums_in_parts(tensor: torch.Tensor, cuts: list[int]) -> torch.Tensor:
    """As the processes of a sharded model take them, each of its part."""
    total = torch.zeros(2, dtype=torch.int64)
    edges = [0, *sorted(cuts), len(tensor)]
    for start, end in pairwise(edges):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fingerprint, "_local", lambda whole, a=start, b=end: (whole[a:b], a))
            total += fingerprint._sums(tensor)
    return total


@given(
    size=st.integers(0, 40),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.uint8, torch.float64]),
    chunk=st.sampled_from([1, 3, 1 << 17]),
    data=st.data(),
)
def test_parts_sum_to_the_whole(size: int, dtype: torch.dtype, chunk: int, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, size), max_size=3))
    tensor = (torch.randn(size, generator=torch.Generator().manual_seed(size)) * 9).abs().to(dtype)
    whole = fingerprint._sums(tensor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "_CHUNK", chunk)
        assert torch.equal(sums_in_parts(tensor, cuts), whole)


@given(place=st.integers(0, 20), bit=st.integers(0, 31))
def test_a_bit_and_a_change_of_places_show(place: int, bit: int) -> None:
    tensor = torch.randn(21, generator=torch.Generator().manual_seed(0))
    whole = fingerprint._sums(tensor)
    flipped = tensor.clone()
    flipped.view(torch.int32)[place] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert not torch.equal(fingerprint._sums(flipped), whole)
    swapped = tensor.roll(2)  # whole words change places, the last number goes elsewhere
    assert not torch.equal(fingerprint._sums(swapped), whole)
