"""BLEU against all others: nltk's numbers to the last bit, on cases by hand and on thousands by chance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from progrpo.measures import _self_bleu
from progrpo.measures._ngrams import encode
from progrpo.measures._self_bleu import bleu_against_others, clipped_matches

corpora = st.integers(1, 12).flatmap(
    lambda vocabulary: st.lists(st.lists(st.integers(1, vocabulary), max_size=14), min_size=2, max_size=7)
)


def of_nltk(texts: list[list[int]], n: int) -> list[float]:
    method1 = SmoothingFunction().method1
    return [
        sentence_bleu(texts[:index] + texts[index + 1 :], text, (1 / n,) * n, method1, auto_reweigh=False)
        for index, text in enumerate(texts)
    ]


@given(corpora, st.integers(1, 5))
def test_every_text_gets_nltks_bleu_to_the_last_bit(texts: list[list[int]], n: int) -> None:
    assert bleu_against_others(encode(texts), n) == of_nltk(texts, n)


def test_long_texts_get_nltks_bleu_to_the_last_bit() -> None:
    generator = np.random.default_rng(0)
    texts = [(generator.zipf(1.4, size=size) % 300).tolist() for size in (400, 400, 390, 250, 7)]
    assert bleu_against_others(encode(texts), 4) == of_nltk(texts, 4)


def test_codes_beyond_63_bits_are_renumbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_self_bleu, "_LARGEST_CODE", 8)
    texts = [[1, 2, 3, 1, 2], [2, 3, 1, 2, 3, 1], [3, 1, 2, 9]]
    assert bleu_against_others(encode(texts), 4) == of_nltk(texts, 4)


def test_matches_by_hand() -> None:
    # "a" stands 3 times in the first text and at most 2 times elsewhere: clipped to 2, and "b" matches: 3 of its 4 tokens.
    # The second owns nothing that it has more often than the others (a 2 <= 3, b 1 <= 1): 3 of 3. The third: its b only.
    # Bigrams: "a a" twice in the first, once in the second: clipped to 1. "a b" in both: 1 and 1.
    texts = [list("aaab"), list("aab"), list("cb")]
    assert clipped_matches(encode(texts), 2).tolist() == [[3, 3, 1], [2, 2, 0]]


def test_bleu_by_hand() -> None:
    # First: p1 = 3/4, p2 = 2/3, longer than the closest (3): sqrt(1/2). Second: all match, closest length of 4 and 2 is 2.
    # Third: p1 = 1/2, p2 = 0.1/1, closest 3: exp(1 - 3/2) * sqrt(1/20).
    found = bleu_against_others(encode([list("aaab"), list("aab"), list("cb")]), 2)
    assert found == pytest.approx([math.sqrt(1 / 2), 1.0, math.exp(-0.5) * math.sqrt(1 / 20)], rel=1e-12)


def test_no_shared_token_gives_0_and_a_short_text_is_smoothed() -> None:
    # One shared token and no bigram in either text: p2 = 0.1 / max(1, 0).
    assert bleu_against_others(encode([["a"], ["a"]]), 2) == pytest.approx([math.sqrt(0.1)] * 2)
    assert bleu_against_others(encode([["a", "b"], ["c"], []]), 4) == [0.0, 0.0, 0.0]
    assert bleu_against_others(encode([[], []]), 4) == [0.0, 0.0]


@pytest.mark.parametrize(("texts", "n"), [([["a"]], 4), ([], 4), ([["a"], ["a"]], 0)])
def test_what_has_no_bleu_is_refused(texts: list[list[str]], n: int) -> None:
    with pytest.raises(ValueError, match="at least 2 texts and n >= 1"):
        bleu_against_others(encode(texts), n)
