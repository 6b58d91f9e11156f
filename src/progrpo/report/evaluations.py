"""Evaluations of a run as scores per problem: each file is read once, and its texts stay on disk until asked for."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from progrpo import schema
from progrpo.errors import DataError
from progrpo.measures import pass_at_k
from progrpo.report.read import Row, Run, evaluation_rows, is_number, last_shared_evaluation
from progrpo.report.wording import flat
from progrpo.rows import from_row
from progrpo.statistics import Interval, bootstrap_mean
from progrpo.types import ProblemResult

HELD_OUT = "held-out"
"""Stands for the preset of evaluations made during training."""

STATISTICS = ("probability", "low_probability", "entropy")
"""Token statistics of a completion that are kept, in the order of the columns of `Scores.raw` and `Scores.tempered`."""

_SAMPLING = ("n", "temperature", "top_p", "top_k", "max_new_tokens", "precision")
_WHERE = frozenset({"name", "path", "source", "revision", "expected", "contests", "ratings", "rating"})
"""Settings of a task that say where its data come from and what else is made of the completions; the problems themselves
are compared by their digest."""
_WORDS = {"top_p": "top-p", "top_k": "top-k", "max_new_tokens": "limit", "digest": "problems"}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """What is kept of one problem's judged completions.

    Attributes:
        length: tokens, mean over completions. truncated: share cut at the limit. None where the rows do not say.
        raw, tempered: [n, 3] the `STATISTICS` of each completion, at temperature 1 and at that of sampling; a row of a
            completion without tokens is nan. None where no completion has them.
        right: whether each completion is correct, in the order of their rows.
        offset: where its row begins in the file, in bytes.
    """

    n: int
    correct: int
    measures: Mapping[str, float]
    statuses: Mapping[str, int]
    length: float | None
    truncated: float | None
    raw: np.ndarray | None
    tempered: np.ndarray | None
    right: tuple[bool, ...]
    offset: int


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
        step: of training, for a held-out evaluation.
    """

    name: str
    task: str
    preset: str | None
    conditions: Mapping[str, str]
    problems: Mapping[str, Scores]
    over_task: Mapping[str, float]
    path: Path
    by_category: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None

    @property
    def n(self) -> int:
        """Completions per problem; the smallest where problems differ."""
        return min(scores.n for scores in self.problems.values())

    @property
    def sampling(self) -> str:
        """The sampling settings in words."""
        known = [(name, self.conditions[name]) for name in _SAMPLING if name in self.conditions]
        return ", ".join(
            f"{_WORDS.get(name, name)} {value}" for name, value in known if (name, value) != ("top_k", "0")
        )

    def values(self, key: str) -> dict[str, float]:
        """A measure by problem, for the problems that have it. Pass@k is computed from the verdicts, whatever was logged."""
        if key.startswith("pass@"):
            k = int(key.removeprefix("pass@"))
            return {name: _pass_at(s.n, s.correct, k) for name, s in self.problems.items() if s.n >= k}
        if key in ("length", "truncated"):
            found = {name: getattr(scores, key) for name, scores in self.problems.items()}
        else:
            found = {name: scores.measures.get(key) for name, scores in self.problems.items()}
        return {name: float(value) for name, value in found.items() if is_number(value)}

    def interval(self, key: str) -> Interval | None:
        """The mean of a measure over problems with its interval; None where no problem has it."""
        values = tuple(self.values(key).values())
        return _bootstrapped(values) if values else None

    def statuses(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for scores in self.problems.values():
            total.update(scores.statuses)
        return total

    def statistics(self, kind: str) -> np.ndarray | None:
        """[rollouts, 3] the `STATISTICS` of every completion that has them; None where a problem lacks them.

        Args:
            kind: "raw" or "tempered".
        """
        parts = [getattr(scores, kind) for scores in self.problems.values()]
        if not parts or any(part is None for part in parts):
            return None
        joined: np.ndarray = np.concatenate(parts)
        known: np.ndarray = joined[np.isfinite(joined).all(axis=1)]
        return known

    def judged(self, problems: Collection[str]) -> Iterator[ProblemResult]:
        """Read these problems with their completions from the file again, in the order given."""
        with self.path.open("rb") as file:
            for problem in problems:
                file.seek(self.problems[problem].offset)
                yield from_row(json.loads(file.readline()))


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """An evaluation that cannot be used: the index of its run, its name, and why, in words."""

    run: int
    name: str
    why: str


def evaluations_of(runs: Sequence[Run]) -> tuple[list[list[Evaluation]], list[LeftOut]]:
    """The finished evaluations of each run by name, and those left out.

    A run's held-out evaluation is the last one that all runs with any share, else its own last.

    Raises:
        DataError: a file is damaged otherwise than by a cut last line.
    """
    shared = last_shared_evaluation([run for run in runs if run.evaluations])
    found: list[list[Evaluation]] = []
    left_out: list[LeftOut] = []
    for index, run in enumerate(runs):
        mine = []
        if run.evaluations:
            mine.append(_held_out(run, shared if shared is not None else max(run.evaluations)))
        for name in _names(run.path / "evaluations"):
            read = _benchmark(run.path / "evaluations" / f"{name}.jsonl")
            if isinstance(read, str):
                left_out.append(LeftOut(run=index, name=name, why=read))
            else:
                mine.append(read)
        found.append(mine)
    return found, left_out


def why_apart(one: Evaluation, reference: Evaluation) -> str:
    """In words, the conditions in which an evaluation differs from the reference; "" where the two may be compared."""
    names = [*reference.conditions, *(name for name in one.conditions if name not in reference.conditions)]
    differing = []
    for name in names:
        mine, theirs = (e.conditions.get(name, "unknown") for e in (one, reference))
        if mine != theirs:
            word = _WORDS.get(name, name)
            differing.append("other problems" if name == "digest" else f"{word} {mine}, not {theirs}")
    return "; ".join(differing)


def _held_out(run: Run, step: int) -> Evaluation:
    path = run.path / "evaluations" / f"step-{step:06d}.jsonl"
    problems, digest = _read(path)
    task = dict(run.config.get("task") or {})
    name = str(task.get("name", "task"))
    settings = {**(run.config.get("evaluate") or {}), "task": task, "reward": run.config.get("reward")}
    settings["max_new_tokens"] = (run.config.get("sampling") or {}).get("max_new_tokens")
    settings["n"] = _completions(problems)
    return Evaluation(
        name=f"{name} (held-out)",
        task=name,
        preset=HELD_OUT,
        conditions=_conditions(HELD_OUT, settings, digest) | {"step": str(step)},
        problems=problems,
        over_task={},
        path=path,
        step=step,
    )


def _names(folder: Path) -> list[str]:
    """The benchmarks of which a folder holds rows or a header."""
    files = [*folder.glob("[!.]*.jsonl"), *folder.glob("[!.]*.json")]
    return sorted({path.stem for path in files if not path.stem.startswith("step-")})


def _benchmark(path: Path) -> Evaluation | str:
    """A benchmark's evaluation; in words, why it cannot be used."""
    head = path.with_suffix(".json")
    if not head.is_file():
        return f"rows without a header {head.name}"
    try:
        header = json.loads(head.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{head}: expected a JSON object, got a damaged file ({error}); evaluate again") from None
    if not isinstance(header, dict):
        raise DataError(f"{head}: expected a JSON object, got {type(header).__name__}; evaluate again")
    if header.get("complete") is not True:
        return f"cut short, or still being written, at {_rows(path):,} of {_count(header.get('problems'))} problems"
    problems, digest = _read(path) if path.is_file() else ({}, "")
    if not problems:
        return f"a header without rows ({path.name} is {'empty' if path.is_file() else 'gone'}); evaluate again"
    excluded = sorted(str(one["problem"]) for one in header.get("excluded") or ())  # their golds do not verify
    wanted = header.get("problems", len(problems) + len(excluded)) - len(excluded)
    if len(problems) != wanted:
        return f"{len(problems)} problems where its header says {wanted}; evaluate again"
    settings = dict(header.get("settings") or {}) | {"n": _completions(problems)}
    preset = header.get("preset")
    return Evaluation(
        name=path.stem,
        task=str(header.get("task", path.stem)),
        preset=preset,
        conditions=_conditions(preset, settings, " ".join([header.get("digest") or digest, *excluded])),
        problems=problems,
        over_task=_numbers(header.get("over_task")),
        by_category=_by_category(header.get("by_category")),
        path=path,
        environment=header.get("environment") or {},
    )


def _rows(path: Path) -> int:
    """Whole lines of a file; 0 where there is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def _count(number: object) -> str:
    return f"{number:,}" if isinstance(number, int) else "an unknown number of"


def _by_category(means: object) -> dict[str, dict[str, float]]:
    known = means if isinstance(means, dict) else {}
    return {str(category): _numbers(of) for category, of in known.items() if isinstance(of, dict)}


def _numbers(measures: Mapping[str, Any] | None) -> dict[str, float]:
    """The values that are numbers, under today's names."""
    return {key: value for key, value in schema.measures_in_todays_words(measures or {}).items() if is_number(value)}


def _conditions(preset: str | None, settings: Mapping[str, Any], digest: str) -> dict[str, str]:
    found = {"preset": preset or "none"}
    found |= {name: _plain(settings[name]) for name in _SAMPLING if settings.get(name) is not None}
    task = {key: value for key, value in (settings.get("task") or {}).items() if key not in _WHERE}
    reward = settings.get("reward") or {}
    return (
        found
        | flat(task, "task.")
        | flat(reward if isinstance(reward, Mapping) else {"name": reward}, "reward.")
        | {"digest": digest}
    )


def _plain(value: Any) -> str:
    """1 and 1.0 are one setting."""
    return f"{value:g}" if is_number(value) and abs(value) < 1e5 else str(value)


def _completions(problems: Mapping[str, Scores]) -> str:
    return " or ".join(str(n) for n in sorted({scores.n for scores in problems.values()}))


@lru_cache(maxsize=4096)
def _bootstrapped(values: tuple[float, ...]) -> Interval:
    """`bootstrap_mean`, kept for the tables and figures that ask again."""
    return bootstrap_mean(values)


@cache
def _pass_at(n: int, correct: int, k: int) -> float:
    return correct / n if k == 1 else pass_at_k.estimate(n, correct, k)  # to the last bit, for Pass@1 is compared


def _read(path: Path) -> tuple[dict[str, Scores], str]:
    """Scores by problem, and the digest of ids, prompts and answers."""
    found: dict[str, Scores] = {}
    digest = hashlib.sha256()
    for number, (offset, row) in enumerate(evaluation_rows(path), start=1):
        try:
            found[row["problem"]] = _scores(row, offset)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: no row of an evaluation ({type(error).__name__}: {error}); evaluate again"
            ) from None
        identity = [row["problem"], row.get("prompt"), row.get("answer")]
        digest.update(json.dumps(identity, ensure_ascii=True).encode())
    return found, digest.hexdigest()


def _scores(row: Row, offset: int) -> Scores:
    samples = row["samples"]
    tokens = [sample.get("tokens") for sample in samples]
    finishes = [sample.get("finish") for sample in samples]
    return Scores(
        n=row["n"],
        correct=row["correct"],
        measures=_numbers(row["measures"]),
        statuses=Counter(sample["status"] for sample in samples),
        length=sum(tokens) / len(tokens) if samples and all(is_number(count) for count in tokens) else None,
        truncated=finishes.count("length") / len(finishes) if samples and None not in finishes else None,
        raw=_statistics([sample.get("raw") or {} for sample in samples]),
        tempered=_statistics(samples),
        right=tuple(sample["status"] == "correct" for sample in samples),
        offset=offset,
    )


def _statistics(samples: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    rows = [[value if is_number(value := one.get(name)) else np.nan for name in STATISTICS] for one in samples]
    values = np.array(rows, dtype=np.float64).reshape(-1, len(STATISTICS))
    return values if np.isfinite(values).all(axis=1).any() else None
