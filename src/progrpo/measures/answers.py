"""What the samples of one problem answer: how many different answers, and how often the most frequent one is right.

Answers are one where their canonical forms are, or, without such a form, where their texts are after `normalized`. Equal
answers that are spelled otherwise stay apart ("1/2" and "0.5"): which spellings are equal only the verifier knows, and only
against the gold answer, so merging by its verdict would help the right answer alone.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from progrpo.measures import Params
from progrpo.measures.pass_at_k import powers_of_two
from progrpo.schema.quantity import Quantity
from progrpo.types import ProblemResult, Sample

__all__ = ["majority", "normalized"]

NEEDS_ANSWERS = True
COLUMNS = (
    Quantity(
        key="maj@K",
        label="Maj@K",
        unit="%",
        percent=True,
        better="higher",
        meaning="majority vote: chance that the most frequent answer among K of the n samples is right, exact over all "
        "K-subsets, ties in expectation; K = 1, 2, 4, ... n",
        drawn=("benchmarks", "overview"),
    ),
    Quantity(
        key="distinct_answers",
        label="Distinct answers",
        unit="per problem",
        digits=2,
        meaning="different answers among all samples, mean over problems; `/solved`, `/unsolved`: over those with and without "
        "a correct sample",
        variants=("/solved", "/unsolved"),
    ),
    Quantity(
        key="distinct_wrong_answers",
        label="Distinct wrong answers",
        unit="per problem",
        digits=2,
        meaning="different answers among the samples judged wrong, mean over problems",
    ),
)

_MOST_SAMPLES = 1024
"""Above it the terms of maj@k leave the range of a float, and maj@k is left out."""

_LAYOUT = re.compile(r"\\(?:left|right|displaystyle|text(?:rm|bf|it)?|mathrm|[,;:!>])(?![a-zA-Z])|[\s$~]")
_NUMBER = re.compile(r"([+-]?)0*([0-9]+)(?:\.([0-9]*?)0*)?")


def normalized(answer: str) -> str:
    """An answer without layout: no white space, dollar signs, LaTeX spacing and font commands, or full stop at its end;
    \\dfrac and \\tfrac become \\frac; numbers lose a plus sign, leading zeros, and zeros after the point (025.0 is 25)."""
    answer = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", _LAYOUT.sub("", answer)).rstrip(".")
    number = _NUMBER.fullmatch(answer)
    if number is None:
        return answer
    sign, whole, fraction = number.groups()
    return sign.replace("+", "") + whole + (f".{fraction}" if fraction else "")


def _key(sample: Sample) -> tuple[str, str] | None:
    """What equal answers share; None for a sample that has no answer."""
    if sample.canonical is not None:
        return "canonical", sample.canonical
    text = normalized(sample.extracted or "") if sample.status != "no_answer" else ""
    return ("text", text) if text else None


def majority(sizes: Sequence[int], shares: Sequence[float], n: int) -> list[float]:
    """Chance that the most frequent answer among k of the n samples is right, for k = 1..n.

        maj@k = E over k-subsets [ mean over the answers that tie for most votes of their share of correct samples ]

    Exact, by counting the subsets: for each number of votes v, those in which some answers have v votes and all others
    fewer. No subset is drawn. A subset without any answer is wrong.

    Args:
        sizes: samples that gave each answer, >= 1; together at most n, and the rest gave none.
        shares: share of each answer's samples that are correct, 0 or 1 unless the verifier failed on some.
        n: samples, 1..1024.
    Returns:
        n probabilities; the first is the share of correct samples.
    Raises:
        ValueError: outside these ranges.
    """
    if not (1 <= n <= _MOST_SAMPLES and sum(sizes) <= n and len(sizes) == len(shares) and min(sizes, default=1) >= 1):
        raise ValueError(
            f"maj@k: expected 1 <= n <= {_MOST_SAMPLES} and sizes >= 1 that sum to at most n, one share for each; "
            f"got n={n}, {len(sizes)} sizes that sum to {sum(sizes)}, {len(shares)} shares"
        )
    right = np.zeros(n + 1)
    for votes in range(1, max(sizes, default=0) + 1):
        right += _right_with(votes, sizes, shares, n)
    return [float(value) for value in (right / _subsets(n))[1:]]


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """`distinct_answers`: different answers among all samples, once more as `distinct_answers/solved` where one of them is
    correct and as `/unsolved` where none is; `distinct_wrong_answers`: among those judged wrong; `maj@k` for k = 1, 2, 4, ...
    and n: see `majority`. maj@1 is pass@1, as is avg@n.

    Nothing where a judged sample's answer was not recorded.
    """
    if any(sample.status in ("correct", "wrong") and _key(sample) is None for sample in judged.samples):
        return {}
    answers = Counter(answer for sample in judged.samples if (answer := _key(sample)) is not None)
    correct = Counter(_key(sample) for sample in judged.samples if sample.correct)
    wrong = {_key(sample) for sample in judged.samples if sample.status == "wrong"}
    of_kind = f"distinct_answers/{'solved' if judged.correct else 'unsolved'}"
    values = {"distinct_answers": float(len(answers)), of_kind: float(len(answers))}
    values["distinct_wrong_answers"] = float(len(wrong))
    if judged.n > _MOST_SAMPLES:
        return values
    chances = majority(list(answers.values()), [correct[a] / size for a, size in answers.items()], judged.n)
    return values | {f"maj@{k}": chances[k - 1] for k in powers_of_two(judged.n)}


def _right_with(votes: int, sizes: Sequence[int], shares: Sequence[float], n: int) -> np.ndarray:
    """[n+1] over subsets of each size in which the most frequent answers have just `votes` votes: the sum of their mean
    share of correct samples, in units of 2^-n subsets.

    `ways[t, k]` counts the subsets of k samples in which t answers have `votes` votes and none more, of the answers
    looked at so far; `share_sum[t, k]` sums over these subsets the shares of the t answers.
    """
    rivals = [(size, share) for size, share in zip(sizes, shares, strict=True) if size >= votes]
    seen = n - sum(size for size, _ in rivals)
    ways, share_sum = counts = np.zeros((2, len(rivals) + 1, n + 1))
    ways[0, : seen + 1] = _subsets(seen)
    for ties, (size, share) in enumerate(rivals, start=1):
        row = _subsets(size)
        last, seen = seen + 1, seen + size
        before, sum_before = counts[:, :ties, :last].copy()
        counts[:, :ties, : last + votes - 1] = _products(counts[:, :ties, :last], row[:votes])
        ways[1 : ties + 1, votes : votes + last] += row[votes] * before
        share_sum[1 : ties + 1, votes : votes + last] += row[votes] * (sum_before + share * before)
    mean_shares: np.ndarray = share_sum[1:] / np.arange(1, len(rivals) + 1)[:, None]
    total: np.ndarray = mean_shares.sum(axis=0)
    return total


def _products(counts: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Polynomials along the last axis, each times `row`; looped over the shorter of the two, for speed."""
    rows = counts.reshape(-1, counts.shape[-1])
    if len(rows) < row.size:
        products = np.stack([np.convolve(one, row) for one in rows])
    else:
        products = np.zeros((len(rows), rows.shape[1] + row.size - 1))
        for power, factor in enumerate(row):
            products[:, power : power + rows.shape[1]] += factor * rows
    return products.reshape(*counts.shape[:-1], -1)


@lru_cache(_MOST_SAMPLES + 1)
def _subsets(size: int) -> np.ndarray:
    """[size+1] C(size, k) / 2^size: subsets of each number of samples, scaled so that products stay inside a float."""
    subsets = np.array([math.comb(size, k) / 2**size for k in range(size + 1)])
    subsets.flags.writeable = False  # shared by all who ask
    return subsets
