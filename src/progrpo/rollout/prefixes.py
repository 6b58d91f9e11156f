"""Completions that go on from a prefix: what was fed and what was sampled put together, and which of it is trained on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from progrpo.engines import Generated, Sampling
from progrpo.model import LanguageModel
from progrpo.types import Completion

_PER_TOKEN = ("sampler_logprobs", "entropies", "entropy_gradients", "raw_logprobs", "raw_entropies")


class Joined:
    """The results of a call to an engine with their prefixes, each joined once however often it is asked for.

    Args:
        prefixes: of each request; None for none. prompts: its token ids without the prefix.
    """

    def __init__(
        self, prefixes: Sequence[Tensor | None], prompts: Sequence[Tensor], sampling: Sampling, model: LanguageModel
    ) -> None:
        self._prefixes, self._prompts = prefixes, prompts
        self._sampling, self._model = sampling, model
        self._whole: dict[int, Generated] = {}

    def whole(self, index: int, result: Generated) -> Generated:
        """The result of request number `index` with its prefix."""
        if (prefix := self._prefixes[index]) is None:
            return result
        if index not in self._whole:
            self._whole[index] = with_prefix(result, prefix, len(self._prompts[index]), self._sampling, self._model)
        return self._whole[index]


def with_prefix(
    generated: Generated,
    prefix: Int[Tensor, " T"],
    prompt: int,
    sampling: Sampling,
    model: LanguageModel,
) -> Generated:
    """What an engine gave for a prompt and a prefix, as completions of the prompt alone.

    `sampling.max_new_tokens` limits prefix and continuation together. What an engine gives beyond, because it heeds no
    `Request.limit`, is cut here, and the completion then ends with "length".

    Args:
        prompt: how many tokens it has, those of the prefix not included.
        model: spells the tokens.
    """
    limit, ends = sampling.max_new_tokens, [stop for stop in sampling.stop if isinstance(stop, int)]
    prompt_logprobs = generated.prompt_logprobs
    return Generated(
        prompt_logprobs=None if prompt_logprobs is None else prompt_logprobs[:prompt],
        completions=tuple(
            _joined(one, prefix, limit, lambda ids: model.decode(ids, ends)) for one in generated.completions
        ),
    )


def _joined(completion: Completion, prefix: Int[Tensor, " T"], limit: int, text: Callable[[Tensor], str]) -> Completion:
    ids = torch.cat([prefix, completion.token_ids])
    kept = ids[:limit]
    values: dict[str, Any] = {
        name: torch.cat([value.new_zeros(len(prefix)), value])[:limit]
        for name in _PER_TOKEN
        if (value := getattr(completion, name)) is not None
    }
    return replace(
        completion,
        text=text(kept),
        finish=completion.finish if len(kept) == len(ids) else "length",
        token_ids=kept,
        trained=torch.arange(len(kept)) >= len(prefix),
        **values,
    )
