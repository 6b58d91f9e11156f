"""Several seeds of one recipe: which, and where each is written."""

import re
from collections.abc import Sequence

from progrpo.errors import ConfigError

MOST = 1000
"""Seeds of one command; a range of more is a slip of the keyboard."""
_RANGE = re.compile(r"seed=(\d+)\.\.(\d+)")


def seeds_asked_for(overrides: Sequence[str], count: int | None) -> tuple[range | None, list[str]]:
    """The seeds of `seed=0..4`, or of a count from 0 on, and the other overrides; None where one seed is trained.

    Raises:
        ConfigError: a range that is empty or too long, and a seed beside a count.
    """
    ranges = [match for one in overrides if (match := _RANGE.fullmatch(one))]
    others = [one for one in overrides if not _RANGE.fullmatch(one)]
    named = [one for one in overrides if one.startswith("seed=")]
    if count is not None and named:
        raise ConfigError(f"--seeds {count} and {named[0]}: give one of them; --seeds {count} is seed=0..{count - 1}")
    if len(named) > 1 and ranges:
        raise ConfigError(f"{' and '.join(named)}: give one of them")
    if count is not None:
        first, last = 0, count - 1
    elif ranges:
        first, last = map(int, ranges[0].groups())
    else:
        return None, list(overrides)
    if last < first or last - first >= MOST:
        raise ConfigError(
            f"seed={first}..{last}: expected the first and the last of at most {MOST} seeds, as in seed=0..4"
        )
    return range(first, last + 1), others


def with_seed(out: str, seed: int) -> list[str]:
    """The overrides of one of several seeds: each has a run directory of its own, OUT-SEED."""
    return [f"seed={seed}", f"out={out}-{seed}"]
