"""Distinct correct solutions: how many different right ways stand among the samples of one problem.

Exact where the verifier gives a canonical form (countdown); a task without one gives no value rather than a guess.
"""

from collections.abc import Sequence

from progrpo.types import Completion, Verdict


def measure(completions: Sequence[Completion], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """`distinct_correct`: number of distinct canonical forms among the correct completions, 0 if none is correct."""
    correct = [verdict.canonical for verdict in verdicts if verdict.correct]
    if any(form is None for form in correct):
        return {}
    return {"distinct_correct": float(len(set(correct)))}
