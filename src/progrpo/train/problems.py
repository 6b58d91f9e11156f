"""The problems of a run: those that fit, in the order in which they come."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from progrpo.errors import ConfigError
from progrpo.methods import Method
from progrpo.rollout.generate import fit_prompts
from progrpo.train.settings import RunSettings
from progrpo.train.stream import SOURCE, ProblemStream
from progrpo.types import Problem


def require_rounds(method: Method, settings: RunSettings, problems: int) -> None:
    """Raises ConfigError if dynamic sampling could meet a problem twice for one batch."""
    if (rounds := method.rounds) * settings.batch.prompts > problems and rounds > 1:
        raise ConfigError(
            f"method.max_rounds={rounds} times batch.prompts={settings.batch.prompts} exceeds the {problems} training "
            "problems: one batch would meet a problem twice; lower one of them"
        )


def fit_splits(
    settings: RunSettings, tokenizer: Any, positions: int | None, splits: Mapping[str, Sequence[Problem]]
) -> dict[str, tuple[Sequence[Problem], int]]:
    """The problems of each split that fit the run's limits, and the longest of their prompts in tokens (see `fit_prompts`)."""
    return {
        name: fit_prompts(
            problems,
            tokenizer,
            max_prompt_tokens=settings.data.max_prompt_tokens,
            positions=positions,
            max_new_tokens=settings.sampling.max_new_tokens,
            drop=settings.data.long_prompts == "drop",
            source=f"{name} problems",
            chat=settings.model.chat,
        )
        for name, problems in splits.items()
    }


def make_stream(
    settings: RunSettings, problems: Sequence[Problem], sources: Mapping[str, float | None]
) -> ProblemStream:
    """The training problems in the order of the run.

    Args:
        sources: see `Task.sources`.

    Raises:
        ConfigError: see `ProblemStream`.
    """
    return ProblemStream(
        problems,
        seed=settings.seed,
        shuffle=settings.data.shuffle,
        per_rollout=settings.batch.prompts,
        weights={name: weight for name, weight in sources.items() if weight is not None},
    )


def describe_sources(
    settings: RunSettings, problems: Sequence[Problem], sources: Mapping[str, float | None]
) -> Iterator[str]:
    """A line for each part of a mixture: its training problems, and its share of a rollout."""
    counts = Counter(str(problem.facts[SOURCE]) for problem in problems) if sources else {}
    total = sum(weight or 0.0 for weight in sources.values())
    for name, weight in sources.items():
        share = "" if weight is None else f", {weight / total * settings.batch.prompts:.4g} of each rollout on average"
        yield f"source {name}: {counts.get(name, 0):,} training problems{share}"
