"""How much the correct completions of a problem repeat each other: Distinct-n, Self-BLEU, expectation-adjusted Distinct.

Two variants stand side by side:
    within a problem (`distinct_2`, ...)    over the correct completions of one problem, then the mean over problems that
                                            have at least two. The default: a policy collapses per problem, and texts on
                                            different problems differ however the policy has collapsed
    pooled (`distinct_2/pooled`, ...)       over all correct completions of a task at once, which is what the "dataset
                                            level" of arXiv:2602.05281, Table 5, says literally. It also moves with how many
                                            problems are solved, and how often

All of them depend on how many texts go in: the more texts, the higher Self-BLEU and the lower Distinct-n, with no change
of style. Two models are compared fairly at equal numbers: see `progrpo.measures._matched`.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from progrpo.measures._ngrams import Corpus, Text, Tokenizer, distinct_and_all, encode
from progrpo.measures._self_bleu import bleu_against_others
from progrpo.schema.quantity import Quantity
from progrpo.settings import Settings
from progrpo.types import ProblemResult, Sample

__all__ = ["distinct_n", "expectation_adjusted_distinct", "of_samples", "self_bleu", "semantic_cosine", "unit_rows"]

logger = logging.getLogger(__name__)

COLUMNS = (
    Quantity(
        key="distinct_K",
        label="Distinct-K",
        unit="",
        digits=3,
        better="higher",
        meaning="share of distinct K-grams among all of a problem's correct completions, mean over problems with at least two",
        drawn=("table-5",),
        variants=("/pooled",),
    ),
    Quantity(
        key="self_bleu_K",
        label="Self-BLEU-K",
        unit="",
        digits=3,
        better="lower",
        meaning="BLEU, n-grams up to K, of each of a problem's correct completions against the others, mean over problems "
        "with at least two",
        drawn=("table-5",),
        variants=("/pooled",),
    ),
    Quantity(
        key="ead_K",
        label="Expectation-adjusted Distinct-K",
        unit="",
        digits=3,
        better="higher",
        meaning="distinct K-grams over those expected of as many drawn evenly from the vocabulary, likewise",
        variants=("/pooled",),
    ),
)


class Params(Settings):
    distinct: tuple[int, ...] = (2,)
    """n of `distinct_n` and `ead_n`; the paper's table has Distinct-2."""
    self_bleu: tuple[int, ...] = (4,)
    """n of `self_bleu_n`, the longest n-grams counted. The paper does not say; 4 is BLEU's own."""
    tokenizer: Tokenizer = "wordpunct"
    """How texts are split; another one than "wordpunct" becomes part of the names (`self_bleu_4/characters`)."""
    vocabulary: int = Field(50_257, ge=2)
    """V of `ead_n`, tokens. The default is that of Kirk et al. (arXiv:2310.06452), who keep one V for every n."""
    min_correct: int = Field(2, ge=2)
    """Problems with fewer correct completions are left out."""
    pooled: bool = True
    """Whether to measure the correct completions of all problems together, too."""
    pooled_tokens: int = Field(10_000_000, ge=1)
    """Beyond so many tokens of correct completions the pooled variant is left out, with a warning: it takes about 85 MB and
    1.5 s per million."""

    @field_validator("distinct", "self_bleu")
    @classmethod
    def _orders(cls, orders: tuple[int, ...]) -> tuple[int, ...]:
        if any(order < 1 for order in orders):
            raise ValueError(f"expected n-gram orders >= 1, got {list(orders)}")
        return orders


def distinct_n(texts: Sequence[Text], n: int = 2, tokenizer: Tokenizer = "wordpunct") -> float:
    """Share of distinct n-grams among all n-grams of the texts together.

        Distinct-n = |{g}| / Σ_g count(g)

    Source: Li et al. 2016, arXiv:1510.03055, Sec. 5.3. No n-gram runs across two texts. It falls as texts get longer or
    more: see `expectation_adjusted_distinct`.

    Args:
        texts: strings, split by `tokenizer`, or lists of tokens, taken as they are.
        n: >= 1.
    Returns:
        In (0, 1]; nan where no text has n tokens.
    """
    return _share(*distinct_and_all(encode(texts, tokenizer), n))


def expectation_adjusted_distinct(
    texts: Sequence[Text], n: int = 2, *, vocabulary: int, tokenizer: Tokenizer = "wordpunct"
) -> float:
    """Distinct n-grams over those expected of as many drawn evenly from a vocabulary: Distinct-n without its fall with length.

        EAD = |{g}| / (V · (1 − ((V−1)/V)^C)),   C = Σ_g count(g)

    Source: Liu et al. 2022, arXiv:2202.13587, Eq. 2. V is the number of *tokens* for every n, as in released code.

    Args:
        texts, n, tokenizer: see `distinct_n`.
        vocabulary: V, >= 2. Values of different V do not compare.
    Returns:
        >= 0, and above 1 where the texts have more distinct n-grams than V; nan where no text has n tokens.
    """
    return _adjusted(*distinct_and_all(encode(texts, tokenizer), n), vocabulary)


def self_bleu(texts: Sequence[Text], n: int = 4, tokenizer: Tokenizer = "wordpunct") -> float:
    """Mean BLEU of each text against all the others: 1 where all are alike, 0 where none shares a token with another.

        Self-BLEU = 1/K · Σ_i BLEU(o_i ; {o_j : j ≠ i}),   n-grams up to n with weights 1/n, smoothing method 1

    Source: Zhu et al. 2018 (Texygen), arXiv:1802.01886; each term to the last bit nltk's `sentence_bleu` (see
    `_self_bleu.bleu_against_others`). It names neither n nor the tokenizer: state both with the number.

    Args:
        texts: strings, split by `tokenizer`, or lists of tokens, taken as they are.
        n: >= 1.
    Returns:
        In [0, 1]; nan for fewer than two texts, where it is not defined.
    """
    return _self_bleu(encode(texts, tokenizer), n)


def semantic_cosine(texts: Sequence[str] | Sequence[Sequence[float]] | np.ndarray, *, device: str = "auto") -> float:
    """Mean cosine over all pairs of embeddings: 1 − this is a diversity.

        (‖Σ_i e_i‖² − K) / (K (K−1)),   e_i of length 1

    which is the mean over the K (K−1) pairs in time linear in K. Source: arXiv:2602.05281, Table 5, with
    all-MiniLM-L6-v2, which reads the first 256 tokens of a text and no more.

    Args:
        texts: strings, embedded with that model (needs the extra `semantic`), or embeddings [K, d], of any length but 0.
        device: where strings are embedded; "auto" takes a GPU if there is one.
    Returns:
        In [-1/(K-1), 1]; nan for fewer than two texts.
    Raises:
        ValueError: embeddings of another rank, or one without a direction.
        ConfigError: strings were given, and the extra is not installed.
    """
    count = len(texts)
    if count < 2:
        return math.nan
    rows: Any = texts
    if isinstance(texts[0], str):
        from progrpo.measures._embeddings import encoder

        rows = encoder(device).first(rows)
    total = unit_rows(rows).sum(axis=0)
    return float((total @ total - count) / (count * (count - 1)))


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """The rows of [K, d] in float64, each divided by its length; `ValueError` where a row is 0 or not finite."""
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2:
        raise ValueError(f"embeddings: expected shape [K, d], got {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if bad.size:
        raise ValueError(
            f"embeddings: expected finite rows other than 0, got {lengths[bad[0], 0]} as length of row {bad[0]}"
        )
    units: np.ndarray = rows / lengths
    return units


def of_samples(samples: Sequence[Sample], params: Params) -> dict[str, float]:
    """The values of any samples, correct or not: what `measure` gives for the correct ones. A name whose value is not
    defined (no text is long enough, a single text) is left out."""
    corpus = encode([sample.text for sample in samples], params.tokenizer)
    values: dict[str, float] = {}
    for n in params.distinct:
        distinct, total = distinct_and_all(corpus, n)
        values[f"distinct_{n}"] = _share(distinct, total)
        values[f"ead_{n}"] = _adjusted(distinct, total, params.vocabulary)
    for n in params.self_bleu:
        values[f"self_bleu_{n}"] = _self_bleu(corpus, n)
    suffix = "" if params.tokenizer == "wordpunct" else f"/{params.tokenizer}"
    return {f"{name}{suffix}": value for name, value in values.items() if not math.isnan(value)}


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """`distinct_2`, `ead_2` and `self_bleu_4` of the correct completions of one problem; nothing for fewer than two."""
    return _of_correct([judged], params)


def over_task(problems: Sequence[ProblemResult], params: Params) -> dict[str, float]:
    """`distinct_2/pooled`, `ead_2/pooled` and `self_bleu_4/pooled` of all correct completions of the task together."""
    values = _of_correct(problems, params) if params.pooled else {}
    return {f"{name}/pooled": value for name, value in values.items()}


def _of_correct(problems: Sequence[ProblemResult], params: Params) -> dict[str, float]:
    correct = [sample for judged in problems for sample in judged.samples if sample.correct]
    # Words are at least about as many as the model's own tokens.
    tokens = sum(sample.tokens for sample in correct)
    if tokens > params.pooled_tokens:
        logger.warning(
            "diversity: no pooled variant of %d tokens, more than pooled_tokens=%d", tokens, params.pooled_tokens
        )
        return {}
    return of_samples(correct, params) if len(correct) >= params.min_correct else {}


def _share(distinct: int, total: int) -> float:
    return distinct / total if total else math.nan


def _adjusted(distinct: int, total: int, vocabulary: int) -> float:
    if vocabulary < 2:
        raise ValueError(f"expectation-adjusted Distinct: expected a vocabulary >= 2, got {vocabulary}")
    expected = -vocabulary * math.expm1(total * math.log1p(-1 / vocabulary))
    return distinct / expected if total else math.nan


def _self_bleu(corpus: Corpus, n: int) -> float:
    if n < 1:
        raise ValueError(f"self-BLEU: expected n >= 1, got {n}")
    if corpus.lengths.size < 2:
        return math.nan
    values = bleu_against_others(corpus, n)
    return math.fsum(values) / len(values)
