"""Token statistics of the samples: entropy, length, and the share that was cut at the limit."""

from collections.abc import Sequence

from progrpo.types import Completion, Verdict


def measure(completions: Sequence[Completion], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """`entropy` (nats per token, mean over all sampled tokens, at the sampling temperature), `length` (tokens),
    `truncated` (share of completions)."""
    tokens = sum(len(completion.token_ids) for completion in completions)
    entropy = sum(float(completion.entropies.double().sum()) for completion in completions)
    return {
        "entropy": entropy / max(tokens, 1),
        "length": tokens / len(completions),
        "truncated": sum(completion.finish == "length" for completion in completions) / len(completions),
    }
