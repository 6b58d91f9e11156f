"""80/20: only the tokens of highest entropy train, and only they count in the mean.

    J over the ⌈0.2 · tokens⌉ tokens with the largest entropy H_t of the current policy, all tokens of the step being ranked
    together

The released code ranks the tokens of each micro-batch (`pool: micro`) and has DAPO's dual clip. The other tokens leave the
divisor as well: without that the step would silently be five times smaller. A KL penalty or an entropy bonus (neither is in
the paper or its runs) acts on all tokens, as in the released code.

Source: arXiv:2506.01939; Shenzhi-Wang/Beyond-the-80-20-Rule-RLVR@6f5dda6 core_algos.py.
Evidence: code.
Reproduce: the defaults (DAPO's clip, token mean); `preset: released` for the code's pools and its dual clip.
"""

from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import How
from progrpo.methods._pools import top_share

NEEDS = frozenset({"entropies", "refresh"})
PRESETS = {"released": {"pool": "micro", "dual_clip": 10.0}}


class Params(methods.Params):
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "token"
    fraction: float = Field(0.2, gt=0, le=1)
    """Share of the tokens that train; 1 trains on all."""
    pool: methods.Pool = "step"
    """Over which tokens the statistic is taken: all of the optimiser step, or those of a micro-batch, as some code does."""


def pool(params: Params) -> methods.Pool:
    return params.pool


def reweight(step: methods.StepBatch, params: Params) -> methods.Reweighted:
    entropies = step.entropies
    if entropies is None:
        return methods.Reweighted()

    def top(mask: Tensor) -> Tensor:
        return top_share(entropies, mask, params.fraction, at_least=1, rounding="ceil")

    return methods.Reweighted(keep=step.per_pool(top))
