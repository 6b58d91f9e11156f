"""DAPO's loss (arXiv:2503.14476): GRPO advantages, clip-higher, token mean over each group.

The clip range is [1 - 0.2, 1 + 0.28] and the divisor the tokens of the group (verl's recipe pools the tokens of the
whole step instead: aggregate=token). DAPO's other two parts are not losses: dynamic sampling and the soft overlong
penalty belong to the rollout and the reward, and this file does not stand for them.
"""

from pydantic import Field

from progrpo import methods
from progrpo.algo.aggregate import How


class Params(methods.Params):
    clip_high: float = Field(0.28, ge=0)
    aggregate: How = "group_token"
