"""Token statistics of the samples: entropy, length, and the share that was cut at the limit."""

from progrpo.measures import Params
from progrpo.schema.quantity import Quantity
from progrpo.types import ProblemResult

COLUMNS = (
    Quantity(
        key="entropy",
        label="Entropy",
        unit="nats per token",
        digits=3,
        meaning="entropy per sampled token at the evaluation temperature, mean over tokens, then problems",
        drawn=("held-out",),
    ),
    Quantity(
        key="truncated",
        label="Truncated",
        short="cut",
        unit="% of completions",
        percent=True,
        better="lower",
        meaning="share cut at the limit",
        drawn=("benchmarks", "overview", "compare"),
    ),
    Quantity(
        key="length",
        label="Length",
        unit="tokens",
        digits=0,
        meaning="mean length",
        drawn=("benchmarks",),
    ),
)


NEEDS_ENTROPIES = ("entropy",)


def measure(judged: ProblemResult, params: Params) -> dict[str, float]:
    """`entropy` (nats per token, mean over all sampled tokens, at the sampling temperature), `length` (tokens),
    `truncated` (share of completions)."""
    known = [
        (sample.tempered.entropy, sample.tokens)
        for sample in judged.samples
        if sample.tempered is not None and sample.tempered.entropy is not None
    ]
    tokens = sum(count for _, count in known)
    entropy = {"entropy": sum(value * count for value, count in known) / tokens} if tokens else {}
    return {
        **entropy,
        "length": sum(sample.tokens for sample in judged.samples) / judged.n,
        "truncated": sum(sample.finish == "length" for sample in judged.samples) / judged.n,
    }
