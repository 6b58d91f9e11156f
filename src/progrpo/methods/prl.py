"""PRL, second-hand: what the policy has drifted from its start, token by token, comes off the advantage.

    A_t = A_i − 1/η Σ_{s >= e(t)} (log π_old,s − log π_ref,s),   e(t) the last token of the step that t belongs to

Steps are `step_tokens` tokens long, the last may be shorter; the paper's steps that end with a line are not here. It is the
return of a KL-regularised objective, so that a token pays for what its completion goes on to do. A completion without a verdict
has no advantage.

Source: arXiv:2601.10201.
Evidence: second-hand: the formula and its constants are those of notes on the released code, which could not be had; whether
the sum begins with the step's last token, as here, or after it, they do not say.
Reproduce: eta=100 for Qwen2.5-Math-7B, 200 for Llama-3B; step_tokens 64 or 256; a group of 5.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.types import RolloutBatch

NEEDS = frozenset({"ref_logprobs"})
TOKEN_LEVEL = True


class Params(methods.Params):
    eta: float = Field(100.0, gt=0)
    """η, nats of drift that cost an advantage of 1."""
    step_tokens: int = Field(256, ge=1)
    """Tokens of a step; 1 gives each token its own sum."""


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = methods.base_advantages(batch, params)
    per_token = values.flatten()[:, None].expand(batch.mask.shape)  # [N, S]
    tokens = per_token - _drift(batch, params) / params.eta
    tokens = torch.where(batch.judged.flatten()[:, None], tokens, 0.0)
    return methods.Advantages(values=values, tokens=tokens.masked_fill(~batch.mask, 0.0))


def _drift(batch: RolloutBatch, params: Params) -> Float[Tensor, "N S"]:
    """The sum from the end of each token's step on."""
    assert batch.ref_logprobs is not None
    each = (batch.old_logprobs - batch.ref_logprobs).double().masked_fill(~batch.mask, 0.0)
    from_here = each.flip(1).cumsum(dim=1).flip(1)
    columns = torch.arange(batch.mask.shape[1])
    ends = (columns // params.step_tokens + 1) * params.step_tokens - 1  # [S]
    last = batch.mask.sum(dim=1, keepdim=True).clamp(min=1) - 1  # [N, 1]
    return from_here.gather(1, torch.minimum(ends.expand(batch.mask.shape), last)).float()
