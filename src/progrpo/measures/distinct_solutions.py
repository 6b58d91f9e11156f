"""Distinct correct solutions: how many different right ways stand among the samples of one problem.

Exact where the verifier gives a canonical form (countdown, grid_path); with a verifier that gives none it is left out rather
than guessed, for all problems alike.
"""

from progrpo.measures import Params
from progrpo.schema.quantity import Quantity
from progrpo.types import ProblemResult

NEEDS_CANONICAL = True
COLUMNS = (
    Quantity(
        key="distinct_correct",
        label="Distinct correct",
        unit="per problem",
        digits=2,
        better="higher",
        meaning="distinct canonical forms among the n samples' correct ones, mean over problems",
        drawn=("held-out", "distinct"),
    ),
)


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """`distinct_correct`: number of distinct canonical forms among the correct completions, 0 if none is correct."""
    return {"distinct_correct": float(len({sample.canonical for sample in judged.samples if sample.correct}))}
