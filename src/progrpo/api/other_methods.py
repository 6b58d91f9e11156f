"""What other methods would have done in a step of a run: the same completions, the same weights before it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progrpo.errors import ConfigError
from progrpo.evaluate.score import ScoredCompletion, ScoredMethod, Scoring, least_certain
from progrpo.files import finite_or_none
from progrpo.methods import Method
from progrpo.rollout.bundle import Bundle
from progrpo.rows import read_results
from progrpo.train.old_logprobs import TRAINER_ALONE
from progrpo.train.policy import Policy
from progrpo.train.replay import Learned, Replaying, make_policy, make_reference
from progrpo.train.rows import TokenRows
from progrpo.train.trace import StepTrace
from progrpo.types import WeightedMean

_ANSWERS = 64
"""Most held-out correct answers whose log-probs are measured: the first of each problem."""
_METRICS = {
    "policy/objective": "objective",
    "policy/grad_norm": "gradient norm",
    "policy/predicted_entropy_change": "predicted entropy change",
    "policy/trained_share": "trained share",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEffect:
    """What a step by one method did: means after it minus means before.

    Attributes:
        entropy: over the tokens of the rollout's completions, in nats.
        held_out: log-prob of a held-out correct answer, in nats; None without held-out correct answers.
    """

    entropy: float
    held_out: float | None


@dataclass(frozen=True, kw_only=True)
class Other:
    """Several methods on the same step, the run's own first.

    Attributes:
        scoring: advantages, and the weight of each token in the loss, of the step's completions.
        metrics: of each method, by name; cosines: of its gradient with that of the run's own (None where one is 0).
        effects: of each method's step; () where none was taken. entropy, held_out, answers: before, and of how many answers.
    """

    scoring: Scoring
    metrics: tuple[Mapping[str, float | None], ...]
    cosines: tuple[float | None, ...]
    effects: tuple[StepEffect, ...] = ()
    entropy: float | None = None
    held_out: float | None = None
    answers: int = 0
    answers_from: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Applied:
    """A method on the step: with what policy (its optimiser and net), and what came of it."""

    method: Method
    policy: Policy
    learned: Learned
    trace: StepTrace
    metrics: Mapping[str, WeightedMean]
    gradient: Tensor


def apply_others(
    replaying: Replaying,
    bundle: Bundle,
    learned: Learned,
    step: int,
    own: StepTrace,
    of_step: Mapping[str, WeightedMean],
    others: Mapping[str, Method],
    run: Path,
    *,
    step_too: bool,
) -> Other:
    """Apply each method to the rollout; the weights are afterwards what they were.

    Args:
        learned, own, of_step: of the run's own method, whose gradient is at hand. others: by label.

    Raises:
        ConfigError: a label is that of the run's own method.
    """
    label = "the run's"
    if label in others:
        raise ConfigError(f"--method: {label!r} is the run's own method; take another label")
    part = bundle.steps.index(step)
    applied = {
        label: _Applied(
            method=replaying.method,
            policy=replaying.policy,
            learned=learned,
            trace=own,
            metrics=of_step,
            gradient=_gradient(replaying.policy),
        )
    }
    notes: dict[str, tuple[str, ...]] = {label: ()}
    for name, method in others.items():
        applied[name], notes[name] = _apply(replaying, bundle, method, step, part)
    made = Other(
        scoring=_scoring(replaying, bundle, applied, notes, part),
        metrics=tuple(
            {words: one.metrics[key].value for key, words in _METRICS.items() if key in one.metrics}
            for one in applied.values()
        ),
        cosines=tuple(_cosine(applied[label].gradient, one.gradient) for one in applied.values()),
    )
    return _with_effects(made, replaying, bundle, list(applied.values()), step, part, run) if step_too else made


def _apply(
    replaying: Replaying, bundle: Bundle, method: Method, step: int, part: int
) -> tuple[_Applied, tuple[str, ...]]:
    settings, notes = replaying.settings, []
    policy = replaying.policy
    method.state.clear()
    torch.manual_seed(settings.seed)
    if method.make_net(1) is not None or replaying.policy.net is not None:
        policy = make_policy(settings, method, replaying.policy.model)
        notes.append("its net and its optimiser begin anew" if policy.net is not None else "its optimiser begins anew")
    needed = {"entropies", "entropy_gradients", "prompt_logprobs"} & method.needs
    there = {"prompt_logprobs"} if all(group.prompt_logprobs is not None for group in bundle.groups) else set()
    there |= needed & bundle.tensors.keys()
    engine = bundle.header["old_logprobs"] == "engine" and method.needs.isdisjoint(TRAINER_ALONE) and needed <= there
    if bundle.header["old_logprobs"] == "engine" and not engine:
        notes.append(
            "its old log-probs are of a pass of the trainer: the bundle lacks what it needs beside the engine's"
        )
    if method.samples is not None:
        notes.append("it would have sampled other completions; here are those of the run")
    learned = replaying.learned_by(method, policy, make_reference(settings, method, policy), bundle, engine=engine)
    trace, metrics = replaying.step(learned, step, part, method=method, policy=policy, take=False)
    applied = _Applied(
        method=method, policy=policy, learned=learned, trace=trace, metrics=metrics, gradient=_gradient(policy)
    )
    return applied, tuple(notes)


def _scoring(
    replaying: Replaying,
    bundle: Bundle,
    applied: Mapping[str, _Applied],
    notes: Mapping[str, tuple[str, ...]],
    part: int,
) -> Scoring:
    """The completions of the step as `progrpo score` has them."""
    first, groups, size = replaying.first_of(part), bundle.groups, bundle.size
    count = len(next(iter(applied.values())).trace.weights)
    lengths = bundle.tensors["lengths"]
    tokens = int(lengths[first : first + count].sum())
    confidence, low = least_certain(groups)
    values = [one.learned.advantages.values.flatten() for one in applied.values()]
    completions = []
    for n in range(first, first + count):
        group, index, length = groups[n // size], n % size, int(lengths[n])
        completions.append(
            ScoredCompletion(
                group=n // size,
                file=str(bundle.path),
                index=index,
                problem=group.problem,
                completion=group.completions[index],
                verdict=group.verdicts[index],
                advantages=tuple(float(one[n]) for one in values),
                weights=tuple(one.trace.weights[n - first, :length] * tokens for one in applied.values()),
                entropy_changes=None,
                confidence=finite_or_none(float(confidence[n])),
                recorded=float(bundle.tensors["advantages"].flatten()[n]),
                low=low[n, :length],
            )
        )
    return Scoring(
        methods=tuple(
            ScoredMethod(
                label=label,
                name=one.method.name,
                settings=one.method.params.model_dump(mode="json"),
                notes=notes[label],
            )
            for label, one in applied.items()
        ),
        completions=tuple(completions),
        files=(str(bundle.path),),
    )


def _with_effects(
    made: Other,
    replaying: Replaying,
    bundle: Bundle,
    applied: Sequence[_Applied],
    step: int,
    part: int,
    run: Path,
) -> Other:
    answers, source = _held_out(replaying, bundle, run)
    model = replaying.policy.model.model
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    entropy, held_out = _measured(replaying, applied[0].learned, answers)
    effects = []
    for one in applied:
        optimiser = copy.deepcopy(one.policy.state_dict())
        replaying.step(one.learned, step, part, method=one.method, policy=one.policy)
        after, answer = _measured(replaying, applied[0].learned, answers)
        change = None if answer is None or held_out is None else answer - held_out
        effects.append(StepEffect(entropy=after - entropy, held_out=change))
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(weights[name])
        one.policy.load_state_dict(optimiser, shards=run)
    return replace(
        made,
        effects=tuple(effects),
        entropy=entropy,
        held_out=held_out,
        answers=0 if answers is None else len(answers.completions),
        answers_from=source,
    )


def _measured(replaying: Replaying, learned: Learned, answers: TokenRows | None) -> tuple[float, float | None]:
    """Mean entropy over the rollout's trained tokens; mean log-prob of an answer. With the weights as they are now."""
    policy, budget = replaying.policy, replaying.settings.batch.micro_tokens
    mask = learned.batch.mask
    scores = policy.score(
        learned.rows, torch.arange(len(mask)), columns=mask.shape[1], budget=budget, entropies=True, prompts=False
    )
    assert scores.entropies is not None
    entropy = float(scores.entropies[mask].double().mean())
    if answers is None:
        return entropy, None
    columns = max(len(one) for one in answers.completions)
    index = torch.arange(len(answers.completions))
    known = policy.score(answers, index, columns=columns, budget=budget, entropies=False, prompts=False)
    return entropy, float(known.logprobs.double().sum(dim=1).mean())


def _held_out(replaying: Replaying, bundle: Bundle, run: Path) -> tuple[TokenRows | None, str]:
    """The first correct completion of each held-out problem, in the run's last evaluation before the step (else its first)."""
    files = {int(path.stem.removeprefix("step-")): path for path in sorted((run / "evaluations").glob("step-*.jsonl"))}
    if not files:
        return None, ""
    step = max((one for one in files if one < bundle.step), default=min(files))
    model = replaying.policy.model
    prompts: list[Tensor] = []
    completions: list[Tensor] = []
    for _, result in read_results(files[step]):
        sample = next((one for one in result.samples if one.correct and one.text), None)
        if sample is None or len(completions) == _ANSWERS:
            continue
        ids = model.tokenizer(sample.text, add_special_tokens=False)["input_ids"]
        ends = (
            [model.tokenizer.eos_token_id]
            if sample.finish == "stop" and model.tokenizer.eos_token_id is not None
            else []
        )
        prompts.append(model.encode_prompt(result.prompt))
        completions.append(torch.tensor([*ids, *ends]))
    if not completions:
        return None, ""
    return TokenRows(prompts=tuple(prompts), completions=tuple(completions), group=1), f"evaluations/{files[step].name}"


def _gradient(policy: Policy) -> Tensor:
    parts = [one.grad.detach().flatten() for one in policy.parameters if one.grad is not None]
    return torch.cat(parts) if parts else torch.zeros(1)


def _cosine(one: Tensor, two: Tensor) -> float | None:
    size = float(one.double().norm() * two.double().norm())
    return float(one.double() @ two.double()) / size if size else None


def as_numbers(one: Other) -> dict[str, Any]:
    """For --json: of each method its metrics, and what its step did."""
    methods = {}
    for place, method in enumerate(one.scoring.methods):
        facts: dict[str, Any] = {"name": method.name, **one.metrics[place], "gradient_cosine": one.cosines[place]}
        if one.effects:
            facts |= {"entropy_change": one.effects[place].entropy, "held_out_change": one.effects[place].held_out}
        facts["advantages"] = [completion.advantages[place] for completion in one.scoring.completions]
        methods[method.label] = facts | {"notes": list(method.notes)}
    before = {"entropy": one.entropy, "held_out": one.held_out, "answers": one.answers, "from": one.answers_from}
    return {"methods": methods} | ({"before": before} if one.effects else {})
