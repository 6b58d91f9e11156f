"""Where published data sets come from: a path, a mirror directory, or the Hugging Face hub; and what is done without one.

A task names its `Source`s, the first being the default. Its rows are looked for in this order:
    path=FILE or path=FOLDER        a file of rows in the published columns, or a folder laid out like the repository
    $PROGRPO_DATA/TASK.SUFFIX       one file (.jsonl, .json, .parquet, .csv; .gz), or TASK-SPLIT.SUFFIX
    $PROGRPO_DATA/OWNER/NAME/       a copy of the repository, for instance made by `hf download --repo-type dataset`
    the hub                         the repository itself, through its cache
Columns go by any of the names under which mirrors have published them. No script of a repository is ever run.
"""

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from pydantic import Field

from progrpo.errors import DataError, SplitError
from progrpo.settings import Settings
from progrpo.tasks._answers import number_text
from progrpo.tasks._rows import SUFFIXES, Row, read_rows
from progrpo.types import Message, Problem

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
            in the order of the patterns and then of the names. A pattern without a wildcard is a file that must be there,
            for half a split looks like a split; of the others one must match.
    """

    repo: str
    files: Mapping[str, tuple[str, ...]]


class PublishedParams(Settings):
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
    chat: bool = True
    """The problem becomes a user message for the model's own chat template; false gives it to the model as it stands, for
    models without one."""

    def messages(self, text: str) -> str | tuple[Message, ...]:
        """The prompt of a problem."""
        if not self.chat:
            return "\n\n".join(part for part in (self.system, text + self.instruction) if part)
        system = ({"role": "system", "content": self.system},) if self.system else ()
        return (*system, {"role": "user", "content": text + self.instruction})


def published_rows(
    task: str, sources: Sequence[Source], split: str, params: PublishedParams, columns: Sequence[str] | None = None
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


def find_files(task: str, sources: Sequence[Source], split: str, params: PublishedParams) -> list[Path]:
    """The split's files (see `published_rows`); what is on the hub is downloaded."""
    source = _source(task, sources, params.source)
    if split not in source.files:
        raise SplitError(f"task {task}: it has no {split} split; it has {', '.join(source.files)}")
    patterns = source.files[split]
    if params.path is not None:
        if params.path.is_file():
            return [params.path]
        if not params.path.is_dir():
            raise DataError(f"task {task}: path={params.path}: no such file or folder; {_remedy(task, source, split)}")
        files, missing = _inside(params.path, patterns)
        if missing:
            _refuse(task, source, split, f"{params.path} has no {' or '.join(missing)}")
        return files
    if mirror := os.environ.get(MIRROR):
        if not Path(mirror).is_dir():
            raise DataError(f"{MIRROR}={mirror}: no such folder")
        names = [f"{stem}{suffix}" for stem in (f"{task}-{split}", task) for suffix in SUFFIXES]
        alone = [Path(mirror, name) for name in names if Path(mirror, name).is_file()]
        if alone:
            return alone[:1]
        for one in (source, *sources) if params.source is None else (source,):
            files, missing = _inside(Path(mirror, *one.repo.split("/")), one.files.get(split, ()))
            if files and missing:
                _refuse(task, one, split, f"{mirror}/{one.repo} has {files[0].name} but no {' or '.join(missing)}")
            if files:
                return files
    return _from_hub(task, source, split, params.revision)


def require_test(task: str, split: str) -> None:
    """Raises SplitError where a benchmark is asked for another split than "test"."""
    if split != "test":
        raise SplitError(
            f"task {task} is a benchmark: it has a test split and no {split} split; train on another task, for "
            f"instance dapo_math, and evaluate on this one"
        )


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
    if isinstance(value, float) and not math.isfinite(value):  # how pandas writes an empty cell
        value = None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise DataError(f"{place}: {' or '.join(map(repr, names))} must be text or a number, got {value!r:.80}")
    return value if isinstance(value, str) else number_text(value)


def require_count(task: str, count: int, params: PublishedParams, what: str = "problems") -> None:
    """Raises DataError where the number of problems is not the one expected, or 0."""
    if not count:
        raise DataError(f"task {task}: the data has no {what}")
    if params.expected is not None and count != params.expected:
        raise DataError(
            f"task {task}: expected {params.expected} {what}, got {count}. Is a file missing, cut short or repeated? "
            f"task.expected=null accepts any number"
        )


def with_ids(problems: Sequence[Problem], identities: Sequence[str | None]) -> list[Problem]:
    """Give each problem its published id where all have one and no two the same, else its index."""
    published = None not in identities and len(set(identities)) == len(problems)
    return [
        replace(problem, id=str(identities[index]) if published else str(index))
        for index, problem in enumerate(problems)
    ]


def _source(task: str, sources: Sequence[Source], name: str | None) -> Source:
    if name is None:
        return sources[0]
    for source in sources:
        if source.repo == name:
            return source
    raise DataError(f"task {task}: unknown source {name!r}; expected one of {', '.join(one.repo for one in sources)}")


def _inside(folder: Path, patterns: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files that match, and the patterns that lack one: files by name, and wildcards if not one of them matches."""
    by_pattern = {
        pattern: [path for path in sorted(folder.glob(pattern)) if path.name.endswith(SUFFIXES)] for pattern in patterns
    }
    files = dict.fromkeys(path for paths in by_pattern.values() for path in paths)
    wild = [pattern for pattern in patterns if "*" in pattern]
    missing = [pattern for pattern in patterns if pattern not in wild and not by_pattern[pattern]]
    return list(files), missing + (wild if not any(by_pattern[pattern] for pattern in wild) else [])


def _from_hub(task: str, source: Source, split: str, revision: str) -> list[Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    # The hub's errors are those of the HTTP library beneath it, which changes with its version: requests, httpx, httpx2.
    failures: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)
    patterns = list(source.files[split])
    try:
        folder = snapshot_download(source.repo, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except GatedRepoError:
        _refuse(
            task, source, split, f"{source.repo} is gated: accept its terms on the hub and log in with `hf auth login`"
        )
    except failures as error:
        cause = str(error).strip().split("\n")[0]
        _refuse(task, source, split, f"{source.repo} cannot be downloaded ({type(error).__name__}: {cause:.200})")
    files, missing = _inside(Path(folder), patterns)
    if missing:
        _refuse(task, source, split, f"{source.repo} at revision {revision} has no file {' or '.join(missing)}")
    return files


def _refuse(task: str, source: Source, split: str, cause: str) -> NoReturn:
    raise DataError(f"task {task}: no data for the {split} split: {cause}; {_remedy(task, source, split)}")


def _remedy(task: str, source: Source, split: str) -> str:
    """Exactly which file to put where."""
    mirror = os.environ.get(MIRROR) or f"${MIRROR}"
    files = " and ".join(source.files[split])
    return (
        f"put {files} of the dataset {source.repo} under {mirror}/{source.repo}/, or all its rows in one file "
        f"{mirror}/{task}.jsonl (or .parquet, .csv), or give task.path=FILE"
    )
