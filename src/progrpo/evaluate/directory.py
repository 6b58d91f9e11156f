"""Evaluations in a run directory: `evaluations/NAME.jsonl`, one row per problem, and its header `NAME.json`.

Rows are appended part by part, so an evaluation that was cut short goes on where it stopped. The header says what was
asked; going on with anything else is refused. `complete` stands in it once every problem is there.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from progrpo.errors import RunDirectoryError
from progrpo.evaluate import mean_over_problems, values_of
from progrpo.files import append, lock, make_folder, to_json, write_whole
from progrpo.rows import read_header, read_results, to_row
from progrpo.statistics import bootstrap_mean
from progrpo.types import ProblemResult

_ASKED = ("task", "preset", "weights", "settings", "problems", "digest")
"""What must be the same to go on; of the settings all but the task's own, whose problems the digest stands for."""


class EvaluationFile:
    """One evaluation of one task, one process at a time. Use as a context manager.

    Args:
        folder: the run directory. name: of the evaluation, as in its files. asked: `_ASKED` and the environment.

    Raises:
        RunDirectoryError: an evaluation of this name is there that asked for something else, or another process works on
            it. Nothing was touched.
    """

    def __init__(self, folder: Path, name: str, asked: Mapping[str, Any]) -> None:
        self._rows = folder / "evaluations" / f"{name}.jsonl"
        self._header = self._rows.with_suffix(".json")
        make_folder(self._rows.parent)
        self._lock: IO[str] = lock(self._rows.with_name(f".{name}.lock"), what=self._rows)
        try:
            self._known = self._open(asked)
        except BaseException:
            self._lock.close()
            raise

    @property
    def complete(self) -> bool:
        return bool(self._known.get("complete"))

    @property
    def header(self) -> Mapping[str, Any]:
        return self._known

    def done(self) -> list[ProblemResult]:
        """The problems that are there; a row cut short by a kill is left out, and then made again."""
        return [result for _, result in read_results(self._rows)] if self._rows.exists() else []

    def note(self, **facts: Any) -> None:
        """Write facts into the header, for instance the problems that are left out ("excluded")."""
        self._write(self._known | facts)

    def remeasure(self, problems: Sequence[ProblemResult], measures: Sequence[Mapping[str, Any]]) -> None:
        """Replace the rows by the same problems measured otherwise; the summary is then to be made anew."""
        # The header first: were this killed in between, it must not call old measures complete beside new rows.
        self._write(self._known | {"measures": None, "complete": False})
        if problems:
            write_whole(self._rows, "".join(_line(problem) for problem in problems))
        self._write(self._known | {"measures": list(measures)})

    def require_commit(self, commit: str | None) -> None:
        """Note the commit of a model from the hub; refuse another than the rows were made with.

        Raises:
            RunDirectoryError: the commit differs.
        """
        before = self._known.get("model_commit")
        if before not in (None, commit):
            raise RunDirectoryError(
                f"{self._header} is an evaluation of commit {before} of {self._known.get('model')}, which is now at {commit}; "
                "nothing was overwritten. Choose another --out"
            )
        self.note(model_commit=commit)

    def append(self, problems: Sequence[ProblemResult], seconds: float) -> None:
        """Add judged problems; they are on the disk when this returns."""
        append(self._rows, "".join(_line(problem) for problem in problems))
        self._write(self._known | {"seconds": self._known.get("seconds", 0.0) + seconds})

    def finish(self, problems: Sequence[ProblemResult], over_task: Mapping[str, float]) -> Mapping[str, Any]:
        """Write the header whole, with the summary of all problems; returns it."""
        self._write(self._known | {"complete": True, **summary(problems), "over_task": dict(over_task)})
        return self._known

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.close()

    def _open(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads(to_json(settings))  # as it will be read again: tuples become lists
        self._cut_rows()
        rows = self._rows.exists() and self._rows.stat().st_size > 0
        if not self._header.is_file() or not rows:  # a header alone has nothing that could be mixed up
            if rows:
                raise RunDirectoryError(
                    f"{self._rows} exists without {self._header.name}; move it away or choose another --out"
                )
            self._write(asked | {"complete": False})
            return self._known
        known = read_header(self._header)
        before, now = _without_task(known), _without_task(asked)
        for key in _ASKED:
            if before.get(key) != now[key]:
                said = _difference(key, before.get(key), now[key])
                if key == "digest":
                    said += _task_difference(known, asked)
                if key == "weights":
                    said = _other_weights(known, asked)
                raise RunDirectoryError(
                    f"{self._header} is an evaluation with {said}; nothing was overwritten. Choose another --out, or remove "
                    "it with its rows to make it anew"
                )
        if known.get("settings") != asked["settings"]:  # what else is made of the completions, or where the data lie
            known |= {"settings": asked["settings"], "complete": False}
            self._write(known)
        if not known.get("complete") and known.get("environment") != asked.get("environment"):
            known.setdefault("resumed", []).append(asked.get("environment"))
            self._write(known)
        return known

    def _cut_rows(self) -> None:
        """Forget a last line that was cut short, so that the next row begins a line of its own."""
        if not self._rows.exists():
            return
        text = self._rows.read_bytes()
        complete_rows = text[: text.rfind(b"\n") + 1]
        if complete_rows != text:
            write_whole(self._rows, complete_rows.decode("utf-8"))

    def _write(self, header: Mapping[str, Any]) -> None:
        self._known = dict(header)
        write_whole(self._header, to_json(self._known, indent=1))


def summary(problems: Sequence[ProblemResult]) -> dict[str, Any]:
    """What the header says of all problems: means with 95 % bootstrap intervals over problems, statuses of all verdicts,
    and the means of each category where problems have one."""
    categories = sorted({str(problem.facts["category"]) for problem in problems if "category" in problem.facts})
    by_category = {
        name: mean_over_problems([one for one in problems if str(one.facts.get("category")) == name])
        for name in categories
    }
    return {
        "summary": {name: _interval(values) for name, values in values_of(problems).items()},
        "statuses": dict(Counter(sample.status for problem in problems for sample in problem.samples).most_common()),
        "samples": sum(problem.n for problem in problems),
        **({"by_category": by_category} if len(categories) > 1 else {}),
    }


def _interval(values: Sequence[float]) -> dict[str, float]:
    interval = bootstrap_mean(values)
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "problems": interval.count}


def _without_task(header: Mapping[str, Any]) -> dict[str, Any]:
    settings = header.get("settings")
    plain = {key: value for key, value in settings.items() if key != "task"} if isinstance(settings, dict) else settings
    return {**header, "settings": plain}


def _task_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    tasks = [(header.get("settings") or {}).get("task") for header in (before, now)]
    return f": {_difference('task', *tasks)}" if tasks[0] != tasks[1] else ""


def _other_weights(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if "weights" not in before:
        return "weights that were not recorded (an older version made it)"
    one, other = before.get("model"), now.get("model")
    return f"other weights: those of {one}" + (f", not of {other}" if other != one else " have changed since")


def _line(problem: ProblemResult) -> str:
    return to_json(to_row(problem)) + "\n"


def _difference(key: str, before: Any, now: Any) -> str:
    """Where two values differ, in words: the innermost key."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                return _difference(f"{key}.{name}", before.get(name), now.get(name))
    if key == "digest":
        return "other problems (the data changed?)"
    return f"{key} {before!r}, asked for now: {now!r}"
