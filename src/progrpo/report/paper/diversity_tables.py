"""Table 5 of the paper: how much the correct completions of a problem repeat each other, as they are and at equal numbers."""

from collections.abc import Callable, Mapping, Sequence

from progrpo import schema
from progrpo.measures import diversity
from progrpo.measures._matched import MIN_CORRECT, matched
from progrpo.report.comparison.benchmarks import Benchmark, Comparison, pass_measures
from progrpo.report.html import prose
from progrpo.report.paper.numbers import REMARKS
from progrpo.report.paper.tables import Column, PaperTable, TableRow, Value, file_name, of_preset
from progrpo.report.read import Run
from progrpo.report.wording import model
from progrpo.settings import parse
from progrpo.statistics import Interval, bootstrap_mean, paired_difference
from progrpo.types import ProblemResult, Sample

DRAWS = 16
"""Subsets of the side with more correct completions that a count-matched value is averaged over."""
MATCHED_PROBLEMS = 100
"""Problems that are matched: the first so many on which both runs have two correct completions."""

_DISTINCT, _SELF_BLEU, _COSINE = (
    schema.metric(f"evaluate/{key}") for key in ("distinct_2", "self_bleu_4", "semantic_cosine")
)
_POOLED = "/pooled"


def diversity_tables(runs: Sequence[Run], comparison: Comparison) -> list[tuple[list[PaperTable], str]]:
    """Table 5 and, of two runs and more, its count-matched companion: on AIME 2024 if a run has it, else on the first
    benchmark with correct completions to compare."""
    note = (
        "Table 5 (diversity) would be filled by an evaluation of aime24, or of any benchmark, with at least two correct "
        "completions on some problem."
    )
    usable = [one for one in comparison.benchmarks if any(_twice(one, run) for run in one.comparable)]
    if not usable:
        return [([], note)]
    first = min(usable, key=lambda one: one.task != "aime24")
    return [([_raw(runs, first), *_matched(runs, first)], note)]


def _twice(benchmark: Benchmark, run: int) -> list[str]:
    """Problems of which a run has two correct completions."""
    problems = benchmark.evaluations[run].problems
    return [problem for problem, scores in problems.items() if scores.correct >= MIN_CORRECT]


def _raw(runs: Sequence[Run], benchmark: Benchmark) -> PaperTable:
    lexical = (_DISTINCT, _SELF_BLEU)
    recorded = all(benchmark.evaluations[run].values(one.key) for run in benchmark.comparable for one in lexical)
    found = {run: _of_run(benchmark, run, recorded) for run in benchmark.comparable}
    keys = [key for key in _known(found) if any(key in one for one in found.values())]
    measures = {one.key: one for one in (*lexical, _COSINE)}
    columns = [Column(key="pass@1", label="Accuracy", parts=pass_measures(1))]
    for key in keys:
        measure = measures[key.removesuffix(_POOLED)]
        label = "pooled" if key.endswith(_POOLED) else "within a problem"
        columns.append(Column(key=key, label=label, parts=(measure,)))
    rows = []
    for run in benchmark.comparable:
        evaluation = benchmark.evaluations[run]
        accuracy = Value.of(evaluation.interval("pass@1"), columns[0].parts[0])
        cells = ((accuracy,), *((found[run].get(key),) for key in keys))
        rows.append(TableRow(run=run, texts=(runs[run].name, model(runs[run].config)), cells=cells))
    return PaperTable(
        name=file_name("5", benchmark.preset),
        title=f"Table 5 (accuracy, and diversity of correct solutions) on {benchmark.name}, {of_preset(benchmark.preset)}",
        caption=prose(
            "captions.jinja",
            "table_5",
            sampling=benchmark.evaluations[benchmark.comparable[0]].sampling,
            recorded=recorded,
            of_aime24=benchmark.task == "aime24",
            remark=REMARKS[5],
        ),
        words=("run", "model"),
        lead=2,
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _known(found: Mapping[int, Mapping[str, Value]]) -> list[str]:
    order = [one.key + end for end in ("", _POOLED) for one in (_DISTINCT, _SELF_BLEU, _COSINE)]
    return [key for key in order if any(key in one for one in found.values())]


def _of_run(benchmark: Benchmark, run: int, recorded: bool) -> dict[str, Value]:
    """Values by key; those over problems have intervals, the pooled ones none."""
    evaluation = benchmark.evaluations[run]
    found = {_COSINE.key: list(evaluation.values(_COSINE.key).values())}
    pooled = {key: value for key, value in evaluation.over_task.items() if key == _COSINE.key + _POOLED}
    if recorded:
        found |= {one.key: list(evaluation.values(one.key).values()) for one in (_DISTINCT, _SELF_BLEU)}
        pooled = dict(evaluation.over_task)
    else:
        params = parse(diversity.Params, {}, where="measure diversity")
        judged = list(evaluation.judged(_twice(benchmark, run)))
        values = [diversity.measure(one, params) for one in judged]
        for one in (_DISTINCT, _SELF_BLEU):
            found[one.key] = [each[one.key] for each in values if one.key in each]
        correct_at_all = [name for name, scores in evaluation.problems.items() if scores.correct]
        pooled |= diversity.over_task(list(evaluation.judged(correct_at_all)), params)
    known = {one: bootstrap_mean(found[one.key]) for one in (_DISTINCT, _SELF_BLEU, _COSINE) if found[one.key]}
    intervals = {one.key: Value.of(interval, one) for one, interval in known.items()}
    keys = [one.key + _POOLED for one in (_DISTINCT, _SELF_BLEU, _COSINE)]
    return {key: value for key, value in intervals.items() if value is not None} | {
        key: Value(number=pooled[key]) for key in keys if key in pooled
    }


def _matched(runs: Sequence[Run], benchmark: Benchmark) -> list[PaperTable]:
    """Each run against the first at equal numbers of correct completions; empty where nothing can be matched."""
    if 0 not in benchmark.comparable:
        return []
    base = _twice(benchmark, 0)
    columns = [
        Column(key=f"{one.key} {side}", label=label, parts=(one,))
        for one in (_DISTINCT, _SELF_BLEU)
        for side, label in (("run", "run"), ("first", runs[0].name), ("difference", "difference"))
    ]
    rows = []
    for run in benchmark.comparable[1:]:
        mine = set(_twice(benchmark, run))
        shared = [problem for problem in base if problem in mine]
        taken = shared[:MATCHED_PROBLEMS]
        ours, theirs = (list(benchmark.evaluations[one].judged(taken)) for one in (run, 0))
        found_all = (_at_equal_numbers(ours, theirs, one) for one in (_distinct_2, _self_bleu_4))
        values = [found for found in found_all if found is not None]
        if len(values) < 2:
            continue
        problems = f"{values[0][2].problems} of {len(benchmark.evaluations[run].problems)}"
        cells = tuple((Value(number=one.mean, low=one.low, high=one.high),) for found in values for one in found)
        rows.append(TableRow(run=run, texts=(runs[run].name, problems), cells=cells))
    if not rows:
        return []
    return [
        PaperTable(
            name=file_name("5b", benchmark.preset),
            title=f"Table 5, count-matched: each run against {runs[0].name} on {benchmark.name}",
            caption=prose("captions.jinja", "table_5b", draws=DRAWS, most=MATCHED_PROBLEMS),
            words=("run", "problems"),
            lead=2,
            columns=tuple(columns),
            rows=tuple(rows),
        )
    ]


def _at_equal_numbers(
    ours: Sequence[ProblemResult], theirs: Sequence[ProblemResult], value: Callable[[Sequence[Sample]], float]
) -> tuple[Interval, Interval, Interval] | None:
    """The run, the first run, and their difference; None where no problem can be matched."""
    pairs = matched(ours, theirs, value, draws=DRAWS)
    if not pairs:
        return None
    a, b = [pair.a for pair in pairs], [pair.b for pair in pairs]
    return bootstrap_mean(a), bootstrap_mean(b), paired_difference(a, b)


def _texts(samples: Sequence[Sample]) -> list[str]:
    return [sample.text for sample in samples]


def _distinct_2(samples: Sequence[Sample]) -> float:
    return diversity.distinct_n(_texts(samples), 2)


def _self_bleu_4(samples: Sequence[Sample]) -> float:
    return diversity.self_bleu(_texts(samples), 4)
