"""DAPO: GRPO advantages, clip-higher, token mean over each group, dynamic sampling, soft overlong penalty.

    ratio in [1 − 0.2, 1 + 0.28];  J = 1/P Σ_p 1/(tokens of the group) Σ_i Σ_t J_it       (Eq. 8)
    only groups with 0 < correct < G train: more problems are sampled until P groups are, at most `max_rounds` times
    R ← R + f(n),  f(n) = 0 to limit − buffer, then (limit − buffer − n)/buffer, −1 beyond the limit      (Eq. 13)

verl's recipe, with which the paper's model was trained, pools the tokens of the whole step instead and bounds what a
negative advantage can count (aggregate=token, dual_clip=10: neither is in the paper). The reward of the paper is +1/−1
(reward.name=dapo_math), of which the advantages see nothing but the constant eps.

Source: arXiv:2503.14476, Eq. 8 and 13; verl-recipe dapo/ for max_rounds.
Evidence: paper, and code for max_rounds and the preset.
Reproduce: max_rounds=10 and limit_tokens=20480, buffer_tokens=4096; `preset: released` for the recipe's script. The defaults
are the loss alone, so that methods can be compared on equal rollouts.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.methods._sampling import in_rounds, in_words, kept_of_rounds, mixed
from progrpo.types import RolloutBatch

PRESETS = {
    "released": {
        "aggregate": "token",
        "dual_clip": 10.0,
        "max_rounds": 10,
        "limit_tokens": 20480,
        "buffer_tokens": 4096,
    }
}


class Params(methods.Params):
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "group_token"
    max_rounds: int = Field(1, ge=1)
    """Rollouts that may be made for one batch of mixed groups; 1 samples once and trains on what came. What is missing
    after the last is filled up with groups that are not mixed, and these are not trained on; rollout/rounds counts."""
    limit_tokens: int | None = Field(None, gt=0)
    """Longest completion without the full overlong penalty, in tokens; None for no penalty."""
    buffer_tokens: int | None = Field(None, gt=0)
    """The penalty sets in so many tokens before the limit."""

    @model_validator(mode="after")
    def _both(self) -> "Params":
        if (self.limit_tokens is None) != (self.buffer_tokens is None):
            raise ValueError("limit_tokens and buffer_tokens: give both or neither")
        if self.limit_tokens is not None and self.buffer_tokens is not None and self.buffer_tokens > self.limit_tokens:
            raise ValueError(f"buffer_tokens={self.buffer_tokens} exceeds limit_tokens={self.limit_tokens}")
        return self


def rounds(params: Params) -> int:
    return params.max_rounds


def samples(params: Params) -> str | None:
    return in_words(params.max_rounds)


def sample(problems: methods.Problems, generate: methods.Generate, params: Params) -> methods.SampledGroups:
    return in_rounds(problems, generate, rounds=params.max_rounds, wanted=mixed(generate))


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    """With dynamic sampling mixed groups alone: the overlong penalty gives the others advantages, too."""
    return kept_of_rounds(batch, params.max_rounds)


def shape_reward(batch: RolloutBatch, params: Params) -> Tensor:
    if params.limit_tokens is None or params.buffer_tokens is None:
        return batch.rewards
    ramp = (params.limit_tokens - params.buffer_tokens - batch.lengths).float() / params.buffer_tokens
    penalty = ramp.clamp(-1.0, 0.0)
    return batch.rewards + torch.where(batch.lengths > params.limit_tokens, -1.0, penalty)
