"""A weighted sum of rewards: the first judges what is correct, all of them are logged by themselves.

reward = sum_i weight_i * R_i

reward:
  name: combined
  parts: [{name: math, weight: 1.0}, {name: mylab.rewards.format, weight: 0.2}]
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import Field, model_validator

from progrpo import rewards
from progrpo.errors import ConfigError
from progrpo.settings import Choice, Settings
from progrpo.types import Finish, Problem, Verdict


class CombinedPart(Choice):
    weight: float = 1.0
    """Factor of this reward; negative for a penalty."""


class Params(Settings):
    parts: tuple[CombinedPart, ...] = Field(
        min_length=1, examples=[[{"name": "math", "weight": 1.0}, {"name": "length", "weight": 0.2}]]
    )
    """The rewards, each with its own settings and its weight. The first one's status, answer and canonical form count."""

    @model_validator(mode="after")
    def _loads(self) -> "Params":
        names = [part.name for part in self.parts]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"parts: {twice[0]!r} stands twice; parts are logged by name")
        for _, reward in _parts(self):
            if "combined" in (reward.name, getattr(getattr(reward.params, "over", None), "name", None)):
                raise ValueError("parts: combined within combined; name its parts here, each with its whole weight")
        return self

    @property
    def wrong_reward(self) -> float:
        """What a completion without a verdict gets."""
        return sum(weight * reward.wrong_reward for weight, reward in _parts(self))


def score(text: str, problem: Problem, params: Params, *, finish: Finish | None = None) -> Verdict:
    """Judge by every part. A part that fails (`bad_gold`, `crashed`, `timeout`) makes the whole fail."""
    return _sum([reward.score(text, problem, finish) for _, reward in _parts(params)], params)


def score_all(
    texts: Sequence[str], problems: Sequence[Problem], params: Params, *, finish: Sequence[Finish | None] | None = None
) -> list[Verdict]:
    """Each part judges all of them, a part that takes many at once in one call."""
    items = list(zip(texts, problems, finish or [None] * len(texts), strict=True))
    by_part = [reward.score_all(items) for _, reward in _parts(params)]
    return [_sum(list(verdicts), params) for verdicts in zip(*by_part, strict=True)]


def batched(params: Params) -> bool:
    return not slow(params) and any(reward.batched for _, reward in _parts(params))


def fast_verdict(text: str, problem: Problem, params: Params, *, finish: Finish | None = None) -> Verdict | None:
    """What all parts decide at once."""
    verdicts = []
    for _, reward in _parts(params):
        verdict = reward.fast_verdict(text, problem, finish)
        if verdict is None:
            return None
        verdicts.append(verdict)
    return _sum(verdicts, params)


def length_term(verdict: Verdict, tokens: int, params: Params) -> Verdict:
    """Each part's own terms that depend on the length. A verdict that no part gave has none."""
    if not verdict.parts:
        return verdict
    total, parts = 0.0, dict(verdict.parts)
    for weight, reward in _parts(params):
        value = verdict.parts[reward.name]
        if reward.has("length_term"):
            shaped = reward.length_term(replace(verdict, reward=value, parts={}), tokens)
            value = shaped.reward
            if shaped.parts:
                del parts[reward.name]
                _log(parts, reward.name, shaped.parts)
        total += weight * value
    return replace(verdict, reward=total, parts=parts)


def answers(params: Params) -> bool:
    return _parts(params)[0][1].answers


def counts_tokens(params: Params) -> bool:
    return any(reward.counts_tokens for _, reward in _parts(params))


def slow(params: Params) -> bool:
    return any(reward.slow for _, reward in _parts(params))


def canonical(params: Params) -> bool:
    return _parts(params)[0][1].canonical


def limit_s(params: Params) -> float:
    return sum(reward.limit_s for _, reward in _parts(params))


def prepare(params: Params) -> None:
    """Raises ConfigError where a worker process would have to judge by a function that only this process knows."""
    of_session = [part.name for part in params.parts if part.name.startswith(rewards.SESSION)]
    if of_session and slow(params):
        raise ConfigError(
            f"reward: {of_session[0].removeprefix(rewards.SESSION)} is a function of this session, but a reward beside it is "
            "judged in worker processes, which cannot know it; put the function into a file (my_reward.py) and import it from "
            "there"
        )
    for _, reward in _parts(params):
        reward.prepare()


def warm(params: Params) -> None:
    for _, reward in _parts(params):
        reward.warm()


def gold_fault(problem: Problem, params: Params) -> str | None:
    faults = (reward.gold_fault(problem) for _, reward in _parts(params))
    return next((fault for fault in faults if fault is not None), None)


def _parts(params: Params) -> list[tuple[float, rewards.Reward]]:
    return [(part.weight, rewards.load_part(Choice(name=part.name, **part.params))) for part in params.parts]


def _sum(verdicts: list[Verdict], params: Params) -> Verdict:
    names = [part.name for part in params.parts]
    total = sum(part.weight * verdict.reward for part, verdict in zip(params.parts, verdicts, strict=True))
    failed = [verdict for verdict in verdicts if verdict.failed]
    leading = failed[0] if failed else verdicts[0]
    parts = {
        name: verdict.reward for name, verdict in zip(names, verdicts, strict=True)
    }  # what `length_term` goes on from
    for name, verdict in zip(names, verdicts, strict=True):
        _log(parts, name, verdict.parts)
    return replace(leading, reward=total, parts=parts)


def _log(parts: dict[str, float], name: str, of_part: Mapping[str, float]) -> None:
    """A part that is made of several itself is logged by them, too: length over math as math and length."""
    for inner, value in of_part.items():
        parts[inner if inner not in parts else f"{name}.{inner}"] = value
