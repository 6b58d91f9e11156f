"""TensorBoard, Weights & Biases and Trackio: the rows of metrics.jsonl, sent to each by its own library.

Only the process that writes the run directory has any. No library is imported before it is asked for, and nothing of a
launcher's environment is read: how a run is spread over processes is not a tracker's business.
"""

import hashlib
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from progrpo.environment import installed
from progrpo.errors import ConfigError
from progrpo.files import storing
from progrpo.settings import flatten
from progrpo.train.settings import RunSettings

logger = logging.getLogger(__name__)

SAMPLES = "samples"
"""The name of the table of completions."""
SAMPLE_ROWS = 8
_COLUMNS = ("problem", "prompt", "completion", "answer", "status", "reward", "advantage")
"""Of a row of a rollouts file."""
FOLDERS = ("tensorboard", "wandb", "trackio")
"""Of a run directory, where each tracker writes."""


class Tracked(NamedTuple):
    """What a tracker is told of a run.

    Attributes:
        path: the run directory. project: the tracker's name for what the run belongs to.
        identity: the same for a run and its resumption, another for any other run. group: what the run is one of several of.
        settings: flat, `method.alpha` rather than a table in a table. first: the step that is logged next.
    """

    path: Path
    project: str
    group: str
    identity: str
    settings: Mapping[str, Any]
    first: int


class Tracker(NamedTuple):
    """One tracker that has been started: `log(values, step)`, `table(rows, step)` with cells of `_COLUMNS`, and `finish()`."""

    log: Callable[[Mapping[str, float], int], None]
    table: Callable[[list[list[Any]], int], None]
    finish: Callable[[], None]


class Trackers:
    """Those a run has chosen, started together.

    Raises:
        ConfigError: one does not start; those before it are ended.
    """

    def __init__(self, names: Sequence[str], run: Tracked) -> None:
        self._path = run.path
        self._started: list[Tracker] = []
        for name in names:
            try:
                with storing(run.path):
                    self._started.append(_START[name](run))
            except OSError:
                self.finish()
                raise
            except Exception as error:
                self.finish()
                raise ConfigError(
                    f"record.trackers: {name} does not start: {type(error).__name__}: {error}. Leave it out, or see to it"
                ) from error

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row of metrics; what counted nothing (null) is left out."""
        values = {key: value for key, value in row.items() if value is not None and key != "step"}
        with storing(self._path):
            for tracker in self._started:
                tracker.log(values, row["step"])

    def samples(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Send a few completions as a table: the first of each problem, then the second, until there are enough.

        Args:
            rows: of a rollouts file. step: as for the metrics.
        """
        chosen = sorted(rows, key=lambda row: int(row["index"]))[:SAMPLE_ROWS]
        cells = [[_said(row[column]) for column in _COLUMNS] for row in chosen]
        with storing(self._path):
            for tracker in self._started:
                tracker.table(cells, step)

    def finish(self) -> None:
        """Wait until everything is written or sent."""
        with storing(self._path):
            while self._started:
                self._started.pop().finish()


def start_trackers(settings: RunSettings, path: Path, *, first: int, identity: str) -> Trackers | None:
    """Those of `record.trackers`; None where none is chosen. See `Tracked`."""
    if not settings.record.trackers:
        return None
    flat = plain(settings.model_dump(mode="json"))
    group = settings.record.group or _without_seed(path.name, settings.seed)
    return Trackers(settings.record.trackers, Tracked(path, settings.record.project, group, identity, flat, first))


def _without_seed(name: str, seed: int) -> str:
    """The name of a run without its seed at the end (a-3, a-seed3): what the runs of other seeds share."""
    return re.sub(rf"([-_ ]+(seed[-_ ]*)?|seed[-_ ]*){seed}$", "", name) or name


def tensorboard_folder(path: Path) -> Path:
    """Where TensorBoard's files of a run are."""
    return path / "tensorboard"


def require_trackers(settings: RunSettings) -> None:
    """Raises ConfigError if a tracker is not installed."""
    for name in settings.record.trackers:
        if not installed(name):
            raise ConfigError(f"record.trackers: {name!r} is not installed; pip install 'progrpo[{name}]'")


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as trackers take them: one table with dotted keys, a list as text."""
    return {
        key: value if value is None or isinstance(value, str | int | float) else str(value)
        for key, value in flatten(settings).items()
    }


def _tensorboard(run: Tracked) -> Tracker:
    """Into the run directory; of a run that is resumed, TensorBoard drops the steps that are made again."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tensorboard_folder(run.path)), purge_step=run.first)
    rows = "".join(f"| {key} | {_cell(value)} |\n" for key, value in run.settings.items())
    writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", run.first)

    def log(values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)
        writer.flush()

    def table(rows: list[list[Any]], step: int) -> None:
        lines = [_COLUMNS, ["---"] * len(_COLUMNS), *([_cell(value) for value in row] for row in rows)]
        writer.add_text(SAMPLES, "\n".join(f"| {' | '.join(line)} |" for line in lines), step)

    return Tracker(log, table, writer.close)


def _wandb(run: Tracked) -> Tracker:
    """One run there for a run and its resumptions; of a step that is made again it keeps what it had."""
    import wandb

    started = wandb.init(
        project=run.project,
        name=run.path.name,
        group=run.group,
        id=_number(run),
        resume="allow",
        dir=str(run.path),
        config=dict(run.settings),
    )

    def table(rows: list[list[Any]], step: int) -> None:
        started.log({SAMPLES: wandb.Table(columns=list(_COLUMNS), data=rows)}, step=step)

    return Tracker(lambda values, step: started.log(dict(values), step=step), table, started.finish)


def _trackio(run: Tracked) -> Tracker:
    """Likewise; where $TRACKIO_DIR names no other place, files are in the run directory: TRACKIO_DIR=RUN/trackio trackio show.

    Trackio reads where they are when it is imported: further runs of one process stay with the first.
    """
    here = str((run.path / "trackio").absolute())
    if os.environ.setdefault("TRACKIO_DIR", here) != here:
        logger.warning("record.trackers: trackio writes into %s (TRACKIO_DIR)", os.environ["TRACKIO_DIR"])
    elif "trackio" in sys.modules:
        logger.warning("record.trackers: trackio was imported before, and writes where it did then, not into %s", here)
    import pandas
    import trackio

    started = trackio.init(
        project=run.project,
        name=f"{run.path.name}-{_number(run)}",
        group=run.group,
        resume="allow",
        config=dict(run.settings),
    )

    def table(rows: list[list[Any]], step: int) -> None:
        started.log({SAMPLES: trackio.Table(dataframe=pandas.DataFrame(rows, columns=list(_COLUMNS)))}, step=step)

    return Tracker(lambda values, step: started.log(dict(values), step=step), table, started.finish)


_START: dict[str, Callable[[Tracked], Tracker]] = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}


def _cell(value: Any) -> str:
    """A value in a table of Markdown."""
    return " ".join(str(value).replace("|", "\\|").split())


def _said(value: Any) -> Any:
    """A cell of a table: a number, or a text; of chat messages what each says."""
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return "\n\n".join(f"{message.get('role', '')}: {message.get('content', '')}" for message in value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _number(run: Tracked) -> str:
    return hashlib.sha256(run.identity.encode()).hexdigest()[:12]
