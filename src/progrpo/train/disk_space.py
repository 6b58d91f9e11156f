"""Whether the disk holds what a run will write: asked before anything else."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from progrpo.errors import StorageError
from progrpo.files import free_bytes
from progrpo.plural import counted
from progrpo.train.checkpoint import folders
from progrpo.train.settings import RunSettings

_WEIGHT = 4
"""Bytes a parameter takes in a checkpoint, in float32, beside the optimiser's state."""
_CHARACTERS = 4
"""Bytes of text a token stands for, about."""
_ROW = 1000
"""Bytes of a row beyond its completion: prompt, verdict, statistics."""
TOKEN_BYTES = 28
"""Bytes of a token in a bundle (`record.tokens`): its id and six numbers of four bytes, at most."""
_GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskSpace:
    """What a run writes, in bytes.

    Attributes:
        checkpoint: one of them, its largest file `largest`. at_once: checkpoints on the disk together: those that are kept, the
            best, and the one being written.
        rows: rollouts and evaluations, if every completion were as long as it may be. tokens: of the rollouts that are
            recorded with them, likewise.
    """

    checkpoint: int
    largest: int
    at_once: int
    rows: int
    tokens: int = 0

    @property
    def checkpoints(self) -> int:
        return self.checkpoint * self.at_once

    def __str__(self) -> str:
        tokens = f", {self.tokens / _GIB:.2f} of them for tokens (record.tokens)" if self.tokens else ""
        return (
            f"{self.checkpoints / _GIB:.2f} GiB for {counted(self.at_once, 'checkpoint')} of {self.checkpoint / _GIB:.2f} "
            f"(weights in float32 and the optimiser's state; kept and being written), at most "
            f"{self.rows / _GIB:.2f} for rollouts and evaluations{tokens}"
        )


def predict(
    settings: RunSettings, parameters: int, held_out: int, benchmarks: Sequence[tuple[int, int]] = ()
) -> DiskSpace:
    """What the run will write.

    Args:
        parameters: trained ones. held_out: problems of each evaluation. benchmarks: of each of `evaluate.tasks` its problems,
            and the completions of each.
    """
    every, keep = settings.checkpoint.every, settings.checkpoint.keep
    checkpoints = max(1, -(-settings.steps // every)) if every else 1
    batch, longest = settings.batch, settings.sampling.max_new_tokens
    per_row = _ROW + longest * _CHARACTERS
    rollouts = settings.steps // batch.steps_per_rollout
    written = -(-rollouts // settings.record.rollouts_every) if settings.record.rollouts_every else 0
    with_tokens = {True: written, False: 0, "checkpoints": min(2 * checkpoints, rollouts)}[settings.record.tokens]
    each = batch.prompts * batch.group * longest * TOKEN_BYTES
    tokens = min(with_tokens * each, int(settings.record.tokens_mib * 2**20)) if written else 0
    evaluated = held_out * settings.evaluate.n + sum(count * n for count, n in benchmarks)
    longest_evaluated = settings.evaluate.max_new_tokens or longest
    evaluations = 1 + -(-settings.steps // settings.evaluate.every) if settings.evaluate.every else 0
    return DiskSpace(
        checkpoint=int(parameters * (_WEIGHT + settings.optim.state_bytes)),
        largest=int(parameters * max(_WEIGHT, settings.optim.state_bytes)),
        at_once=min(checkpoints, keep + 1) + (settings.checkpoint.best is not None),
        tokens=tokens,
        rows=tokens
        + written * batch.prompts * batch.group * per_row
        + evaluations * evaluated * (_ROW + longest_evaluated * _CHARACTERS),
    )


def require_disk_space(out: Path, space: DiskSpace) -> list[str]:
    """Compare what the checkpoints take with what the disk has left; those that a resumed run has count as free.

    Returns:
        Warnings: the checkpoints fit, and the longest possible rollouts and evaluations would not.

    Raises:
        StorageError: the checkpoints do not fit, or the system allows no file of their size.
    """
    free = free_bytes(out)
    allowed, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if allowed != resource.RLIM_INFINITY and allowed < space.largest:
        raise StorageError(
            f"{out}: a checkpoint has a file of {space.largest / _GIB:.2f} GiB, and this process may write none above "
            f"{allowed / _GIB:.2f} (ulimit -f); raise the limit"
        )
    if free is None:
        return []
    held = sum(file.stat().st_size for folder in folders(out / "checkpoints") for file in folder.rglob("*"))
    lacking = space.checkpoints - held - free
    if lacking > 0:
        raise StorageError(
            f"{out}: the disk has {free / _GIB:.2f} GiB left, and the run will need {space}; make room, choose another disk "
            "with out=DIRECTORY, or lower checkpoint.keep"
        )
    if lacking + space.rows > 0:
        return [
            f"{out}: the disk has {free / _GIB:.2f} GiB left, and the run may need {space}; record.rollouts_every writes fewer"
        ]
    return []
