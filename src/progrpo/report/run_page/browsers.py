"""What the browsers of a page show: completions of training, held-out problems that changed most, and disputes of two runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from progrpo.files import is_number, read_jsonl
from progrpo.report.comparison.benchmarks import Benchmark
from progrpo.report.evaluations import Scores, why_apart
from progrpo.report.read import Row, Run, grouped, last_shared_evaluation
from progrpo.report.wording import plain_prompt, shortened
from progrpo.types import ProblemResult, Sample

PROBLEMS_PER_STEP = 6
"""Of training, with all their completions."""
DISAGREEMENTS = 6
"""Held-out problems taken by each of the two spreads; the table has up to twice as many."""

CHARACTERS = 3_000_000
"""Of the disputes' completions on one page, about: with more benchmarks and runs each has fewer problems."""
MOST_PROBLEMS, FEWEST_PROBLEMS = 24, 3
"""Disputes kept per benchmark."""
SAMPLES = 2
"""Correct completions kept of each side of a dispute, and as many others."""
_HEAD, _TAIL = 700, 500
"""Characters of a dispute's long completion that are kept at its ends: how it starts, and what it answers."""


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


def _step(runs: Sequence[Run], step: int) -> dict[str, Any]:
    rows = [read_jsonl(run.rollouts[step]) if step in run.rollouts else [] for run in runs]
    groups = [grouped((row["problem"], row) for row in of_run) for of_run in rows]
    problems = dict.fromkeys(problem for by_problem in groups for problem in by_problem)

    def interest(problem: str) -> tuple[int, int]:
        """Runs that met the problem, and runs whose group was neither all correct nor all incorrect."""
        met = [by_problem[problem] for by_problem in groups if problem in by_problem]
        return len(met), sum(len({row["correct"] for row in rows}) > 1 for rows in met)

    chosen = sorted(problems, key=interest, reverse=True)[:PROBLEMS_PER_STEP]
    return {"step": step, "problems": [_trained(problem, groups) for problem in chosen]}


def _trained(problem: str, groups: Sequence[Mapping[str, Sequence[Row]]]) -> dict[str, Any]:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """One held-out problem, and what is kept of each column's evaluation of it."""

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
    """The held-out problems on which evaluations differ most.

    Attributes:
        columns: (label, index of the run) of each column.
        steps: the evaluations compared: the one all runs share, or the first and the last of a single run.
        compared: problems that all columns have.
    """

    columns: tuple[tuple[str, int], ...]
    steps: tuple[int, ...]
    problems: tuple[Disagreement, ...]
    compared: int


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
        at_step = [(run.name, index, run.evaluations[step]) for step in steps for index, run in evaluated]
        columns = [one for one in at_step if not why_apart(one[2], at_step[0][2], but_for=("digest", "n"))]
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


def disputes(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """The problems on which two runs disagree, as JSON data for the page.

    Returns:
        {"runs": [name], "samples", "benchmarks": [{"name", "runs": [index], "problems", "differing": {"0-1": count},
        "kept": [{"id", "prompt", "answer", "sides": {index: {"correct", "n", "samples": [...]}}}]}]}, benchmarks that
        two runs can be compared on; "differing" counts all problems whose share of correct completions differs, "kept"
        has those with completions, the largest differences of every pair of runs.
    """
    compared = [benchmark for benchmark in benchmarks if len(benchmark.comparable) > 1]
    sides = sum(len(benchmark.comparable) for benchmark in compared)
    each = (_HEAD + _TAIL) * 2 * SAMPLES * max(1, sides)
    most = max(FEWEST_PROBLEMS, min(MOST_PROBLEMS, CHARACTERS // each))
    return {
        "runs": [run.name for run in runs],
        "samples": SAMPLES,
        "benchmarks": [_disputed(benchmark, most) for benchmark in compared],
    }


def _disputed(benchmark: Benchmark, most: int) -> dict[str, Any]:
    shares = {run: benchmark.evaluations[run].values("pass@1") for run in benchmark.comparable}
    ranked = {pair: _ranked(*(shares[run] for run in pair)) for pair in combinations(shares, 2)}
    # The first problems of every pair of runs in turn, until there are enough.
    ranks = range(max(map(len, ranked.values()), default=0))
    in_turn = dict.fromkeys(problems[rank] for rank in ranks for problems in ranked.values() if rank < len(problems))
    kept = list(in_turn)[:most]
    results = {run: benchmark.evaluations[run].results(kept) for run in benchmark.comparable}
    return {
        "name": benchmark.name,
        "runs": list(benchmark.comparable),
        "problems": max(len(values) for values in shares.values()),
        "differing": {f"{a}-{b}": len(problems) for (a, b), problems in ranked.items()},
        "kept": [_dispute(problem, results) for problem in kept],
    }


def _ranked(a: Mapping[str, float], b: Mapping[str, float]) -> list[str]:
    """Problems whose share of correct completions differs, the largest difference first."""
    differing = [problem for problem in a if problem in b and a[problem] != b[problem]]
    return sorted(differing, key=lambda problem: -abs(a[problem] - b[problem]))


def _dispute(problem: str, results: Mapping[int, Mapping[str, ProblemResult]]) -> dict[str, Any]:
    sides = {run: by_problem[problem] for run, by_problem in results.items() if problem in by_problem}
    first = next(iter(sides.values()))
    return {
        "id": problem,
        "prompt": shortened(plain_prompt(first.prompt)),
        "answer": None if first.answer is None else shortened(str(first.answer)),
        "sides": {str(run): _side(one) for run, one in sides.items()},
    }


def _side(result: ProblemResult) -> dict[str, Any]:
    correct = [sample for sample in result.samples if sample.correct][:SAMPLES]
    others = [sample for sample in result.samples if not sample.correct][:SAMPLES]
    return {"correct": result.correct, "n": result.n, "samples": [_sample(sample) for sample in correct + others]}


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "text": shortened(sample.text, _HEAD, _TAIL),
        "status": sample.status,
        "extracted": None if sample.extracted is None else shortened(sample.extracted, 200, 50),
        "detail": shortened(sample.detail, 200, 50),
        "tokens": sample.tokens,
        "truncated": sample.finish == "length",
    }
