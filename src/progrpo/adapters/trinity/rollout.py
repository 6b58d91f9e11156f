"""Trinity's experiences as the methods see them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from progrpo.adapters._hosted import HostLimits, Loss, choose
from progrpo.adapters._rows import HostRows, RowAdvantages, advantages_of
from progrpo.errors import ConfigError
from progrpo.methods import Method

LIMITS = HostLimits(name="Trinity-RFT")


def method_of(spec: Mapping[str, Any]) -> tuple[Method, float]:
    """The method and the reward above which a completion is correct.

    Raises:
        ConfigError: Trinity cannot honour it. Settings of the loss are Trinity's policy_loss_fn_args and refused here.
    """
    spec = dict(spec)
    above = float(spec.pop("correct_above", 0.0))
    return choose(LIMITS, spec, Loss()), above


def experience_advantages(method: Method, experiences: Sequence[Any], *, above: float) -> RowAdvantages:
    """The advantages of a batch of experiences, in their order.

    Raises:
        ConfigError: a run has several steps, or an experience no log-probs or no reward.
    """
    runs = [experience.eid.rid for experience in experiences]
    if len(set(runs)) != len(runs):
        raise ConfigError(
            "several experiences share a run: the adapter knows one experience of each run; workflows of several steps need "
            "Trinity's step_wise_grpo"
        )
    longest = max((_length(experience) for experience in experiences), default=1)
    shape = (len(experiences), max(1, longest))
    mask, logprobs = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape)
    for number, experience in enumerate(experiences):
        if experience.logprobs is None or experience.reward is None:
            raise ConfigError(
                f"experience {experience.eid.rid}: no log-probs or no reward, which the method computes from"
            )
        count = _length(experience)
        mask[number, :count] = _mask(experience).bool()
        logprobs[number, :count] = experience.logprobs.detach().float().cpu()[:count]
    rows = HostRows(
        groups=[experience.eid.tid for experience in experiences],
        rewards=torch.tensor([float(experience.reward) for experience in experiences]),
        correct_above=above,
        mask=mask,
        logprobs=logprobs,
    )
    return advantages_of(method, rows)


def _length(experience: Any) -> int:
    return len(_mask(experience))


def _mask(experience: Any) -> Tensor:
    """[T] of the response: what the model said itself."""
    if experience.action_mask is not None:
        mask: Tensor = experience.action_mask.detach().cpu()
        return mask
    return torch.ones(len(experience.tokens) - experience.prompt_length, dtype=torch.bool)
