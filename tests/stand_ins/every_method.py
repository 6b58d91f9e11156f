"""Every method by its name alone: what has no default is given here."""

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice

REQUIRED: dict[str, dict[str, object]] = {
    "f_grpo": {"gamma": 1.0},
    "perplexity": {"alpha": 0.2},
    "uniqueness": {"alpha": 1.0},
    "r3": {"samples": 1},
    "aepo": {"low": 0.5, "high": 1.0},
    "spine": {"band_coef": 0.1, "anchor_coef": 0.1},
}
"""Settings without a default: their values were never published."""

OF_SMALL_GROUPS: dict[str, dict[str, object]] = {"passk": {"k": 2}}
"""What makes a method learn from groups of three or four."""

OF_SMALL_MODELS: dict[str, dict[str, object]] = {"likelihood": {"after": "="}}
"""Marks that the tokenizers of the tests can write."""


def load(name: str, **settings: object) -> Method:
    return methods.load(Choice(name=name, **{**REQUIRED.get(name, {}), **settings}))


def load_for_three(name: str, **settings: object) -> Method:
    """The same, for groups of three completions."""
    return load(name, **{**OF_SMALL_GROUPS.get(name, {}), **settings})
