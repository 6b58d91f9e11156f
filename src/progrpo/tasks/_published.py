"""Where published data sets come from: a path, a mirror directory, or the Hugging Face hub; and what is done without one.

A task names its `Source`s, the first being the default. Its rows are looked for in this order:
    path=FILE or path=FOLDER        a file of rows in the published columns, or a folder laid out like the repository
    $PROGRPO_DATA/TASK.SUFFIX       one file (.jsonl, .json, .parquet, .csv), or TASK-SPLIT.SUFFIX
    $PROGRPO_DATA/OWNER/NAME/       a copy of the repository, for instance made by `hf download --repo-type dataset`
    the hub                         the repository itself, through its cache
Columns go by any of the names under which mirrors have published them. No script of a repository is ever run.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from progrpo.errors import DataError
from progrpo.settings import Settings
from progrpo.tasks._rows import SUFFIXES, Row, read_rows
from progrpo.types import Message

logger = logging.getLogger(__name__)

MIRROR = "PROGRPO_DATA"

BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."
"""The instruction that math recipes append; the paper's own prompts are bare (arXiv:2602.05281, Sec. 4.2)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One repository of the hub that holds a data set.

    Attributes:
        repo: OWNER/NAME.
        files: for each split, glob patterns of its files inside the repository; every file that matches one belongs to it,
            in the order of the patterns and then of the names.
    """

    repo: str
    files: Mapping[str, tuple[str, ...]]


class Published(Settings):
    """Settings of every published data set."""

    path: Path | None = None
    """A file in the published columns, or a folder laid out like the repository; None looks further (see above)."""
    source: str | None = None
    """Repository of the hub, one of the task's; None takes its first."""
    revision: str = "main"
    """Branch, tag or commit of the repository."""
    expected: int | None = Field(None, ge=1)
    """Problems there must be: another number is an error, for a file cut short looks like any other. A benchmark's
    default is its published size; null accepts any number."""
    instruction: str = ""
    """Appended to the problem, for instance "\\nPlease reason step by step, and put your final answer within \\\\boxed{}."
    The paper adds none."""
    system: str = ""
    """A system message before it; "" for none."""

    def messages(self, text: str) -> tuple[Message, ...]:
        """The prompt for the model's own chat template."""
        system = ({"role": "system", "content": self.system},) if self.system else ()
        return (*system, {"role": "user", "content": text + self.instruction})


def published_rows(
    task: str, sources: Sequence[Source], split: str, params: Published, columns: Sequence[str] | None = None
) -> Iterator[tuple[str, Row]]:
    """Yield (place, row) of the split's rows, from wherever they are found first.

    Args:
        columns: Parquet columns to read; None reads all.

    Raises:
        DataError: there is no such split, no file is found (the message says which file to put where), or a file is
            damaged.
    """
    for path in find_files(task, sources, split, params):
        yield from read_rows(path, columns)


def find_files(task: str, sources: Sequence[Source], split: str, params: Published) -> list[Path]:
    """The split's files (see `published_rows`); what is on the hub is downloaded."""
    source = _source(task, sources, params.source)
    if split not in source.files:
        raise DataError(f"task {task}: it has no {split} split; it has {', '.join(source.files)}")
    patterns = source.files[split]
    if params.path is not None:
        if params.path.is_file():
            return [params.path]
        if not params.path.is_dir():
            raise DataError(f"task {task}: path={params.path}: no such file or folder; {_remedy(task, source, split)}")
        return _inside(params.path, patterns) or _refuse(task, source, split, f"{params.path} holds none of them")
    if mirror := os.environ.get(MIRROR):
        if not Path(mirror).is_dir():
            raise DataError(f"{MIRROR}={mirror}: no such folder")
        names = [f"{task}-{split}{suffix}" for suffix in SUFFIXES] + [f"{task}{suffix}" for suffix in SUFFIXES]
        alone = [Path(mirror, name) for name in names if Path(mirror, name).is_file()]
        if alone:
            return alone[:1]
        for one in (source, *sources) if params.source is None else (source,):
            if found := _inside(Path(mirror, *one.repo.split("/")), one.files.get(split, ())):
                return found
    return _from_hub(task, source, split, params.revision)


def column(row: Row, names: Sequence[str], place: str) -> Any:
    """The value of the first of these columns that the row has.

    Raises:
        DataError: it has none of them (renamed?); the message lists those it has.
    """
    for name in names:
        if name in row:
            return row[name]
    raise DataError(f"{place}: no column {' or '.join(map(repr, names))}; the row has {', '.join(map(str, row))}")


def text_column(row: Row, names: Sequence[str], place: str) -> str:
    """`column`, as text that is not empty. A whole number that was stored as a float ("27.0") is written without its point.

    Raises:
        DataError: see `column`; or it is empty, or neither text nor a number.
    """
    value = column(row, names, place)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise DataError(f"{place}: {' or '.join(map(repr, names))} must be text or a number, got {value!r:.80}")
    return str(value)


def require_count(task: str, found: int, params: Published, what: str = "problems") -> None:
    """Raises DataError where the number of problems is not the one expected, or 0."""
    if not found:
        raise DataError(f"task {task}: the data has no {what}")
    if params.expected is not None and found != params.expected:
        raise DataError(
            f"task {task}: expected {params.expected} {what}, got {found}. Is a file missing, cut short or repeated? "
            f"task.expected=null accepts any number"
        )


def _source(task: str, sources: Sequence[Source], name: str | None) -> Source:
    if name is None:
        return sources[0]
    for source in sources:
        if source.repo == name:
            return source
    raise DataError(f"task {task}: unknown source {name!r}; expected one of {', '.join(one.repo for one in sources)}")


def _inside(folder: Path, patterns: Sequence[str]) -> list[Path]:
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.suffix in SUFFIXES]
    return list(dict.fromkeys(found))


def _from_hub(task: str, source: Source, split: str, revision: str) -> list[Path]:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    patterns = list(source.files[split])
    try:
        folder = snapshot_download(source.repo, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except GatedRepoError:
        _refuse(
            task, source, split, f"{source.repo} is gated: accept its terms on the hub and log in with `hf auth login`"
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        cause = str(error).strip().split("\n")[0]
        _refuse(task, source, split, f"{source.repo} cannot be downloaded ({type(error).__name__}: {cause:.200})")
    found = _inside(Path(folder), patterns)
    return found or _refuse(
        task, source, split, f"{source.repo} at revision {revision} has no file {' or '.join(patterns)}"
    )


def _refuse(task: str, source: Source, split: str, cause: str) -> Any:
    raise DataError(f"task {task}: no data for the {split} split: {cause}; {_remedy(task, source, split)}")


def _remedy(task: str, source: Source, split: str) -> str:
    """Exactly which file to put where."""
    mirror = os.environ.get(MIRROR) or f"${MIRROR}"
    files = " and ".join(source.files[split])
    return (
        f"put {files} of the dataset {source.repo} under {mirror}/{source.repo}/, or all its rows in one file "
        f"{mirror}/{task}.jsonl (or .parquet, .csv), or give task.path=FILE"
    )
