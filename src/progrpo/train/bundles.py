"""Which rollouts are kept with their tokens, as bundles (see progrpo.rollout.bundle), and what goes into one."""

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from progrpo.environment import environment
from progrpo.methods import Advantages
from progrpo.rollout.bundle import bundle_paths, pack_groups, packed
from progrpo.seeds import derive_seed
from progrpo.train.fingerprint import fingerprint_of, weight_checksums
from progrpo.train.policy import Policy
from progrpo.train.record import RunDirectory
from progrpo.train.settings import RunSettings
from progrpo.train.trace import StepTrace
from progrpo.types import Group, RolloutBatch

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True, eq=False)
class _Rollout:
    """The rollout at hand."""

    step: int
    groups: tuple[Group, ...]
    batch: RolloutBatch
    engine_scores: bool
    weights: Mapping[str, str]
    state: bytes
    generator: Tensor
    why: list[str]
    advantages: Advantages | None = None
    confidence: Tensor | None = None
    traces: list[StepTrace] = field(default_factory=list)
    logged: list[Mapping[str, Any]] = field(default_factory=list)


class Bundles:
    """Holds the rollout at hand until its steps are made, and writes it then if anything said `keep`.

    Args:
        done: the optimiser steps of the checkpoint that the run goes on from; 0 at its start.
    """

    def __init__(self, settings: RunSettings, run: RunDirectory, *, done: int) -> None:
        self._settings, self._run = settings, run
        self._saved = done
        self._rollout: _Rollout | None = None
        self._told = False

    def begin(
        self, step: int, groups: Sequence[Group], batch: RolloutBatch, policy: Policy, *, engine_scores: bool
    ) -> None:
        """Take a rollout before its advantages are computed; `step`: the first that it feeds. Every process has to call it."""
        record = self._settings.record
        if not record.tokens or not record.rollouts_every:
            return
        number = (step - 1) // self._settings.batch.steps_per_rollout
        why = ["record.tokens=true"] if record.tokens is True and number % record.rollouts_every == 0 else []
        if record.tokens == "checkpoints" and self._saved == step - 1:
            why.append(f"follows the checkpoint of step {step - 1}" if step > 1 else "the first of the run")
        if not why and record.tokens is True and not self._settings.alarms.watch:
            return  # nothing else may ask for it
        self._rollout = _Rollout(
            step=step,
            groups=tuple(groups),
            batch=batch,
            engine_scores=engine_scores,
            weights=weight_checksums(policy),
            state=_saved(batch.state),
            generator=torch.get_rng_state(),
            why=why,
        )

    def judged(self, advantages: Advantages, confidence: Tensor) -> None:
        """The advantages of the rollout, and c(o) [P, G] of its completions."""
        if self._rollout is not None:
            self._rollout.advantages, self._rollout.confidence = advantages, confidence

    def trace(self) -> StepTrace | None:
        """What the next optimiser step is to fill in; None where nothing can be kept."""
        if self._rollout is None:
            return None
        self._rollout.traces.append(StepTrace())
        return self._rollout.traces[-1]

    def logged(self, row: Mapping[str, Any]) -> None:
        """What an optimiser step logged."""
        if self._rollout is not None:
            self._rollout.logged.append(row)

    def keep(self, step: int, why: str) -> bool:
        """Have the rollout at hand written, which `step` is made from.

        Args:
            why: in a few words; they stand in the bundle.

        Returns:
            Whether it will be: not where another rollout is at hand, or the settings keep none (`record.tokens`).
        """
        rollout = self._rollout
        if rollout is None or not 0 <= step - rollout.step < self._settings.batch.steps_per_rollout:
            return False
        if why not in rollout.why:
            rollout.why.append(why)
        return True

    def saved(self, step: int) -> None:
        """A checkpoint of so many steps was written: what led to it is kept, and what follows it."""
        self._saved = step
        if self._settings.record.tokens == "checkpoints":
            self.keep(step, f"leads to the checkpoint of step {step}")

    def end(self, policy: Policy) -> None:
        """After all optimiser steps of a rollout: write it or forget it. Every process has to call it."""
        rollout, self._rollout = self._rollout, None
        if rollout is None or not rollout.why or len(rollout.logged) < self._settings.batch.steps_per_rollout:
            return
        after = weight_checksums(policy)
        if not policy.processes.main:
            return
        header, tensors = _contents(rollout, self._settings, after=after)
        header["made_with"] = {**self._made_with, "processes": policy.processes.count}
        limit = self._settings.record.tokens_mib * 2**20
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > limit:
            if not self._told:
                logger.warning(
                    "step %d: written without tokens, which would take %.0f MiB; record.tokens_mib=%g is the most",
                    rollout.step, size / 2**20, self._settings.record.tokens_mib,
                )  # fmt: skip
            self._told = True
            return
        self._run.write_bundle(rollout.step, header, tensors)
        for step in _beyond(self._run, rollout.step, limit):
            self._run.remove_bundle(step)

    @cached_property
    def _made_with(self) -> dict[str, Any]:
        """The same for all bundles of a process; it asks git for the commit."""
        about = environment(self._settings.model.device, self._settings.seed)
        return {key: about[key] for key in ("versions", "python", "device", "threads", "git_commit")}


def _beyond(run: RunDirectory, newest: int, limit: float) -> list[int]:
    """The first steps of the oldest bundles that are too many; the newest stays."""
    sizes = {step: path.stat().st_size for step, path in bundle_paths(run.path).items()}
    gone: list[int] = []
    for step in sizes:
        if sum(size for one, size in sizes.items() if one not in gone) <= limit or step == newest:
            break
        gone.append(step)
    return gone


def _contents(
    rollout: _Rollout, settings: RunSettings, *, after: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header, but for "made_with", and tensors of the bundle."""
    assert rollout.advantages is not None
    assert rollout.confidence is not None
    header, tensors = pack_groups(rollout.groups)
    lengths, batch = tensors["lengths"], rollout.batch
    if not torch.equal(batch.old_logprobs, _sampled(batch)):
        tensors["old_logprobs"] = packed(batch.old_logprobs, lengths)
    if "entropies" not in tensors and batch.entropies is not None:
        tensors["entropies"] = packed(batch.entropies, lengths)
    tensors["logprobs"] = packed(torch.cat([trace.logprobs for trace in rollout.traces]), lengths)
    tensors["token_weights"] = packed(torch.cat([trace.weights for trace in rollout.traces]), lengths)
    decided = torch.cat([trace.advantages for trace in rollout.traces])
    if not torch.equal(decided, rollout.advantages.values.flatten()[:, None].expand(decided.shape)):
        tensors["token_advantages"] = packed(decided, lengths)
    tensors |= {"rewards": batch.rewards, "advantages": rollout.advantages.values, "generator": rollout.generator}
    columns = {"confidence": rollout.confidence, **rollout.advantages.columns}
    tensors |= {f"column.{name}": values for name, values in columns.items()}
    if rollout.state:
        tensors["method_state"] = torch.frombuffer(bytearray(rollout.state), dtype=torch.uint8)
    steps = [row["step"] for row in rollout.logged]
    return {
        "step": rollout.step,
        "kept_for": rollout.why,
        "settings": settings.as_given(),
        "total_steps": settings.steps,
        "policy_version": rollout.step - 1,
        "old_logprobs": "engine" if rollout.engine_scores else "trainer",
        "weights": {
            "fingerprint": fingerprint_of(rollout.weights),
            "before": dict(rollout.weights),
            "after": dict(after),
        },
        "seeds": {"run": settings.seed, "steps": {str(step): step_seed(settings, step) for step in steps}},
        "losses": [trace.loss for trace in rollout.traces],
        "logged": rollout.logged,
        **header,
    }, tensors


def step_seed(settings: RunSettings, step: int) -> int:
    """Of the random numbers that a method draws in an optimiser step."""
    return derive_seed(settings.seed, "step", step)


def _sampled(batch: RolloutBatch) -> Tensor:
    return batch.old_logprobs if batch.sampler_logprobs is None else batch.sampler_logprobs


def _saved(state: Mapping[str, Any]) -> bytes:
    """What a method remembers, as a checkpoint holds it; nothing where it remembers nothing."""
    if not state:
        return b""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def loaded_state(tensor: Tensor | None) -> dict[str, Any]:
    """The inverse: what the method remembered before its advantages."""
    if tensor is None:
        return {}
    state: dict[str, Any] = torch.load(io.BytesIO(tensor.numpy().tobytes()), map_location="cpu", weights_only=True)
    return state
