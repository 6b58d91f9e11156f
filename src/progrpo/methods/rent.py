"""RENT: the reward is the policy's own certainty, without labels.

    R = −1/|o| Σ_t H_t,   then GRPO

H is the entropy of the policy that sampled. A control of the opposite sign to ProGRPO; verdicts play no part. The paper has
GRPO's loss, a mean over the tokens of each completion and then over completions (the default); its released code is verl's
with its defaults, a mean over all tokens (aggregate=token) and the dual clip at 3: `preset: released`. Its format gate (a
completion without an answer counts as entropy 7) is not hosted.

Source: arXiv:2505.22660; satrams/rent-rl@5d4d38a ray_trainer.py.
Evidence: code.
Reproduce: `preset: released`, group of 5, k3 penalty 0.001 (the default here), optim.lr=1e-6.
"""

from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.types import RolloutBatch

NEEDS = frozenset({"entropies"})
PRESETS = {"released": {"aggregate": "token", "dual_clip": 3.0}}


class Params(methods.Params):
    kl_coef: float = Field(0.001, ge=0)


def shape_reward(batch: RolloutBatch, params: Params) -> Tensor:
    if batch.entropies is None:
        return batch.rewards
    total = (batch.entropies.float() * batch.mask).sum(dim=1)
    return -(total / batch.mask.sum(dim=1).clamp(min=1)).view(batch.rewards.shape)
