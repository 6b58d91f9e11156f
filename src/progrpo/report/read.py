"""Run directories as the report sees them: settings, metrics, evaluations, and where the rollouts lie.

A run that was killed reads like any other; it merely has fewer rows. What an older version wrote under other names is read
under today's (`formerly` in `progrpo.schema`): here and in `evaluations`, and nowhere else.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml

from progrpo import schema
from progrpo.errors import RunDirectoryError
from progrpo.files import is_number, read_jsonl
from progrpo.report.evaluations import Evaluation, benchmarks, held_out
from progrpo.settings import flat

Row = Mapping[str, Any]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run directory, read."""

    name: str
    """The directory's name; with as much of its path before it as tells the runs of a page apart."""
    path: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: tuple[Row, ...]
    """One row per optimiser step done; step 0 holds the evaluation before training."""
    evaluations: Mapping[int, Evaluation]
    """On held-out problems by step, ascending: the first, the last, and the last it shares with the first run and with
    all evaluated runs."""
    benchmarks: Mapping[str, Evaluation]
    """What `progrpo evaluate` made and finished, by name."""
    left_out: Mapping[str, str]
    """Why an evaluation cannot be used, in words, by its name."""
    rollouts: Mapping[int, Path]
    """Files of completions by step, ascending."""
    alarms: tuple[Row, ...] | None = None
    """What alarms began and ended, by step; None of a run that watched for none. Of several seeds see `members`."""
    seeds: tuple["Run", ...] = ()
    """The runs that it stands for, one a seed (see `progrpo.report.seeds`); empty of a run by itself."""

    @property
    def members(self) -> tuple["Run", ...]:
        """The runs that were made: itself, or those of its seeds."""
        return self.seeds or (self,)

    @property
    def settings(self) -> dict[str, str]:
        """What it was asked for, as text by dotted key, but where it is written to. Paths in its own folder begin with "OUT";
        problems that were given as rows lie there, and are told by their digest, "problems"."""
        settings = flat(self.config)
        out = Path(settings.pop("out", ""))
        own = {key: Path(value) for key, value in settings.items() if out.parts and Path(value).is_relative_to(out)}
        settings |= {key: str("OUT" / path.relative_to(out)) for key, path in own.items()}
        return settings | ({"problems": str(self.environment.get("problems"))[:12]} if own else {})

    @property
    def trained(self) -> bool:
        """Whether this is a training run; a directory that `progrpo evaluate` made holds a model's name and no method."""
        return bool(self.metrics) or "method" in self.config

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The checkpoint that is marked as the best: "step", "metric" and "value"; None where none is, and of several seeds."""
        marked = self.path / "checkpoints" / "best.json"
        if self.seeds or not marked.is_file():
            return None
        best: dict[str, Any] = json.loads(marked.read_text("utf-8"))
        return best

    @property
    def steps_done(self) -> int:
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def steps_planned(self) -> int | None:
        return self.config.get("steps") or self.environment.get("steps")


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run directories, in the order given.

    Raises:
        RunDirectoryError: one of them holds no run; nothing is returned for the others.
        DataError: a file in one of them is damaged otherwise than by a cut last line.
    """
    configs = [_config(path) for path in paths]
    shown = _steps_shown([_files_by_step(path / "evaluations") for path in paths])
    return [
        _load(path, name, config, steps)
        for path, name, config, steps in zip(paths, unique_names(paths), configs, shown, strict=True)
    ]


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Name each path by its last parts: as few as tell them apart; a path given twice also gets a number."""
    parts = [path.resolve().parts for path in paths]
    names: list[str] = []
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    return [
        f"{name} ({names[:index].count(name) + 1})" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]


def series(run: Run, key: str) -> pd.Series:
    """The values of a metric by step, leaving out the steps that do not have it (absent, null or not finite)."""
    rows = having(run, key)
    return pd.Series([row[key] for row in rows], index=[row["step"] for row in rows], dtype=float)


def having(run: Run, *keys: str) -> list[Row]:
    """The steps that logged a number under each of these keys.

    Raises:
        KeyError: the schema has no such metric.
    """
    for key in keys:
        schema.metric(key)
    return [row for row in run.metrics if all(is_number(row.get(key)) for key in keys)]


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The values of each key, in the order given."""
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def last_shared_evaluation(runs: Sequence[Run]) -> int | None:
    """The last step at which every one of these runs was evaluated; None if there is no such step."""
    return max(set.intersection(*(set(run.evaluations) for run in runs)), default=None) if runs else None


def _load(path: Path, name: str, config: Mapping[str, Any], steps: Mapping[int, Path]) -> Run:
    environment, metrics, alarms = (path / file for file in ("environment.json", "metrics.jsonl", "alarms.jsonl"))
    evaluated = dict(benchmarks(path / "evaluations"))
    begun: dict[str, Any] = json.loads(environment.read_text("utf-8")) if environment.is_file() else {}
    return Run(
        name=name,
        path=path,
        config=config,
        environment=begun,
        metrics=tuple(map(schema.in_todays_words, read_jsonl(metrics))) if metrics.is_file() else (),
        evaluations={step: held_out(file, step, config, begun.get("sources") or {}) for step, file in steps.items()},
        benchmarks={key: one for key, one in evaluated.items() if isinstance(one, Evaluation)},
        left_out={key: why for key, why in evaluated.items() if isinstance(why, str)},
        rollouts=_files_by_step(path / "rollouts"),
        alarms=tuple(read_jsonl(alarms)) if alarms.is_file() else None,
    )


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.yaml"
    if not file.is_file():
        raise RunDirectoryError(f"{path}: expected a run directory (with config.yaml in it), got {_what_is_at(path)}")
    config = yaml.safe_load(file.read_text("utf-8"))
    if not isinstance(config, dict):
        raise RunDirectoryError(f"{file}: expected the settings of a run, got {str(config)[:80]!r}")
    return config


def _what_is_at(path: Path) -> str:
    if not path.exists():
        return "nothing there; give the directory that out= named when the run was started"
    if not path.is_dir():
        return "a file; give the directory that holds it"
    inside = sorted(entry.parent.name for entry in path.glob("*/config.yaml"))
    if inside:
        return f"a directory of runs; name them one by one: {' '.join(str(path / name) for name in inside[:4])}"
    return "a directory without one; a run that never started leaves none"


def _files_by_step(folder: Path) -> dict[int, Path]:
    return {int(path.stem.removeprefix("step-")): path for path in sorted(folder.glob("step-*.jsonl"))}


def _steps_shown(evaluated: Sequence[Mapping[int, Path]]) -> list[dict[int, Path]]:
    """The evaluations a report shows in full: curves come from the metrics, and the files hold every sample."""
    shown = [{min(files), max(files)} if files else set() for files in evaluated]
    pairs: list[Collection[int]] = [(0, index) for index in range(1, len(evaluated))]
    everyone = [index for index, files in enumerate(evaluated) if files]
    for together in [*pairs, everyone] if everyone else []:
        shared = set.intersection(*(set(evaluated[index]) for index in together))
        for index in together if shared else ():
            shown[index].add(max(shared))
    return [{step: files[step] for step in sorted(steps)} for steps, files in zip(shown, evaluated, strict=True)]
