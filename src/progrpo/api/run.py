"""A run directory as Python sees it: settings, metrics, samples and checkpoints, read when they are asked for."""

import json
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path
from typing import Any

import pandas as pd

from progrpo.errors import DataError, RunDirectoryError
from progrpo.files import json_lines, read_jsonl
from progrpo.plural import counted
from progrpo.rollout.bundle import sound_bundle, token_columns
from progrpo.rollout.recorded import agreeing, bundle_beside
from progrpo.rows import read_results
from progrpo.settings import read_yaml
from progrpo.train.checkpoint import best_folder, best_of, folders

_TOKENS = (
    "prompt_ids",
    "token_ids",
    "sampler_logprobs",
    "entropies",
    "entropy_gradients",
    "prompt_logprobs",
    "trained",
)
"""Columns with a list as long as the completion, of a file that an older version wrote."""


class TrainingRun:
    """One run directory, finished or not; what is asked for is read anew each time.

        run = progrpo.load_run("runs/math")
        run.metrics["rollout/reward"].plot()

    Args:
        path: the run directory.

    Raises:
        RunDirectoryError: it holds no run.

    Attributes:
        path: the run directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            raise RunDirectoryError(f"{self.path}: expected a run directory (with config.yaml in it)")

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.resolve().name

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting as the run used it, in sections."""
        return read_yaml(self.path / "config.yaml")

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, command and commit."""
        content: dict[str, Any] = json.loads((self.path / "environment.json").read_text("utf-8"))
        return content

    @property
    def metrics(self) -> pd.DataFrame:
        """One row per optimiser step (its index), one column per metric; step 0 holds the evaluation before training.

        Each column is explained in docs/metrics.md; what a step did not measure is nan.
        """
        path = self.path / "metrics.jsonl"
        rows = read_jsonl(path) if path.is_file() else []
        table = pd.DataFrame(rows)
        return table.set_index("step") if rows else pd.DataFrame(index=pd.Index([], name="step", dtype=int))

    def samples(self, step: int | None = None, *, tokens: bool = False) -> pd.DataFrame:
        """The completions that were trained on, a row each: step, problem, prompt, completion, status, reward, advantage, ...

        Args:
            step: the first optimiser step that a rollout feeds, as in the names of the files; None takes all there are.
            tokens: also the columns with an entry per token, where the rollout was kept with its tokens (`record.tokens`).

        Raises:
            DataError: there is no rollout of that step; with `tokens`, its bundle is damaged or of other completions.
        """
        files = self.rollouts
        if step is not None and step not in files:
            known = f"{min(files)} to {max(files)}" if files else "none (record.rollouts_every=0)"
            raise DataError(f"{self.path}: no rollout of step {step} was written; there are {known}")
        rows = [
            {"step": number} | {key: value for key, value in row.items() if tokens or key not in _TOKENS} | more
            for number, path in files.items()
            if step in (None, number)
            for row, more in _rows(path, tokens=tokens)
        ]
        return pd.DataFrame(rows)

    def evaluations(self, step: int | None = None, *, benchmark: str | None = None) -> pd.DataFrame:
        """The held-out problems of each evaluation during training, a row each: step, problem, n, correct, and the measures.

        Args:
            step: None takes all there are. benchmark: the problems of one of `evaluate.tasks` in place of the held-out ones.

        Raises:
            DataError: the run was not evaluated on this benchmark.
        """
        folder = self.path / "evaluations" / (benchmark or "")
        if benchmark is not None and not folder.is_dir():
            known = ", ".join(sorted(one.name for one in folder.parent.glob("*") if one.is_dir())) or "none"
            raise DataError(
                f"{self.path}: not evaluated on {benchmark!r} during training; evaluate.tasks names {known}"
            )
        rows = [
            {"step": number, "problem": one.problem, "n": one.n, "correct": one.correct, **one.measures}
            for number, path in _by_step(folder).items()
            if step in (None, number)
            for _, one in read_results(path)
        ]
        return pd.DataFrame(rows)

    @property
    def rollouts(self) -> dict[int, Path]:
        """The files of completions by the first optimiser step they feed; `progrpo.score` reads them."""
        return _by_step(self.path / "rollouts")

    @property
    def checkpoints(self) -> dict[int, Path]:
        """The Hugging Face folders of the checkpoints by optimiser step, ascending; whole ones only."""
        return {int(path.name.removeprefix("step-")): path for path in folders(self.path / "checkpoints")}

    @property
    def checkpoint(self) -> Path | None:
        """The latest checkpoint; None before there is one."""
        return next(reversed(self.checkpoints.values()), None)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best checkpoint of `checkpoint.best`: "step", "metric", "value", "start" (the value before training, or None)
        and "path"; None where none is marked."""
        root = self.path / "checkpoints"
        marked = best_of(root)
        return None if marked is None else marked._asdict() | {"path": str(best_folder(root))}

    def report(self) -> Path:
        """Write report.html into the directory, and its rollouts into report-rollouts/; the page's path."""
        from progrpo.files import write_whole
        from progrpo.report.read import load_runs
        from progrpo.report.rollout_pages import ROLLOUT_PAGES, write_rollout_pages
        from progrpo.report.run_page.page import make_page

        page, runs = self.path / "report.html", load_runs([self.path])
        pages = write_rollout_pages(runs[0], self.path / ROLLOUT_PAGES)
        write_whole(page, make_page(runs, title=f"Run {self.name}", pages=pages))
        return page

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        steps = self.metrics.index
        done = counted(int(steps[-1]), "step") if len(steps) else "no steps"
        return f"{type(self).__name__}({str(self.path)!r}: {done}, {counted(len(self.checkpoints), 'checkpoint')})"


def load_run(path: str | Path) -> TrainingRun:
    """Open a run directory, of `progrpo train` as well.

    Raises:
        RunDirectoryError: it holds no run.
    """
    return TrainingRun(path)


def _rows(path: Path, *, tokens: bool) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows of a rollouts file, each with its columns of tokens where they are asked for and stand in a bundle."""
    rows = list(json_lines(path))
    beside = bundle_beside(path) if tokens else None
    columns = repeat({}, len(rows)) if beside is None else token_columns(agreeing(sound_bundle(beside), rows, path))
    return zip((row for _, row in rows), columns, strict=True)


def _by_step(folder: Path) -> dict[int, Path]:
    return {int(path.stem.removeprefix("step-")): path for path in sorted(folder.glob("step-*.jsonl"))}
