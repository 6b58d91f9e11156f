"""A way of decoding, compared with plain passes before it is trusted."""

import logging
from collections.abc import Callable, Sequence

import torch

from progrpo.algo.logprobs import token_logprobs
from progrpo.engines import Generated, Request, Sampling
from progrpo.model import LanguageModel

logger = logging.getLogger(__name__)

_TOLERANCE = {"fp32": 0.01, "bf16": 0.2}
"""Of the log-probs' difference to their spread; rounding gives a hundredth of it, a wrong layout about 1."""
_SAMPLING = Sampling(max_new_tokens=6)

Decode = Callable[[Sequence[Request], Sampling], list[Generated]]


def fault(model: LanguageModel, decode: Decode) -> str | None:
    """What is wrong with `decode` for this model, or None: a few completions of random prompts, scored by plain passes.

    Args:
        decode: is given more completions than it runs side by side, prompts of unequal length, and completions that end before
            others beside them, so that padding, rows that leave and refill are tried, too.
    """
    generator = torch.Generator().manual_seed(0)
    size = model.model.config.get_text_config().vocab_size
    requests = [
        Request(
            prompt_ids=torch.randint(0, size, (length,), generator=generator), seeds=tuple(range(count)), limit=limit
        )
        for length, count, limit in ((9, 3, None), (4, 2, 3), (6, 3, None))
    ]
    try:
        results = decode(requests, _SAMPLING)
    except (RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError, LookupError) as error:
        return f"{type(error).__name__}: {error}"
    ours, theirs = [], []
    for request, result in zip(requests, results, strict=True):
        for completion in result.completions:
            tokens = torch.cat([request.prompt_ids, completion.token_ids])[None].to(model.device)
            logits = model.head(model.hidden(tokens, use_cache=False))
            ours.append(completion.sampler_logprobs)
            theirs.append(token_logprobs(logits, tokens)[0, len(request.prompt_ids) :].cpu())
    expected = torch.cat(theirs)
    spread = (expected - expected.mean()).norm().clamp(min=1e-3)
    apart = float((torch.cat(ours) - expected).norm() / spread)
    if apart < _TOLERANCE[model.precision]:
        return None
    return f"log-probs differ by {apart:.1e} of their spread"
