"""Questions of reasoning-gym, drawn in a process of their own.

Some of its data sets walk over sets of text, so that their questions depend on Python's hash seed: the processes of one run, or
a run and its evaluation, would draw different ones. The process here has a fixed one.

A data set makes item i of seed s from s + i. Each split has a span of seeds to itself, whatever the seed of the task, so that
no item of one split is an item of another; and since many data sets ask the same question under different seeds, a question
is drawn once, by its text, over all splits.
"""

import contextlib
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from progrpo.errors import ConfigError, DataError, ProgrpoError
from progrpo.rewards.reasoning_gym import dataset_of
from progrpo.seeds import derive_seed

SPANS = {"test": 0, "shots": 1, "train": 2}
"""In the order in which questions are drawn: a later split leaves out what an earlier one holds."""
SPAN = 2**30
"""Seeds of a split: numpy takes them below 2^32."""
_ITEMS = 2**24
"""The most items that are looked at."""
_BLOCK = 256
"""Items of one data set object: some draw all that they will need when they are made."""
FRUITLESS = 1000
"""So many draws in a row without a new question mean that there are no more to be had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GymSource:
    """One data set of a draw: its name, its settings, and how often it is drawn against the others."""

    name: str
    config: Mapping[str, Any]
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GymDraw:
    """What is to be drawn: so many questions of each split, in the order of `SPANS`."""

    sources: tuple[GymSource, ...]
    seed: int
    sizes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One item of a data set, with the seed that it is made from."""

    dataset: str
    seed: int
    entry: Mapping[str, Any]


@dataclass(kw_only=True, slots=True)
class _GymItems:
    """The items of one data set in one split, from the first on."""

    source: GymSource
    start: int
    taken: int = 0
    block: Any = None

    def next(self) -> Question:
        place, inside = divmod(self.taken, _BLOCK)
        if inside == 0:
            seed = self.start + place * _BLOCK
            self.block = dataset_of(self.source.name, self.source.config, seed=seed, size=_BLOCK)
        self.taken += 1
        entry = self.block[inside]
        if not isinstance(entry.get("question"), str) or not isinstance(entry.get("answer"), str | None):
            raise DataError(f"data set {self.source.name!r}: a question or an answer is no text: {entry!r:.200}")
        return Question(dataset=self.source.name, seed=self.start + self.taken - 1, entry=entry)


def drawn_apart(draw: GymDraw) -> Mapping[str, Sequence[Question]]:
    """`drawn`, in a process of its own whose hash seed is fixed.

    Raises:
        ProgrpoError: as `drawn`. DataError: the process failed otherwise.
    """
    paths = [os.path.abspath(path) for path in sys.path]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()"]
    done = subprocess.run(command, input=pickle.dumps(draw), env=environment, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise DataError(f"task reasoning_gym: drawing questions failed: {said or f'exit code {done.returncode}'}")
    result = pickle.loads(done.stdout)
    if isinstance(result, ProgrpoError):
        raise result
    questions: Mapping[str, Sequence[Question]] = result
    return questions


def drawn(draw: GymDraw) -> Mapping[str, Sequence[Question]]:
    """The questions of each split, all different by their text.

    Raises:
        HostError, ConfigError: see `dataset_of`. ConfigError: too few different questions. DataError: an item that is no
            question.
    """
    known: set[str] = set()
    questions: dict[str, Sequence[Question]] = {}
    for split in sorted(draw.sizes, key=list(SPANS).index):
        questions[split] = list(islice(_distinct(draw, split, known), draw.sizes[split]))
    return questions


def first_seed(name: str, split: str, seed: int) -> int:
    """The seed of a data set's first item in a split, in the split's span."""
    return SPANS[split] * SPAN + derive_seed("reasoning_gym", name, seed) % (SPAN - _ITEMS)


def _distinct(draw: GymDraw, split: str, known: set[str]) -> Iterator[Question]:
    streams = [_GymItems(source=one, start=first_seed(one.name, split, draw.seed)) for one in draw.sources]
    weights = [one.weight for one in draw.sources]
    fruitless, produced, reason = 0, 0, ""
    for number in count():
        if fruitless == FRUITLESS or any(stream.taken == _ITEMS for stream in streams):
            names = ", ".join(one.name for one in draw.sources)
            others = [one for one in draw.sizes if SPANS[one] < SPANS[split]]
            beside = f" beside those of {', '.join(others)}" if others else ""
            raise ConfigError(
                f"task reasoning_gym: {names}: only {produced} different questions for split {split!r}{beside}, of "
                f"{draw.sizes[split]}{reason}; make them larger (task.config), or ask for fewer (train_size, test_size)"
            )
        chosen = random.Random(derive_seed("reasoning_gym", draw.seed, split, number)).choices(streams, weights)[0]
        fruitless += 1
        try:
            question = chosen.next()
        except ProgrpoError:
            raise
        except ValueError as error:  # a generator that gave up on this seed; the next one may do
            reason = f" (the last draw failed: {error})"
            continue
        text = question.entry["question"]
        if text not in known:
            known.add(text)
            fruitless, produced = 0, produced + 1
            yield question


def main() -> None:
    draw: GymDraw = pickle.load(sys.stdin.buffer)
    with contextlib.redirect_stdout(sys.stderr):  # some data sets print
        try:
            result: object = drawn(draw)
        except ProgrpoError as error:
            result = error
    sys.stdout.buffer.write(pickle.dumps(result))
