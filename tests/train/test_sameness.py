import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.train.sameness import LEAST, PERIOD, TIMES, end_in_repetition, sameness_metrics
from progrpo.types import Completion, Group, Problem, Verdict


def ends(*completions: list[int]) -> list[bool]:
    return [bool(one) for one in end_in_repetition([torch.tensor(tokens, dtype=torch.long) for tokens in completions])]


def test_what_is_a_repetition() -> None:
    abc = [1, 2, 3]
    assert ends([9, 8, *abc * 8], [9, 8, *abc * 8, 7], [9, *abc * 7, 1, 2], abc * 7 + [4, 4]) == [
        True,
        True,
        False,
        False,
    ]
    # 24 equal tokens, and one fewer; with an end token after them
    assert ends([5] * 24, [5] * 23, [5] * 24 + [0], [5] * 23 + [0]) == [True, False, True, False]
    # 10 tokens three times are none, four times are one
    assert ends(list(range(10)) * 3, list(range(10)) * 4) == [False, True]
    # a period may end in the middle
    assert ends([3, *abc * 9, 1]) == [True]
    assert ends(list(range(PERIOD)) * TIMES, list(range(PERIOD + 1)) * TIMES) == [True, False]
    assert ends([], [1]) == [False, False]
    assert end_in_repetition([]).tolist() == []


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(4, 9))
def test_any_stretch_that_stands_often_enough(before: list[int], stretch: list[int], times: int) -> None:
    long = len(stretch) * times >= LEAST
    assert ends(before + stretch * times)[0] or not long
    # and what differs everywhere has none, however long
    assert not ends([*before, *range(100, 200)])[0]


@given(st.lists(st.lists(st.integers(0, 2), max_size=60), min_size=1, max_size=6))
def test_it_is_of_each_completion_by_itself(completions: list[list[int]]) -> None:
    assert ends(*completions) == [ends(one)[0] for one in completions]


def test_duplicates_by_hand() -> None:
    def group(*texts: list[int]) -> Group:
        tokens = [torch.tensor(text) for text in texts]
        return Group(
            problem=Problem(id="p", prompt="p"),
            prompt_ids=torch.tensor([1]),
            prompt_logprobs=None,
            completions=tuple(
                Completion(token_ids=one, sampler_logprobs=torch.zeros(len(one)), text="", finish="stop", seed=n)
                for n, one in enumerate(tokens)
            ),
            verdicts=(Verdict(status="wrong", reward=0.0),) * len(tokens),
        )

    # (3 - 2) + (3 - 3) of (3 - 1) + (3 - 1)
    metrics = sameness_metrics([group([1, 2], [1, 2], [1]), group([1], [2], [3])])
    assert metrics["rollout/duplicates"].value == pytest.approx(1 / 4)
    assert metrics["rollout/repeated"].value == 0
    assert sameness_metrics([group([1], [1], [1])])["rollout/duplicates"].value == 1
