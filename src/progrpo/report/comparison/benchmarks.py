"""Benchmarks across runs: which evaluations may be compared, their results, and the paired differences to the first run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from progrpo import schema
from progrpo.measures.pass_at_k import doublings
from progrpo.report.comparison.results import Paired, measures_of, paired
from progrpo.report.evaluations import HELD_OUT, Evaluation, why_apart
from progrpo.report.paper.numbers import MATHEMATICS, ORDER
from progrpo.report.read import Run, grouped, last_shared_evaluation
from progrpo.schema.quantity import Quantity
from progrpo.statistics import Interval, holm, mean_of_means

_PRESETS = ("paper", None, "recommended", HELD_OUT)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Benchmark:
    """The evaluations of one name, compared.

    Attributes:
        evaluations: by index of the run.
        apart: runs whose evaluation was made otherwise than the first one's, and how: they are shown, and compared with
            no other.
        measures: the columns of its table. tested: keys of those with a test and counts: Pass@1 and the largest Pass@k.
        gaps: differences to the first run.
    """

    name: str
    task: str
    preset: str | None
    evaluations: Mapping[int, Evaluation]
    apart: Mapping[int, str]
    measures: tuple[Quantity, ...] = ()
    tested: tuple[str, ...] = ()
    gaps: tuple[Paired, ...] = ()

    @property
    def comparable(self) -> tuple[int, ...]:
        """Runs that may be compared with one another: those evaluated as the first of them was."""
        return tuple(run for run in self.evaluations if run not in self.apart)

    @property
    def categories(self) -> list[tuple[str, list[list[float | None]]]]:
        """(category, for each of the evaluations its means in the `tested` measures), where problems have a category."""
        means = [one.by_category for one in self.evaluations.values()]
        names = sorted({name for one in means for name in one})
        return [(name, [[one.get(name, {}).get(key) for key in self.tested] for one in means]) for name in names]

    def powers(self, runs: Sequence[int]) -> list[int]:
        """1, 2, 4, ... up to the completions that every problem of these runs has."""
        return doublings(min(self.evaluations[run].n for run in runs))


def compare_benchmarks(runs: Sequence[Run]) -> tuple[Benchmark, ...]:
    """Compare those of the runs' finished evaluations that were made alike.

    Of a run's held-out evaluations it is the last one that all runs with any share, else its own last.
    """
    shared = last_shared_evaluation([run for run in runs if run.evaluations])
    by_name: dict[str, dict[int, Evaluation]] = {}
    for index, run in enumerate(runs):
        held_out = [run.evaluations[max(run.evaluations) if shared is None else shared]] if run.evaluations else []
        for evaluation in (*held_out, *run.benchmarks.values()):
            by_name.setdefault(evaluation.name, {})[index] = evaluation
    benchmarks = [_compared(name, evaluations, runs) for name, evaluations in by_name.items()]
    return _adjusted(sorted(benchmarks, key=_place))


def pass_measures(k: int) -> tuple[Quantity, ...]:
    """Pass@1 and Pass@k; the first alone where that is the second."""
    return tuple(schema.metric(f"evaluate/pass@{each}") for each in dict.fromkeys((1, k)))


def _place(benchmark: Benchmark) -> tuple[int, int, str]:
    preset = _PRESETS.index(benchmark.preset) if benchmark.preset in _PRESETS else len(_PRESETS)
    task = ORDER.index(benchmark.task) if benchmark.task in ORDER else len(ORDER)
    return preset, task, benchmark.name


def _compared(name: str, evaluations: Mapping[int, Evaluation], runs: Sequence[Run]) -> Benchmark:
    first = next(iter(evaluations.values()))
    apart = {run: why for run, one in evaluations.items() if (why := why_apart(one, first))}
    benchmark = Benchmark(name=name, task=first.task, preset=first.preset, evaluations=evaluations, apart=apart)
    # One run that was evaluated otherwise must not take Pass@32 from the others.
    k = benchmark.powers(benchmark.comparable if len(benchmark.comparable) > 1 else tuple(evaluations))[-1]
    tested = tuple(measure.key for measure in pass_measures(k))
    always = ("pass@1", "truncated", "length")
    measures = measures_of(("benchmarks",), evaluations.values(), k=k, always=always)

    def gap(run: int) -> Paired:
        if 0 not in evaluations:
            why = runs[0].left_out.get(name)
            absent = f"that of the first run is left out: {why}" if why else "the first run has no such evaluation"
            return Paired(run=run, reason=absent)
        if run in apart:
            return Paired(run=run, reason=apart[run])
        return paired(run, evaluations[run], evaluations[0], measures, counted=tested, tested=tested)

    gaps = tuple(gap(run) for run in evaluations if run)
    return replace(benchmark, measures=measures, tested=tested, gaps=gaps)


def _adjusted(benchmarks: Sequence[Benchmark]) -> tuple[Benchmark, ...]:
    """Holm's rule over the benchmarks of one preset, for each run and each of Pass@1 and the largest Pass@k."""
    families = grouped(
        ((benchmark.preset, gap.run, benchmark.tested.index(key)), (benchmark.name, key, p))
        for benchmark in benchmarks
        for gap in benchmark.gaps
        for key, p in gap.p.items()
    )
    adjusted: dict[tuple[str, int], dict[str, float]] = {}
    for (_, run, _), family in families.items():
        for (name, key, _), p in zip(family, holm([p for *_, p in family]), strict=True):
            adjusted.setdefault((name, run), {})[key] = p

    def with_adjusted(name: str, gaps: Sequence[Paired]) -> tuple[Paired, ...]:
        return tuple(replace(gap, adjusted=adjusted.get((name, gap.run), {})) for gap in gaps)

    return tuple(replace(one, gaps=with_adjusted(one.name, one.gaps)) for one in benchmarks)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shared:
    """Benchmarks over which runs are averaged, all of one preset.

    Attributes:
        runs: those that have an evaluation of this preset.
        left_out: names of the preset's benchmarks that some run lacks, or that a run has under other conditions.
        other_kinds: names of benchmarks that are shared too, and not averaged with these.
    """

    preset: str | None
    runs: tuple[int, ...]
    benchmarks: tuple[Benchmark, ...]
    left_out: tuple[str, ...] = ()
    other_kinds: tuple[str, ...] = ()

    @property
    def powers(self) -> tuple[int, ...]:
        """k of the Pass@k that all have."""
        return tuple(sorted(set.intersection(*(set(one.powers(self.runs)) for one in self.benchmarks))))

    @property
    def names(self) -> str:
        return ", ".join(benchmark.name for benchmark in self.benchmarks)


def shared_benchmarks(benchmarks: Sequence[Benchmark], among: Collection[int] | None = None) -> list[Shared]:
    """For each preset, the benchmarks that all its runs share under the same conditions; presets that share none are left
    out.

    Args:
        among: indices of the runs that count; None counts all that have an evaluation of the preset.
    """
    shared = []
    for preset in dict.fromkeys(benchmark.preset for benchmark in benchmarks):
        group = [benchmark for benchmark in benchmarks if benchmark.preset == preset]
        having = sorted({run for benchmark in group for run in benchmark.evaluations})
        runs = tuple(run for run in having if among is None or run in among)
        kept = tuple(benchmark for benchmark in group if runs and set(runs) <= set(benchmark.comparable))
        if kept:
            left_out = tuple(benchmark.name for benchmark in group if benchmark not in kept)
            shared.append(Shared(preset=preset, runs=runs, benchmarks=kept, left_out=left_out))
    return shared


def mathematical(group: Shared) -> Shared:
    """The paper's mathematical benchmarks of a group; all that it has where it has none of them."""
    kept = tuple(one for one in group.benchmarks if one.task in MATHEMATICS)
    if not kept:
        return group
    left_out = tuple(name for name in group.left_out if name.split("-")[0] in MATHEMATICS)
    return replace(group, benchmarks=kept, left_out=left_out)


def of_one_kind(group: Shared) -> Shared:
    """What of a group may be averaged: the paper's mathematical benchmarks; without any of them, its first benchmark alone."""
    comparable = mathematical(group)
    kept = comparable.benchmarks if comparable.benchmarks[0].task in MATHEMATICS else comparable.benchmarks[:1]
    others = tuple(one.name for one in group.benchmarks if one not in kept)
    return replace(comparable, benchmarks=kept, other_kinds=others)


def average(benchmarks: Sequence[Benchmark], run: int, key: str) -> Interval | None:
    """A run's mean over problems; over several benchmarks the mean of those means (`mean_of_means`). None where a benchmark
    lacks the measure."""
    if len(benchmarks) == 1:
        return benchmarks[0].evaluations[run].interval(key)
    values = [list(benchmark.evaluations[run].values(key).values()) for benchmark in benchmarks]
    return mean_of_means(values) if values and all(values) else None
