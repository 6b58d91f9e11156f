"""The shift of one sequence of prime-rl: all that a loss of prime-rl sees is this sequence, prompt included."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.settings import Choice
from progrpo.types import RolloutBatch

_BASELINES = ("prompt", "one_minus_prompt", "one", "none")
"""Baselines that need no other completion of the group."""


def settings_of(two_rewards: bool, **params: Any) -> Any:
    """The settings of method `progrpo` as far as a loss of one sequence can honour them.

    Args:
        two_rewards: the user's word that rewards have two values, so that an advantage of 0 is that of a group that is all
            correct or all incorrect, and one above 0 that of a correct completion.

    Raises:
        ConfigError: naming the setting that needs the group, and the remedy.
    """
    if idle := sorted(params.keys() & methods.Params.model_fields.keys()):
        raise ConfigError(
            f"{', '.join(idle)}: advantages and loss are prime-rl's; set them there, and here the shift alone"
        )
    chosen = methods.load(Choice(name="progrpo", **params)).params
    if chosen.baseline not in _BASELINES:
        raise ConfigError(
            f"baseline={chosen.baseline!r} needs all completions of the group, and a loss of prime-rl sees one; expected one "
            f"of {', '.join(_BASELINES)}"
        )
    if chosen.low_by == "entropy":
        raise ConfigError("low_by='entropy': prime-rl hands its loss no entropies; take low_by='prob'")
    if chosen.skip == "all_wrong":
        raise ConfigError(
            "skip='all_wrong': a loss of prime-rl cannot tell all wrong from all correct; 'degenerate' or 'never'"
        )
    if (chosen.skip == "degenerate" or chosen.apply_to != "all") and not two_rewards:
        raise ConfigError(
            f"skip={chosen.skip!r}, apply_to={chosen.apply_to!r}: a loss of prime-rl sees no group: an advantage of 0 has "
            "to stand for one that is all correct or all incorrect, and its sign for the verdict; that is right where rewards "
            "have two values: say so with two_rewards=true, or set skip='never', apply_to='all'"
        )
    return chosen


def shifted_advantages(
    logprobs: Float[Tensor, " seq"], advantages: Float[Tensor, " seq"], mask: Bool[Tensor, " seq"], params: Any
) -> Float[Tensor, " seq"]:
    """Advantages with the shift added, on the tokens that are trained on.

    Args:
        logprobs: of each token itself under the policy as it is, prompt and completion; the first says nothing.
        advantages: prime-rl's, the same for all tokens of the sequence. mask: the model's own tokens that are trained on.
        params: from `settings_of`.

    Returns:
        float32 without gradient. The prompt is the run of tokens before the first of `mask`; later gaps are an environment's.
    """
    values = advantages.detach().float()
    trained = mask.nonzero()[:, 0]
    if not len(trained):
        return values
    plain = values[trained[0]]
    if params.skip == "degenerate" and plain == 0:
        return values
    first = int(trained[0])
    prompt = torch.zeros_like(mask)
    prompt[1:first] = True
    correct = (plain > 0)[None, None]
    batch = RolloutBatch(
        rewards=plain.new_zeros(1, 1),
        correct=correct,
        truncated=torch.zeros_like(correct),
        lengths=mask.sum()[None, None],
        mask=mask[None],
        old_logprobs=logprobs.detach().float()[None],
        prompt_logprobs=logprobs.detach().float()[None],
        prompt_mask=prompt[None],
    )
    alone = params.model_copy(update={"skip": "never"})
    module = methods.load(Choice(name="progrpo")).module
    total = module.add_to(plain[None, None], batch, alone).values[0, 0]
    return torch.where(mask, total, values)
