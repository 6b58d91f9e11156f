"""PRL, second-hand: what the policy has drifted from its start, token by token, comes off the advantage.

    A_t = A_i − 1/η Σ_{s >= e(t)} (log π_old,s − log π_ref,s),   e(t) the last token of the step that t belongs to

Steps are `step_tokens` tokens long, the last may be shorter, or lines (`steps: lines`; a token with a line break ends one,
blank tokens after it are its own). It is the return of a KL-regularised objective, so that a token pays for what its completion
goes on to do. A completion without a verdict has no advantage.

Source: arXiv:2601.10201.
Evidence: second-hand: the formula and its constants are those of notes on the released code, which could not be had; whether
the sum begins with the step's last token, as here, or after it, they do not say.
Reproduce: eta=100 for Qwen2.5-Math-7B, 200 for Llama-3B; step_tokens 64 or 256; a group of 5.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.methods._texts import line_steps
from progrpo.types import RolloutBatch

TOKEN_LEVEL = True


class Params(methods.Params):
    eta: float = Field(100.0, gt=0)
    """η, nats of drift that cost an advantage of 1."""
    step_tokens: int = Field(256, ge=1)
    """Tokens of a step; 1 gives each token its own sum."""
    steps: Literal["tokens", "lines"] = "tokens"
    """What a step is: so many tokens, or a line."""


def needs(params: Params) -> frozenset[str]:
    return frozenset({"ref_logprobs"} | ({"token_texts"} if params.steps == "lines" else set()))


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
    last = batch.mask.sum(dim=1, keepdim=True).clamp(min=1) - 1  # [N, 1]
    ends = _line_ends(batch) if params.steps == "lines" else _even_ends(batch, params.step_tokens)
    return from_here.gather(1, torch.minimum(ends, last)).float()


def _even_ends(batch: RolloutBatch, size: int) -> Int[Tensor, "N S"]:
    """The last token of each token's step, as if completions went on."""
    columns = torch.arange(batch.mask.shape[1])
    return ((columns // size + 1) * size - 1).expand(batch.mask.shape)


def _line_ends(batch: RolloutBatch) -> Int[Tensor, "N S"]:
    """The last token of each token's line; behind the last token the last column."""
    width = batch.mask.shape[1]
    steps = line_steps(batch.token_texts, width)
    rising = steps.masked_fill(steps < 0, width)  # no completion has as many lines
    return torch.searchsorted(rising, rising, right=True) - 1
