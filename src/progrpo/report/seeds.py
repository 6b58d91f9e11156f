"""Runs that differ by the seed alone, put together as one run of several seeds: means, and what each seed gave."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, TypeVar

import numpy as np

from progrpo.files import is_number
from progrpo.report.evaluations import Evaluation, Scores, why_apart
from progrpo.report.read import Row, Run

K = TypeVar("K")

_TAIL = re.compile(r"[-_/. ]*(?:seeds?)?[-_=. ]*\d*$")
"""Of the names of runs as far as they agree: what only leads to the seed."""


def pool_seeds(runs: Sequence[Run]) -> list[Run]:
    """Put the training runs together whose settings differ in `seed` (and in `out`) alone, each where its first one stood.

    A run whose seed is already there is a repetition, no further seed, and stays by itself.
    """
    pools: list[tuple[object, list[Run]]] = []
    for run in runs:
        settings = _settings(run)
        for known, members in pools:
            if settings is not None and known == settings and _seed(run) not in map(_seed, members):
                members.append(run)
                break
        else:
            pools.append((settings, [run]))
    names = [_name(members) for _, members in pools]
    return [
        members[0] if len(members) == 1 else _pooled(members, name if names.count(name) == 1 else members[0].name)
        for name, (_, members) in zip(names, pools, strict=True)
    ]


def _settings(run: Run) -> Mapping[str, str] | None:
    """What runs of one pool have in common; None of a run that belongs to none."""
    if not run.trained or not isinstance(run.config.get("seed"), int):
        return None
    return {key: value for key, value in run.settings.items() if key != "seed"}


def _seed(run: Run) -> int:
    return int(run.config["seed"])


def _name(members: Sequence[Run]) -> str:
    """What the names have in common: "grpo" of grpo-0 and grpo-1, of seed-0/grpo and seed-1/grpo; of grpo/seed-0 and
    grpo/seed-1 that of their folder."""
    names = [run.name for run in members]
    if len(names) == 1:
        return names[0]
    start = _TAIL.sub("", _common(names))
    end = _common([name[::-1] for name in names])[::-1].lstrip("0123456789-_/. ")
    folders = {run.path.resolve().parent.name for run in members}
    return start or end or (folders.pop() if len(folders) == 1 else names[0])


def _common(names: Sequence[str]) -> str:
    """The characters with which all begin."""
    agreeing = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in agreeing)


def _pooled(members: Sequence[Run], name: str) -> Run:
    members = sorted(members, key=_seed)
    evaluations, left_out = _evaluations(members)
    benchmarks, apart = _benchmarks(members)
    of_members = {f"{key} of seed {_seed(run)}": why for run in members for key, why in run.left_out.items()}
    first = members[0]
    return replace(
        first,
        name=name,
        config=dict(first.config) | {"seed": ", ".join(str(_seed(run)) for run in members)},
        metrics=_metrics([run.metrics for run in members]),
        evaluations=evaluations,
        benchmarks=benchmarks,
        left_out=of_members | left_out | apart,
        seeds=tuple(members),
    )


def _metrics(of_runs: Sequence[Sequence[Row]]) -> tuple[Row, ...]:
    """The steps that all with any have, with the mean of each number that all of these logged."""
    by_step = [{int(row["step"]): row for row in rows} for rows in of_runs if rows]
    steps = sorted(set.intersection(*(set(rows) for rows in by_step))) if by_step else []
    return tuple({"step": step} | _means([rows[step] for rows in by_step]) for step in steps)


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {
        key: sum(row[key] for row in rows) / len(rows)
        for key in rows[0]
        if key != "step" and all(is_number(row.get(key)) for row in rows)
    }


def _evaluations(members: Sequence[Run]) -> tuple[dict[int, Evaluation], dict[str, str]]:
    """The held-out evaluations at the steps that all seeds with any have, and those that are left out, with the reason."""
    evaluated = [run for run in members if run.evaluations]
    steps = sorted(set.intersection(*(set(run.evaluations) for run in evaluated))) if evaluated else []
    pooled, left_out = _pooled_by_key(evaluated, {step: [run.evaluations[step] for run in evaluated] for step in steps})
    missing = [run for run in members if not run.evaluations] if evaluated else []
    why = {f"seed {_seed(run)}": "nothing evaluated yet" for run in missing}
    return pooled, why | {f"the evaluation of step {step}": reason for step, reason in left_out.items()}


def _benchmarks(members: Sequence[Run]) -> tuple[dict[str, Evaluation], dict[str, str]]:
    having = {name: [run for run in members if name in run.benchmarks] for run in members for name in run.benchmarks}
    pooled: dict[str, Evaluation] = {}
    left_out: dict[str, str] = {}
    for name, runs in having.items():
        mine, apart = _pooled_by_key(runs, {name: [run.benchmarks[name] for run in runs]})
        pooled |= mine
        left_out |= apart
        # What a seed has and cannot be used is said of that seed already.
        missing = [run for run in members if run not in runs and name not in run.left_out]
        left_out |= {f"{name} of seed {_seed(run)}": "that seed was not evaluated on it" for run in missing}
    return pooled, left_out


def _pooled_by_key(
    runs: Sequence[Run], evaluations: Mapping[K, Sequence[Evaluation]]
) -> tuple[dict[K, Evaluation], dict[K, str]]:
    pooled: dict[K, Evaluation] = {}
    left_out: dict[K, str] = {}
    for key, ones in evaluations.items():
        if reasons := [why for one in ones[1:] if (why := why_apart(one, ones[0]) or _other_step(one, ones[0]))]:
            left_out[key] = f"its seeds were evaluated otherwise: {reasons[0]}"
        else:
            pooled[key] = of_seeds({_seed(run): one for run, one in zip(runs, ones, strict=True)})
    return pooled, left_out


def _other_step(one: Evaluation, reference: Evaluation) -> str:
    """In words, the steps of two checkpoints where they differ; "" where they are one."""
    steps = ["no checkpoint" if each.step is None else f"step {each.step}" for each in (one, reference)]
    return "" if steps[0] == steps[1] else f"{steps[0]}, not {steps[1]}"


def of_seeds(evaluations: Mapping[int, Evaluation]) -> Evaluation:
    """Evaluations of seeds, made alike, as one.

    Args:
        evaluations: by seed.
    """
    first, *others = evaluations.values()
    shared = [name for name in first.problems if all(name in one.problems for one in others)]
    categories = [name for name in first.by_category if all(name in one.by_category for one in others)]
    return replace(
        first,
        problems={name: _scores([one.problems[name] for one in (first, *others)]) for name in shared},
        over_task=_means([one.over_task for one in (first, *others)]),
        by_category={name: _means([one.by_category[name] for one in (first, *others)]) for name in categories},
        seeds=dict(evaluations),
    )


def _scores(parts: Sequence[Scores]) -> Scores:
    kinds = [kind for kind in parts[0].statistics if all(kind in part.statistics for part in parts)]
    return Scores(
        n=sum(part.n for part in parts),
        correct=sum(part.correct for part in parts),
        identity=parts[0].identity,
        measures=_means([part.measures for part in parts]),
        statuses=tuple(status for part in parts for status in part.statuses),
        forms=sum((part.forms for part in parts), start=Counter()),
        statistics={kind: np.concatenate([part.statistics[kind] for part in parts]) for kind in kinds},
        offset=parts[0].offset,
    )
