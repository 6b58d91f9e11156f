"""Table 5 of the paper: how much the correct completions of a problem repeat each other, as they are and at equal numbers."""

from collections.abc import Callable, Sequence
from functools import partial

from progrpo import schema
from progrpo.measures import diversity
from progrpo.measures._matched import MIN_CORRECT, matched
from progrpo.report.comparison.benchmarks import Benchmark, pass_measures
from progrpo.report.evaluations import Evaluation
from progrpo.report.html import prose
from progrpo.report.paper.numbers import REMARKS
from progrpo.report.paper.tables import Column, PaperTable, TableRow, Value, Values, paper_table
from progrpo.report.read import Run
from progrpo.report.wording import model
from progrpo.settings import parse
from progrpo.statistics import Interval, bootstrap_mean, paired_difference
from progrpo.types import ProblemResult

DRAWS = 16
"""Subsets of the side with more correct completions that a count-matched value is averaged over."""
MATCHED_PROBLEMS = 100
"""Problems that are matched: the first so many on which both runs have two correct completions."""

_DISTINCT, _SELF_BLEU, _COSINE = (
    schema.metric(f"evaluate/{key}") for key in ("distinct_2", "self_bleu_4", "semantic_cosine")
)
_LEXICAL = {_DISTINCT: partial(diversity.distinct_n, n=2), _SELF_BLEU: partial(diversity.self_bleu, n=4)}
"""The measures that can be computed from the texts, and what computes them."""
_POOLED = "/pooled"
_COLUMNS = (
    Column(key="pass@1", label="Accuracy", parts=pass_measures(1)),
    *(Column(key=one.key, label="within a problem", parts=(one,)) for one in (*_LEXICAL, _COSINE)),
    *(Column(key=one.key + _POOLED, label="pooled", parts=(one,)) for one in (*_LEXICAL, _COSINE)),
)


def diversity_tables(runs: Sequence[Run], benchmarks: Sequence[Benchmark]) -> list[PaperTable]:
    """Table 5 and, of two runs and more, its count-matched companion: on AIME 2024 if a run has it, else on the first
    benchmark with correct completions to compare; none where no problem has two of them."""
    usable = [one for one in benchmarks if any(_solved(one.evaluations[run], MIN_CORRECT) for run in one.comparable)]
    if not usable:
        return []
    first = min(usable, key=lambda one: one.task != "aime24")
    return [_raw(runs, first), *_matched(runs, first)]


def _solved(evaluation: Evaluation, times: int) -> list[str]:
    """Problems with so many correct completions."""
    return [problem for problem, scores in evaluation.problems.items() if scores.correct >= times]


def _of_one_seed(evaluation: Evaluation) -> Evaluation:
    """Of several seeds the first: texts are compared at the number of completions that one seed has."""
    return next(iter(evaluation.seeds.values()), evaluation)


def _raw(runs: Sequence[Run], benchmark: Benchmark) -> PaperTable:
    evaluations = {run: benchmark.evaluations[run] for run in benchmark.comparable}
    recorded = all(evaluation.values(one.key) for evaluation in evaluations.values() for one in _LEXICAL)
    rows = [
        TableRow(run=run, texts=(runs[run].name, model(runs[run].config)), values=_values(evaluation, recorded))
        for run, evaluation in evaluations.items()
    ]
    return paper_table(
        "5",
        f"(accuracy, and diversity of correct solutions) on {benchmark.name}",
        benchmark.preset,
        caption=prose(
            "captions.jinja",
            "table_5",
            sampling=benchmark.evaluations[benchmark.comparable[0]].sampling,
            recorded=recorded,
            of_aime24=benchmark.task == "aime24",
            remark=REMARKS[5],
            seeds=any(one.seeds for one in evaluations.values()),
        ),
        words=("run", "model"),
        columns=_COLUMNS,
        rows=rows,
    )


def _values(evaluation: Evaluation, recorded: bool) -> Values:
    """A row's numbers; those over problems have intervals, the pooled ones none.

    Args:
        recorded: whether the lexical ones are taken from the evaluation, not computed from its completions.
    """
    values = {one.key: list(evaluation.values(one.key).values()) for one in (*_LEXICAL, _COSINE)}
    pooled, one_seed = dict(evaluation.over_task), _of_one_seed(evaluation)
    if not recorded:
        params = parse(diversity.Params, {}, where="measure diversity")
        solved_twice = one_seed.results(_solved(one_seed, MIN_CORRECT)).values()
        measured = [diversity.measure(one, params) for one in solved_twice]
        values |= {one.key: [each[one.key] for each in measured if one.key in each] for one in _LEXICAL}
        pooled = {_COSINE.key + _POOLED: pooled[_COSINE.key + _POOLED]} if _COSINE.key + _POOLED in pooled else {}
        pooled |= diversity.over_task(list(one_seed.results(_solved(one_seed, 1)).values()), params)
    means = {"pass@1": evaluation.interval("pass@1")}
    means |= {key: bootstrap_mean(known) for key, known in values.items() if known}
    numbers: Values = {}
    for column in _COLUMNS:
        (part,) = column.parts
        over_problems = Value.of(means.get(column.key), part)
        if over_problems is not None:
            numbers[column.key, part.key] = over_problems
        elif column.key in pooled:
            numbers[column.key, part.key] = Value(number=pooled[column.key])
    return numbers


def _matched(runs: Sequence[Run], benchmark: Benchmark) -> list[PaperTable]:
    """Each run against the first at equal numbers of correct completions; empty where nothing can be matched."""
    if 0 not in benchmark.comparable:
        return []
    sides = (("run", "run"), ("first", runs[0].name), ("difference", "difference"))
    columns = [Column(key=f"{one.key} {side}", label=label, parts=(one,)) for one in _LEXICAL for side, label in sides]
    base = benchmark.evaluations[0]
    rows = []
    for run in benchmark.comparable[1:]:
        evaluation = benchmark.evaluations[run]
        solved = set(_solved(evaluation, MIN_CORRECT))
        shared = [problem for problem in _solved(base, MIN_CORRECT) if problem in solved][:MATCHED_PROBLEMS]
        ours, theirs = (list(_of_one_seed(one).results(shared).values()) for one in (evaluation, base))
        matches = [_at_equal_numbers(ours, theirs, measure) for measure in _LEXICAL.values()]
        intervals = [interval for match in matches for interval in match]
        if all(matches):
            values = {
                (column.key, column.parts[0].key): Value(number=one.mean, low=one.low, high=one.high)
                for column, one in zip(columns, intervals, strict=True)
            }
            problems = f"{intervals[0].count} of {len(evaluation.problems)}"
            rows.append(TableRow(run=run, texts=(runs[run].name, problems), values=values))
    table = PaperTable(
        name="table-5b" + (f"-{benchmark.preset}" if benchmark.preset else ""),
        title=f"Table 5, count-matched: each run against {runs[0].name} on {benchmark.name}",
        caption=prose("captions.jinja", "table_5b", draws=DRAWS, most=MATCHED_PROBLEMS, seeds=bool(base.seeds)),
        words=("run", "problems"),
        columns=tuple(columns),
        rows=tuple(rows),
    )
    return [table] if rows else []


def _at_equal_numbers(
    ours: Sequence[ProblemResult], theirs: Sequence[ProblemResult], measure: Callable[[list[str]], float]
) -> tuple[Interval, ...]:
    """The run, the first run, and their difference; empty where no problem can be matched."""
    pairs = matched(ours, theirs, lambda samples: measure([sample.text for sample in samples]), draws=DRAWS)
    a, b = [pair.a for pair in pairs], [pair.b for pair in pairs]
    return (bootstrap_mean(a), bootstrap_mean(b), paired_difference(a, b)) if pairs else ()
