import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.evaluate.score import (
    STATISTICS,
    ScoredCompletion,
    ScoredMethod,
    Scoring,
    completions_apart,
    group_difference,
    groups_apart,
    prompt_text,
    statistics,
)
from progrpo.report.score.words import value_of
from progrpo.schema.quantity import fixed
from progrpo.types import Completion, Problem, Verdict

Pairs = list[list[tuple[float, ...]]]


def scoring(*groups: list[tuple[float, ...]], recorded: float | None = None) -> Scoring:
    """Groups of completions, each with one advantage per method."""
    nothing = torch.zeros(0)
    completions = [
        ScoredCompletion(
            group=p,
            file="f",
            index=g,
            problem=Problem(id=str(p), prompt=""),
            completion=Completion(
                seed=0, text="", finish="stop", token_ids=nothing.long(), sampler_logprobs=nothing, entropies=nothing
            ),
            verdict=Verdict(status="wrong", reward=0.0),
            advantages=values,
            weights=None,
            entropy_changes=None,
            confidence=None,
            recorded=recorded,
            low=None,
        )
        for p, members in enumerate(groups)
        for g, values in enumerate(members)
    ]
    labels = [f"m{m}" for m in range(len(groups[0][0]))]
    return Scoring(
        methods=tuple(ScoredMethod(label=label, name=label, settings={}) for label in labels),
        completions=tuple(completions),
        files=("f",),
    )


def test_statistics_by_hand() -> None:
    first, second = statistics(scoring([(1.0, -1.0), (1.0, 2.0), (-2.0, 0.0), (0.0, 0.0)], recorded=1.0))
    assert (first.mean, first.zero_fraction) == (0.0, 0.25)
    assert first.spread == pytest.approx(1.5**0.5)  # of 1, 1, -2, 0: (1 + 1 + 4 + 0) / 4
    assert first.recorded_distance == 3.0
    assert (first.flipped_fraction, first.correlation) == (None, None)
    assert second.mean == 0.25
    assert second.zero_fraction == 0.5
    assert second.flipped_fraction == pytest.approx(1 / 3)  # 1 became -1; 0 has no sign to lose
    # pairs: 1=1 was a tie and is ordered; 1>-2 is now -1<0, 1>0 is now -1<0; 1>-2 and 1>0 stay; -2<0 is a tie
    assert second.untied_fraction == 1.0
    assert second.reversed_fraction == pytest.approx(2 / 5)
    # covariance (-1 + 2 + 0 + 0) / 4 = 0.25; deviations sqrt(1.5) and sqrt(5 / 4 - 1 / 16) = sqrt(1.1875)
    assert second.correlation == pytest.approx(0.25 / (1.5 * 1.1875) ** 0.5)
    assert second.recorded_distance == 2.0


def test_pairs_never_cross_groups() -> None:
    _, second = statistics(scoring([(0.0, 0.0), (1.0, 1.0)], [(2.0, 5.0), (3.0, 6.0)]))
    _, crossed = statistics(scoring([(0.0, 5.0), (1.0, 6.0)], [(2.0, 0.0), (3.0, 1.0)]))
    assert second.reversed_fraction == crossed.reversed_fraction == 0


def test_what_cannot_be_counted_is_none() -> None:
    first, second = statistics(scoring([(0.0, 1.0), (0.0, 1.0)]))
    assert first.recorded_distance is None
    assert (second.flipped_fraction, second.reversed_fraction, second.correlation) == (None, None, None)
    assert second.untied_fraction == 0
    assert value_of(second, STATISTICS[-1]) == "–"


@given(st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=1, max_size=4))
def test_a_method_differs_in_nothing_from_itself(groups: list[list[float]]) -> None:
    _, second = statistics(scoring(*([(value, value) for value in members] for members in groups)))
    assert not second.flipped_fraction
    assert not second.reversed_fraction
    assert not second.untied_fraction
    assert second.correlation is None or second.correlation == pytest.approx(1)


def test_the_largest_differences_come_first() -> None:
    made = scoring([(0.0, 0.25, 0.0), (0.0, 0.0, 0.25)], [(1.0, 1.0, 0.0), (1.0, 1.0, 1.0)])
    # group 0: 0.25 and 0.25; group 1: 1 and 0, a mean of 0.5
    assert [group_difference(members) for members in groups_apart(made)] == [0.5, 0.25]
    assert [(one.group, one.index) for one in completions_apart(made)] == [(1, 0), (0, 0), (0, 1), (1, 1)]


def test_words() -> None:
    assert [fixed(value, 3, signed=True) for value in (0.12345, -1.0, -0.0001)] == ["+0.123", "−1.000", "0.000"]
    messages = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "1+1?"})
    assert prompt_text(Problem(id="p", prompt=messages)) == "system: be brief\nuser: 1+1?"
