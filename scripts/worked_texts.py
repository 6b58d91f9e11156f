"""Worked solutions of two reasoning-gym data sets, drawn anew each time: what scripts/make_worked_model.py learns from.

`countdown` has many right answers to a question, `leg_counting` has one that many orders of the same sums lead to. So a model
that learns from random ones knows several ways to most answers, and what training does to them can be counted.
"""

import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pretraining_texts import write_steps
from progrpo.tasks import countdown
from progrpo.types import Problem


def draw_solution(problem: Problem, rng: random.Random) -> str:
    """One worked solution of a question, uniformly among those that there are.

    Raises:
        KeyError: of another data set.
    """
    return WORKED[problem.info["dataset"]](problem.info["entry"]["metadata"], rng)


def solvable(problem: Problem) -> bool:
    """Whether there is a solution to draw: some targets are reached over broken or negative numbers alone."""
    about = problem.info["entry"]["metadata"]
    return problem.info["dataset"] != "countdown" or bool(_solutions(tuple(sorted(about["numbers"])), about["target"]))


def draw_countdown(about: Mapping[str, Any], rng: random.Random) -> str:
    """The steps of a random solution in canonical form, a line each, then the solution: "6-2=4", "4*5=20", "20+3=23",
    "<answer>(6-2)*5+3</answer>"."""
    solution = rng.choice(_solutions(tuple(sorted(about["numbers"])), about["target"]))
    steps = write_steps(solution).replace(",", "\n")
    return f"{steps}\n<answer>{solution}</answer>"


def draw_legs(about: Mapping[str, Any], rng: random.Random) -> str:
    """The animals in random order, each with its legs and the total so far."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    animals = list(about["animals"].items())
    rng.shuffle(animals)
    lines, total = [], 0
    for name, count in animals:
        each = ANIMALS[name]
        line = f"{name} {count}*{each}={count * each}"
        lines.append(line if not lines else f"{line}, {total}+{count * each}={total + count * each}")
        total += count * each
    return "\n".join([*lines, f"<answer>{total}</answer>"])


WORKED = {"countdown": draw_countdown, "leg_counting": draw_legs}


@lru_cache(maxsize=100_000)
def _solutions(numbers: tuple[int, ...], target: int) -> list[str]:
    """The canonical forms that use all numbers and reach the target; sums of negative and broken numbers are left out."""
    params = countdown.Params(numbers=len(numbers), max_number=max(2, *numbers), min_used=None, max_target=target)
    return sorted(countdown.solutions(numbers, params).get(target, ()))
