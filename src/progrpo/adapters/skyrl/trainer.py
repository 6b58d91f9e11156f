"""SkyRL's trainer with a method; see the package for how it is chosen.

SkyRL's pass for old log-probs cuts out the response; here it is asked for all tokens and cut here, so that no pass is added.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any

from torch import Tensor

from progrpo.adapters._rows import HostRows, RowAdvantages, advantages_of
from progrpo.adapters._versions import check_host
from progrpo.adapters.skyrl import rollout
from progrpo.errors import ConfigError, HostError

try:
    from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry
    from skyrl.train.trainer import RayPPOTrainer
except ImportError as error:
    raise HostError(f"SkyRL cannot be imported ({error}): pip install skyrl==0.4.0 (Python 3.12)") from error

TESTED = ("0.4.0",)
"""The versions that the contract tests were run with (docs/adapters.md)."""

check_host(
    "skyrl",
    version("skyrl"),
    TESTED,
    {
        "RayPPOTrainer._execute_forward_pass": (
            RayPPOTrainer,
            "_execute_forward_pass",
            ("self", "model", "data_fwd_pass", "key", "mini_batch_boundaries"),
        ),
        "RayPPOTrainer.fwd_logprobs_values_reward": (
            RayPPOTrainer,
            "fwd_logprobs_values_reward",
            ("self", "training_input"),
        ),
        "RayPPOTrainer.compute_advantages_and_returns": (
            RayPPOTrainer,
            "compute_advantages_and_returns",
            ("self", "data"),
        ),
        "RayPPOTrainer._skip_policy_forward": (RayPPOTrainer, "_skip_policy_forward", ("self", "training_input")),
    },
    remedy=f"pip install skyrl=={TESTED[-1]}",
)

_found: ContextVar[RowAdvantages | None] = ContextVar("found", default=None)
"""The advantages of the batch that SkyRL is asking an estimator for."""


def estimate(token_level_rewards: Tensor, response_mask: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
    """SkyRL's advantage estimator `progrpo`: what the trainer below has computed; alone it knows too little."""
    result = _found.get()
    if result is None:
        raise ConfigError(
            "advantage_estimator=progrpo: SkyRL's own trainer shows an estimator rewards alone; return "
            "progrpo.adapters.skyrl.trainer.ProGRPORayTrainer from get_trainer"
        )
    values = result.values.to(token_level_rewards.device) * response_mask
    return values, values


AdvantageEstimatorRegistry.register(rollout.ESTIMATOR, estimate)


class ProGRPORayTrainer(RayPPOTrainer):
    """SkyRL's trainer with a method.

    Args:
        method: its settings, as under `method` in a recipe, and `correct_above`. The others: SkyRL's.

    Raises:
        ConfigError: SkyRL cannot honour the method, or its settings contradict the method's.
    """

    def __init__(self, *arguments: Any, method: Mapping[str, Any], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._spec = dict(method)
        self._chosen, self._above = self._choose(scored=True)
        self._wide: rollout.WidePass | None = None
        self._listening: Any = None
        self._scores: Tensor | None = None

    def _choose(self, *, scored: bool) -> Any:
        return rollout.method_of(
            self._spec,
            self.cfg.trainer.algorithm,
            step_wise=bool(self.cfg.generator.step_wise_trajectories),
            scored=scored,
        )

    def fwd_logprobs_values_reward(self, training_input: Any) -> Any:
        """SkyRL's; raw rewards are kept before a KL penalty changes them, and the prompts' log-probs."""
        self._wide = None
        self._scores = training_input["rewards"].sum(dim=-1)
        if self._skip_policy_forward(training_input):
            self._choose(scored=False)  # refuses what reads log-probs
            return super().fwd_logprobs_values_reward(training_input)
        self._listening = training_input
        try:
            return super().fwd_logprobs_values_reward(training_input)
        finally:
            self._listening = None

    def _execute_forward_pass(self, model: str, data_fwd_pass: Any, key: str, mini_batch_boundaries: Any) -> Any:
        """SkyRL's; the policy's is widened to the prompt where the method reads it."""
        wanted = self._listening is not None and "prompt_logprobs" in self._chosen.needs
        if model != "policy" or key != "logprobs" or not wanted:
            return super()._execute_forward_pass(model, data_fwd_pass, key, mini_batch_boundaries)
        narrow = data_fwd_pass.metadata["response_length"]
        total = data_fwd_pass["sequences"].shape[1]
        data_fwd_pass.metadata["response_length"] = total - 1
        try:
            result = super()._execute_forward_pass(model, data_fwd_pass, key, mini_batch_boundaries)
        finally:
            data_fwd_pass.metadata["response_length"] = narrow
        if result.shape[1] != total - 1:
            raise HostError(
                f"skyrl {version('skyrl')}: a pass over {total} columns gave {result.shape[1]} log-probs, expected {total - 1}"
                f"; pip install skyrl=={TESTED[-1]}"
            )
        known = self._listening
        count = len(known["response_mask"])
        self._wide = rollout.taken_apart(result[:count], known["attention_mask"], known["response_mask"])
        return result[:, -narrow:]

    def compute_advantages_and_returns(self, data: Any) -> Any:
        """SkyRL's, whose estimator gives the method's."""
        if self._scores is None:
            raise HostError(
                "skyrl: advantages were asked for before the pass that scores; the adapter knows them after it"
            )
        result = advantages_of(self._chosen, self._rows(data))
        token = _found.set(result)
        try:
            data = super().compute_advantages_and_returns(data)
        finally:
            _found.reset(token)
        self.all_metrics.update(
            {name: mean.value for name, mean in result.whole.stats.items() if mean.value is not None}
        )
        return data

    def _rows(self, data: Any) -> HostRows:
        assert self._scores is not None
        return rollout.rows_of(
            data.metadata["uids"],
            self._scores,
            data["rewards"].sum(dim=-1),
            data["loss_mask"],
            padding=int(data.metadata.get("pad_size", 0)),
            above=self._above,
            logprobs=data["action_log_probs"] if data.get("action_log_probs") is not None else None,
            prompts=self._wide,
        )
