"""Distinct-n, EAD and Self-BLEU of texts, and of the correct completions of problems."""

import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.errors import ConfigError
from progrpo.measures import load
from progrpo.measures.diversity import (
    Params,
    distinct_n,
    expectation_adjusted_distinct,
    measure,
    of_samples,
    over_task,
    self_bleu,
)
from progrpo.settings import Choice
from progrpo.types import ProblemResult, Sample

corpora = st.lists(st.text(alphabet="ab c", max_size=12), min_size=2, max_size=6)


def problem(name: str, *correct: str, wrong: tuple[str, ...] = ()) -> ProblemResult:
    right = [Sample(text=text, status="correct") for text in correct]
    return ProblemResult(problem=name, samples=(*right, *(Sample(text=text, status="wrong") for text in wrong)))


def test_distinct_by_hand() -> None:
    # Bigrams: ab bc | ab ba. 3 distinct of 4. Unigrams a b c | a b a: 3 of 6.
    texts = ["a b c", "a b a"]
    assert distinct_n(texts) == 3 / 4
    assert distinct_n(texts, 1) == 3 / 6
    assert distinct_n([["a", "b", "c"], ["a", "b", "a"]], 2) == 3 / 4
    assert distinct_n(["ab"], 1, tokenizer="characters") == 1


def test_ead_by_hand() -> None:
    # V = 10, C = 4 bigrams: expected 10 * (1 - 0.9**4) = 3.439; 3 are there.
    assert expectation_adjusted_distinct(["a b c", "a b a"], vocabulary=10) == pytest.approx(3 / 3.439)
    with pytest.raises(ValueError, match="vocabulary >= 2, got 1"):
        expectation_adjusted_distinct(["a b c"], vocabulary=1)


def test_ead_does_not_fall_as_even_draws_get_longer() -> None:
    # Every token of the vocabulary in turn, 1 or 40 times over: Distinct-1 falls 40-fold, EAD only from 1.58 to 1.
    once, often = [list(range(100))], [list(range(100)) * 40]
    assert distinct_n(once, 1) / distinct_n(often, 1) == pytest.approx(40)
    assert expectation_adjusted_distinct(once, 1, vocabulary=100) == pytest.approx(1 / (1 - 0.99**100))
    assert expectation_adjusted_distinct(often, 1, vocabulary=100) == pytest.approx(1)


def test_what_is_not_defined_is_nan() -> None:
    assert math.isnan(distinct_n(["a", "", "b"], 2))
    assert math.isnan(expectation_adjusted_distinct([], vocabulary=10))
    assert math.isnan(self_bleu(["a b c d e"]))
    assert math.isnan(self_bleu([]))
    with pytest.raises(ValueError, match="n >= 1, got 0"):
        self_bleu(["a", "b"], 0)


@given(corpora, st.randoms())
def test_the_order_of_the_texts_is_nothing(texts: list[str], random: object) -> None:
    shuffled = list(texts)
    random.shuffle(shuffled)
    assert self_bleu(shuffled) == pytest.approx(self_bleu(texts), rel=1e-12)
    assert distinct_n(shuffled, 1) == pytest.approx(distinct_n(texts, 1), nan_ok=True)


@given(corpora)
def test_bounds_and_copies(texts: list[str]) -> None:
    assert 0 <= self_bleu(texts) <= 1
    distinct = distinct_n(texts, 1)
    assert math.isnan(distinct) or 0 < distinct <= 1
    # A copy of every text is a perfect reference of every text that has 4 tokens.
    long = [text + " a b c d" for text in texts]
    assert self_bleu(long * 2) == 1
    if not math.isnan(distinct):
        assert distinct_n(texts * 2, 1) == pytest.approx(distinct / 2)


def test_only_correct_completions_are_measured() -> None:
    judged = problem("p", "a b c", "a b a", wrong=("x y z",))
    found = measure(judged, Params(vocabulary=10))
    assert found == {
        "distinct_2": 3 / 4,
        "ead_2": pytest.approx(3 / 3.439),
        "self_bleu_4": self_bleu(["a b c", "a b a"]),
    }
    assert measure(problem("p", "a b c", wrong=("a b c",)), Params()) == {}
    assert measure(problem("p", "a b c", "a b a"), Params(min_correct=3)) == {}


def test_names_carry_the_order_and_the_tokenizer() -> None:
    judged = problem("p", "ab", "ac")
    found = measure(judged, Params(distinct=(1,), self_bleu=(1, 2), tokenizer="characters"))
    assert list(found) == [
        "distinct_1/characters",
        "ead_1/characters",
        "self_bleu_1/characters",
        "self_bleu_2/characters",
    ]
    assert found["distinct_1/characters"] == 3 / 4
    # One of two characters matches, no bigram of one does: sqrt(1/2 * 0.1/1).
    assert found["self_bleu_2/characters"] == pytest.approx(math.sqrt(1 / 2 * 0.1))


def test_a_name_without_a_value_is_left_out() -> None:
    samples = [Sample(text="a", status="correct"), Sample(text="a", status="correct")]
    assert set(of_samples(samples, Params())) == {"self_bleu_4"}


def test_pooled_readings_take_all_correct_completions_of_the_task() -> None:
    # Within a problem the two texts are alike; the problems share nothing. One problem has a single correct completion.
    problems = [
        problem("p", "a b c d", "a b c d"),
        problem("q", "e f g h", wrong=("a b",)),
        problem("r", wrong=("e f",)),
    ]
    params = Params()
    within = [found["self_bleu_4"] for judged in problems if (found := measure(judged, params))]
    assert fmean(within) == 1
    pooled = over_task(problems, params)
    assert pooled["self_bleu_4/pooled"] == pytest.approx(2 / 3)
    assert pooled["distinct_2/pooled"] == 6 / 9
    assert set(pooled) == {"distinct_2/pooled", "ead_2/pooled", "self_bleu_4/pooled"}
    assert over_task(problems, Params(pooled=False)) == {}
    assert over_task(problems[1:], params) == {}


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="orders >= 1, got \\[0\\]"):
        load([Choice(name="diversity", self_bleu=[0])])
    assert load([Choice(name="diversity", distinct=[1, 2])])[0].params.distinct == (1, 2)
