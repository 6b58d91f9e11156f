"""DAPO's soft overlong penalty as a term over another reward (arXiv:2503.14476, Eq. 13).

    reward = R(text) + penalty * f(n),    f(n) = 0                       n <= limit - buffer
                                          (limit - buffer - n) / buffer   within the buffer
                                          -1                              n > limit

n counts the completion's tokens, the end token included. The status stays the other reward's: a correct answer is
correct at any length. `rollout` metrics show the other reward and this term apart (reward/NAME, reward/length).
"""

from dataclasses import replace

from pydantic import Field, model_validator

from progrpo import rewards
from progrpo.settings import Choice, Settings
from progrpo.types import Finish, Problem, Verdict

__all__ = ["overlong"]


class Params(Settings):
    over: Choice = Choice(name="dapo_math")
    """The reward that judges, with its own settings."""
    limit_tokens: int = Field(gt=0)
    """Longest completion without the full penalty; 20,480 in the DAPO paper. Usually sampling.max_new_tokens."""
    buffer_tokens: int = Field(gt=0)
    """The penalty sets in so many tokens before the limit; 4,096 in the DAPO paper."""
    penalty: float = Field(1.0, ge=0)
    """Size of the full penalty, in units of the reward."""

    @model_validator(mode="after")
    def _fits(self) -> "Params":
        if self.buffer_tokens > self.limit_tokens:
            raise ValueError(f"buffer_tokens={self.buffer_tokens} exceeds limit_tokens={self.limit_tokens}")
        rewards.load_part(self.over)
        return self

    @property
    def wrong_reward(self) -> float:
        """What a completion without a verdict gets, before the term."""
        return rewards.load_part(self.over).wrong_reward


def score(text: str, problem: Problem, params: Params, *, finish: Finish | None = None) -> Verdict:
    """The other reward's verdict; the term follows in `length_term`."""
    return rewards.load_part(params.over).score(text, problem, finish)


def fast_verdict(text: str, problem: Problem, params: Params, *, finish: Finish | None = None) -> Verdict | None:
    """What the other reward decides at once."""
    return rewards.load_part(params.over).fast_verdict(text, problem, finish)


def length_term(verdict: Verdict, tokens: int, params: Params) -> Verdict:
    """Add the penalty for a completion of so many tokens."""
    inner = rewards.load_part(params.over).length_term(verdict, tokens)
    term = params.penalty * overlong(tokens, limit=params.limit_tokens, buffer=params.buffer_tokens)
    parts = {**(inner.parts or {params.over.name: inner.reward}), "length": term}
    return replace(inner, reward=inner.reward + term, parts=parts)


def overlong(tokens: int, *, limit: int, buffer: int) -> float:
    """f(n) of the module's docstring, in [-1, 0]."""
    return max(-1.0, min(0.0, (limit - buffer - tokens) / buffer))


def slow(params: Params) -> bool:
    return rewards.load_part(params.over).slow


def canonical(params: Params) -> bool:
    return rewards.load_part(params.over).canonical


def answers(params: Params) -> bool:
    return rewards.load_part(params.over).answers


def limit_s(params: Params) -> float:
    return rewards.load_part(params.over).limit_s


def prepare(params: Params) -> None:
    rewards.load_part(params.over).prepare()


def warm(params: Params) -> None:
    rewards.load_part(params.over).warm()


def gold_fault(problem: Problem, params: Params) -> str | None:
    return rewards.load_part(params.over).gold_fault(problem)
