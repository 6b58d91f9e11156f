"""Benchmarks across runs: which evaluations may be compared, their results, and the paired differences to the first run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from progrpo import schema
from progrpo.measures.pass_at_k import doublings
from progrpo.report.comparison.paired import Paired, paired
from progrpo.report.evaluations import HELD_OUT, Evaluation, LeftOut, evaluations_of, why_apart
from progrpo.report.read import Run
from progrpo.schema.quantity import Quantity
from progrpo.statistics import Interval, holm

MATHEMATICS = {
    "aime24": "AIME 2024",
    "aime25": "AIME 2025",
    "amc23": "AMC 23",
    "math500": "MATH-500",
    "minerva": "Minerva",
    "olympiadbench": "OlympiadBench",
}
"""The paper's six mathematical benchmarks by task."""

ORDER = (
    *MATHEMATICS,
    *("livecodebench", "codeforces", "humaneval_plus", "gpqa", "mmlu_pro"),
)
"""Benchmarks as the paper lists them; others follow by name."""

UNEVALUATED = "nothing evaluated yet"

_PRESETS = ("paper", None, "recommended", HELD_OUT)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Benchmark:
    """The evaluations of one name.

    Attributes:
        evaluations: by index of the run.
        apart: runs whose evaluation was made otherwise than the first one's, and how: they are shown, and compared with
            no other.
    """

    name: str
    task: str
    preset: str | None
    evaluations: Mapping[int, Evaluation]
    apart: Mapping[int, str]

    @property
    def comparable(self) -> tuple[int, ...]:
        """Runs that may be compared with one another: those evaluated as the first of them was."""
        return tuple(run for run in self.evaluations if run not in self.apart)

    def powers(self, runs: Sequence[int]) -> list[int]:
        """1, 2, 4, ... up to the completions that every problem of these runs has."""
        return doublings(min(self.evaluations[run].n for run in runs))


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One run on one benchmark."""

    run: int
    made: str
    """How it was evaluated: problems, preset, step, sampling."""
    cells: Mapping[str, Interval | None]
    statuses: Mapping[str, float]
    """Share of all completions by verdict status."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One benchmark's tables."""

    benchmark: Benchmark
    measures: tuple[Quantity, ...]
    tested: tuple[str, ...]
    """Measures with a test and counts: Pass@1 and the largest Pass@k."""
    results: tuple[Result, ...]
    gaps: tuple[Paired, ...]

    @property
    def categories(self) -> list[tuple[str, list[list[float | None]]]]:
        """(category, for each of `results` its means in the `tested` measures), where problems have a category."""
        means = [self.benchmark.evaluations[result.run].by_category for result in self.results]
        names = sorted({name for one in means for name in one})
        return [(name, [[one.get(name, {}).get(key) for key in self.tested] for one in means]) for name in names]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """All benchmarks of a page."""

    benchmarks: tuple[Benchmark, ...]
    tables: tuple[Compared, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    """Sentences on evaluations that are left out, and on runs that have none at all."""

    def state(self, run: int) -> str:
        """How far the evaluations of a run are, in words."""
        if any(run in benchmark.evaluations for benchmark in self.benchmarks):
            return "evaluated only"
        return "no finished evaluation" if any(one.run == run for one in self.left_out) else UNEVALUATED


def compare_benchmarks(runs: Sequence[Run]) -> Comparison:
    """Read every finished evaluation of the runs and compare those that were made alike."""
    found, left_out = evaluations_of(runs)
    benchmarks = _benchmarks(found)
    of_first = {one.name: one.why for one in left_out if one.run == 0}
    tables = [_compared(benchmark, len(runs), of_first) for benchmark in benchmarks]
    notes = [f"{runs[one.run].name}: {one.name} is left out: {one.why}." for one in left_out]
    having = {one.run for one in left_out}
    notes += [
        f"{run.name}: {UNEVALUATED}." for index, run in enumerate(runs) if not found[index] and index not in having
    ]
    return Comparison(benchmarks=benchmarks, tables=_adjusted(tables), left_out=tuple(left_out), notes=tuple(notes))


def pass_measures(k: int) -> tuple[Quantity, ...]:
    """Pass@1 and Pass@k; the first alone where that is the second."""
    return tuple(schema.metric(f"evaluate/pass@{each}") for each in dict.fromkeys((1, k)))


def _benchmarks(found: Sequence[Sequence[Evaluation]]) -> tuple[Benchmark, ...]:
    by_name: dict[str, dict[int, Evaluation]] = {}
    for run, mine in enumerate(found):
        for evaluation in mine:
            by_name.setdefault(evaluation.name, {})[run] = evaluation
    benchmarks = []
    for name, evaluations in by_name.items():
        first = next(iter(evaluations.values()))
        apart = {run: why for run, one in evaluations.items() if (why := why_apart(one, first))}
        benchmarks.append(
            Benchmark(name=name, task=first.task, preset=first.preset, evaluations=evaluations, apart=apart)
        )
    return tuple(sorted(benchmarks, key=_place))


def _place(benchmark: Benchmark) -> tuple[int, int, str]:
    preset = _PRESETS.index(benchmark.preset) if benchmark.preset in _PRESETS else len(_PRESETS)
    task = ORDER.index(benchmark.task) if benchmark.task in ORDER else len(ORDER)
    return preset, task, benchmark.name


def _compared(benchmark: Benchmark, runs: int, of_first: Mapping[str, str]) -> Compared:
    """One benchmark's tables.

    Args:
        of_first: why an evaluation of the first run is left out, by name.
    """
    measures, tested = _measures(benchmark)
    base = benchmark.evaluations.get(0)
    why = of_first.get(benchmark.name)
    absent = f"that of the first run is left out: {why}" if why else "the first run has no such evaluation"
    return Compared(
        benchmark=benchmark,
        measures=measures,
        tested=tested,
        results=tuple(_result(run, one, measures) for run, one in benchmark.evaluations.items()),
        gaps=tuple(
            Paired(run=run, reason=absent) if base is None else _gap(benchmark, run, base, measures, tested)
            for run in range(1, runs)
            if run in benchmark.evaluations
        ),
    )


def _measures(benchmark: Benchmark) -> tuple[tuple[Quantity, ...], tuple[str, ...]]:
    # One run that was evaluated otherwise must not take Pass@32 from the others.
    alike = benchmark.comparable
    powers = benchmark.powers(alike if len(alike) > 1 else tuple(benchmark.evaluations))
    everyone = benchmark.evaluations.values()
    measures = list(pass_measures(powers[-1]))
    tested = tuple(measure.key for measure in measures)
    for one in schema.columns("benchmarks"):
        if one.family and one.key != "pass@K":
            reached = [k for k in powers[1:] if all(evaluation.values(one.at(k).key) for evaluation in everyone)]
            measures += [one.at(k) for k in reached[-1:]]
        elif not one.family and one.key != "pass@1":
            always = one.key in ("truncated", "length")
            measures += [one] if always or any(evaluation.values(one.key) for evaluation in everyone) else []
    return tuple(measures), tested


def _result(run: int, evaluation: Evaluation, measures: Sequence[Quantity]) -> Result:
    statuses = evaluation.statuses()
    total = statuses.total()
    return Result(
        run=run,
        made=_made(evaluation),
        cells={measure.key: evaluation.interval(measure.key) for measure in measures},
        statuses={status: count / total for status, count in sorted(statuses.items())} if total else {},
    )


def _made(evaluation: Evaluation) -> str:
    preset = "held out in training" if evaluation.preset == HELD_OUT else f"preset {evaluation.preset or 'none'}"
    step = "" if evaluation.step is None else f", step {evaluation.step}"
    return f"{len(evaluation.problems):,} problems, {preset}{step}; {evaluation.sampling}"


def _gap(
    benchmark: Benchmark, run: int, base: Evaluation, measures: Sequence[Quantity], tested: Sequence[str]
) -> Paired:
    if reason := benchmark.apart.get(run):
        return Paired(run=run, reason=reason)
    ours = benchmark.evaluations[run].values
    return paired(run, ours, base.values, measures, counted=tested, tested=tested)


def _adjusted(tables: Sequence[Compared]) -> tuple[Compared, ...]:
    """Holm's rule over the benchmarks of one preset, for each run and each of Pass@1 and the largest Pass@k."""
    families: dict[object, dict[tuple[int, int, str], float]] = {}
    for index, table in enumerate(tables):
        for gap in table.gaps:
            for key, p in gap.p.items():
                family = (table.benchmark.preset, gap.run, table.tested.index(key))
                families.setdefault(family, {})[index, gap.run, key] = p
    adjusted = {
        place: value
        for family in families.values()
        for place, value in zip(family, holm(list(family.values())), strict=True)
    }

    def with_its_own(index: int, gap: Paired) -> Paired:
        return replace(gap, adjusted={key: adjusted[index, gap.run, key] for key in gap.p})

    return tuple(
        replace(table, gaps=tuple(with_its_own(index, gap) for gap in table.gaps)) for index, table in enumerate(tables)
    )
