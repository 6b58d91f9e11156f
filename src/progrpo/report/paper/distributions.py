"""Figures of token statistics, one point per completion: box plots, histograms, densities and a scatter."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from progrpo.report.comparison.benchmarks import Benchmark
from progrpo.report.drawing import (
    INK,
    PANEL,
    PAPER,
    Drawing,
    Panel,
    canvas,
    histogram,
    percentages,
    run_colour,
    run_marker,
    to_svg,
    value_axis,
)
from progrpo.report.evaluations import STATISTICS
from progrpo.report.html import prose
from progrpo.report.read import Run

PROBABILITY, LOW, ENTROPY = range(len(STATISTICS))
_LABELS = ("Mean probability of a token", "Mean probability of the lowest 20 %", "Entropy, nats per token")
_BINS = 30
_GRID = 200
"""Points at which a density is computed."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Drawn:
    """The token statistics of the runs that have them on one benchmark.

    Attributes:
        kind: "raw" (at temperature 1) or "tempered", one for all runs: the two do not compare.
        values: [completions, 3] by index of the run.
        missing: comparable runs that did not record them.
    """

    benchmark: Benchmark
    kind: str
    values: Mapping[int, np.ndarray]
    missing: tuple[int, ...]

    def note(self, runs: Sequence[Run]) -> str:
        """In words: the benchmark, which statistics, how many completions, and who is missing."""
        return prose("captions.jinja", "token_statistics", drawn=self, benchmark=self.benchmark, runs=runs)


def chosen_benchmarks(benchmarks: Sequence[Benchmark]) -> list[Drawn]:
    """The benchmarks with token statistics, as the paper chose them: AIME 2024 first, MATH-500 second, then the others."""
    chosen = [drawn for benchmark in benchmarks if (drawn := _drawn(benchmark)) is not None]
    paper = {"aime24": 0, "math500": 1}
    return sorted(chosen, key=lambda drawn: paper.get(drawn.benchmark.task, len(paper)))


def distribution_figures(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[Drawing]:
    """Draw the paper's Figs. 3, 4 and 7 for the benchmarks that have what they need."""
    chosen = chosen_benchmarks(benchmarks)
    if not chosen:
        return []
    # One evaluation of a benchmark is enough: the second figure of entropy is of another benchmark.
    others = [drawn for drawn in chosen[1:] if drawn.benchmark.task != chosen[0].benchmark.task]
    entropies = zip((4, 7), (chosen[0], *others[:1]), strict=False)
    return [
        _boxes_and_histograms(runs, chosen[0]),
        *(_entropy(runs, drawn, paper=number) for number, drawn in entropies),
    ]


def half_solved(benchmark: Benchmark, runs: Sequence[int]) -> str:
    """The problem whose completions, of these runs together, are correct nearest to half the time; the first of equals."""
    sides = [benchmark.evaluations[run].problems for run in runs]
    shared = [problem for problem in sides[0] if all(problem in side for side in sides)]

    def distance(problem: str) -> float:
        correct = sum(side[problem].correct for side in sides)
        return abs(correct / sum(side[problem].n for side in sides) - 0.5)

    return min(shared, key=distance)


def _drawn(benchmark: Benchmark) -> Drawn | None:
    values: dict[str, dict[int, np.ndarray]] = {"raw": {}, "tempered": {}}
    for kind, by_run in values.items():
        for run in benchmark.comparable:
            statistics = benchmark.evaluations[run].statistics(kind)
            if statistics is not None and len(statistics) > 1:
                by_run[run] = statistics
    # Raw unless that would lose a run: statistics of two temperatures are never put into one figure.
    kind = max(values, key=lambda kind: len(values[kind]))
    missing = tuple(run for run in benchmark.comparable if run not in values[kind])
    return Drawn(benchmark=benchmark, kind=kind, values=values[kind], missing=missing) if values[kind] else None


def _boxes_and_histograms(runs: Sequence[Run], drawn: Drawn) -> Drawing:
    panels = [
        draw(f"statistics-{kind}-{column}", label, {run: data[:, column] for run, data in drawn.values.items()})
        for kind, draw in (("box", _boxes), ("histogram", _histogram))
        for column, label in enumerate(_LABELS)
    ]
    return Drawing(
        name="statistics",
        title="Token statistics of the completions",
        panels=tuple(panels),
        caption=prose("captions.jinja", "statistics", note=drawn.note(runs), bins=_BINS),
        runs=tuple(drawn.values),
    )


def _entropy(runs: Sequence[Run], drawn: Drawn, paper: int) -> Drawing:
    values = {run: data[:, ENTROPY] for run, data in drawn.values.items()}
    name = f"entropy-{paper}"
    return Drawing(
        name=name,
        title=f"Entropy of the completions on {drawn.benchmark.name}",
        panels=(_density(f"{name}-density", "Density", values), _boxes(f"{name}-box", _LABELS[ENTROPY], values)),
        caption=prose("captions.jinja", "entropies", note=drawn.note(runs), paper=paper),
        runs=tuple(values),
    )


_MARK = 5.0
"""Size of the mark of one completion, in units of 1/72 inch."""
_LARGEST = 16
"""Completions from which on a mark grows no further."""


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A point of the scatter: where completions of one run lie, all correct or none."""

    run: int
    correct: bool
    probability: float
    low: float


def marks_of(drawn: Drawn, problem: str) -> list[tuple[Mark, int]]:
    """The completions of a problem as marks with their counts, the largest first, so that they hide no smaller one."""
    counts: Counter[Mark] = Counter()
    for run in drawn.values:
        scores = drawn.benchmark.evaluations[run].problems[problem]
        for status, values in zip(scores.statuses, scores.statistics[drawn.kind], strict=True):
            if np.isfinite(values).all():
                place = round(float(values[PROBABILITY]), 4), round(float(values[LOW]), 4)
                counts[Mark(run, status == "correct", *place)] += 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def one_problem(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> Drawing | None:
    """Draw the paper's Fig. 8: the completions of one problem, picked by `half_solved`."""
    drawn = next(iter(chosen_benchmarks(benchmarks)), None)
    if drawn is None:
        return None
    problem = half_solved(drawn.benchmark, tuple(drawn.values))
    sides = [(runs[run].name, drawn.benchmark.evaluations[run].problems[problem]) for run in drawn.values]
    name = "one-problem"
    with canvas() as (figure, axes):
        for mark, count in marks_of(drawn, problem):
            colour = run_colour(mark.run)
            axes.plot(
                [mark.probability],
                [mark.low],
                color=colour,
                marker=run_marker(mark.run),
                markersize=_MARK * min(count, _LARGEST) ** 0.5,
                alpha=0.7,
                markerfacecolor=colour if mark.correct else "none",
                markeredgecolor=PAPER if mark.correct else colour,
                markeredgewidth=0.6 if mark.correct else 1.3,
            )
        value_axis(axes)
        axes.set_xlabel("mean probability", loc="right")
        axes.set_title("mean of the lowest 20 %")
        svg = to_svg(figure, name + "-0")
    return Drawing(
        name=name,
        title="The completions of one problem",
        panels=(Panel(name=name + "-0", label=problem, svg=svg),),
        caption=prose("captions.jinja", "one_problem", benchmark=drawn.benchmark.name, sides=sides),
        runs=tuple(drawn.values),
        marks=(("correct", True), ("not correct", False)),
    )


def _boxes(name: str, label: str, values: Mapping[int, np.ndarray]) -> Panel:
    with canvas(0.75 + 0.4 * len(values), PANEL[1]) as (figure, axes):
        for place, (run, data) in enumerate(values.items()):
            colour = run_colour(run)
            axes.boxplot(
                data,
                positions=[-place],
                orientation="horizontal",
                whis=(5, 95),
                widths=0.55,
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
                medianprops={"color": INK, "linewidth": 1.6},
                whiskerprops={"color": colour},
                capprops={"color": colour},
            )
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        value_axis(axes)
        return Panel(name=name, label=label, svg=to_svg(figure, name))


def _histogram(name: str, label: str, values: Mapping[int, np.ndarray]) -> Panel:
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins=_BINS)
    with canvas(*PANEL) as (figure, axes):
        for run, data in values.items():
            histogram(axes, data, edges, run_colour(run), linewidth=1.3)
        axes.set_title("% of completions")
        percentages(axes)
        value_axis(axes)
        return Panel(name=name, label=label, svg=to_svg(figure, name))


def _density(name: str, label: str, values: Mapping[int, np.ndarray]) -> Panel:
    from scipy.stats import gaussian_kde

    joined = np.concatenate(list(values.values()))
    low, high = joined.min(), joined.max()
    with canvas(*PANEL) as (figure, axes):
        for run, data in values.items():
            if np.ptp(data) <= 1e-9 * max(1.0, abs(high)):  # no kernel can be fitted to one value
                axes.axvline(data[0], color=run_colour(run))
                continue
            reach = 3 * data.std(ddof=1) * len(data) ** -0.2  # three widths of the kernel, by Scott's rule
            xs = np.linspace(max(0.0, low - reach), high + reach, _GRID)
            ys = gaussian_kde(data)(xs)
            axes.fill_between(xs, ys, color=run_colour(run), alpha=0.12, linewidth=0)
            axes.plot(xs, ys, color=run_colour(run))
        axes.set_ylim(bottom=0)
        axes.set_xlabel(_LABELS[ENTROPY], loc="right")
        value_axis(axes)
        return Panel(name=name, label=label, svg=to_svg(figure, name))
