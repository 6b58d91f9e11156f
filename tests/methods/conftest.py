from collections.abc import Callable

import pytest
import torch

from progrpo.methods import StepBatch
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import verdicts_of


@pytest.fixture
def rollout_batch() -> Callable[..., RolloutBatch]:
    """Two problems of three completions each, worked through in tests/methods/test_progrpo.py."""

    def make(**changes: object) -> RolloutBatch:
        correct = torch.tensor([[True, False, False], [True, True, True]])
        lengths = torch.tensor([[2, 1, 3], [1, 2, 2]])
        mask = torch.arange(3)[None, :] < lengths.flatten()[:, None]
        probabilities = torch.tensor(
            [[0.5, 0.8, 1.0], [0.2, 1.0, 1.0], [0.9, 0.6, 0.9], [0.9, 1.0, 1.0], [0.5, 0.7, 1.0], [0.4, 0.3, 1.0]]
        )
        fields = {
            "rewards": correct.float(),
            "correct": correct,
            "truncated": torch.zeros_like(correct),
            "lengths": lengths,
            "mask": mask,
            "old_logprobs": probabilities.log() * mask,
            "entropies": torch.arange(18.0).view(6, 3) * mask,
            "prompt_logprobs": torch.tensor([[0.0, 0.1, 0.9], [0.0, 0.4, 1.0]]).clamp(min=1e-9).log()
            * torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]),
            "prompt_mask": torch.tensor([[False, True, True], [False, True, False]]),
            "entropy_gradients": torch.arange(18.0).view(6, 3) * mask - 4,
            "certainties": torch.arange(18.0).view(6, 3).sqrt() * mask,
            "raw_logits": torch.arange(18.0).view(6, 3) * mask - 7,
            "proxy_logprobs": -0.1 * mask,
            "ref_logprobs": (probabilities.log() - 0.1) * mask,
            "nucleus_entropies": torch.arange(18.0).view(6, 3) * mask / 2,
            "token_texts": (("a", "\n"), ("a",), ("a", "\n", "b"), ("a",), ("<answer>", "a"), ("a</", "think>")),
            "answer_logprobs": torch.arange(12.0).view(6, 2).sqrt().neg() * torch.tensor([1.0, 0.0]),
            "answer_mask": torch.tensor([[True, False]] * 6),
            "verdicts": verdicts_of(correct.float(), [["a", "b", "c"], ["a", "a", "b"]]),
        }
        return RolloutBatch(**(fields | changes))

    return make


@pytest.fixture
def step_batch(rollout_batch: Callable[..., RolloutBatch]) -> Callable[..., StepBatch]:
    """The optimiser step of `rollout_batch`, under the policy that sampled."""

    def make(**changes: object) -> StepBatch:
        batch = rollout_batch()
        fields = {
            "advantages": torch.tensor([1.0, -0.5, -0.5, 0.0, 0.0, 0.0])[:, None].expand(6, 3),
            "mask": batch.mask,
            "logprobs": batch.old_logprobs,
            "old_logprobs": batch.old_logprobs,
            "entropies": batch.entropies,
            "correct": batch.correct,
            "judged": batch.judged,
            "truncated": batch.truncated,
            "pool": torch.zeros(6, dtype=torch.long),
            "generator": torch.Generator().manual_seed(0),
        }
        return StepBatch(**(fields | changes))

    return make
