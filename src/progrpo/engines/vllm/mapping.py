"""Our requests in vLLM's words, and its answers in ours; for both modes, and without vLLM."""

from collections.abc import Sequence
from typing import Any

import torch

from progrpo.engines import Sampling
from progrpo.engines._ends import Ends
from progrpo.errors import ConfigError, EngineError, NonFiniteError
from progrpo.types import Completion

HOTTEST = 2.0
"""vLLM takes no higher temperature."""


def require_known(sampling: Sampling) -> None:
    """Raises ConfigError if vLLM cannot draw so."""
    if sampling.temperature > HOTTEST:
        raise ConfigError(
            f"sampling.temperature={sampling.temperature:g}: vLLM draws at {HOTTEST:g} at most; set engine.name=hf"
        )


def to_distribution(sampling: Sampling) -> dict[str, Any]:
    """All of vLLM's SamplingParams that change what is drawn from: a server takes those that are not sent from the model's
    generation_config.json."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
    }


def to_sampling(sampling: Sampling, seed: int, limit: int, ends: Ends) -> dict[str, Any]:
    """vLLM's SamplingParams of one completion, by name.

    Each completion is a request of its own with its own seed: of n completions of one request vLLM gives number i the seed + i,
    which another request may have too.

    Args:
        seed: in [0, 2**63). limit: tokens at most.
    """
    return {
        "n": 1,
        **to_distribution(sampling),
        "seed": seed,
        "max_tokens": limit,
        "logprobs": 0,  # of the sampled token alone
        "stop_token_ids": sorted(ends.ids),
        "ignore_eos": True,  # the end tokens are ours, `stop_token_ids`
        "stop": list(ends.texts),
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
    }


def to_completion(
    sampling: Sampling,
    ends: Ends,
    *,
    seed: int,
    token_ids: Sequence[int],
    logprobs: Sequence[float | None],
    reason: str | None,
    version: int,
) -> Completion:
    """A completion as vLLM gave it.

    Args:
        logprobs: of each token, of the distribution it was drawn from (vLLM's processed_logprobs).
        reason: vLLM's finish_reason. version: of the weights that sampled.

    Raises:
        EngineError: it was aborted, or there is not one log-prob for each token. NonFiniteError: one is nan.
    """
    if reason not in ("stop", "length"):
        raise EngineError(
            f"engine vllm: the completion of seed {seed} ended as {reason!r} after {len(token_ids)} tokens; expected stop or "
            "length: somebody else changes the server's weights or aborts its requests"
        )
    if len(logprobs) != len(token_ids):
        raise EngineError(
            f"engine vllm: {len(logprobs)} log-probs came with {len(token_ids)} tokens of seed {seed}; expected one for each"
        )
    values = torch.tensor([float("nan") if one is None else one for one in logprobs], dtype=torch.float32)
    if bool(values.isnan().any()):
        raise NonFiniteError(
            f"engine vllm: log-probs of seed {seed} are nan; weights or activations are broken (a diverged checkpoint, "
            "an overflow?)"
        )
    ids = torch.tensor(list(token_ids), dtype=torch.long)
    completed = ends.first(ids.tolist()) if ends.texts else None
    if completed is not None:
        ids, values = ids[:completed], values[:completed]
    truncates = sampling.temperature > 0 and (sampling.top_p < 1 or sampling.top_k > 0)
    plain = not truncates and sampling.temperature in (0, 1)
    return Completion(
        seed=seed,
        text=ends.text(ids),
        finish="stop" if completed is not None or reason == "stop" else "length",
        token_ids=ids,
        sampler_logprobs=values,
        logprobs_of="drawn" if truncates else "tempered",
        raw_logprobs=values if sampling.raw and plain else None,
        policy_version=version,
    )
