"""TRL's GRPOConfig with a method."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from trl import GRPOConfig

from progrpo.adapters.trl import host, settings


def _unset(what: str) -> Any:
    return field(default=None, metadata={"help": f"{what} None: the method's, or TRL's default with loss_from='trl'."})


@dataclass
class ProGRPOConfig(GRPOConfig):
    """GRPOConfig with a method.

    Raises:
        ConfigError: TRL cannot honour the method, or a field and the method's settings disagree.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*GRPOConfig._VALID_DICT_FIELDS, "method_params"]

    method: str = field(
        default="progrpo", metadata={"help": "Name of a method of progrpo, or a path to a file of one."}
    )
    method_params: dict[Any, Any] | str | None = field(
        default=None, metadata={"help": "Its settings, as under `method` in a recipe: {'alpha': 0.3}, {'preset': ...}."}
    )
    loss_from: str = field(
        default="method",
        metadata={
            "help": "'method': the loss is the method's own. 'trl': the loss and all its settings are TRL's, and the method "
            "changes the advantages alone; with alpha=0 that is GRPOTrainer to the last bit."
        },
    )
    correct_above: float = field(
        default=0.0,
        metadata={"help": "A completion is correct if its reward is above this: decides all-correct groups."},
    )
    correct_by: str | None = field(
        default=None,
        metadata={"help": "Name of the reward function that says what is correct. None: the weighted sum of all does."},
    )
    epsilon: float | None = _unset("Clip range below 1 (clip_low).")
    epsilon_high: float | None = _unset("Clip range above 1 (clip_high).")
    delta: float | None = _unset("Bound of the ratio (dual_clip).")
    beta: float | None = _unset("Weight of the KL penalty (kl_coef).")
    entropy_coef: float | None = _unset("Weight of the entropy bonus.")
    scale_rewards: str | None = _unset("'group' or 'none' (scale).")
    loss_type: str | None = _unset("'grpo', 'dapo', 'dr_grpo' or 'group_token' (aggregate).")
    mask_truncated_completions: bool | None = _unset("Leave cut completions out of the loss (truncated).")
    use_bias_correction_kl: bool | None = _unset("TRL's ratio in the KL penalty.")

    def __post_init__(self) -> None:
        chosen = self.choose()
        for name, value in chosen.fields.items():
            setattr(self, name, value)
        super().__post_init__()
        settings.refuse_later_steps(chosen.method, self.optimiser_steps)

    def choose(self) -> settings.HostedMethod:
        """The method, set up. Made anew on each call: TRL writes its config to disk, and a method is no data."""
        return settings.choose(
            self.method,
            settings.as_mapping(self.method_params),
            cast(settings.LossFrom, self.loss_from),
            {name: getattr(self, name) for name in settings.FIELDS},
            host.defaults(GRPOConfig),
            group=self.num_generations,
        )

    @property
    def optimiser_steps(self) -> int:
        """Optimiser steps that a generation batch may be used for: its passes over those of a step, rounded up, and one more
        where a step can begin within it."""
        passes, each = int(self.steps_per_generation) * int(self.num_iterations), int(self.gradient_accumulation_steps)
        return -(-passes // each) + (passes % each != 0 and each % passes != 0)
