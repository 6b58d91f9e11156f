"""Distinct correct solutions: how many different right ways stand among the samples of one problem.

Exact where the verifier gives a canonical form (countdown); with a verifier that gives none it is left out rather than
guessed, for all problems alike.
"""

from collections.abc import Sequence

from progrpo.types import Completion, Verdict

NEEDS_CANONICAL = True


def measure(completions: Sequence[Completion], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """`distinct_correct`: number of distinct canonical forms among the correct completions, 0 if none is correct."""
    return {"distinct_correct": float(len({verdict.canonical for verdict in verdicts if verdict.correct}))}
