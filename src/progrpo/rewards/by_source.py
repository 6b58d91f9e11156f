"""Each problem by the reward of its source: the part of a mixture that it is of (its fact "source").

reward:
  name: by_source
  rewards: {algebra: math, programs: {name: code}}

`task=mixture` makes it of its parts' own rewards where these differ.
"""

from collections import defaultdict
from collections.abc import Sequence

from pydantic import Field, model_validator

from progrpo import rewards
from progrpo.settings import NamedChoice, Settings
from progrpo.types import Finish, Problem, Verdict


class Params(Settings):
    rewards: dict[str, NamedChoice] = Field(min_length=1)
    """The reward of each source: its name, or {name: ..., key: value}."""

    @model_validator(mode="after")
    def _loads(self) -> "Params":
        for source, choice in self.rewards.items():
            if rewards.load_part(choice).counts_tokens:
                raise ValueError(
                    f"rewards.{source}: {choice.name!r} may have a term for a completion's length, which knows of no source; "
                    "put it over them all: {name: length, over: {name: by_source, ...}}, or by_source into a part of combined"
                )
        return self

    @property
    def wrong_reward(self) -> float:
        """What a completion without a verdict gets: the lowest of theirs."""
        return min(reward.wrong_reward for reward in _all(self))


def score(text: str, problem: Problem, params: Params, *, finish: Finish | None = None) -> Verdict:
    """Judge by the reward of the problem's source; `bad_gold` where it has none."""
    reward = _reward(problem, params)
    return _unknown(problem, params) if reward is None else reward.score(text, problem, finish)


def score_all(
    texts: Sequence[str], problems: Sequence[Problem], params: Params, *, finish: Sequence[Finish | None] | None = None
) -> list[Verdict]:
    """Each reward judges what is of its sources, one that takes many at once in one call."""
    items = list(zip(texts, problems, finish or [None] * len(texts), strict=True))
    verdicts = [_unknown(problem, params) for problem in problems]
    places: dict[str, list[int]] = defaultdict(list)
    for place, problem in enumerate(problems):
        if _reward(problem, params) is not None:
            places[str(problem.facts["source"])].append(place)
    for source, of_source in places.items():
        judged = rewards.load_part(params.rewards[source]).score_all([items[place] for place in of_source])
        for place, verdict in zip(of_source, judged, strict=True):
            verdicts[place] = verdict
    return verdicts


def batched(params: Params) -> bool:
    return not slow(params) and any(reward.batched for reward in _all(params))


def fast_verdict(text: str, problem: Problem, params: Params, *, finish: Finish | None = None) -> Verdict | None:
    reward = _reward(problem, params)
    return _unknown(problem, params) if reward is None else reward.fast_verdict(text, problem, finish)


def slow(params: Params) -> bool:
    return any(reward.slow for reward in _all(params))


def canonical(params: Params) -> bool:
    return all(reward.canonical for reward in _all(params))


def answers(params: Params) -> bool:
    return all(reward.answers for reward in _all(params))


def limit_s(params: Params) -> float:
    return max(reward.limit_s for reward in _all(params))


def prepare(params: Params) -> None:
    for reward in _all(params):
        reward.prepare()


def warm(params: Params) -> None:
    for reward in _all(params):
        reward.warm()


def gold_fault(problem: Problem, params: Params) -> str | None:
    reward = _reward(problem, params)
    return _unknown(problem, params).detail if reward is None else reward.gold_fault(problem)


def _all(params: Params) -> list[rewards.Reward]:
    return [rewards.load_part(choice) for choice in params.rewards.values()]


def _reward(problem: Problem, params: Params) -> rewards.Reward | None:
    choice = params.rewards.get(str(problem.facts.get("source")))
    return None if choice is None else rewards.load_part(choice)


def _unknown(problem: Problem, params: Params) -> Verdict:
    detail = f"no reward for source {problem.facts.get('source')!r}; there are some for {', '.join(params.rewards)}"
    return Verdict(status="bad_gold", reward=params.wrong_reward, detail=detail)
