"""PPO: a learned value of each prefix in place of the group's mean, advantages by GAE, clipped surrogate.

    δ_t = r_t + γ V(s_{t+1}) − V(s_t),   A_t = Σ_l (γλ)^l δ_{t+l},   J = 1/|o| Σ_t min(ρ_t A_t, clip(ρ_t) A_t)
    L_V = 1/2 · max((V − R)², (clip(V, V_old ± c) − R)²),   R = A + V_old

The reward arrives at the last token. V is a linear head on the policy's last hidden state; no gradient of L_V reaches
the policy unless `shared`. Released PPO trains a critic of the policy's own size (verl), which this is not.

Source: arXiv:1707.06347, Eq. 7 and 9; GAE arXiv:1506.02438, Eq. 16; arXiv:2602.05281, Eq. 2.
Evidence: paper, and code for the constants (verl trainer/config).
Reproduce: the defaults are verl's in γ = λ = 1, the value clip of 0.5, advantages whitened over the batch and the critic's
learning rate of ten times the policy's; not in the mean over tokens, which is Eq. 2's within each completion, and without
its dual clip: `preset: verl` has both.
"""

import torch
from pydantic import Field
from torch import Tensor

from progrpo import methods
from progrpo.algo.aggregate import weighted_sum
from progrpo.algo.gae import generalised_advantages
from progrpo.types import RolloutBatch, WeightedMean

NEEDS = frozenset({"values", "token_states"})
TOKEN_LEVEL = True
PRESETS = {"verl": {"aggregate": "token", "dual_clip": 3.0}}


class Params(methods.Params):
    gamma: float = Field(1.0, ge=0, le=1)
    """Discount per token."""
    lam: float = Field(1.0, ge=0, le=1)
    """λ of GAE: 1 is the return minus the value, 0 the one-step difference."""
    whiten: bool = True
    """Centre the advantages on the rollout's mean over tokens and divide by their standard deviation."""
    value_coef: float = Field(0.5, ge=0)
    """Weight of the value loss beside the objective."""
    value_clip: float = Field(0.5, gt=0)
    """c: how far the value may move from that of the rollout before its gradient stops, in units of the reward."""
    shared: bool = False
    """Let the value loss train the policy's own layers, too."""
    net_lr_factor: float = Field(10.0, gt=0)
    """Learning rate of the value head in units of optim.lr."""


def net_lr_factor(params: Params) -> float:
    return params.net_lr_factor


def net(width: int, params: Params) -> torch.nn.Module:
    """V: hidden states [n, D] -> values [n], 0 at first."""
    head = torch.nn.Linear(width, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return torch.nn.Sequential(head, torch.nn.Flatten(0))


def sequence_keep(batch: RolloutBatch, params: Params) -> Tensor:
    """A completion without a verdict has no return."""
    return batch.judged


def advantages(batch: RolloutBatch, params: Params) -> methods.Advantages:
    values = torch.zeros_like(batch.old_logprobs) if batch.values is None else batch.values
    mask = batch.mask & batch.judged.flatten()[:, None]
    rewards = torch.where(batch.judged, batch.rewards.float(), 0.0).flatten()
    raw = generalised_advantages(values, mask, rewards, gamma=params.gamma, lam=params.lam)
    tokens = _whitened(raw, mask) if params.whiten else raw
    mean = tokens.sum(dim=1) / mask.sum(dim=1).clamp(min=1)  # [N]
    known = values[mask]
    return methods.Advantages(
        values=mean.view(batch.rewards.shape),
        tokens=tokens,
        carried={"returns": raw + values, "values": values},
        stats={"ppo/value": WeightedMean(float(known.double().sum()), known.numel())},
    )


def extra_loss(micro: methods.MicroView, params: Params) -> Tensor:
    assert micro.token_states is not None
    assert micro.as_columns is not None
    states = micro.token_states if params.shared else micro.token_states.detach()
    values = micro.as_columns(micro.net(states.float()))
    old, returns = micro.carried["values"], micro.carried["returns"]
    near = old + (values - old).clamp(-params.value_clip, params.value_clip)
    error = torch.maximum((values - returns).square(), (near - returns).square()) / 2
    return params.value_coef * weighted_sum(error, micro.mask, micro.weights)


def _whitened(tokens: Tensor, mask: Tensor) -> Tensor:
    known = tokens[mask]
    if known.numel() < 2:
        return tokens
    if bool((known == known[0]).all()):
        # Tested by equality: the rounding error of a mean over a standard deviation of rounding errors is of order 1.
        return torch.zeros_like(tokens)
    return ((tokens - known.mean()) / (known.std() + 1e-8)).masked_fill(~mask, 0.0)
