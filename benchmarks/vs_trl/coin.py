"""A reward for random models: nothing for problems of an even number, for those of an odd one a hash of the completion.

The number is the first word of the prompt ("t4097 ..."). 256 levels make a tie of a whole group a thing that does not
happen: exactly the even problems are the zero-std groups, and their share is what the prompts say.
"""

import zlib

from progrpo import rewards
from progrpo.types import Problem, Verdict

__all__ = ["reward"]

Params = rewards.Params


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """A pure function of prompt and completion; "correct" from 0.5 on."""
    value = reward(str(problem.prompt), text)
    return Verdict(status="correct" if value >= 0.5 else "wrong", reward=value)


def reward(prompt: str, completion: str) -> float:
    """In [0, 1]."""
    even = int(prompt.split(maxsplit=1)[0][1:]) % 2 == 0
    return 0.0 if even else (zlib.crc32(completion.encode()) & 255) / 255
