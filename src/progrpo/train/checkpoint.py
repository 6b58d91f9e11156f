"""Checkpoints that survive a kill at any moment: written aside, hashed, renamed into place; a damaged one is passed over.

A checkpoint is a Hugging Face model folder plus optimiser, schedule, random number generators and the place in the
stream of problems. Writing goes to a hidden folder first; the rename is the commit.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progrpo.errors import CheckpointError
from progrpo.files import storing, to_json, write_whole
from progrpo.model.lora import is_adapted, save_adapter, save_merged
from progrpo.plural import counted
from progrpo.train.policy import Policy
from progrpo.train.watch import Best

logger = logging.getLogger(__name__)

_STATE, _SHARDS, _MANIFEST, _ASIDE = "trainer_state.pt", "optimizer", "manifest.json", ".writing-"
PRIVATE_FILES = (_STATE, _SHARDS, _MANIFEST, "merged")
"""Of a checkpoint's folder, what is no part of the model in it: what a run goes on from, and the model once more."""
_BEST = "best.json"
"""Beside the checkpoints: step, metric and value of the best."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """One checkpoint on disk that was read back whole.

    Attributes:
        step: optimiser steps done. state: what `save` was given, and the random number generators.
    """

    folder: Path
    step: int
    state: dict[str, Any]


def save(
    root: Path,
    step: int,
    policy: Policy,
    *,
    keep: int,
    method_state: Mapping[str, Any],
    merged: bool = False,
    best: Best | None = None,
) -> Path:
    """Write `root/step-NNNNNN` atomically and remove all but the latest `keep` checkpoints and the best. Every process has to
    call it; the main one writes, and each its part of a sharded optimiser.

    Args:
        best: which one is marked as the best (`best.json`), where its folder is there.
        merged: of a model that trains an adapter, also write the folder `merged`, its weights with the adapter added.

    Raises:
        StorageError: the disk refuses; the checkpoints before this one are as they were.
    """
    final = root / _named(step)
    aside = root / f"{_ASIDE}{final.name}"

    # A disk that refuses the main process is an error in all of them: the boundary stands inside of what it alone does.
    def begin() -> None:
        with storing(final):
            root.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()

    def finish() -> None:
        with storing(final):
            _write(aside, step, policy, weights, method_state, merged)
            if final.exists():
                shutil.rmtree(final)
            os.rename(aside, final)
            if best is not None and (root / _named(best.step)).is_dir():
                write_whole(root / _BEST, to_json(best._asdict()))
            _flush(root)
            for old in folders(root)[:-keep]:
                if best is None or old.name != _named(best.step):
                    shutil.rmtree(old)

    try:
        policy.processes.same(begin)
        with storing(final):
            policy.save_shards(aside / _SHARDS)
        weights = policy.whole_weights(only_trained=is_adapted(policy.model.model) and not merged)
        policy.processes.same(finish)
    except BaseException:
        if policy.processes.main:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    return final


def _write(
    folder: Path,
    step: int,
    policy: Policy,
    weights: Mapping[str, Tensor] | None,
    method_state: Mapping[str, Any],
    merged: bool,
) -> None:
    """All files of a checkpoint, each on the disk when this returns; `weights` where the model does not hold them whole."""
    model = policy.model.model
    if is_adapted(model):
        save_adapter(model, folder, weights)
        if merged:
            save_merged(model, folder / "merged", weights)
            policy.model.tokenizer.save_pretrained(folder / "merged")
    else:
        model.save_pretrained(folder, **({} if weights is None else {"state_dict": dict(weights)}))
    policy.model.tokenizer.save_pretrained(folder)
    state = {"step": step, "policy": policy.state_dict(), "method": dict(method_state)}
    torch.save(state | {"generators": generator_states()}, folder / _STATE)
    # A tokenizer may write folders of its own (additional_chat_templates/).
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {str(path.relative_to(folder)): _digest(path) for path in written}
    (folder / _MANIFEST).write_text(to_json(digests, indent=1), encoding="utf-8")
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def forget_after(root: Path, step: int) -> None:
    """Remove what a run that goes on after `step` will make again: unfinished writes, and damaged checkpoints of later
    steps, which would otherwise count among those that are kept."""
    if (marked := best_of(root)) is not None and marked.step > step:
        (root / _BEST).unlink()
    for path in (*root.glob(f"{_ASIDE}*"), *(one for one in folders(root) if int(one.name[5:]) > step)):
        shutil.rmtree(path, ignore_errors=True)


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint that is known to be whole."""
    state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
    return Checkpoint(folder=folder, step=state["step"], state=state)


def latest_folder(root: Path) -> Path | None:
    """The latest undamaged checkpoint, a Hugging Face model folder; None if there never was one.

    A damaged one is named in a warning and the one before it is used.

    Raises:
        CheckpointError: checkpoints exist and all are damaged.
    """
    saved = folders(root)
    for folder in reversed(saved):
        fault = fault_of(folder)
        if fault is None:
            return folder
        logger.warning("checkpoint %s is damaged (%s); using the one before it", folder, fault)
    if saved:
        raise CheckpointError(
            f"{root}: every checkpoint is damaged ({counted(len(saved), 'checkpoint')}); the last: {fault_of(saved[-1])}. "
            "Start anew with another out="
        )
    return None


def best_of(root: Path) -> Best | None:
    """Which checkpoint is marked as the best (`checkpoint.best`); None where none is."""
    path = root / _BEST
    return Best(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def best_folder(root: Path) -> Path:
    """The best checkpoint, a Hugging Face model folder.

    Raises:
        CheckpointError: none is marked as the best, or it is damaged or gone.
    """
    best = best_of(root)
    if best is None:
        raise CheckpointError(
            f"{root}: no checkpoint is marked as the best; a run with checkpoint.best=pass@1 and evaluate.every marks one"
        )
    folder = root / _named(best.step)
    if (fault := fault_of(folder)) is not None:
        raise CheckpointError(f"the best checkpoint {folder} is damaged ({fault}); take checkpoint=latest")
    return folder


def _named(step: int) -> str:
    return f"step-{step:06d}"


def restore(checkpoint: Checkpoint, policy: Policy, method_state: dict[str, Any]) -> None:
    """Put optimiser, schedule, the method's net and memory, and generators back; the weights were loaded from the folder
    with the model."""
    method_state.update(checkpoint.state.get("method", {}))
    policy.load_state_dict(checkpoint.state["policy"], shards=checkpoint.folder / _SHARDS)
    set_generators(checkpoint.state["generators"])


def set_generators(generators: Mapping[str, Any]) -> None:
    """Put torch's random number generators back to what `generator_states` gave."""
    torch.set_rng_state(generators["cpu"])
    if torch.cuda.is_available() and generators["cuda"]:
        torch.cuda.set_rng_state_all(generators["cuda"])


def folders(root: Path) -> list[Path]:
    """The committed checkpoints, oldest first."""
    by_step = {int(path.name[5:]): path for path in root.glob("step-*") if path.name[5:].isdecimal() and path.is_dir()}
    return [by_step[step] for step in sorted(by_step)]


def generator_states() -> dict[str, Any]:
    """Torch's random number generators: "cpu", and a list of each GPU's under "cuda"."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def fault_of(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        digests = json.loads((folder / _MANIFEST).read_text("utf-8"))
        wrong = [name for name, digest in digests.items() if _digest(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{wrong[0]} differs from what was written" if wrong else None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def _flush(path: Path) -> None:
    """Force a file's contents, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
