"""A data set of the Hugging Face hub by its id, or a folder that `datasets` reads, with the columns named as for `file`.

    progrpo train math task=hub task.dataset=openai/gsm8k task.config=main \\
        task.prompt_key=question task.answer_key=answer

Of an answer that is a worked solution and ends in "#### 72", as those of GSM8K do, 72 is the gold answer.

Needs `pip install 'progrpo[hub]'`. A folder holds data files, or is what `Dataset.save_to_disk` wrote. No script of a
repository is ever run. What is read once is kept in the cache of `datasets` ($HF_DATASETS_CACHE).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from progrpo.environment import installed
from progrpo.errors import ConfigError, DataError
from progrpo.tasks._row_problems import RowParams, split_off, to_problem
from progrpo.tasks._rows import Row, shortening
from progrpo.types import Problem

__all__ = ["REWARD", "Params", "load"]

REWARD = "math"
_WRITTEN = ("dataset_dict.json", "state.json")
"""What `save_to_disk` leaves in a folder."""


class Params(RowParams):
    dataset: str = Field(min_length=1, examples=["openai/gsm8k"])
    """OWNER/NAME on the hub, or a folder."""
    config: str | None = None
    """Configuration (subset) of the data set, for instance main; None takes its default."""
    split: str = "train"
    """Split to train on; a slice will do, as `datasets` writes it: train[:1000]."""
    test_split: str | None = None
    """Split of held-out problems; None takes `held_out_fraction` of `split`."""
    revision: str | None = None
    """Branch, tag or commit of the repository; None takes its main branch."""


def load(split: str, params: Params) -> list[Problem]:
    """Read one split.

    Raises:
        ConfigError: the package `datasets` is not installed.
        DataError: no such data set, configuration, split or column (the message lists those there are), or a row without
            prompt or answer.
    """
    if not installed("datasets"):
        raise ConfigError("task hub needs the package datasets: pip install 'progrpo[hub]'")
    if split == "test" and params.test_split is not None:
        return _read(params.test_split, params)
    problems = _read(params.split, params)
    if params.test_split is not None:
        return problems
    return split_off(problems, split, params, where=params.dataset, remedy="give task.test_split=SPLIT")


def _read(split: str, params: Params) -> list[Problem]:
    where = " ".join(part for part in (params.dataset, params.config, split) if part)
    data = _table(split, params, where)
    _require_columns(data.column_names, params, where)
    rows = enumerate(_rows(data))
    problems = [to_problem(row, f"{where}, row {index + 1}", index, params) for index, row in rows]
    if not problems:
        raise DataError(f"{where}: the split has no rows")
    return problems


def _table(split: str, params: Params, where: str) -> Any:
    """The split as a `datasets.Dataset`."""
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    # The hub's errors are those of the HTTP library beneath it, which changes with its version.
    failures = (OSError, ValueError, datasets.exceptions.DatasetsError, *HfHubHTTPError.__bases__)
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        if any(Path(params.dataset, name).is_file() for name in _WRITTEN):
            return _written(datasets.load_from_disk(params.dataset), split)
        return datasets.load_dataset(params.dataset, params.config, split=split, revision=params.revision)
    except failures as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{where}: cannot be read ({said:.400}); expected OWNER/NAME on the hub or a folder of data files, with "
            "task.config and task.split as it names them"
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def _written(data: Any, split: str) -> Any:
    """A split of what `save_to_disk` wrote. Raises ValueError where there is none of that name."""
    import datasets

    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise ValueError(f"no split {split!r}; it has {', '.join(data)}")
        return data[split]
    return data


def _require_columns(columns: list[str], params: Params, where: str) -> None:
    """Raises DataError if a column that the settings name is not there."""
    named = {"prompt_key": params.prompt_key, "answer_key": params.answer_key, "id_key": params.id_key}
    for setting, key in [*named.items(), *(("info_keys", key) for key in params.info_keys or ())]:
        if key is not None and key not in columns and key.split(".")[0] not in columns:
            without = ", or null where there is none" if setting == "answer_key" else ""
            raise DataError(
                f"{where}: no column {key!r}; it has {', '.join(columns)}. Say which with task.{setting}=COLUMN{without}"
            )


def _rows(data: Any) -> Iterator[Row]:
    """The rows as they are stored: nothing is decoded, so that images and sounds cost no package."""
    for table in data.with_format("arrow").iter(batch_size=256):
        yield from map(shortening(table.schema), table.to_pylist())
