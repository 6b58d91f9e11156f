"""The tokens of a call as they are drawn, and the completions made of them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from progrpo.engines import Generated, Request
from progrpo.engines._ends import Ends
from progrpo.errors import NonFiniteError
from progrpo.types import Completion


class Results:
    """What becomes of each request.

    Args:
        tokens: [N or more, S] and values: [3 or 5, N or more, S] (see `sample`) on the device, one row per completion in
            the order of requests and seeds; written by the decoder.
    """

    def __init__(self, ends: Ends, requests: Sequence[Request], tokens: Tensor, values: Tensor) -> None:
        self._ends = ends
        self._requests = requests
        self._drawn = (tokens, values)
        bounds = torch.tensor([0, *(len(request.seeds) for request in requests)]).cumsum(0).tolist()
        self._spans = [range(start, end) for start, end in pairwise(bounds)]
        self._lengths = [0] * bounds[-1]
        self._stopped = [False] * bounds[-1]
        self._prompts: dict[int, Tensor] = {}
        self._generated: dict[int, Generated] = {}

    def rows(self, request: int) -> range:
        """The rows of a request's completions."""
        return self._spans[request]

    def close(self, row: int, length: int, stopped: bool) -> None:
        """The completion is whole: `length` tokens, the last of which ended it if `stopped`."""
        self._lengths[row], self._stopped[row] = length, stopped

    def keep_prompt(self, request: int, logprobs: Tensor) -> None:
        self._prompts[request] = logprobs

    def take(self, request: int) -> Generated:
        """The result of a request whose completions are all closed.

        Raises:
            NonFiniteError: the model gave nan.
        """
        rows = self._spans[request]
        block = slice(rows.start, rows.stop)
        longest = max(self._lengths[row] for row in rows)
        tokens, values = (drawn[..., block, :longest].cpu() for drawn in self._drawn)
        broken = sum(bool(values[0, offset, : self._lengths[row]].isnan().any()) for offset, row in enumerate(rows))
        if broken:
            raise NonFiniteError(
                f"the model gave log-probabilities that are nan for {broken} of {len(rows)} completions of a prompt; its "
                "weights or activations are broken (a checkpoint after a divergence? bf16 overflow?)"
            )
        completions = []
        for offset, (row, seed) in enumerate(zip(rows, self._requests[request].seeds, strict=True)):
            length = self._lengths[row]
            ids = tokens[offset, :length].clone()
            completions.append(
                Completion(
                    seed=seed,
                    text=self._ends.text(ids),
                    finish="stop" if self._stopped[row] else "length",
                    token_ids=ids,
                    **named(values[:, offset, :length].clone()),
                )
            )
        generated = Generated(prompt_logprobs=self._prompts.get(request), completions=tuple(completions))
        self._generated[request] = generated
        return generated

    def all(self) -> list[Generated]:
        """The results of all requests, in their order."""
        return [self._generated[request] for request in range(len(self._requests))]


def named(values: Tensor) -> dict[str, Any]:
    """The values [3 or 5, T] of a completion's tokens under the names that `Completion` has for them."""
    return dict(
        zip(
            ("sampler_logprobs", "entropies", "entropy_gradients", "raw_logprobs", "raw_entropies"),
            values,
            strict=False,
        )
    )
