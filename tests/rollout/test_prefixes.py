from collections.abc import Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from progrpo.engines import Generated, Sampling
from progrpo.rollout.prefixes import with_prefix
from progrpo.types import Completion


def spelled(ids: Tensor, ends: Collection[int]) -> str:
    assert list(ends) == [9]
    return "".join(chr(96 + int(token)) for token in ids)


MODEL: Any = SimpleNamespace(decode=spelled)
COMPLETION = Completion(
    seed=7,
    text="cd",
    finish="stop",
    token_ids=torch.tensor([3, 4]),
    sampler_logprobs=torch.tensor([-0.5, -0.25]),
    entropies=torch.tensor([1.0, 2.0]),
)
PREFIX = torch.tensor([1, 2])


def joined(completion: Completion, limit: int) -> Completion:
    result = Generated(prompt_logprobs=torch.tensor([0.0, -1.0, -2.0, -3.0, -4.0]), completions=(completion,))
    made = with_prefix(result, PREFIX, 3, Sampling(max_new_tokens=limit, stop=(9, "z")), MODEL)
    assert made.prompt_logprobs is not None
    assert made.prompt_logprobs.tolist() == [0.0, -1.0, -2.0]  # those of the prefix are none of the prompt
    return made.completions[0]


def test_prefix_and_continuation_are_one_completion() -> None:
    made = joined(COMPLETION, limit=4)
    assert (made.seed, made.text, made.finish) == (7, "abcd", "stop")
    assert made.token_ids.tolist() == [1, 2, 3, 4]
    assert made.trained is not None
    assert made.trained.tolist() == [False, False, True, True]
    assert made.sampler_logprobs.tolist() == [0.0, 0.0, -0.5, -0.25]
    assert made.entropies is not None
    assert made.entropies.tolist() == [0.0, 0.0, 1.0, 2.0]
    assert made.entropy_gradients is None


@pytest.mark.parametrize(("limit", "text"), [(3, "abc"), (2, "ab")])
def test_the_limit_holds_for_both_together(limit: int, text: str) -> None:
    made = joined(COMPLETION, limit=limit)
    assert (made.text, made.finish, len(made.token_ids)) == (text, "length", limit)
    assert all(len(values) == limit for values in (made.sampler_logprobs, made.entropies, made.trained))


def test_what_was_cut_stays_cut() -> None:
    assert joined(replace(COMPLETION, finish="length"), limit=4).finish == "length"
