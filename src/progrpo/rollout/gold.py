"""Gold answers are checked before anything is sampled: a problem whose own gold does not verify is left out and named."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from progrpo.errors import DataError
from progrpo.plural import counted
from progrpo.rollout.verify import Verifier
from progrpo.types import Problem

logger = logging.getLogger(__name__)

_SHOWN = 5


def bad_gold_rows(
    problems: Sequence[Problem], verifier: Verifier, *, split: str, on_progress: Callable[[int], None] | None = None
) -> list[Mapping[str, Any]]:
    """One row {split, problem, place, reason} for each problem whose gold answer the verifier cannot use; each is logged
    by place, the first few in words."""
    faults = verifier.gold_faults(problems, on_progress)
    rows: list[Mapping[str, Any]] = [
        {"split": split, "problem": problem.id, "place": problem.place, "reason": fault}
        for problem, fault in zip(problems, faults, strict=True)
        if fault is not None
    ]
    for row in rows[:_SHOWN]:
        logger.warning("bad gold, left out: %s: %s", row["place"] or f"problem {row['problem']}", row["reason"])
    if len(rows) > _SHOWN:
        logger.warning("bad gold, left out: %d more of %d %s problems", len(rows) - _SHOWN, len(problems), split)
    return rows


def without(problems: Sequence[Problem], rows: Sequence[Mapping[str, Any]], *, split: str) -> Sequence[Problem]:
    """The problems of `split` that no row names.

    Raises:
        DataError: none is left.
    """
    bad = {row["problem"] for row in rows if row["split"] == split}
    if not bad:
        return problems
    kept = [problem for problem in problems if problem.id not in bad]
    if not kept:
        first = next(row for row in rows if row["split"] == split)
        raise DataError(
            f"the gold answers of all {counted(len(problems), f'{split} problem')} are unusable; the first, "
            f"{first['place'] or first['problem']}: {first['reason']}. Is this the reward for this task?"
        )
    return kept
