"""Token probabilities of the rollouts: how sure the policy was of what it sampled (arXiv:2602.05281, Figs. 3, 4, 8).

Every rollout counts once, however long it is; `tokens` weights its `entropy` by length instead. Before top-p and top-k:
plain names at the sampling temperature, `raw/` at temperature 1.
"""

from collections.abc import Sequence

from progrpo.measures import Params
from progrpo.schema.quantity import Quantity
from progrpo.types import ProblemResult, TokenStatistics

COLUMNS = (
    Quantity(
        key="probability",
        label="Mean probability",
        unit="",
        digits=3,
        meaning="mean probability of the sampled tokens at the evaluation temperature, mean over rollouts, then problems; "
        "`raw/`: at temperature 1",
        drawn=("statistics",),
        variants=("raw/",),
    ),
    Quantity(
        key="low_probability",
        label="Mean of the lowest 20 %",
        unit="",
        digits=3,
        meaning="the same of each rollout's 20 % least likely tokens",
        drawn=("statistics",),
        variants=("raw/",),
    ),
    Quantity(
        key="confidence",
        label="Confidence c(o)",
        unit="",
        digits=3,
        meaning="the geometric mean of the same, c(o) of Eq. 6",
        variants=("raw/",),
    ),
    Quantity(
        key="rollout_entropy",
        label="Entropy of the rollouts",
        unit="nats per token",
        digits=3,
        meaning="entropy per token, mean over the tokens of each rollout, then rollouts, then problems",
        drawn=("statistics",),
        variants=("raw/",),
    ),
)


NEEDS_ENTROPIES = ("rollout_entropy",)


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """Means over the rollouts of one problem that have tokens, each in `TokenStatistics`' words:

    `probability`: mean probability of the sampled tokens, in (0, 1]. `low_probability`: of the 20 % least likely of them.
    `confidence`: the geometric mean of the same, c(o) of Eq. 6. `rollout_entropy`: nats per token.
    `raw/probability`, ...: the same at temperature 1, where it was recorded.
    """
    tempered = [sample.tempered for sample in judged.samples if sample.tempered is not None]
    raw = [sample.raw for sample in judged.samples if sample.raw is not None]
    return _means(tempered) | {f"raw/{name}": value for name, value in _means(raw).items()}


def _means(rollouts: Sequence[TokenStatistics]) -> dict[str, float]:
    if not rollouts:
        return {}
    entropies = [rollout.entropy for rollout in rollouts if rollout.entropy is not None]
    return {
        "probability": sum(rollout.probability for rollout in rollouts) / len(rollouts),
        "low_probability": sum(rollout.low_probability for rollout in rollouts) / len(rollouts),
        "confidence": sum(rollout.confidence for rollout in rollouts) / len(rollouts),
        **({"rollout_entropy": sum(entropies) / len(entropies)} if entropies else {}),
    }
