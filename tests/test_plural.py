import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.plural import counted, near_multiples


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (1, "epoch", "1 epoch"),
        (0, "run", "0 runs"),
        (2, "process", "2 processes"),
        (1, "process", "1 process"),
        (3, "batch", "3 batches"),
        (1234567, "optimiser step", "1,234,567 optimiser steps"),
        (1.0, "epoch", "1 epoch"),
        (0.5, "epoch", "0.5 epochs"),
        (66.66667, "rollout", "66.67 rollouts"),
    ],
)
def test_numbers_with_their_nouns(number: float, noun: str, said: str) -> None:
    assert counted(number, noun) == said


def test_multiples_next_to_a_number() -> None:
    assert near_multiples(3, 2) == "2 or 4"
    assert near_multiples(3, 4) == "4"  # none at all is no advice


@given(st.integers(1, 10**6), st.integers(2, 10**4))
def test_multiples_are_multiples_and_next_to_it(value: int, of: int) -> None:
    near = [int(one) for one in near_multiples(value, of).split(" or ")]
    assert all(one % of == 0 and abs(one - value) <= of for one in near)
