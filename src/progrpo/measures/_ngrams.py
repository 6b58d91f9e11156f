"""Texts as integer-coded tokens, and how many of their n-grams are distinct.

n texts, T tokens of all of them together, V distinct tokens. Counting is by sorting integers, so no n-gram is ever a tuple.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np

Text = str | Sequence[Hashable]
"""A text, or the tokens it was already split into."""

Tokenizer = Literal["wordpunct", "whitespace", "characters"]
"""wordpunct: runs of letters, digits and underscores, and runs of other signs: the pattern of nltk's `wordpunct_tokenize`.
Newer nltk reads it with another engine, to which superscripts, fractions in one sign ("x²", "½") and combining marks are of
the other kind; elsewhere the tokens are the same.
whitespace: what stands between white space. characters: every character, white space included."""

_WORDS_AND_SIGNS = re.compile(r"\w+|[^\w\s]+")


def tokenize(text: str, tokenizer: Tokenizer) -> list[str]:
    """Split a text into tokens; an unknown tokenizer raises `ValueError`."""
    if tokenizer == "wordpunct":
        return _WORDS_AND_SIGNS.findall(text)
    if tokenizer == "whitespace":
        return text.split()
    if tokenizer == "characters":
        return list(text)
    raise ValueError(f"tokenizer: expected wordpunct, whitespace or characters, got {tokenizer!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Texts as numbers.

    Attributes:
        tokens: [T] one number in 0..V-1 per distinct token, text after text.
        lengths: [n] tokens of each text.
        vocabulary: V.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    vocabulary: int

    @property
    def text_of_token(self) -> np.ndarray:
        """[T] the index of the text each token stands in."""
        return np.repeat(np.arange(self.lengths.size), self.lengths)

    @property
    def remaining(self) -> np.ndarray:
        """[T] tokens from each one to the end of its text, itself included: an n-gram starts where n remain."""
        return np.repeat(np.cumsum(self.lengths), self.lengths) - np.arange(self.tokens.size)


def encode(texts: Sequence[Text], tokenizer: Tokenizer = "wordpunct") -> Corpus:
    """Number the tokens of `texts`; only plain strings are split, with `tokenizer`.

    Raises:
        TypeError: `texts` is one string, which would be read as texts of one character each.
    """
    if isinstance(texts, str):
        raise TypeError("texts: expected a list of texts or of token lists, got one string; give [text]")
    numbers: defaultdict[Hashable, int] = defaultdict(count().__next__)
    coded = []
    for text in texts:
        tokens = tokenize(text, tokenizer) if isinstance(text, str) else text
        coded.append(np.fromiter(map(numbers.__getitem__, tokens), dtype=np.int64, count=len(tokens)))
    return Corpus(
        tokens=np.concatenate([np.empty(0, np.int64), *coded]),
        lengths=np.array([part.size for part in coded], dtype=np.int64),
        vocabulary=len(numbers),
    )


def distinct_and_all(corpus: Corpus, n: int) -> tuple[int, int]:
    """How many distinct n-grams the texts have together, and how many n-grams; none runs across two texts.

    Raises:
        ValueError: n < 1.
    """
    if n < 1:
        raise ValueError(f"n-grams: expected n >= 1, got {n}")
    starts = np.flatnonzero(corpus.remaining >= n)
    grams = corpus.tokens[starts]
    for offset in range(1, n):
        # A code of the shorter n-gram is below T, so this stays below T * V, far inside 63 bits.
        grams = grams * corpus.vocabulary + corpus.tokens[starts + offset]
        if offset < n - 1:
            grams = np.unique(grams, return_inverse=True)[1]
    return int(np.unique(grams).size), int(grams.size)
