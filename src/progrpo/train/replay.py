"""A run's policy on the CPU as it was before a step, and the step made again by the functions that made it.

What is needed is a checkpoint (or the start) and the bundle of every rollout from there to the step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from progrpo import methods
from progrpo.errors import DataError
from progrpo.methods import Advantages, Method
from progrpo.model import LanguageModel, load_model
from progrpo.processes import ALONE
from progrpo.rollout.bundle import Bundle, bundle_paths, read_bundle
from progrpo.rollout.recorded import steps_per_rollout
from progrpo.settings import parse, read_yaml
from progrpo.train import checkpoint
from progrpo.train.bundles import loaded_state
from progrpo.train.fingerprint import weight_checksums
from progrpo.train.metrics import correct_by_source, default_confidence, rollout_metrics
from progrpo.train.parallel import Parallel, ParallelSettings
from progrpo.train.policy import Policy
from progrpo.train.record import as_row
from progrpo.train.reference import Reference
from progrpo.train.rows import TokenRows, make_rows
from progrpo.train.scoring import policy_batch
from progrpo.train.settings import RunSettings
from progrpo.train.step_on import step_on
from progrpo.train.stream import SOURCE
from progrpo.train.token_counts import TokenCounts
from progrpo.train.trace import StepTrace
from progrpo.types import RolloutBatch, WeightedMean


class Route(NamedTuple):
    """How a step is reached.

    Attributes:
        done: optimiser steps behind the weights to begin with; folder: their checkpoint, None for the start.
        bundles: of the rollouts from there on, the last of them the one that feeds the step.
    """

    done: int
    folder: Path | None
    bundles: tuple[Path, ...]


def routes(run: Path) -> dict[int, Route | None]:
    """For each bundle of a run, by its first step, how it is reached; None where rollouts before it are missing.

    Raises:
        DataError, ConfigError: it holds no bundle; its settings cannot be read.
    """
    paths = bundle_paths(run)
    if not paths:
        raise DataError(
            f"{run}: no bundle was kept (record.tokens=false, record.rollouts_every=0, or an older version wrote it): no step "
            "of it can be replayed"
        )
    size = steps_per_rollout(read_yaml(run / "config.yaml"))
    saved = {int(folder.name.removeprefix("step-")): folder for folder in checkpoint.folders(run / "checkpoints")}
    starts: dict[int, Path | None] = {0: None, **saved}
    found: dict[int, Route | None] = {}
    for first in paths:
        done = max(step for step in starts if step < first)
        between = range(done + 1, first + 1, size)
        reached = all(step in paths for step in between)
        found[first] = Route(done, starts[done], tuple(paths[step] for step in between)) if reached else None
    return found


def route_to(run: Path, step: int) -> Route:
    """How a step is reached.

    Raises:
        DataError: it cannot be; the steps that can are named.
    """
    known = routes(run)
    size = steps_per_rollout(read_yaml(run / "config.yaml"))
    first = (step - 1) // size * size + 1
    route = known.get(first)
    if route is not None and step > 0:
        return route
    able = ", ".join(_range(one, size) for one, way in known.items() if way is not None) or "none"
    if first in known and step > 0:
        why = "its rollout was kept, but there is neither a checkpoint right before it nor every rollout since one"
    else:
        why = "its rollout was not kept with its tokens"
    raise DataError(
        f"{run}: step {step} cannot be replayed: {why}. Steps that can: {able}. record.tokens=true keeps every rollout"
    )


def _range(first: int, size: int) -> str:
    return str(first) if size == 1 else f"{first} to {first + size - 1}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Learned:
    """A rollout as a method sees it, on the policy as it stands."""

    rows: TokenRows
    batch: RolloutBatch
    advantages: Advantages
    scoring: TokenCounts


@dataclass(kw_only=True, slots=True, eq=False)
class Replayed:
    """An optimiser step made again.

    Attributes:
        before: checksums of the weights that its rollout began with. row: what it would have logged.
        learned: its rollout. trace: what its tokens went through; first: the first of its sequences in the rollout.
        after: checksums of the weights after it; None where it was not taken.
    """

    step: int
    bundle: Bundle
    before: Mapping[str, str]
    learned: Learned
    trace: StepTrace
    first: int
    row: Mapping[str, Any]
    after: Mapping[str, str] | None = None


@dataclass(kw_only=True, slots=True, eq=False)
class Replaying:
    """The parts of a run that its steps are made from, on the CPU.

    Attributes:
        settings: of the bundle, on this machine. before: checksums of the weights when the rollout at hand began.
    """

    settings: RunSettings
    method: Method
    policy: Policy
    reference: Reference | None
    before: Mapping[str, str] = field(default_factory=dict)

    def learn(self, bundle: Bundle) -> Learned:
        """The rollout of a bundle under the policy as it is, as the run saw it; what the method remembers goes on from it."""
        self.before = weight_checksums(self.policy)
        self.method.state.clear()
        self.method.state.update(loaded_state(bundle.tensors.get("method_state")))
        learned = self.learned_by(self.method, self.policy, self.reference, bundle)
        self.method.remember(learned.advantages)
        return learned

    def learned_by(
        self, method: Method, policy: Policy, reference: Reference | None, bundle: Bundle, *, engine: bool | None = None
    ) -> Learned:
        """The rollout as a method sees it; `engine`: whether the sampler's log-probs are the old ones, None as in the run."""
        groups = bundle.groups
        rows = make_rows(groups)
        batch, scoring = policy_batch(
            self.settings,
            policy,
            method,
            reference,
            groups,
            rows,
            done=bundle.step - 1,
            engine_scores=bundle.header["old_logprobs"] == "engine" if engine is None else engine,
        )
        torch.set_rng_state(bundle.tensors["generator"])
        return Learned(rows=rows, batch=batch, advantages=method.advantages(batch), scoring=scoring)

    def step(
        self,
        learned: Learned,
        step: int,
        part: int,
        *,
        method: Method | None = None,
        policy: Policy | None = None,
        take: bool = True,
        only: int | None = None,
    ) -> tuple[StepTrace, dict[str, WeightedMean]]:
        """An optimiser step on mini-batch `part`: what its tokens go through, and its metrics."""
        trace = StepTrace()
        metrics = step_on(
            self.settings,
            policy or self.policy,
            method or self.method,
            learned.batch,
            learned.rows,
            learned.advantages,
            part=part,
            step=step,
            counts=TokenCounts() if part else learned.scoring,
            dump=lambda tensors: "(a replay writes none)",
            trace=trace,
            take=take,
            only=only,
        )
        return trace, metrics

    def first_of(self, part: int) -> int:
        """The first sequence of mini-batch `part` in the rollout."""
        batch = self.settings.batch
        return part * (batch.minibatch_prompts or batch.prompts) * batch.group


def restore(route: Route) -> tuple[Replaying, Bundle]:
    """The policy at the beginning of a route, and the bundle at its end, whose settings it has.

    Raises:
        ProgrpoError: a bundle, the checkpoint, the model or the method cannot be read.
    """
    bundle = read_bundle(route.bundles[-1])
    settings = settings_of(bundle)
    method = methods.load(settings.method)
    torch.manual_seed(settings.seed)  # as a run does before it loads its model
    saved = None if route.folder is None else checkpoint.load(route.folder)
    model = _model(settings, route.folder)
    policy = make_policy(settings, method, model)
    reference = make_reference(settings, method, policy)
    if saved is not None:
        checkpoint.restore(saved, policy, method.state)
    return Replaying(settings=settings, method=method, policy=policy, reference=reference), bundle


def settings_of(bundle: Bundle) -> RunSettings:
    """The settings that the bundle's steps were made with, for this machine's CPU and one process."""
    data = {key: value for key, value in bundle.settings.items() if key not in ("epochs", "steps")}
    data |= {"model": {**data["model"], "device": "cpu"}, "steps": bundle.header["total_steps"]}
    data |= {"parallel": {}, "record": {**data.get("record", {}), "trackers": []}}
    return parse(RunSettings, data, where=str(bundle.path))


def _model(settings: RunSettings, folder: Path | None) -> LanguageModel:
    if folder is None:
        return load_model(settings.model, merge=True)
    adapter = folder if settings.model.lora else None
    moved = {} if adapter else {"path": str(folder.resolve())}
    return load_model(settings.model.model_copy(update=moved), adapter=adapter, merge=True)


def make_policy(settings: RunSettings, method: Method, model: LanguageModel) -> Policy:
    """As a run makes it, in one process."""
    return Policy(
        model,
        settings.optim,
        steps=settings.steps,
        temperature=settings.sampling.temperature,
        net=method.make_net(model.model.config.get_text_config().hidden_size),
        net_lr_factor=method.net_lr_factor,
        parallel=Parallel(ParallelSettings(), ALONE),
    )


def make_reference(settings: RunSettings, method: Method, policy: Policy) -> Reference | None:
    """The model before training, for a method that asks for it."""
    if "ref_logprobs" not in method.needs:
        return None
    return Reference(policy.model, settings.model, settings.sampling.temperature, trained=policy.scorer)


def forward(replaying: Replaying, bundle: Bundle, step: int | None = None) -> Learned:
    """Make the steps of a rollout again that come before `step`, None for all; what is learned from it.

    Raises:
        DataError: `step` is none of them.
    """
    if step not in (None, *bundle.steps):
        raise DataError(f"{bundle.path}: its steps are {bundle.steps}, not {step}")
    learned = replaying.learn(bundle)
    for part, number in enumerate(bundle.steps):
        if number == step:
            break
        replaying.step(learned, number, part)
    return learned


def logged_again(
    replaying: Replaying, bundle: Bundle, learned: Learned, step: int, of_step: Mapping[str, WeightedMean]
) -> dict[str, Any]:
    """The row of metrics of a step as far as bundle and weights say it."""
    groups = bundle.groups
    sources = sorted({str(group.problem.facts[SOURCE]) for group in groups if SOURCE in group.problem.facts})
    of_rollout = rollout_metrics(
        groups, learned.batch, learned.advantages, confidence=default_confidence(learned.batch), canonical=True
    ) | correct_by_source(groups, sources)
    if step != bundle.step:
        of_rollout = {key: value for key, value in of_rollout.items() if not key.startswith("tokens/")}
    return as_row(step, of_rollout | dict(of_step))
