"""Named ways to evaluate: which tasks, how many completions of each, and what a preset holds fast.

paper           as arXiv:2602.05281 reports its numbers (Sec. 4.2): temperature 0.6, top-p 0.95, 32 completions for
                math, 16 for code; at most 8,192 tokens, or 32,768 where the paper gives a reasoning model as many
recommended     the same sampling; at least 64 completions where Pass@32 is asked for, for from 32 completions it is
                0 or 1 for each problem
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, get_args

from progrpo.errors import ConfigError

PresetName = Literal["paper", "recommended"]
PRESETS: tuple[PresetName, ...] = get_args(PresetName)

SUITES: dict[str, tuple[str, ...]] = {
    "math": ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench"),
    "code": ("livecodebench", "codeforces", "humaneval_plus"),
    "ood": ("gpqa", "mmlu_pro"),
}
SUITES["paper"] = tuple(name for suite in ("math", "code", "ood") for name in SUITES[suite])
"""The eleven benchmarks of the paper: Tables 2, 3 and 4."""

SAMPLES = {"paper": 32, "recommended": 64}
"""Completions per problem of a task that does not say otherwise."""

MAX_NEW_TOKENS = 8192
"""Longest completion of a task that does not say otherwise. Table 1 prints 8092, the text says 8K."""

FIXED = {"temperature": 0.6, "top_p": 0.95, "top_k": 0}
PAPER_LIMITS = (8192, 32_768)


def expand(names: Sequence[str]) -> list[str]:
    """Replace the names of suites by their tasks, each task once."""
    return list(dict.fromkeys(task for name in names for task in SUITES.get(name, (name,))))


def samples(task: ModuleType, preset: PresetName) -> int:
    """Completions per problem that a preset asks of a task."""
    count: int = getattr(task, "SAMPLES", SAMPLES)[preset]
    return count


FREE = frozenset({"path", "source", "revision", "expected", "chat", "contests", "ratings", "rating"})
"""Settings of a benchmark that may differ under a preset: where its data come from, and what else is made of them."""


def require_default_task(preset: PresetName, name: str, params: Any) -> None:
    """Check that a benchmark of the paper is evaluated whole and as it is: prompts, window, mode and subset.

    Raises:
        ConfigError: a setting of the task is not its default.
    """
    if name not in SUITES["paper"]:
        return
    default = type(params)()
    for key in type(params).model_fields:
        if key not in FREE and getattr(params, key) != getattr(default, key):
            raise ConfigError(
                f"--preset {preset}: task.{name}.{key} is {getattr(default, key)!r} under a preset, got "
                f"{getattr(params, key)!r}; leave the preset out to evaluate otherwise"
            )


def require_kept(preset: PresetName, sampling: Mapping[str, Any], max_new_tokens: int) -> None:
    """Check that settings beside a preset leave it what its name says.

    Raises:
        ConfigError: one of them contradicts it.
    """
    if sampling["problems"] is not None:
        raise ConfigError(
            f"--preset {preset}: evaluate.problems={sampling['problems']}: a preset takes all problems; leave it out for a part"
        )
    for key, value in FIXED.items():
        if sampling[key] != value:
            raise ConfigError(
                f"--preset {preset}: evaluate.{key} is {value:g} under a preset, got {sampling[key]:g}; leave the preset out "
                "to sample otherwise"
            )
    if preset == "paper" and max_new_tokens not in PAPER_LIMITS:
        raise ConfigError(
            f"--preset paper: max_new_tokens must be one of {PAPER_LIMITS[0]} and {PAPER_LIMITS[1]} (the latter for "
            f"reasoning models on math), got {max_new_tokens}; leave the preset out for another limit"
        )
