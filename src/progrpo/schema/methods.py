"""What single methods log of a rollout, beside what every method does."""

from progrpo.schema.quantity import Quantity

CONFIDENCE = (
    Quantity(
        key="progrpo/prompt_confidence",
        label="Confidence of the prompt c(q)",
        unit="probability",
        digits=3,
        meaning="mean c(q) (Eq. 5)",
        rollout=True,
        drawn=("confidence",),
    ),
    Quantity(
        key="progrpo/completion_confidence",
        label="Confidence of the completion c(o)",
        unit="probability",
        digits=3,
        meaning="mean c(o) (Eq. 6) under the method's own settings",
        rollout=True,
        drawn=("confidence",),
    ),
    Quantity(
        key="progrpo/shift",
        label="Shift",
        unit="that of the score; standard deviations with `spread=group_std`",
        digits=3,
        meaning="mean of baseline - c(o) (or the other `score`), 0 where the rule leaves a completion alone, before "
        "alpha",
        rollout=True,
    ),
    Quantity(
        key="progrpo/shift_abs",
        label="Mean absolute shift",
        unit="likewise",
        digits=3,
        meaning="mean absolute value of the same",
        rollout=True,
    ),
    Quantity(
        key="progrpo/shift_share",
        label="Shift's share of the advantage",
        unit="%",
        percent=True,
        meaning="sum of abs(alpha * shift less its mean over the group) / sum of abs(advantage before the shift), over "
        "judged completions: how much of the advantage the shift is where it tells completions of one group "
        "apart. The run warns below 0.01 (it is GRPO) and above 1",
        rollout=True,
        drawn=("confidence",),
    ),
    Quantity(
        key="progrpo/shift_length_correlation",
        label="Correlation of shift and length",
        unit="",
        digits=3,
        meaning="Pearson's correlation of shift and length within groups, over the completions that have a shift; "
        "above 0 the shift rewards length",
        rollout=True,
    ),
    Quantity(
        key="progrpo/sign_flips",
        label="Signs turned by the shift",
        unit="%",
        percent=True,
        meaning="share of non-zero advantages whose sign the shift turned",
        rollout=True,
    ),
    Quantity(
        key="progrpo/negative_correct",
        label="Correct with a negative advantage",
        unit="%",
        percent=True,
        better="lower",
        meaning="share of the correct completions whose advantage is negative with the shift, all-correct groups "
        "included",
        rollout=True,
    ),
)
"""Logged wherever the method is used or added to another."""

OWN = (
    Quantity(
        key="rollout/rounds",
        label="Rounds of sampling",
        unit="rounds",
        better="lower",
        meaning="rounds of sampling made for this batch, at most `method.max_rounds`; logged where that is above 1",
        rollout=True,
        method="dapo",
    ),
    Quantity(
        key="rollout/mixed_groups",
        label="Mixed groups",
        unit="%",
        percent=True,
        better="higher",
        meaning="share of the groups sampled, over all rounds, that are neither all correct nor all incorrect; logged "
        "likewise. The other `rollout/` keys and `verdict/` speak of the groups that were kept, "
        "`tokens/generated` of all",
        rollout=True,
        method="dapo",
    ),
    Quantity(
        key="entropy_advantage/bonus",
        label="Bonus of entropy",
        unit="advantage",
        digits=3,
        meaning="mean over tokens of what is added to the advantage, min(alpha H, abs(A) / kappa)",
        rollout=True,
        method="entropy_advantage",
    ),
    Quantity(
        key="ppo/value",
        label="Value",
        unit="reward",
        digits=3,
        meaning="mean over the tokens of judged completions of V, the value before each token",
        rollout=True,
        method="ppo",
    ),
    Quantity(
        key="f_grpo/weight",
        label="Weight of a group",
        unit="",
        digits=3,
        meaning="mean of (1 - share of correct completions)^gamma over the groups that have an advantage; logged where the "
        "method is added to another, too",
        rollout=True,
        method="f_grpo",
    ),
    Quantity(
        key="uniqueness/solutions",
        label="Solutions of a group",
        unit="",
        digits=2,
        better="higher",
        meaning="distinct solutions of a group (canonical forms or extracted answers, `method.solution`), mean over groups "
        "with one; logged where the method is added to another, too",
        rollout=True,
        method="uniqueness",
    ),
    Quantity(
        key="ucpo/weight_spread",
        label="Spread of the weights",
        unit="",
        digits=3,
        meaning="mean abs(w - 1) of the weights that UCPO gives to correct completions, where a group has two or more",
        rollout=True,
        method="ucpo",
    ),
    Quantity(
        key="steer/weight",
        label="Weight of a token",
        unit="",
        digits=3,
        meaning="mean weight of the tokens of an optimiser step; 1 is a step as without the method",
        method="steer",
    ),
)
"""Logged by the method named and by no other."""
