"""Averages over benchmarks: only over those that all runs share, with an interval over the problems of each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from progrpo.report.comparison.benchmarks import Benchmark
from progrpo.report.paper.numbers import MATHEMATICS
from progrpo.statistics import Interval, mean_of_means


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
    left_out: tuple[str, ...]
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
    found = []
    for preset in dict.fromkeys(benchmark.preset for benchmark in benchmarks):
        group = [benchmark for benchmark in benchmarks if benchmark.preset == preset]
        having = sorted({run for benchmark in group for run in benchmark.evaluations})
        runs = tuple(run for run in having if among is None or run in among)
        kept = tuple(benchmark for benchmark in group if runs and set(runs) <= set(benchmark.comparable))
        if kept:
            left_out = tuple(benchmark.name for benchmark in group if benchmark not in kept)
            found.append(Shared(preset=preset, runs=runs, benchmarks=kept, left_out=left_out))
    return found


def mathematical(group: Shared) -> Shared:
    """The paper's mathematical benchmarks of a group; all that it has where it has none of them."""
    kept = tuple(one for one in group.benchmarks if one.task in MATHEMATICS)
    if not kept:
        return group
    left_out = tuple(name for name in group.left_out if name.split("-")[0] in MATHEMATICS)
    return replace(group, benchmarks=kept, left_out=left_out)


def of_one_kind(group: Shared) -> Shared:
    """What of a group may be averaged: the paper's mathematical benchmarks; without any of them, its first benchmark alone."""
    found = mathematical(group)
    kept = found.benchmarks if found.benchmarks[0].task in MATHEMATICS else found.benchmarks[:1]
    others = tuple(one.name for one in group.benchmarks if one not in kept)
    return replace(found, benchmarks=kept, other_kinds=others)


def average(benchmarks: Sequence[Benchmark], run: int, key: str) -> Interval | None:
    """The mean over benchmarks of a run's means over problems (`mean_of_means`); None where a benchmark lacks the measure."""
    values = [list(benchmark.evaluations[run].values(key).values()) for benchmark in benchmarks]
    return mean_of_means(values) if values and all(values) else None
