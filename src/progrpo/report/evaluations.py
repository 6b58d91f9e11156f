"""Evaluations of a run as scores per problem: each file is read once, and its texts stay on disk until asked for."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from progrpo import schema
from progrpo.files import is_number, rows_at
from progrpo.measures import auc, cover, pass_at_k
from progrpo.report.conditions import SAMPLING, SOURCE, WORDS, conditions_of
from progrpo.report.html import prose
from progrpo.rows import from_row, read_header, read_results
from progrpo.statistics import Interval, bootstrap_mean, over_seeds
from progrpo.types import ProblemResult

HELD_OUT = "held-out"
"""Stands for the preset of evaluations made during training."""

STATISTICS = ("probability", "low_probability", "entropy")
"""Token statistics of a completion that are kept, in the order of the columns of `Scores.statistics`."""

_CHECKPOINT = re.compile(r"step-(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """What is kept of one problem's judged completions.

    Attributes:
        identity: digest of its id, prompt and answer: an id with another prompt or answer is another problem.
        measures: as logged; "length" (tokens, mean over completions) and "truncated" (share cut at the limit) are those of
            the completions where the rows say.
        statuses: of the completions, in the order of their rows.
        forms: canonical forms of the correct completions with their counts.
        statistics: [n, 3] the `STATISTICS` of each completion, "raw" at temperature 1 and "tempered" at that of sampling; a
            row of a completion without tokens is nan. A kind that no completion has is absent.
        offset: where its row begins in the file, in bytes.
    """

    n: int
    correct: int
    identity: bytes
    measures: Mapping[str, float]
    statuses: tuple[str, ...]
    forms: Counter[str]
    statistics: Mapping[str, np.ndarray]
    offset: int

    @property
    def share(self) -> float:
        """Of correct completions."""
        return self.correct / self.n if self.n else 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """One evaluation of one run.

    Attributes:
        name: of the file, without suffix; of a held-out evaluation the task's, marked as held out. Runs are compared by it.
        preset: "paper", "recommended", `HELD_OUT`, or None.
        conditions: what two evaluations must share to be compared, as words by name.
        problems: scores by problem, in the order of the file.
        over_task: numbers of the whole task that are no mean over problems.
        by_category: means of each measure by category of the problems; empty where they have none.
        environment: versions, machine and command, as recorded; empty for a held-out evaluation, which has its run's.
        step: of training, that the model was at; None of a model that is no checkpoint of a run.
        seeds: where it stands for those of several runs (`of_seeds`): theirs by seed. Its own problems hold the completions of
            all of them together.
    """

    name: str
    task: str
    preset: str | None
    conditions: Mapping[str, str]
    problems: Mapping[str, Scores]
    path: Path
    over_task: Mapping[str, float] = field(default_factory=dict)
    by_category: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None
    seeds: Mapping[int, "Evaluation"] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Completions per problem; the smallest where problems differ. Of several seeds, those of one."""
        return min([one.n for one in self.seeds.values()] or [scores.n for scores in self.problems.values()])

    @property
    def sampling(self) -> str:
        """The sampling settings in words."""
        known = [(name, self.conditions[name]) for name in SAMPLING if name in self.conditions]
        return ", ".join(f"{WORDS.get(name, name)} {value}" for name, value in known if (name, value) != ("top_k", "0"))

    def values(self, key: str) -> dict[str, float]:
        """A measure by problem, for the problems that have it. Pass@k, AUC@K and Cover@τ are computed from the verdicts,
        whatever was logged. Of several seeds, its mean over them."""
        if self.seeds:
            of_seeds = [one.values(key) for one in self.seeds.values()]
            shared = [name for name in self.problems if all(name in values for values in of_seeds)]
            return {name: sum(values[name] for values in of_seeds) / len(of_seeds) for name in shared}
        if of_counts := _of_counts(key):
            known = {name: of_counts(scores.n, scores.correct) for name, scores in self.problems.items()}
            return {name: value for name, value in known.items() if value is not None}
        return {name: scores.measures[key] for name, scores in self.problems.items() if key in scores.measures}

    def interval(self, key: str) -> Interval | None:
        """The mean of a measure over problems with its interval; None where no problem has it."""
        values = tuple(self.values(key).values())
        return _bootstrapped(values) if values else None

    def over_seeds(self, key: str) -> Interval | None:
        """The mean of a measure with its interval over seeds, that of a share within [0, 1]; None of a single seed, and where
        a seed lacks it."""
        means = [list(one.values(key).values()) for one in self.seeds.values()]
        interval = over_seeds([sum(values) / len(values) for values in means]) if all(means) else None
        measure = schema.column(key)
        if interval is None or measure is None or not measure.percent:
            return interval
        return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 1.0))

    @property
    def description(self) -> str:
        """How it was evaluated, in words: problems, preset, step, sampling."""
        return prose("captions.jinja", "description", evaluation=self, held_out=self.preset == HELD_OUT)

    def statuses(self) -> dict[str, float]:
        """Share of all completions by verdict status."""
        counts = Counter(status for scores in self.problems.values() for status in scores.statuses)
        return {status: count / counts.total() for status, count in sorted(counts.items())}

    def statistics(self, kind: str) -> np.ndarray | None:
        """[completions, 3] the `STATISTICS` of every completion that has them; None where a problem lacks them.

        Args:
            kind: "raw" or "tempered".
        """
        parts = [scores.statistics[kind] for scores in self.problems.values() if kind in scores.statistics]
        if not parts or len(parts) < len(self.problems):
            return None
        joined: np.ndarray = np.concatenate(parts)
        known: np.ndarray = joined[np.isfinite(joined).all(axis=1)]
        return known

    def results(self, problems: Collection[str]) -> dict[str, ProblemResult]:
        """Read those of these problems that it has with their completions from the file again, in the order given; of
        several seeds, with the completions of all of them."""
        if self.seeds:
            of_seeds = [one.results(problems) for one in self.seeds.values()]
            joined = {name: [by_name[name] for by_name in of_seeds] for name in problems if name in self.problems}
            return {
                name: replace(parts[0], samples=tuple(sample for part in parts for sample in part.samples))
                for name, parts in joined.items()
            }
        results = {}
        with self.path.open("rb") as file:
            for problem in problems:
                if problem in self.problems:
                    file.seek(self.problems[problem].offset)
                    results[problem] = from_row(json.loads(file.readline()))
        return results


def why_apart(one: Evaluation, reference: Evaluation, *, but_for: Collection[str] = ()) -> str:
    """In words, the conditions in which an evaluation differs from the reference; "" where the two may be compared.

    Args:
        but_for: conditions that may differ.
    """
    names = [*reference.conditions, *(name for name in one.conditions if name not in reference.conditions)]
    if one.conditions.get("reward.name") != reference.conditions.get("reward.name"):
        names = [name for name in names if not name.startswith("reward.") or name == "reward.name"]
    both = one.conditions.keys() & reference.conditions.keys()
    names = [name for name in names if not name.startswith(SOURCE) or name in both]
    differing = []
    for name in (name for name in names if name not in but_for):
        mine, theirs = (evaluation.conditions.get(name, "unknown") for evaluation in (one, reference))
        if mine != theirs:
            word = WORDS.get(name, name)
            differing.append("other problems" if name == "digest" else f"{word} {mine}, not {theirs}")
    return "; ".join(differing)


def checkpoint_step(model: object) -> int | None:
    """The step of the checkpoint that a header names as its `model`; None where that is no checkpoint of a run."""
    named = _CHECKPOINT.fullmatch(Path(str(model)).name)
    return int(named[1]) if named else None


def held_out(
    path: Path, step: int, config: Mapping[str, Any], sources: Mapping[str, str] = MappingProxyType({})
) -> Evaluation:
    """An evaluation made during training, by the settings of its run.

    Args:
        sources: digests of the user's own files, as the run's environment has them ("reward ./mine.py").

    Raises:
        DataError: the file is damaged otherwise than by a cut last line.
    """
    problems, digest = _read(path)
    task = dict(config.get("task") or {})
    name = str(task.get("name", "task"))
    settings = {**(config.get("evaluate") or {}), "task": task, "reward": config.get("reward")}
    own = {name.removeprefix("reward "): digest for name, digest in sources.items() if name.startswith("reward ")}
    settings["reward_sources"] = own
    if settings.get("max_new_tokens") is None:
        settings["max_new_tokens"] = (config.get("sampling") or {}).get("max_new_tokens")
    return Evaluation(
        name=f"{name} (held-out)",
        task=name,
        preset=HELD_OUT,
        conditions=conditions_of(HELD_OUT, settings, _counts(problems), digest) | {"step": str(step)},
        problems=problems,
        path=path,
        step=step,
    )


def benchmarks(folder: Path) -> Iterator[tuple[str, Evaluation | str]]:
    """What `progrpo evaluate` wrote into a folder, by name: an evaluation, or in words why it cannot be used.

    Raises:
        DataError: a file is damaged otherwise than by a cut last line.
    """
    files = [*folder.glob("[!.]*.jsonl"), *folder.glob("[!.]*.json")]
    for name in sorted({path.stem for path in files if not path.stem.startswith("step-")}):
        yield name, _benchmark(folder / f"{name}.jsonl")


def _benchmark(path: Path) -> Evaluation | str:
    head = path.with_suffix(".json")
    if not head.is_file():
        return f"rows without a header {head.name}"
    header = read_header(head)
    if header.get("complete") is not True:
        planned = header.get("problems")
        count = f"{planned:,}" if isinstance(planned, int) else "an unknown number of"
        written = sum(1 for _ in rows_at(path)) if path.is_file() else 0
        return f"cut short, or still being written, at {written:,} of {count} problems"
    problems, digest = _read(path) if path.is_file() else ({}, "")
    if not problems:
        return f"a header without rows ({path.name} is {'empty' if path.is_file() else 'gone'}); evaluate again"
    excluded = sorted(str(one["problem"]) for one in header.get("excluded") or ())  # their golds do not verify
    expected = header.get("problems", len(problems) + len(excluded)) - len(excluded)
    if len(problems) != expected:
        return f"{len(problems)} problems where its header says {expected}; evaluate again"
    preset = header.get("preset")
    digest = " ".join([header.get("digest") or digest, *excluded])
    means = header.get("by_category")
    return Evaluation(
        name=path.stem,
        task=str(header.get("task", path.stem)),
        preset=preset,
        conditions=conditions_of(preset, header.get("settings") or {}, _counts(problems), digest),
        problems=problems,
        path=path,
        over_task=_numbers(header.get("over_task")),
        by_category={str(name): _numbers(of) for name, of in means.items()} if isinstance(means, dict) else {},
        environment=header.get("environment") or {},
        step=checkpoint_step(header.get("model")),
    )


def _numbers(measures: object) -> dict[str, float]:
    """The values that are numbers, under today's names."""
    known = schema.measures_in_todays_words(measures) if isinstance(measures, Mapping) else {}
    return {key: value for key, value in known.items() if is_number(value)}


def _counts(problems: Mapping[str, Scores]) -> str:
    """The completions per problem, in words where problems differ."""
    return " or ".join(str(n) for n in sorted({scores.n for scores in problems.values()}))


@lru_cache(maxsize=4096)
def _bootstrapped(values: tuple[float, ...]) -> Interval:
    """`bootstrap_mean`, kept for the tables and figures that ask again."""
    return bootstrap_mean(values)


def _of_counts(key: str) -> Callable[[int, int], float | None] | None:
    """A measure that the numbers of samples and of correct ones tell, as a function of both that is None where there are too
    few samples; None of any other measure."""
    family, _, at = key.partition("@")
    if family in ("pass", "auc") and at.isdecimal():
        value = {"pass": _pass_at, "auc": _area}[family]
        return lambda n, correct: value(n, correct, int(at)) if n >= int(at) else None
    if family == "cover" and at:
        return lambda n, correct: float(cover.covered(n, correct, float(at)))
    return None


@cache
def _pass_at(n: int, correct: int, k: int) -> float:
    return correct / n if k == 1 else pass_at_k.estimate(n, correct, k)  # to the last bit, for Pass@1 is compared


@cache
def _area(n: int, correct: int, k: int) -> float:
    return auc.areas(n, correct)[k - 2]


def _read(path: Path) -> tuple[dict[str, Scores], str]:
    """Scores by problem, and the digest of ids, prompts and answers."""
    problems = {result.problem: _scores(result, offset) for offset, result in read_results(path)}
    return problems, hashlib.sha256(b"".join(scores.identity for scores in problems.values())).hexdigest()


def _scores(result: ProblemResult, offset: int) -> Scores:
    samples = result.samples
    measures = _numbers(result.measures)
    if any(sample.tokens for sample in samples):  # what older versions wrote has no tokens
        measures["length"] = sum(sample.tokens for sample in samples) / len(samples)
        measures["truncated"] = sum(sample.finish == "length" for sample in samples) / len(samples)
    identity = json.dumps([result.problem, result.prompt, result.answer], ensure_ascii=True)
    kinds = {"raw": [sample.raw for sample in samples], "tempered": [sample.tempered for sample in samples]}
    return Scores(
        n=result.n,
        correct=result.correct,
        identity=hashlib.sha256(identity.encode()).digest(),
        measures=measures,
        statuses=tuple(sample.status for sample in samples),
        forms=Counter(sample.canonical for sample in samples if sample.correct and sample.canonical),
        statistics={
            kind: np.array([[getattr(one, name, np.nan) for name in STATISTICS] for one in records], dtype=np.float64)
            for kind, records in kinds.items()
            if any(records)
        },
        offset=offset,
    )
