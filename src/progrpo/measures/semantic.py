"""How alike the correct completions of a problem are in meaning: mean pairwise cosine and the Vendi score of embeddings.

Embeddings of all-MiniLM-L6-v2, from the extra `semantic`. It reads 256 tokens: two long solutions that differ only after
them are one to it. The plain names see that opening, as the paper's do (arXiv:2602.05281, Table 5); `/windowed` the mean over
all windows of the text; `/pooled` all correct completions of a task at once (see `diversity` for the two variants).
"""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from progrpo.measures._embeddings import encoder, model_folder
from progrpo.measures.diversity import semantic_cosine, unit_rows
from progrpo.schema.quantity import Quantity
from progrpo.settings import Settings
from progrpo.types import ProblemResult

__all__ = ["vendi_score"]

NEEDS_EXTRA = "semantic"
COLUMNS = (
    Quantity(
        key="semantic_cosine",
        label="Semantic cosine",
        unit="",
        digits=3,
        better="lower",
        meaning="mean cosine of the embeddings of a problem's correct completions, their first 256 tokens, mean over problems "
        "with at least two",
        drawn=("table-5",),
        variants=("/windowed", "/pooled", "/windowed/pooled"),
    ),
    Quantity(
        key="vendi",
        label="Vendi score",
        unit="",
        digits=2,
        better="higher",
        meaning="effective number of different correct completions by the same embeddings, likewise",
        variants=("/windowed", "/pooled", "/windowed/pooled"),
    ),
)


class Params(Settings):
    device: str = "auto"
    """Where texts are embedded: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ... The model takes 90 MB."""
    min_correct: int = Field(2, ge=2)
    """Problems with fewer correct completions are left out."""
    pooled: bool = True
    """Whether to measure the correct completions of all problems together, too."""


def prepare(params: Params) -> None:
    """Check before sampling that the model is installed and is the right one: see `_embeddings.model_folder`."""
    model_folder()


def vendi_score(embeddings: np.ndarray) -> float:
    """The effective number of different texts: 1 where all embeddings are alike, K where they are orthogonal.

        exp(−Σ_i λ_i log λ_i),   λ the eigenvalues of E Eᵀ / K, e_i of length 1

    Source: Friedman and Dieng 2023, arXiv:2210.02410, Eq. 1. Eᵀ E / K has the same eigenvalues but for zeros; the smaller
    of the two is solved.

    Args:
        embeddings: [K, d], K >= 1, rows of any length but 0.
    Returns:
        In [1, min(K, d)], up to rounding.
    Raises:
        ValueError: no rows, another rank, or a row without a direction.
    """
    units = unit_rows(embeddings)
    if not len(units):
        raise ValueError("vendi_score: expected at least one embedding, got none")
    products = units.T @ units if units.shape[1] < len(units) else units @ units.T
    values = np.linalg.eigvalsh(products / len(units))
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """`semantic_cosine`, `vendi`, `semantic_cosine/windowed` and `vendi/windowed` of the correct completions of one
    problem; nothing for fewer than two."""
    return _of_correct([judged], params)


def over_task(problems: Sequence[ProblemResult], params: Params) -> dict[str, float]:
    """The same with `/pooled`, of all correct completions of the task together."""
    values = _of_correct(problems, params) if params.pooled else {}
    return {f"{name}/pooled": value for name, value in values.items()}


def _of_texts(texts: Sequence[str], device: str = "auto") -> dict[str, float]:
    """The values of any two or more texts: what `measure` gives for the correct completions."""
    model = encoder(device)
    first, windowed = model.first(texts), model.windowed(texts)
    return {
        "semantic_cosine": semantic_cosine(first),
        "vendi": vendi_score(first),
        "semantic_cosine/windowed": semantic_cosine(windowed),
        "vendi/windowed": vendi_score(windowed),
    }


def _of_correct(problems: Sequence[ProblemResult], params: Params) -> dict[str, float]:
    texts = [sample.text for judged in problems for sample in judged.samples if sample.correct]
    return _of_texts(texts, params.device) if len(texts) >= params.min_correct else {}
