"""Tokens as numbers, and distinct n-grams counted against a set of tuples."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize import WordPunctTokenizer, wordpunct_tokenize
from nltk.util import ngrams

from progrpo.measures._ngrams import distinct_and_all, encode, tokenize

corpora = st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=5)


@given(st.text(alphabet=st.sampled_from("aZ9_ .$\\{}\n\t+éα—\u3000"), max_size=40))
def test_wordpunct_is_that_of_nltk(text: str) -> None:
    assert tokenize(text, "wordpunct") == wordpunct_tokenize(text)


@given(st.text(max_size=40))
def test_wordpunct_is_the_pattern_of_nltk_on_any_text(text: str) -> None:
    assert tokenize(text, "wordpunct") == re.findall(WordPunctTokenizer()._pattern, text)


def test_superscripts_belong_to_their_letter() -> None:
    assert tokenize("x² + ½", "wordpunct") == ["x²", "+", "½"]


def test_the_tokenizers_differ_on_latex() -> None:
    text = r"$x_1 = \frac{3}{4}$"
    assert tokenize(text, "wordpunct") == ["$", "x_1", "=", "\\", "frac", "{", "3", "}{", "4", "}$"]
    assert tokenize(text, "whitespace") == ["$x_1", "=", r"\frac{3}{4}$"]
    assert "".join(tokenize(text, "characters")) == text
    with pytest.raises(ValueError, match="expected wordpunct, whitespace or characters, got 'treebank'"):
        tokenize(text, "treebank")


def test_equal_tokens_get_equal_numbers() -> None:
    corpus = encode(["a b a", [], ["b", "c"]])
    assert corpus.tokens.tolist() == [0, 1, 0, 1, 2]
    assert corpus.lengths.tolist() == [3, 0, 2]
    assert corpus.vocabulary == 3
    assert corpus.text_of_token.tolist() == [0, 0, 0, 2, 2]
    assert corpus.remaining.tolist() == [3, 2, 1, 2, 1]


def test_one_string_is_not_a_list_of_texts() -> None:
    with pytest.raises(TypeError, match=r"give \[text\]"):
        encode("a b a")


@given(corpora, st.integers(1, 5))
def test_distinct_ngrams_are_those_of_a_set(texts: list[list[int]], n: int) -> None:
    found = [gram for text in texts for gram in ngrams(text, n)]
    assert distinct_and_all(encode(texts), n) == (len(set(found)), len(found))


def test_tokens_may_be_the_ids_of_a_completion() -> None:
    assert distinct_and_all(encode([np.array([7, 7, 7]), np.array([7, 9])]), 2) == (2, 3)


def test_orders_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="n >= 1, got 0"):
        distinct_and_all(encode([["a"]]), 0)
