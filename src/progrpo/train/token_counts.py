"""What the passes of a step cost, in model positions."""

from dataclasses import dataclass

from progrpo.types import WeightedMean


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenCounts:
    """Positions of the model's passes, and what they were.

    Attributes:
        positions: tokens forwarded, padding included. padding: those that are none.
        repeated_prompt: prompt tokens forwarded beyond the first time in the same pass over the policy.
        logit_rows: rows the LM head scored.
    """

    positions: int = 0
    padding: int = 0
    repeated_prompt: int = 0
    logit_rows: int = 0

    def __add__(self, other: "TokenCounts") -> "TokenCounts":
        return TokenCounts(
            positions=self.positions + other.positions,
            padding=self.padding + other.padding,
            repeated_prompt=self.repeated_prompt + other.repeated_prompt,
            logit_rows=self.logit_rows + other.logit_rows,
        )

    def metrics(self) -> dict[str, WeightedMean]:
        """Keys as in docs/metrics.md."""
        return {
            "tokens/forwarded": WeightedMean(self.positions, 1),
            "tokens/padding_share": WeightedMean(self.padding, self.positions),
            "tokens/repeated_prompt_share": WeightedMean(self.repeated_prompt, self.positions),
            "tokens/logit_row_share": WeightedMean(self.logit_rows, self.positions),
        }
