"""verl's trainers with a method: trainer.v1.trainer_mode=progrpo, progrpo_colocate_async or progrpo_separate_async.

verl computes log-probs of prompt and response in one pass and keeps the response's; here the prompts' are read before they are
overwritten, one sequence of each group, so that no pass is added. verl's own estimators see rewards alone.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import torch
from torch import Tensor

from progrpo.adapters._rows import HostRows, advantages_of
from progrpo.adapters._versions import check_host
from progrpo.adapters.verl import rollout, settings
from progrpo.adapters.verl.rollout import VerlRollout
from progrpo.errors import HostError

try:
    from omegaconf import OmegaConf
    from tensordict import TensorDict
    from verl import __version__ as _version
    from verl.trainer.ppo import core_algos
    from verl.trainer.ppo.v1 import (
        PPOTrainerColocateAsync,
        PPOTrainerSeparateAsync,
        PPOTrainerSync,
        register_trainer,
        trainer_base,
    )
except ImportError as error:
    raise HostError(f"verl cannot be imported ({error}): pip install 'progrpo[verl]'") from error

logger = logging.getLogger(__name__)

TESTED = ("0.9.1",)
"""The versions that the contract tests were run with (docs/adapters.md)."""

check_host(
    "verl",
    _version,
    TESTED,
    {
        "PPOTrainer._compute_old_log_prob": (PPOTrainerSync, "_compute_old_log_prob", ("self", "batch", "metrics")),
        "PPOTrainer._compute_advantage": (PPOTrainerSync, "_compute_advantage", ("self", "batch", "metrics")),
        "transfer_queue.kv_batch_get": (trainer_base.tq, "kv_batch_get", ("keys", "partition_id", "select_fields")),
        "core_algos.register_adv_est": (core_algos, "register_adv_est", ("name_or_enum",)),
    },
    remedy=f"install a version the adapter knows: pip install 'verl=={TESTED[-1]}'",
)

_rollout: ContextVar[tuple[settings.VerlMethod, VerlRollout] | None] = ContextVar("rollout", default=None)
"""What the trainer knows of the rollout whose advantages verl is asking for."""


_results: ContextVar[list[rollout.RowAdvantages]] = ContextVar("results")


@contextmanager
def _known(chosen: settings.VerlMethod, sampled: VerlRollout) -> Iterator[list[rollout.RowAdvantages]]:
    """Within, the estimator sees `found`; what it computed is put into the list."""
    token, results = _rollout.set((chosen, sampled)), _results.set([])
    try:
        yield _results.get()
    finally:
        _rollout.reset(token)
        _results.reset(results)


@core_algos.register_adv_est(settings.ESTIMATOR)  # type: ignore[untyped-decorator, unused-ignore]
def estimate(
    token_level_rewards: Tensor, response_mask: Tensor, config: Any = None, index: Any = None, **_: Any
) -> tuple[Tensor, Tensor]:
    """verl's advantage estimator: [N, S] advantages, and the same as returns.

    With a trainer of this module it has all that the method reads; with verl's own it has rewards and the mask, and refuses
    methods that read more.
    """
    rewards = token_level_rewards.sum(dim=-1)
    known = _rollout.get()
    if known is None:
        chosen = settings.from_estimator(_plain(config))
        rows = HostRows(groups=list(index), rewards=rewards, mask=response_mask.bool(), correct_above=chosen.above)
        result = advantages_of(chosen.method, rows)
    else:
        chosen, seen = known
        result = rollout.method_advantages(chosen.method, seen, rewards.cpu(), above=chosen.above)
        _results.get().append(result)
    values = result.values.to(token_level_rewards.device) * response_mask
    return values, values


class _WithMethod:
    """What the trainers below add to verl's.

    Raises:
        ConfigError: verl cannot honour the method, or its settings contradict the method's.
    """

    mode: ClassVar[str]

    def __init__(self, config: Any) -> None:
        self._chosen = settings.from_trainer(_plain(config))
        # verl's trainer takes much from the mode's name: by any other it would be asynchronous.
        config.trainer.v1.trainer_mode = self.mode
        super().__init__(config)  # type: ignore[call-arg]
        self._prompts: tuple[list[str], Tensor, Tensor] | None = None

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """verl's; of one sequence of each group the prompt's log-probs are kept."""
        batch = super()._compute_old_log_prob(batch, metrics)  # type: ignore[misc]
        self._prompts = None
        bypass = (self.config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False)  # type: ignore[attr-defined]
        if "prompt_logprobs" in self._chosen.method.needs and not bypass:
            keys = [batch.keys[row] for row in rollout.first_rows(batch.keys)]
            data = _fetch(keys, batch.partition_id, ["log_probs", "response_mask"])
            lengths = [len(row) for row in data["response_mask"].unbind()]
            self._prompts = (keys, *rollout.prompt_part(data["log_probs"].unbind(), lengths))
        return batch

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """verl's, whose estimator is told what it does not get."""
        with _known(self._chosen, self._seen(batch)) as results:
            batch = super()._compute_advantage(batch, metrics)  # type: ignore[misc]
        (result,) = results
        metrics.update({name: mean.value for name, mean in result.whole.stats.items() if mean.value is not None})
        if not bool(result.kept.all()):
            batch = _drop(batch, result.kept)
        return batch

    def _seen(self, batch: Any) -> VerlRollout:
        names = ["response_mask", "rm_scores", "old_log_probs"]
        if "entropies" in self._chosen.method.needs:
            names.append("entropy")
        data = _fetch(batch.keys, batch.partition_id, names)
        padded = {name: torch.nested.to_padded_tensor(data[name], 0).cpu() for name in names}
        prompts = mask = None
        if self._prompts is not None:
            keys, values, known = self._prompts
            prompts, mask = values.new_zeros(len(batch), values.shape[1]), known.new_zeros(len(batch), known.shape[1])
            places = [batch.keys.index(key) for key in keys]
            prompts[places], mask[places] = values, known
        return VerlRollout(
            keys=batch.keys,
            scores=padded["rm_scores"].float().sum(dim=-1),
            padding=torch.tensor([bool(tag.get("is_padding", False)) for tag in batch.tags]),
            mask=padded["response_mask"].bool(),
            logprobs=padded["old_log_probs"],
            entropies=padded.get("entropy"),
            prompt_logprobs=prompts,
            prompt_mask=mask,
        )


def _fetch(keys: list[str], partition: str, names: list[str]) -> Any:
    return trainer_base.tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=names)


def _drop(batch: Any, kept: Tensor) -> Any:
    """Take sequences out of the loss and out of its denominator, which is the sum of `loss_mask`."""
    data = _fetch(batch.keys, batch.partition_id, ["response_mask", "loss_mask"])
    fields = {
        name: torch.nested.as_nested_tensor(
            [row * bool(keep) for row, keep in zip(data[name].unbind(), kept.tolist(), strict=True)],
            layout=torch.jagged,
        )
        for name in ("response_mask", "loss_mask")
    }
    return trainer_base.tq.kv_batch_put(
        keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(fields, batch_size=len(batch))
    )


def _plain(config: Any) -> dict[str, Any]:
    return dict(OmegaConf.to_container(config, resolve=True)) if OmegaConf.is_config(config) else dict(config or {})


@register_trainer("progrpo")
class ProGRPOTrainerSync(_WithMethod, PPOTrainerSync):
    """verl's trainer_mode=sync with a method."""

    mode = "sync"


@register_trainer("progrpo_colocate_async")
class ProGRPOTrainerColocateAsync(_WithMethod, PPOTrainerColocateAsync):
    """verl's trainer_mode=colocate_async with a method."""

    mode = "colocate_async"


@register_trainer("progrpo_separate_async")
class ProGRPOTrainerSeparateAsync(_WithMethod, PPOTrainerSeparateAsync):
    """verl's trainer_mode=separate_async with a method."""

    mode = "separate_async"
