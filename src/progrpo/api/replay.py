"""`progrpo replay`: a step of a run computed again and held against what was logged; what another method would have done."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progrpo.api.agreement import NEAR_ZERO, WITHIN, Agreement, of_numbers, of_tensors
from progrpo.api.other_methods import Other, apply_others
from progrpo.environment import environment
from progrpo.errors import ConfigError, DataError
from progrpo.methods import Method
from progrpo.rollout.bundle import Bundle, bundle_path, read_bundle, read_header
from progrpo.settings import flat, read_yaml
from progrpo.train import checkpoint
from progrpo.train.fingerprint import changed_weights, fingerprint_of, weight_checksums
from progrpo.train.replay import Learned, Replayed, Replaying, forward, logged_again, restore, route_to, routes
from progrpo.train.resample import DrawnAgain, draw_again
from progrpo.train.same_run import MAY_DIFFER
from progrpo.train.trace import StepTrace

_OF_COMPLETIONS = ("rollout/", "reward/", "verdict/")
"""Metrics of what was sampled: not known where a rollout is one of before, or the verifier gives no canonical form."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroReplay:
    """One micro-batch of a step: its number from 1 on, of how many; its part of the loss, the norm of its gradient alone.

    Attributes:
        sequences: of each the problem, index, status, advantage, tokens, and the sum of its tokens' weights' sizes.
    """

    number: int
    of: int
    loss: float
    grad_norm: float
    sequences: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What came out.

    Attributes:
        step: the optimiser step; rollout: the first that its rollout feeds; start: optimiser steps of the checkpoint that the
            replay began with; digest, fingerprint: of the bundle, and of the weights that the rollout began with.
        faults: what is not as it was written, in words: bundle, checkpoint, weights, settings.
        notes: what a reader should know. values: each recomputed value.
        others: other methods on the same completions and weights; drawn: the completions drawn again, None without `sample`.
    """

    run: Path
    step: int
    rollout: int
    start: int
    digest: str
    fingerprint: str
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    values: tuple[Agreement, ...]
    micro: MicroReplay | None = None
    others: Other | None = None
    drawn: tuple[DrawnAgain, ...] | None = None
    kept_for: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether everything is as it was written, up to rounding."""
        redrawn = self.drawn is None or all(one.parts_at is None and one.verdict for one in self.drawn)
        return not self.faults and redrawn and all(one.status != "differs" for one in self.values)


def replay(
    run: Path,
    step: int,
    *,
    micro: int | None = None,
    methods: Mapping[str, Method] | None = None,
    step_too: bool = False,
    sample: bool = False,
) -> Replay:
    """Compute a step of a run again on the CPU, from the checkpoint before it and the bundles since.

    Args:
        micro: also one micro-batch of it by itself, from 1 on.
        methods: others, by label, on the same completions and weights.
        step_too: also take the step by each, and measure what it did to the entropy and to held-out correct answers.
        sample: also draw the completions again from their seeds.

    Raises:
        ProgrpoError: the step was not kept, or something it needs cannot be read; the message says which steps can be replayed.
    """
    route = route_to(run, step)
    fault = None if route.folder is None else checkpoint.fault_of(route.folder)
    replaying, bundle = restore(route)
    faults = [] if route.folder is None or fault is None else [f"checkpoint {route.folder.name}: {fault}"]
    for path in route.bundles[:-1]:  # one at a time: together they may be all that the run kept
        before = read_bundle(path)
        faults += _bundle_faults(before)
        forward(replaying, before)
    faults += _bundle_faults(bundle)
    drawn = tuple(draw_again(replaying, bundle, run)) if sample else None
    learned = forward(replaying, bundle, step)
    part = bundle.steps.index(step)
    of_micro = others = None
    if micro is not None or methods or step_too:
        generator = torch.get_rng_state()
        own, of_step = replaying.step(learned, step, part, take=False)
        if methods or step_too:
            others = apply_others(replaying, bundle, learned, step, own, of_step, methods or {}, run, step_too=step_too)
        if micro is not None:
            of_micro = _micro(replaying, bundle, learned, step, part, own, micro)
        torch.set_rng_state(generator)
    trace, of_step = replaying.step(learned, step, part)
    replayed = Replayed(
        step=step,
        bundle=bundle,
        before=replaying.before,
        learned=learned,
        trace=trace,
        first=replaying.first_of(part),
        row=logged_again(replaying, bundle, learned, step, of_step),
        after=weight_checksums(replaying.policy) if step == bundle.steps[-1] else None,
    )
    faults += [*_weight_faults(replayed), *_token_faults(replaying, bundle)]
    differing, allowed = _settings_apart(bundle, run)
    return Replay(
        run=run,
        step=step,
        rollout=bundle.step,
        start=route.done,
        digest=bundle.digest,
        fingerprint=fingerprint_of(replayed.before),
        faults=(*faults, *differing),
        notes=(*allowed, *_environment_notes(bundle)),
        values=tuple(_values(replayed)),
        micro=of_micro,
        others=others,
        drawn=drawn,
        kept_for=tuple(bundle.header["kept_for"]),
    )


def _values(one: Replayed) -> Iterator[Agreement]:
    """Every value that was computed again, against the bundle."""
    bundle, batch, advantages = one.bundle, one.learned.batch, one.learned.advantages
    within = WITHIN[str(bundle.settings["model"].get("precision", "fp32"))]
    rows = slice(one.first, one.first + len(one.trace.logprobs))

    def of_group(index: tuple[int, ...]) -> str:
        return f"problem {bundle.groups[index[0]].problem.id!r}, completion {index[1]}"

    def of_token(index: tuple[int, ...], first: int = 0) -> str:
        problem, completion = divmod(first + index[0], bundle.size)
        return f"{of_group((problem, completion))}, token {index[1]}"

    def tensor(
        what: str, logged: Tensor, again: Tensor, first: int | None = None, near_zero: float = NEAR_ZERO
    ) -> Agreement:
        place = of_group if first is None else lambda index: of_token(index, first)
        return of_tensors(what, logged, again, within=within, place=place, near_zero=near_zero)

    yield tensor("rewards", bundle.tensors["rewards"], batch.rewards)
    yield tensor("advantages", bundle.tensors["advantages"], advantages.values)
    old = bundle.columns("old_logprobs")
    assert old is not None
    source = "the sampler's" if bundle.header["old_logprobs"] == "engine" else "by the trainer"
    yield tensor(f"old log-probs ({source})", old.masked_fill(~batch.mask, 0.0), batch.old_logprobs, 0)
    tokens = max(1, int(batch.mask[rows].sum()))  # a weight in the loss may be an advantage over all of them
    for what, name, again, near_zero in (
        ("log-probs of the training pass", "logprobs", one.trace.logprobs, NEAR_ZERO),
        ("advantages of tokens", "token_advantages", one.trace.advantages, NEAR_ZERO),
        ("weights of tokens in the loss", "token_weights", one.trace.weights, NEAR_ZERO / tokens),
    ):
        logged = bundle.columns(name)
        if logged is None:
            logged = bundle.tensors["advantages"].flatten()[:, None].expand(batch.mask.shape)
        yield tensor(what, logged[rows], again, one.first, near_zero)
    yield of_numbers("loss", bundle.header["losses"][bundle.steps.index(one.step)], one.trace.loss, within=within)
    row = bundle.logged(one.step)
    for key in sorted(one.row, key=lambda key: (not key.startswith("policy/"), key)):
        by_sampling = key == "tokens/generated" or (row.get(key) is None and key.startswith(_OF_COMPLETIONS))
        if key in row and key != "step" and not by_sampling:
            near_zero = 0.0 if key == "policy/lr" else NEAR_ZERO
            yield of_numbers(key, row[key], one.row[key], within=within, near_zero=near_zero)
    if one.after is not None:
        changed = changed_weights(bundle.header["weights"]["after"], one.after)
        first = changed[0] if changed else ""
        yield Agreement(what="weights after the step", status="close" if changed else "equal", where=first)


def _bundle_faults(bundle: Bundle) -> list[str]:
    return [f"bundle {bundle.path.name}: {what} is not what was written" for what in bundle.faults]


def _weight_faults(one: Replayed) -> Iterator[str]:
    changed = changed_weights(one.bundle.header["weights"]["before"], one.before)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        yield f"weights before step {one.bundle.step}: not those of the run: {', '.join(changed[:3])}{more}"


def _token_faults(replaying: Replaying, bundle: Bundle) -> Iterator[str]:
    """Completions whose tokens no longer spell their text, where tokens are not what was written."""
    if not any("token_ids" in fault for fault in bundle.faults):
        return
    model = replaying.policy.model
    for group in bundle.groups:
        for index, completion in enumerate(group.completions):
            ends = completion.token_ids[-1:].tolist() if completion.finish == "stop" else []
            spelled = {model.decode(completion.token_ids), model.decode(completion.token_ids, ends)}
            if completion.text not in spelled:
                yield f"problem {group.problem.id!r}, completion {index}: its tokens do not spell its text"


def _settings_apart(bundle: Bundle, run: Path) -> tuple[list[str], list[str]]:
    """Settings that differ between the bundle and the run's config.yaml: those that change a step, and the others."""
    then, now = flat(bundle.settings), flat(read_yaml(run / "config.yaml"))
    keys = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    words = {
        key: f"{key}: {then.get(key, 'not set')} in the bundle, {now.get(key, 'not set')} in config.yaml"
        for key in keys
    }
    free = MAY_DIFFER | {"out"}
    free = free if then.get("optim.schedule") == "constant" else free - {"steps", "epochs"}
    bound = [key for key in keys if key.split(".")[0] not in free]
    faults = [f"setting {words[key]}" for key in bound]
    return faults, [f"setting {text}" for key, text in words.items() if key not in bound]


def _environment_notes(bundle: Bundle) -> Iterator[str]:
    then, now = bundle.header["made_with"], environment("cpu", 0) | {"processes": 1}
    for key in ("device", "processes", "threads", "python"):
        if key in then and then[key] != now[key]:
            yield f"{key}: {then.get(key)} then, {now[key]} here"
    for name, version in then.get("versions", {}).items():
        if now["versions"].get(name) != version:
            yield f"{name}: {version} then, {now['versions'].get(name)} here"


def _micro(
    replaying: Replaying, bundle: Bundle, learned: Learned, step: int, part: int, whole: StepTrace, number: int
) -> MicroReplay:
    if not 1 <= number <= len(whole.micros):
        raise ConfigError(
            f"--micro: step {step} has {len(whole.micros)} micro-batches (batch.micro_tokens), counted from 1; got {number}"
        )
    trace, metrics = replaying.step(learned, step, part, take=False, only=number - 1)
    first = replaying.first_of(part)
    values = learned.advantages.values.flatten()
    sequences = []
    for place in trace.micros[0].places:
        problem, index = divmod(first + place, bundle.size)
        group = bundle.groups[problem]
        sequences.append(
            {
                "problem": group.problem.id,
                "index": index,
                "status": group.verdicts[index].status,
                "advantage": float(values[first + place]),
                "tokens": len(group.completions[index].token_ids),
                "weight": float(trace.weights[place].abs().sum()),
            }
        )
    return MicroReplay(
        number=number,
        of=len(whole.micros),
        loss=trace.loss,
        grad_norm=float(metrics["policy/grad_norm"].value or 0.0),
        sequences=tuple(sequences),
    )


def kept(run: Path) -> Sequence[tuple[int, int | None, Sequence[str]]]:
    """Of each bundle its first step, the checkpoint it would be replayed from (None: it cannot be), and why it was kept."""
    if not run.is_dir():
        raise DataError(f"{run}: no such run directory")
    return [
        (first, None if route is None else route.done, read_header(bundle_path(run, first))["kept_for"])
        for first, route in routes(run).items()
    ]
