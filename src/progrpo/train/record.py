"""The run directory: everything a run leaves behind, and all that other verbs read.

config.yaml         the resolved settings
environment.json    versions, device, threads, command, git commit, a number of the run's own, and the steps that `epochs` make
metrics.jsonl       one object per optimiser step; step 0 holds the first evaluation
alarms.jsonl        what alarms began or ended at which step: see progrpo.train.alarms
excluded.jsonl      problems left out because their own gold answer does not verify, with place and reason
pass_rates.jsonl    of each training problem before training, where `data` asks for it: see difficulty.py
rollouts/           step-NNNNNN.jsonl, one row per completion, named after the first step they feed
bundles/            step-NNNNNN.safetensors, rollouts with their tokens and what became of them: see rollout/bundle.py
evaluations/        step-NNNNNN.jsonl, one row per problem; in a folder of its own for each benchmark of evaluate.tasks
checkpoints/        see checkpoint.py
problems/           train.jsonl and test.jsonl, where they were given to `progrpo.train` as rows
profiles/           step-NNNNNN.json.gz, with --profile: see profile.py
tensorboard/, wandb/, trackio/      with record.trackers: see trackers.py
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import torch
import yaml
from torch import Tensor

from progrpo.environment import environment
from progrpo.errors import RunDirectoryError, StorageError
from progrpo.files import append, finite_or_none, lock, make_folder, read_jsonl, storing, to_json, write_whole
from progrpo.rollout.bundle import FOLDER as BUNDLES
from progrpo.rollout.bundle import bundle_path, bundle_paths, write_bundle
from progrpo.train import checkpoint
from progrpo.train.same_run import own_sources, require_same
from progrpo.train.settings import RunSettings
from progrpo.train.trackers import FOLDERS, Trackers, require_trackers, start_trackers
from progrpo.types import WeightedMean

logger = logging.getLogger(__name__)

_ALARMS = "alarms.jsonl"
_EXCLUDED = "excluded.jsonl"
_PASS_RATES = "pass_rates.jsonl"
PROBLEMS = "problems"
"""The folder of a run's own problems, where they were given as rows; written before the run begins."""
_FOLDERS = ("rollouts", BUNDLES, "evaluations", "checkpoints")
_OWN_FILES = ("config.yaml", "environment.json", "metrics.jsonl", _ALARMS, _EXCLUDED, _PASS_RATES, ".lock")


class RunDirectory:
    """Writes a run directory, one process at a time. Make one with `create` or `reopen`; leaving the context closes it.

    A new directory is given up again where an error comes before the first optimiser step: nothing is lost by it, and the
    same command can be given once more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trackers: Trackers | None = None
        self._begun = True
        """Whether there is something to keep; `create` says no, until the first step."""
        self._was_there = True
        self._lock = lock(path / ".lock", what=path)

    @classmethod
    def create(
        cls,
        settings: RunSettings,
        excluded: Sequence[Mapping[str, Any]],
        problems: str,
        pass_rates: Sequence[Mapping[str, Any]] | None = None,
    ) -> "RunDirectory":
        """Start a run directory.

        Args:
            excluded: problems left out, one row each. problems: `digest` of the training and test problems.
            pass_rates: of the training problems, one row each; None where they were not measured.

        Raises:
            RunDirectoryError: see `require_free`.
            StorageError: it cannot be written.
            ConfigError: a tracker is not installed.
        """
        path = Path(str(settings.out))
        require_free(path)
        require_trackers(settings)
        was_there = path.exists()
        make_folder(path)
        run = cls(path)
        run._was_there = was_there
        require_free(path)  # another process may have begun between the first look and the lock
        run._begun = False
        with run._given_up_on_error():
            for folder in _FOLDERS:
                make_folder(path / folder)
            identity = uuid4().hex
            started = environment(settings.model.device, settings.seed) | {"problems": problems, "id": identity}
            started |= {} if settings.epochs is None else {"steps": settings.steps}
            started["sources"] = own_sources(settings)
            write_whole(path / "environment.json", to_json(started, indent=1))
            write_whole(path / _ALARMS, "")
            write_whole(path / _EXCLUDED, "".join(to_json(row) + "\n" for row in excluded))
            if pass_rates is not None:
                write_whole(path / _PASS_RATES, "".join(to_json(row) + "\n" for row in pass_rates))
            # Last: a directory with a config.yaml holds a run, one without never started.
            write_whole(path / "config.yaml", yaml.safe_dump(settings.as_given(), sort_keys=False))
            run._trackers = start_trackers(settings, path, first=0, identity=identity)
        return run

    @classmethod
    def reopen(cls, settings: RunSettings, problems: str) -> "RunDirectory":
        """Open a run directory to go on with it; nothing is written until `resume`.

        Raises:
            RunDirectoryError: it holds no run, or another process works on it.
            ConfigError: its settings or problems differ from those given in a way that would change steps already made.
        """
        require_same(settings, problems)
        require_trackers(settings)
        return cls(Path(str(settings.out)))

    def resume(self, settings: RunSettings, step: int | None) -> None:
        """Go on after `step` optimiser steps (None: from the very beginning, the evaluation before training included).

        Rows of metrics, rollouts and evaluations after it are forgotten, in TensorBoard too: they will be made again.
        """
        started = json.loads((self.path / "environment.json").read_text("utf-8"))
        identity = started.setdefault("id", uuid4().hex)
        started.setdefault("resumed", []).append(
            environment(settings.model.device, settings.seed) | {"sources": own_sources(settings)}
        )
        started |= {} if settings.epochs is None else {"steps": settings.steps}
        write_whole(self.path / "environment.json", to_json(started, indent=1))
        text = yaml.safe_dump(settings.as_given(), sort_keys=False)
        write_whole(self.path / "config.yaml", text)
        self._rewind(-1 if step is None else step)
        self._trackers = start_trackers(settings, self.path, first=0 if step is None else step + 1, identity=identity)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def excluded(self) -> list[Mapping[str, Any]] | None:
        """The problems left out when the run began; None where that was not written down."""
        path = self.path / _EXCLUDED
        return list(read_jsonl(path)) if path.exists() else None

    def metrics(self, until: int, name: str = "metrics.jsonl") -> list[Mapping[str, Any]]:
        """The rows of metrics.jsonl, or of another file with a "step" in each row, up to a step."""
        path = self.path / name
        return [row for row in read_jsonl(path) if row["step"] <= until] if path.exists() else []

    def pass_rates(self) -> list[Mapping[str, Any]]:
        """Those of the training problems before training.

        Raises:
            RunDirectoryError: they are gone, and the model they are of may be gone, too.
        """
        path = self.path / _PASS_RATES
        if not path.exists():
            raise RunDirectoryError(
                f"{path} is missing: which problems the run trains on is not known; restore it, or start anew"
            )
        return list(read_jsonl(path))

    def _rewind(self, step: int) -> None:
        for name in ("metrics.jsonl", _ALARMS):
            write_whole(self.path / name, "".join(to_json(row) + "\n" for row in self.metrics(step, name)))
        for first, bundle in bundle_paths(self.path).items():
            if first > step:
                bundle.unlink()
        for pattern in ("rollouts/step-*.jsonl", "evaluations/step-*.jsonl", "evaluations/*/step-*.jsonl"):
            for path in self.path.glob(pattern):
                if int(path.stem.removeprefix("step-")) > step:
                    path.unlink()
        checkpoint.forget_after(self.checkpoints, step)
        for unfinished in (
            *self.path.glob(".*.writing"),
            *self.path.glob("*/.*.writing"),
            *self.path.glob("evaluations/*/.*.writing"),
            *self.path.glob("profiles/.writing-*"),
        ):
            unfinished.unlink()

    def write_metrics(self, step: int, metrics: Mapping[str, WeightedMean | float]) -> dict[str, Any]:
        """Append one row (see `as_row`)."""
        row = as_row(step, metrics)
        append(self.path / "metrics.jsonl", to_json(row) + "\n")
        self._begun |= step > 0
        if self._trackers is not None:
            self._trackers.log(row)
        return row

    def complete_metrics(self, step: int, metrics: Mapping[str, WeightedMean | float]) -> dict[str, Any]:
        """Add to the last row, which is of this step."""
        *rows, last = self.metrics(step)
        row = {**last, **as_row(step, metrics)}
        write_whole(self.path / "metrics.jsonl", "".join(to_json(one) + "\n" for one in [*rows, row]))
        if self._trackers is not None:
            self._trackers.log(row)
        return row

    def write_alarms(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Append what alarms began or ended, a row each."""
        if events:
            append(self.path / _ALARMS, "".join(to_json(event) + "\n" for event in events))

    def track_samples(self, step: int, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        """Send completions of the rollout that feeds from `step` on to the trackers; `rows` is asked where there are any."""
        if self._trackers is not None:
            self._trackers.samples(list(rows()), step)

    def write_rows(self, folder: str, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write `folder/step-NNNNNN.jsonl` whole."""
        path = self.path / folder / f"step-{step:06d}.jsonl"
        make_folder(path.parent)
        write_whole(path, "".join(to_json(row) + "\n" for row in rows))
        return path

    def write_bundle(self, step: int, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write the bundle of the rollout that feeds from `step` on: see progrpo.rollout.bundle."""
        write_bundle(bundle_path(self.path, step), header, tensors)

    def remove_bundle(self, step: int) -> None:
        """Make room for later ones."""
        bundle_path(self.path, step).unlink(missing_ok=True)

    def dump(self, step: int, tensors: Mapping[str, Any]) -> str:
        """Write the tensors of a batch that went wrong."""
        path = self.path / f"nonfinite-step-{step:06d}.pt"
        self._begun = True  # it is what one wants to look at
        with storing(path):
            torch.save(dict(tensors), path)
        return str(path)

    def close(self) -> None:
        """End the trackers and let go of the directory. May be called again."""
        trackers, self._trackers = self._trackers, None
        try:
            if trackers is not None:
                trackers.finish()
        finally:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if value is None:
            self.close()
            return
        with self._given_up_on_error():
            if isinstance(value, StorageError) and self._begun:
                raise StorageError(f"{value}. {self._safe()}") from value
            raise value

    @contextmanager
    def _given_up_on_error(self) -> Iterator[None]:
        """Close the directory if an error comes, and empty it again if no optimiser step was made."""
        try:
            yield
        except BaseException as error:
            try:
                self.close()
            except StorageError as full:
                # what stopped the run is told; that the trackers lost their last rows is a consequence
                logger.warning("the trackers could not be ended: %s", full)
            if not self._begun:
                self._give_up()
            raise error

    def _give_up(self) -> None:
        folders = [self.path / name for name in _FOLDERS]
        for folder in (*folders, *(self.path / name for name in FOLDERS)):
            shutil.rmtree(folder, ignore_errors=True)
        for name in _OWN_FILES:
            (self.path / name).unlink(missing_ok=True)
        if not self._was_there and not any(self.path.iterdir()):
            self.path.rmdir()

    def _safe(self) -> str:
        """What is on the disk whole, and how to go on."""
        kept = checkpoint.folders(self.checkpoints)
        if not kept:
            return "No checkpoint was there yet: make room, and begin again with --resume"
        step = int(kept[-1].name.removeprefix("step-"))
        return f"Safe: the run up to step {step}, whose checkpoint is whole. Make room, and go on with --resume"


def as_row(step: int, metrics: Mapping[str, WeightedMean | float]) -> dict[str, Any]:
    """Metrics as they are written: a ratio is divided here and nowhere else. One that counted nothing becomes null, and so
    does one that is not finite, with a warning."""
    values = {name: value.value if isinstance(value, WeightedMean) else value for name, value in metrics.items()}
    row: dict[str, Any] = {"step": step, **finite_or_none(values)}
    if lost := [name for name, value in values.items() if value is not None and row[name] is None]:
        logger.warning("step %d: not finite, written as null: %s", step, ", ".join(lost))
    return row


def require_free(path: Path) -> None:
    """Raises RunDirectoryError if `path` holds a run or anything else; nothing is touched."""
    if path.exists() and not _is_fresh(path):
        if (path / "config.yaml").exists():
            raise RunDirectoryError(
                f"{path} already holds a run; go on with it by --resume, or choose another with out="
            )
        what = "is not empty and holds no run" if path.is_dir() else "is not a directory"
        raise RunDirectoryError(f"{path} exists and {what}; choose another with out=DIRECTORY")


def _is_fresh(path: Path) -> bool:
    """Whether a directory holds nothing but what a run killed in its first moments leaves behind."""
    known = {*_FOLDERS, PROBLEMS, "environment.json", _ALARMS, _EXCLUDED, _PASS_RATES}
    if not path.is_dir():
        return False
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    return all(
        entry.name in known and (entry.name == PROBLEMS or not (entry.is_dir() and any(entry.iterdir())))
        for entry in entries
    )
