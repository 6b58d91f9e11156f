"""verl's own trainer and configuration on the recorded rollout, with a TransferQueue in memory and an actor that has its
log-probs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import verl
from hydra import compose, initialize_config_dir
from tensordict import TensorDict
from torch import Tensor
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import get_trainer_cls, trainer_base

from progrpo.types import Completion
from stand_ins.host_rollouts import batch, groups

ORDER = torch.randperm(16, generator=torch.Generator().manual_seed(8)).tolist()
"""verl balances sequences over its workers: those of a group are torn apart."""


def config(*overrides: str) -> Any:
    """verl's configuration as its command line makes it."""
    folder = Path(verl.__file__).parent / "trainer" / "config"
    with initialize_config_dir(config_dir=str(folder), version_base=None):
        return compose(
            "ppo_trainer",
            overrides=[
                "algorithm.adv_estimator=progrpo",
                "trainer.v1.trainer_mode=progrpo",
                "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4",
                "actor_rollout_ref.rollout.n=4",
                *overrides,
            ],
        )


def completions() -> list[Completion]:
    return [completion for group in groups() for completion in group.completions]


def nested(rows: Sequence[Tensor]) -> Tensor:
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def sequences(of_completions: Sequence[Tensor]) -> list[Tensor]:
    """As verl's engines give them: entry t is of token t + 1 of prompt and response, the last of nobody."""
    found = []
    for row in ORDER:
        prompt = groups()[row // 4].prompt_logprobs
        assert prompt is not None
        found.append(torch.cat([prompt[1:], of_completions[row], torch.tensor([-9.0])]))
    return found


class Queue:
    """TransferQueue's key-value interface: columns of rows of any length."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def kv_batch_get(self, keys: list[str], partition_id: str, select_fields: list[str]) -> TensorDict:
        found = {}
        for name in select_fields:
            if not all(name in self.rows[key] for key in keys):
                continue  # as the real one: a column that nobody has is left out
            values = [self.rows[key][name] for key in keys]
            found[name] = nested(values) if isinstance(values[0], Tensor) else _words(values)
        return TensorDict(found, batch_size=len(keys))

    def kv_batch_put(self, keys: list[str], partition_id: str, fields: TensorDict, tags: Any = None) -> KVBatchMeta:
        for name in list(fields.keys()):
            for key, value in zip(keys, fields[name].unbind(), strict=True):
                self.rows[key][name] = value
        return KVBatchMeta(keys=keys, tags=[{} for _ in keys], partition_id=partition_id)


def _words(values: list[str]) -> Any:
    from tensordict.tensorclass import NonTensorStack

    return NonTensorStack.from_list(values)


class Actor:
    """The worker group of verl's actor, for the pass that scores."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.passes = 0

    def compute_log_prob(self, meta: KVBatchMeta) -> KVBatchMeta:
        self.passes += 1
        scores = sequences([one.sampler_logprobs for one in completions()])
        entropies = sequences([one.entropies for one in completions() if one.entropies is not None])
        for key, score, entropy in zip(meta.keys, scores, entropies, strict=True):
            self.queue.rows[key] |= {"log_probs": score, "entropy": entropy}
        return meta


def rolled_out(monkeypatch: Any, settings: Any) -> tuple[Any, KVBatchMeta, Queue]:
    """A trainer of verl with a rollout in its queue."""
    trainer = get_trainer_cls(settings.trainer.v1.trainer_mode)(settings)
    queue = Queue()
    monkeypatch.setattr(trainer_base, "tq", queue)
    trainer.actor_rollout_wg = Actor(queue)
    keys = [f"{groups()[row // 4].problem.id}_{row % 4}_0" for row in ORDER]
    for key, row in zip(keys, ORDER, strict=True):
        completion = completions()[row]
        count = len(completion.token_ids)
        scores = torch.zeros(count)
        scores[-1] = batch().rewards.flatten()[row]
        queue.rows[key] = {
            "uid": groups()[row // 4].problem.id,
            "prompts": groups()[row // 4].prompt_ids,
            "responses": completion.token_ids,
            "response_mask": torch.ones(count, dtype=torch.int64),
            "loss_mask": torch.ones(count, dtype=torch.int64),
            "rm_scores": scores,
            "rollout_log_probs": completion.sampler_logprobs,
        }
    return trainer, KVBatchMeta(keys=keys, tags=[{} for _ in keys], partition_id="train"), queue
