"""The run directory: everything a run leaves behind, and all that other verbs read.

config.yaml         the resolved settings
environment.json    versions, device, threads, command, git commit
metrics.jsonl       one object per optimiser step; step 0 holds the first evaluation
excluded.jsonl      problems left out because their own gold answer does not verify, with place and reason
rollouts/           step-NNNNNN.jsonl, one row per completion, named after the first step they feed
evaluations/        step-NNNNNN.jsonl, one row per problem
checkpoints/        see checkpoint.py
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from progrpo.errors import ConfigError, RunDirectoryError
from progrpo.files import read_jsonl, write_whole
from progrpo.train.settings import RunSettings
from progrpo.types import Ratio

_EXCLUDED = "excluded.jsonl"
_MAY_DIFFER = frozenset({"steps", "record", "checkpoint", "verify"})
"""Settings that may change between a run and its resumption: none of them touches a step already made."""


class RunDirectory:
    """Writes a run directory. Make one with `create` or `reopen`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trackers: Any = None

    @classmethod
    def create(cls, settings: RunSettings, excluded: Sequence[Mapping[str, Any]] = ()) -> "RunDirectory":
        """Start a run directory.

        Args:
            excluded: problems left out, one row each.

        Raises:
            RunDirectoryError: it already holds a run (or anything else); nothing is touched.
        """
        path = Path(str(settings.out))
        if path.exists() and not _is_fresh(path):
            what = "already holds a run" if (path / "config.yaml").exists() else "exists and is not empty"
            raise RunDirectoryError(f"{path} {what}; go on with it by --resume, or choose another with out=DIRECTORY")
        run = cls(path)
        for folder in ("rollouts", "evaluations", "checkpoints"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        write_whole(path / "environment.json", json.dumps(environment(settings), indent=1))
        write_whole(path / _EXCLUDED, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in excluded))
        # Last: a directory with a config.yaml holds a run, one without never started.
        write_whole(path / "config.yaml", yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))
        run._start_trackers(settings)
        return run

    @classmethod
    def reopen(cls, settings: RunSettings) -> "RunDirectory":
        """Go on with a run directory.

        Raises:
            RunDirectoryError: it holds no run.
            ConfigError: its settings differ from `settings` in a way that would change steps already made.
        """
        path = Path(str(settings.out))
        if not (path / "config.yaml").is_file():
            raise RunDirectoryError(f"{path} holds no run to resume (no config.yaml); start it without --resume")
        before = yaml.safe_load((path / "config.yaml").read_text("utf-8"))
        after = settings.model_dump(mode="json")
        differing = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        if refused := [key for key in differing if key not in _MAY_DIFFER]:
            key = refused[0]
            raise ConfigError(
                f"{path}: cannot resume with other settings: {key} was {before.get(key)}, is now {after.get(key)}. "
                "Resume with the settings it was started with, or start anew with another out="
            )
        run = cls(path)
        started = json.loads((path / "environment.json").read_text("utf-8"))
        started.setdefault("resumed", []).append(environment(settings))
        write_whole(path / "environment.json", json.dumps(started, indent=1))
        if differing:
            write_whole(path / "config.yaml", yaml.safe_dump(after, sort_keys=False))
        run._start_trackers(settings)
        return run

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def excluded(self) -> list[Mapping[str, Any]] | None:
        """The problems left out when the run began; None where that was not written down."""
        path = self.path / _EXCLUDED
        return list(read_jsonl(path)) if path.exists() else None

    def rewind(self, step: int) -> None:
        """Forget everything after `step`: rows of metrics, rollouts and evaluations that will be made again."""
        metrics = self.path / "metrics.jsonl"
        kept = [row for row in read_jsonl(metrics) if row["step"] <= step] if metrics.exists() else []
        write_whole(metrics, "".join(json.dumps(row) + "\n" for row in kept))
        for folder in ("rollouts", "evaluations"):
            for path in (self.path / folder).glob("step-*.jsonl"):
                if int(path.stem.removeprefix("step-")) > step:
                    path.unlink()

    def write_metrics(self, step: int, metrics: Mapping[str, Ratio | float]) -> dict[str, Any]:
        """Append one row; a ratio is divided here and nowhere else, and one that counted nothing becomes null."""
        row: dict[str, Any] = {"step": step}
        for name, value in metrics.items():
            row[name] = value.value if isinstance(value, Ratio) else value
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._trackers is not None:
            self._trackers.log({key: value for key, value in row.items() if value is not None}, step=step)
        return row

    def write_rows(self, folder: str, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write `folder/step-NNNNNN.jsonl` whole."""
        path = self.path / folder / f"step-{step:06d}.jsonl"
        write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path

    def dump(self, step: int, tensors: Mapping[str, Any]) -> str:
        """Write the tensors of a batch that went wrong."""
        path = self.path / f"nonfinite-step-{step:06d}.pt"
        torch.save(dict(tensors), path)
        return str(path)

    def close(self) -> None:
        if self._trackers is not None:
            self._trackers.end_training()

    def _start_trackers(self, settings: RunSettings) -> None:
        if not settings.record.trackers:
            return
        from accelerate import Accelerator

        names = list(settings.record.trackers)
        missing = [name for name in names if not _installed(name)]
        if missing:
            raise ConfigError(f"record.trackers: {missing[0]!r} is not installed; pip install 'progrpo[{missing[0]}]'")
        self._trackers = Accelerator(log_with=names, project_dir=str(self.path), cpu=True)
        flat = {key: str(value) for key, value in settings.model_dump(mode="json").items()}
        self._trackers.init_trackers(settings.record.project, config=flat)


def environment(settings: RunSettings) -> dict[str, Any]:
    """What a reader needs to run this again: versions, device, threads, seed, command and commit."""
    packages = ("progrpo", "torch", "transformers", "tokenizers", "accelerate", "math-verify", "numpy")
    return {
        "versions": {name: version(name) for name in packages if _installed(name)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "seed": settings.seed,
        "command": sys.argv,
        "git_commit": _git_commit(),
    }


def _is_fresh(path: Path) -> bool:
    """Whether a directory holds nothing but what a run killed in its first moments leaves behind."""
    known = {"rollouts", "evaluations", "checkpoints", "environment.json", _EXCLUDED}
    if not path.is_dir():
        return False
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    return all(entry.name in known and not (entry.is_dir() and any(entry.iterdir())) for entry in entries)


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _git_commit() -> str | None:
    """The commit of the source tree this package runs from; None for an installed wheel."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
