"""Means over rollouts: every rollout counts once, whatever its length."""

import pytest

from progrpo.measures import Params
from progrpo.measures.token_probabilities import measure
from progrpo.measures.tokens import measure as tokens
from progrpo.types import ProblemResult, Sample, TokenStatistics


def statistics(probability: float, low: float, confidence: float, entropy: float) -> TokenStatistics:
    return TokenStatistics(probability=probability, low_probability=low, confidence=confidence, entropy=entropy)


def test_rollouts_count_alike() -> None:
    judged = ProblemResult(
        problem="p",
        samples=(
            Sample(
                text="a",
                status="correct",
                tokens=9,
                tempered=statistics(0.9, 0.5, 0.4, 0.2),
                raw=statistics(0.8, 0.4, 0.3, 0.5),
            ),
            Sample(text="b", status="wrong", tokens=1, tempered=statistics(0.7, 0.1, 0.2, 0.6)),
            Sample(text="", status="no_answer"),
        ),
    )
    assert measure(judged, Params()) == pytest.approx(
        {
            "probability": 0.8,
            "low_probability": 0.3,
            "confidence": 0.3,
            "rollout_entropy": 0.4,
            "raw/probability": 0.8,
            "raw/low_probability": 0.4,
            "raw/confidence": 0.3,
            "raw/rollout_entropy": 0.5,
        }
    )
    # The same entropies weighted by 9 tokens and 1: 0.9 * 0.2 + 0.1 * 0.6.
    assert tokens(judged, Params())["entropy"] == pytest.approx(0.24)


def test_nothing_recorded_is_nothing() -> None:
    assert measure(ProblemResult(problem="p", samples=(Sample(text="", status="wrong"),)), Params()) == {}
