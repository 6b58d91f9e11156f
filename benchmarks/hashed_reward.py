"""A reward that is a hash of the completion: 256 levels, so that every group has a gradient whatever a model writes."""

import zlib

from progrpo import rewards
from progrpo.types import Problem, Verdict

Params = rewards.Params


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """A pure function of the completion; "correct" from 0.5 on."""
    value = (zlib.crc32(text.encode()) & 255) / 255
    return Verdict(status="correct" if value >= 0.5 else "wrong", reward=value)
