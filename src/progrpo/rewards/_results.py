"""What a reward may give and the verdict that becomes of it: the one place at which results of `score` are checked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from progrpo import plugins
from progrpo.types import STATUSES, Status, Verdict

_EXPECTED = "expected a Verdict, a finite number, a bool or None"
_BEST_FIRST: tuple[Status, ...] = ("correct", "timeout", "crashed", "bad_gold", "wrong", "no_answer")
"""A failure stands before `wrong`: the gold answer that could not be judged might have been the one that was given."""


def best(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a completion that was judged by each accepted answer: `correct` if it is by any of them, and of
    equal statuses the one with the largest reward."""
    return min(verdicts, key=lambda verdict: (_BEST_FIRST.index(verdict.status), -verdict.reward))


def as_verdict(value: object, params: Any, name: str) -> Verdict:
    """A `Verdict` as it is; a number as the reward of a completion that is correct if it is > 0; a bool as correct or wrong
    with the rewards of `params`; None as a completion that this reward cannot judge (`bad_gold`: left out of its group).

    Anything else, nan, inf and a verdict with an impossible field included, is a failure of the reward: `crashed`, with its
    `name`, what it gave and what was expected.
    """
    if isinstance(value, Verdict):
        fault = _fault(value)
        if fault is None:
            return (
                value
                if type(value.reward) is float
                else replace(value, reward=float(plugins.number(value.reward) or 0))
            )
        return _crashed(f"reward {name!r}: {fault}", params)
    if value is None:
        return Verdict(status="bad_gold", reward=_wrong(params), detail=f"reward {name!r} gave no verdict (None)")
    plain = plugins.scalar(value)
    if isinstance(plain, bool):
        return (
            Verdict(status="correct", reward=_right(params))
            if plain
            else Verdict(status="wrong", reward=_wrong(params))
        )
    reward = plugins.number(plain)
    if reward is None:
        return _crashed(f"reward {name!r} gave {value!r:.200}; {_EXPECTED}", params)
    return Verdict(status="correct" if reward > 0 else "wrong", reward=reward)


def _fault(verdict: Verdict) -> str | None:
    """What is wrong with a verdict's fields, in words; None where nothing is."""
    if verdict.status not in STATUSES:
        return f"a verdict has the status {verdict.status!r:.200}; expected one of {', '.join(STATUSES)}"
    if plugins.number(verdict.reward) is None:
        return f"a verdict has the reward {verdict.reward!r:.200}; expected a finite number"
    for name in ("extracted", "canonical"):
        if not isinstance(getattr(verdict, name), str | None):
            return f"a verdict has {name}={getattr(verdict, name)!r:.200}; expected text or None"
    if not isinstance(verdict.detail, str):
        return f"a verdict has detail={verdict.detail!r:.200}; expected text"
    parts = verdict.parts
    if not isinstance(parts, Mapping) or any(plugins.number(value) is None for value in parts.values()):
        return f"a verdict has parts={parts!r:.200}; expected finite numbers by name"
    return None


def _crashed(detail: str, params: Any) -> Verdict:
    return Verdict(status="crashed", reward=_wrong(params), detail=detail)


def _right(params: Any) -> float:
    return float(getattr(params, "correct_reward", 1.0))


def _wrong(params: Any) -> float:
    return float(getattr(params, "wrong_reward", 0.0))
