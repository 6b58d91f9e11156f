"""What a rollout leaves in the metrics where the engine is not the trainer's own model: versions and importance weights."""

from progrpo.schema.quantity import Quantity

METRICS = (
    Quantity(
        key="sampler/staleness",
        label="Staleness of the sampler",
        unit="optimiser steps",
        digits=2,
        better="lower",
        meaning="mean over completions of the optimiser steps made between sampling them and learning from them; "
        "kept where the trainer scores",
    ),
    Quantity(
        key="sampler/unchanged",
        label="Syncs that changed nothing",
        unit="fraction",
        digits=2,
        better="lower",
        meaning="share of the processes whose engine gives a probe the same log-probs to the last bit after a sync as before "
        "it; logged of engines that do not make sure themselves that the weights arrived, after steps with a gradient",
    ),
    Quantity(
        key="off_policy/weight",
        label="Importance weight of the sampler",
        unit="ratio",
        digits=4,
        meaning="mean of the truncated importance weights (`algo.off_policy`) over the tokens of the rollout",
    ),
    Quantity(
        key="off_policy/cut",
        label="Importance weights cut",
        unit="fraction",
        digits=4,
        better="lower",
        meaning="share of these tokens whose weight leaves [off_policy.floor, off_policy.limit] and was clipped or masked",
    ),
    Quantity(
        key="off_policy/effective_share",
        label="Effective share of tokens",
        unit="fraction",
        digits=3,
        better="higher",
        meaning="(sum of the weights)^2 / (n times the sum of their squares): 1 where all tokens weigh the same",
    ),
)
