"""What the browser of disagreements shows: problems of a benchmark on which two runs differ, with completions of both."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from progrpo.report.comparison.benchmarks import Benchmark
from progrpo.report.read import Run
from progrpo.report.wording import plain_prompt, shortened
from progrpo.types import ProblemResult, Sample

CHARACTERS = 3_000_000
"""Of completions on one page, about: with more benchmarks and runs each has fewer problems."""
MOST_PROBLEMS, FEWEST_PROBLEMS = 24, 3
"""Kept per benchmark."""
SAMPLES = 2
"""Correct completions kept of each side of a problem, and as many others."""
_HEAD, _TAIL = 700, 500
"""Characters of a long completion that are kept at its ends: how it starts, and what it answers."""


def disputes(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """The problems on which runs disagree, as JSON data for the page.

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
        "benchmarks": [_benchmark(benchmark, most) for benchmark in compared],
    }


def _benchmark(benchmark: Benchmark, most: int) -> dict[str, Any]:
    shares = {run: benchmark.evaluations[run].values("pass@1") for run in benchmark.comparable}
    ranked = {pair: _ranked(*(shares[run] for run in pair)) for pair in combinations(shares, 2)}
    kept = _kept(list(ranked.values()), most)
    results = {run: benchmark.evaluations[run].results(kept) for run in benchmark.comparable}
    return {
        "name": benchmark.name,
        "runs": list(benchmark.comparable),
        "problems": max(len(values) for values in shares.values()),
        "differing": {f"{a}-{b}": len(problems) for (a, b), problems in ranked.items()},
        "kept": [_problem(problem, results) for problem in kept],
    }


def _ranked(a: dict[str, float], b: dict[str, float]) -> list[str]:
    """Problems whose share of correct completions differs, the largest difference first."""
    differing = [problem for problem in a if problem in b and a[problem] != b[problem]]
    return sorted(differing, key=lambda problem: -abs(a[problem] - b[problem]))


def _kept(ranked: Sequence[Sequence[str]], most: int) -> list[str]:
    """The first problems of every pair of runs in turn, until there are enough."""
    found: dict[str, None] = {}
    for rank in range(max(map(len, ranked), default=0)):
        for problems in ranked:
            if rank < len(problems) and len(found) < most:
                found.setdefault(problems[rank])
    return list(found)


def _problem(problem: str, results: dict[int, dict[str, ProblemResult]]) -> dict[str, Any]:
    sides = {run: found[problem] for run, found in results.items() if problem in found}
    first = next(iter(sides.values()))
    return {
        "id": problem,
        "prompt": shortened(plain_prompt(first.prompt)),
        "answer": None if first.answer is None else shortened(str(first.answer)),
        "sides": {str(run): _side(one) for run, one in sides.items()},
    }


def _side(result: ProblemResult) -> dict[str, Any]:
    right = [sample for sample in result.samples if sample.correct][:SAMPLES]
    other = [sample for sample in result.samples if not sample.correct][:SAMPLES]
    return {"correct": result.correct, "n": result.n, "samples": [_sample(sample) for sample in right + other]}


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "text": shortened(sample.text, _HEAD, _TAIL),
        "status": sample.status,
        "extracted": None if sample.extracted is None else shortened(sample.extracted, 200, 50),
        "detail": shortened(sample.detail, 200, 50),
        "tokens": sample.tokens,
        "truncated": sample.finish == "length",
    }
