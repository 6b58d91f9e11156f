"""One measured step of either side, and the least work a step of its lengths asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PHASES = ("generate", "verify", "score", "train", "rest")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Step:
    """One step: rollout, reward, update.

    Attributes:
        seconds: wall clock of the whole step. phases: seconds of `PHASES`. cpu_s: processor time of all threads.
        lengths: [P, G] tokens of the completions. advantages: [P, G] as the side itself computed them.
        before: bytes in use as the step began. peak: the most in use during it.
    """

    seconds: float
    cpu_s: float
    phases: Mapping[str, float]
    lengths: Tensor
    advantages: Tensor
    before: int
    peak: int

    @property
    def completions(self) -> int:
        return self.lengths.numel()

    @property
    def tokens(self) -> int:
        """Tokens sampled, end tokens included."""
        return int(self.lengths.sum())

    @property
    def learning(self) -> Tensor:
        """[P] groups with a gradient: not all rewards are equal."""
        return self.advantages.abs().amax(dim=1) > 1e-6

    def as_json(self, limit: int) -> dict[str, Any]:
        """`limit`: the longest completion allowed."""
        lengths = self.lengths.flatten().float()
        return {
            "seconds": self.seconds,
            "cpu_s": self.cpu_s,
            "phases": dict(self.phases),
            "completions": self.completions,
            "tokens": self.tokens,
            "mean_length": float(lengths.mean()),
            "median_length": float(lengths.median()),
            "cut_share": float((lengths >= limit).float().mean()),
            "zero_std_share": float((~self.learning).float().mean()),
            "before_bytes": self.before,
            "peak_bytes": self.peak,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What the formulas below need of a model."""

    body: int
    """Parameters of the layers: all but input embedding and head."""
    head: int
    """Parameters of the head."""
    attention: int
    """layers * heads * head width."""
    cache: int
    """Numbers cached per token."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Sizes":
        hidden, layers, heads = (config[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
        kv_heads, width = config["num_key_value_heads"], hidden // heads
        per_layer = hidden * width * 2 * (heads + kv_heads) + 3 * hidden * config["intermediate_size"]
        return cls(
            body=layers * per_layer,
            head=hidden * config["vocab_size"],
            attention=layers * heads * width,
            cache=2 * layers * kv_heads * width,
        )


def generate_flops(step: Step, prompt: int, sizes: Sizes) -> float:
    """Least FLOPs of the rollout: 2 * parameters * tokens, and 4 * layers * width * context of attention per token.

    Each prompt once per group, each completion token once, the head on the rows that are sampled from.
    """
    groups, rows = len(step.lengths), step.tokens
    return forward_flops(groups * prompt + rows, rows, _contexts(step.lengths, prompt), sizes)


def train_flops(step: Step, prompt: int, sizes: Sizes) -> float:
    """Least FLOPs of the update: three times the forward of the groups with a gradient, their prompts once each."""
    lengths = step.lengths[step.learning]
    if not len(lengths):
        return 0.0
    rows = int(lengths.sum())
    return 3 * forward_flops(len(lengths) * prompt + rows, rows, _contexts(lengths, prompt), sizes)


def generate_bytes(step: Step, prompt: int, sizes: Sizes, width: int) -> float:
    """Least bytes read in decoding: all weights once per token of the longest completion, each row's cache per token.

    Args:
        width: bytes of a number.
    """
    cache = (step.lengths * prompt + step.lengths**2 / 2).sum()
    return width * (int(step.lengths.max()) * (sizes.body + sizes.head) + float(cache) * sizes.cache)


def forward_flops(tokens: float, rows: float, contexts: float, sizes: Sizes) -> float:
    """2 * parameters * tokens, the head on `rows` of them alone, and 4 * layers * width of attention for each context."""
    return 2.0 * (sizes.body * tokens + sizes.head * rows) + 4.0 * sizes.attention * contexts


def _contexts(lengths: Tensor, prompt: int) -> float:
    """Sum over all tokens of how many tokens each attends to."""
    lengths = lengths.to(torch.float64)
    return float(len(lengths) * prompt**2 / 2 + (lengths * prompt + lengths**2 / 2).sum())
