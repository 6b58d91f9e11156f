"""Benchmarks across runs: which evaluations may be compared, their results, and the paired differences to the first run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from progrpo import schema
from progrpo.measures.pass_at_k import doublings
from progrpo.report.comparison.results import Paired, Result, measures_of, paired, result
from progrpo.report.evaluations import HELD_OUT, Evaluation, why_apart
from progrpo.report.html import paragraphs
from progrpo.report.paper.numbers import ORDER
from progrpo.report.read import Run, last_shared_evaluation
from progrpo.schema.quantity import Quantity
from progrpo.statistics import holm

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
        means = [row.evaluation.by_category for row in self.results]
        names = sorted({name for one in means for name in one})
        return [(name, [[one.get(name, {}).get(key) for key in self.tested] for one in means]) for name in names]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """All benchmarks of a page."""

    benchmarks: tuple[Benchmark, ...]
    tables: tuple[Compared, ...]
    notes: tuple[str, ...]
    """Sentences on evaluations that are left out, and on runs that have none at all."""


def compare_benchmarks(runs: Sequence[Run]) -> Comparison:
    """Compare those of the runs' finished evaluations that were made alike.

    Of a run's held-out evaluations it is the last one that all runs with any share, else its own last.
    """
    shared = last_shared_evaluation([run for run in runs if run.evaluations])
    by_name: dict[str, dict[int, Evaluation]] = {}
    for index, run in enumerate(runs):
        held_out = [run.evaluations[max(run.evaluations) if shared is None else shared]] if run.evaluations else []
        for evaluation in (*held_out, *run.benchmarks.values()):
            by_name.setdefault(evaluation.name, {})[index] = evaluation
    benchmarks = sorted((_benchmark(name, evaluations) for name, evaluations in by_name.items()), key=_place)
    return Comparison(
        benchmarks=tuple(benchmarks),
        tables=_adjusted([_compared(benchmark, runs) for benchmark in benchmarks]),
        notes=tuple(paragraphs("captions.jinja", "left_out", runs=runs)),
    )


def pass_measures(k: int) -> tuple[Quantity, ...]:
    """Pass@1 and Pass@k; the first alone where that is the second."""
    return tuple(schema.metric(f"evaluate/pass@{each}") for each in dict.fromkeys((1, k)))


def _benchmark(name: str, evaluations: Mapping[int, Evaluation]) -> Benchmark:
    first = next(iter(evaluations.values()))
    apart = {run: why for run, one in evaluations.items() if (why := why_apart(one, first))}
    return Benchmark(name=name, task=first.task, preset=first.preset, evaluations=evaluations, apart=apart)


def _place(benchmark: Benchmark) -> tuple[int, int, str]:
    preset = _PRESETS.index(benchmark.preset) if benchmark.preset in _PRESETS else len(_PRESETS)
    task = ORDER.index(benchmark.task) if benchmark.task in ORDER else len(ORDER)
    return preset, task, benchmark.name


def _compared(benchmark: Benchmark, runs: Sequence[Run]) -> Compared:
    evaluations = benchmark.evaluations
    # One run that was evaluated otherwise must not take Pass@32 from the others.
    alike = benchmark.comparable
    k = benchmark.powers(alike if len(alike) > 1 else tuple(evaluations))[-1]
    tested = tuple(measure.key for measure in pass_measures(k))
    always = ("pass@1", "truncated", "length")
    measures = measures_of("benchmarks", evaluations.values(), k=k, always=always)

    def gap(run: int) -> Paired:
        if 0 not in evaluations:
            why = runs[0].left_out.get(benchmark.name)
            absent = f"that of the first run is left out: {why}" if why else "the first run has no such evaluation"
            return Paired(run=run, reason=absent)
        if run in benchmark.apart:
            return Paired(run=run, reason=benchmark.apart[run])
        return paired(run, evaluations[run], evaluations[0], measures, counted=tested, tested=tested)

    return Compared(
        benchmark=benchmark,
        measures=measures,
        tested=tested,
        results=tuple(result(run, one, measures) for run, one in evaluations.items()),
        gaps=tuple(gap(run) for run in evaluations if run),
    )


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
