"""What the shift of each variant would do to a model's advantages, from one sampling of the model before any training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from progrpo import methods
from progrpo.algo.confidence import sequence_log_confidence, sequence_logprob
from progrpo.algo.reweight import correlation_within_groups, shift_share
from progrpo.settings import Choice
from progrpo.types import RolloutBatch, WeightedMean


def _progrpo(**settings: Any) -> Choice:
    return Choice(name="progrpo", **settings)


VARIANTS: Mapping[str, Choice] = {
    "progrpo paper": _progrpo(preset="paper"),
    "progrpo theory": _progrpo(preset="theory"),
    "progrpo equilibrium": _progrpo(preset="equilibrium"),
    "progrpo balanced": _progrpo(preset="balanced"),
    "progrpo balanced, log_prob": _progrpo(preset="balanced", score="log_prob"),
    "ucpo": Choice(name="ucpo"),
    "unlikeliness": Choice(name="unlikeliness"),
}
"""What is compared, by its label: a method with its settings, each at its own default strength."""

TARGETS = (0.1, 0.2, 0.4)
"""Shares of the advantage for which alpha is told."""
COMPARED = 0.2
"""The share at which sign flips are told for all variants."""

_ROUNDING = 1e-6
"""A share below this is float32's rounding of advantages of order 1: the shift is the same for a whole group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What a variant makes of GRPO's advantages at one strength.

    Attributes:
        alpha: None for a variant that has none.
        share: sum |shift - its group's mean| over sum |A|, >= 0; None where all A are 0.
        size: mean |shift - its group's mean| over the judged completions, in units of A; None without any.
        sign_flips: share of the advantages other than 0 whose sign turns; None where there are none.
        negative_correct: share of the correct completions with a negative advantage; None without correct ones.
    """

    alpha: float | None
    share: float | None
    size: float | None
    sign_flips: float | None
    negative_correct: float | None

    @property
    def acts(self) -> bool:
        """Whether the shift tells completions of any group apart, beyond rounding."""
        return (self.size or 0.0) > _ROUNDING and (self.share is None or self.share > _ROUNDING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A variant at its default, and at the strengths that give it a set share of the advantage.

    Attributes:
        settings: method and settings, as a recipe's `method` would have them.
        alphas: by share; empty where the variant has no alpha, or no alpha gives it a share.
        compared: at the alpha for `COMPARED`; None without it.
    """

    label: str
    settings: Mapping[str, Any]
    default: Effect
    alphas: Mapping[float, float]
    compared: Effect | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the sampled groups are like; None where there is nothing to take a mean of.

    Attributes:
        group: G. judged, correct: completions. truncated: completions cut at the length limit.
        mixed, all_correct, all_incorrect, unjudged: groups by the verdicts there are.
        c_prompt: mean c(q) over problems. c_correct, c_incorrect: mean c(o).
        spread, spread_mixed: of c(o): mean |c(o) - its group's mean|, over all groups and over the mixed ones.
        log_spread: likewise of log c(o) among the correct completions of each group.
        length_correlation: of log-probability and length, likewise among the correct; in [-1, 1].
    """

    problems: int
    group: int
    judged: int
    correct: int
    truncated: int
    mixed: int
    all_correct: int
    all_incorrect: int
    unjudged: int
    c_prompt: float | None
    c_correct: float | None
    c_incorrect: float | None
    spread: float | None
    spread_mixed: float | None
    log_spread: float | None
    length_correlation: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """All of it.

    Attributes:
        correct, incorrect: c(o) of each judged completion. prompts: c(q) of each problem.
    """

    facts: Facts
    variants: tuple[Variant, ...]
    correct: tuple[float, ...]
    incorrect: tuple[float, ...]
    prompts: tuple[float, ...]


def needs() -> frozenset[str]:
    """The tensors of a rollout batch that the variants read beyond log-probs."""
    return frozenset[str]().union(*(methods.load(choice).needs for choice in VARIANTS.values()))


def measure(batch: RolloutBatch) -> Measured:
    """Apply every variant to the batch as training would, and say what the groups are like."""
    columns = methods.load(VARIANTS["progrpo paper"]).advantages(batch).columns
    completion, prompt = columns["confidence"], columns["prompt_confidence"][:, 0]
    known = batch.judged & completion.isfinite()
    return Measured(
        facts=_facts(batch, completion, prompt),
        variants=tuple(variant(label, choice, batch) for label, choice in VARIANTS.items()),
        correct=tuple(completion[known & batch.correct].tolist()),
        incorrect=tuple(completion[known & ~batch.correct].tolist()),
        prompts=tuple(prompt[prompt.isfinite()].tolist()),
    )


def variant(label: str, choice: Choice, batch: RolloutBatch) -> Variant:
    """One variant's effect at its default and at other strengths.

    The shift of a method with an alpha is alpha times something that does not depend on it: so is its share.
    """
    default = effect(choice, batch)
    alphas: dict[float, float] = {}
    if default.alpha and default.share and default.acts:
        alphas = {target: default.alpha * target / default.share for target in TARGETS}
    compared = effect(with_alpha(choice, alphas[COMPARED]), batch) if alphas else None
    return Variant(label=label, settings=choice.model_dump(), default=default, alphas=alphas, compared=compared)


def with_alpha(choice: Choice, alpha: float) -> Choice:
    return Choice(**{**choice.model_dump(), "alpha": alpha})


def effect(choice: Choice, batch: RolloutBatch) -> Effect:
    """What a method adds to the advantages of GRPO with the same normalisation."""
    method = methods.load(choice)
    same = {key: getattr(method.params, key) for key in ("scale", "ddof", "eps")}
    plain = methods.load(Choice(name="grpo", **same)).advantages(batch).values
    values = method.advantages(batch).values
    within, total = shift_share(plain, values - plain, batch.judged)
    right, signed = batch.correct & batch.judged, plain != 0
    return Effect(
        alpha=getattr(method.params, "alpha", None),
        share=WeightedMean(within, total).value,
        size=WeightedMean(within, float(batch.judged.sum())).value,
        sign_flips=_share_of(plain * values < 0, signed),
        negative_correct=_share_of(values < 0, right),
    )


def _facts(batch: RolloutBatch, completion: Tensor, prompt: Tensor) -> Facts:
    judged = batch.judged
    right, wrong = batch.correct & judged, ~batch.correct & judged
    mixed = right.any(dim=1) & wrong.any(dim=1)  # [P]
    shape = batch.rewards.shape
    log_c = sequence_log_confidence(batch.old_logprobs, batch.mask).view(shape)
    logprob = sequence_logprob(batch.old_logprobs, batch.mask).view(shape)
    correlation, compared = correlation_within_groups(logprob, batch.lengths, right & logprob.isfinite())
    return Facts(
        problems=shape[0],
        group=shape[1],
        judged=int(judged.sum()),
        correct=int(right.sum()),
        truncated=int(batch.truncated.sum()),
        mixed=int(mixed.sum()),
        all_correct=int((right.any(dim=1) & ~wrong.any(dim=1)).sum()),
        all_incorrect=int((wrong.any(dim=1) & ~right.any(dim=1)).sum()),
        unjudged=int((~judged.any(dim=1)).sum()),
        c_prompt=_mean(prompt, torch.ones_like(prompt, dtype=torch.bool)),
        c_correct=_mean(completion, right),
        c_incorrect=_mean(completion, wrong),
        spread=_spread(completion, judged),
        spread_mixed=_spread(completion, judged & mixed[:, None]),
        log_spread=_spread(log_c, right),
        length_correlation=correlation if compared else None,
    )


def _mean(values: Tensor, among: Tensor) -> float | None:
    known = values[among & values.isfinite()].double()
    return WeightedMean(float(known.sum()), float(known.numel())).value


def _spread(values: Tensor, among: Tensor) -> float | None:
    """Mean |value - its group's mean| over the groups with two or more `among`."""
    among = among & values.isfinite()
    among = among & (among.sum(dim=1, keepdim=True) >= 2)
    return WeightedMean(shift_share(values, values, among)[0], float(among.sum())).value


def _share_of(values: Tensor, among: Tensor) -> float | None:
    return WeightedMean(float((values & among).sum()), float(among.sum())).value
