"""What the browsers of a page show: completions of a few problems, and problems on which evaluations disagree."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from progrpo.files import is_number, read_jsonl
from progrpo.report.evaluations import Scores
from progrpo.report.read import Row, Run, last_shared_evaluation
from progrpo.report.wording import plain_prompt, shortened

PROBLEMS_PER_STEP = 6
DISAGREEMENTS = 10
"""Problems taken by each of the two spreads; the table has up to twice as many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """One problem, and what is kept of each column's evaluation of it."""

    problem: str
    sides: tuple[Scores, ...]
    prompt: str = ""

    @property
    def share_spread(self) -> float:
        """Largest minus smallest share of correct completions, in [0, 1]."""
        shares = [side.share for side in self.sides]
        return max(shares) - min(shares)

    @property
    def distinct_spread(self) -> float:
        """Largest minus smallest number of distinct correct solutions; 0 where one is unknown."""
        known = [side.measures["distinct_correct"] for side in self.sides if "distinct_correct" in side.measures]
        return max(known) - min(known) if len(known) == len(self.sides) else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreements:
    columns: tuple[tuple[str, int], ...]
    """(label, index of the run) of each column."""
    steps: tuple[int, ...]
    """The evaluations compared: the one all runs share, or the first and the last of a single run."""
    problems: tuple[Disagreement, ...]
    compared: int
    """Problems that all columns have."""


def completions(runs: Sequence[Run]) -> dict[str, Any]:
    """Completions of the first, middle and last rollout that all runs recorded, as JSON data for the page.

    Returns:
        {"runs": [name], "steps": [{"step", "problems": [{"id", "prompt", "answer", "groups": [[row] | null]}]}]},
        one group per run, null where the run did not meet the problem at that step. No steps: nothing was recorded.
    """
    recorded = [set(run.rollouts) for run in runs if run.rollouts]
    steps = sorted(set.intersection(*recorded)) if recorded else []
    chosen = sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []
    return {"runs": [run.name for run in runs], "steps": [_step(runs, step) for step in chosen]}


def disagreements(runs: Sequence[Run]) -> Disagreements | None:
    """The held-out problems on which runs differ most at their last shared evaluation; for one run, on which its
    first and last evaluation do. None where there is nothing to compare."""
    evaluated = [(index, run) for index, run in enumerate(runs) if run.evaluations]
    if len(runs) == 1:
        steps = tuple(runs[0].evaluations)[:: max(1, len(runs[0].evaluations) - 1)]
        columns = [(f"step {step}", 0, runs[0].evaluations[step]) for step in steps]
    else:
        step = last_shared_evaluation([run for _, run in evaluated])
        steps = () if step is None else (step,)
        columns = [(run.name, index, run.evaluations[step]) for step in steps for index, run in evaluated]
    if len(columns) < 2:
        return None
    scores = [evaluation.problems for _, _, evaluation in columns]
    shared = [problem for problem in scores[0] if all(problem in by_problem for by_problem in scores)]
    compared = [Disagreement(problem=name, sides=tuple(by_problem[name] for by_problem in scores)) for name in shared]
    by_share = sorted(compared, key=lambda one: (-one.share_spread, -one.distinct_spread))[:DISAGREEMENTS]
    by_distinct = sorted(compared, key=lambda one: (-one.distinct_spread, -one.share_spread))[:DISAGREEMENTS]
    chosen = by_share + [one for one in by_distinct if one not in by_share]
    differing = [one for one in chosen if one.share_spread or one.distinct_spread]
    results = columns[0][2].results([one.problem for one in differing])
    return Disagreements(
        columns=tuple((label, index) for label, index, _ in columns),
        problems=tuple(replace(one, prompt=shortened(plain_prompt(results[one.problem].prompt))) for one in differing),
        steps=steps,
        compared=len(shared),
    )


def _step(runs: Sequence[Run], step: int) -> dict[str, Any]:
    groups = [_groups(read_jsonl(run.rollouts[step])) if step in run.rollouts else {} for run in runs]
    problems = list(dict.fromkeys(problem for by_problem in groups for problem in by_problem))

    def interest(problem: str) -> tuple[int, int]:
        """Runs that met the problem, and runs whose group was neither all correct nor all incorrect."""
        met = [by_problem[problem] for by_problem in groups if problem in by_problem]
        return len(met), sum(len({row["correct"] for row in rows}) > 1 for rows in met)

    chosen = sorted(problems, key=interest, reverse=True)[:PROBLEMS_PER_STEP]
    return {"step": step, "problems": [_problem(problem, groups) for problem in chosen]}


def _groups(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["problem"], []).append(row)
    return found


def _problem(problem: str, groups: Sequence[Mapping[str, list[Row]]]) -> dict[str, Any]:
    first = next(by_problem[problem][0] for by_problem in groups if problem in by_problem)
    answer = first.get("answer")
    return {
        "id": problem,
        "prompt": shortened(plain_prompt(first["prompt"])),
        "answer": " or ".join(answer) if isinstance(answer, list) else answer,
        "groups": [
            [_completion(row) for row in by_problem[problem]] if problem in by_problem else None
            for by_problem in groups
        ],
    }


def _completion(row: Row) -> dict[str, Any]:
    numbers = ("confidence", "shift", "advantage", "prompt_confidence")
    return {
        "text": shortened(row["completion"]),
        "status": row["status"],
        "canonical": row.get("canonical"),
        "detail": row.get("detail"),
        "truncated": row.get("finish") == "length",
        **{name: row[name] for name in numbers if is_number(row.get(name))},
    }
