"""A reward that a random model meets half of the time: completions of an even number of characters, <unk> apart, are right."""

from progrpo.rewards import Params
from progrpo.types import Problem, Verdict

CANONICAL = True


def score(text: str, problem: Problem, params: Params) -> Verdict:
    if len(text.replace("<unk>", "")) % 2:
        return Verdict(status="wrong", reward=params.wrong_reward, detail="odd")
    return Verdict(status="correct", reward=params.correct_reward, canonical=text)
