"""Two models measured on equal numbers of correct completions per problem.

Self-BLEU rises and Distinct-n falls with the number of texts, so that the model that solves more looks less diverse.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from progrpo.seeds import derive_seed
from progrpo.types import ProblemResult, Sample

MIN_CORRECT = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One problem measured on both sides.

    Attributes:
        problem: its id.
        samples: m, the correct completions that went into each value.
        a, b: the value of either side, mean over draws.
    """

    problem: str
    samples: int
    a: float
    b: float


def matched(
    judged_a: Sequence[ProblemResult],
    judged_b: Sequence[ProblemResult],
    value: Callable[[Sequence[Sample]], float],
    *,
    draws: int = 16,
    seed: int = 0,
) -> list[Pair]:
    """Measure both sides of each problem on m correct completions, m the smaller number of the two.

    The side with m keeps all of them. Of the other, `draws` subsets of m are drawn without replacement and their values
    averaged, or every subset is taken once where there are no more than `draws`: then the mean is exact. The draws depend
    on (seed, problem) alone; exchanging the sides exchanges `a` and `b`.

    Args:
        judged_a, judged_b: problems, paired by their ids; those that one side lacks are left out.
        value: of at least two samples, in any order; nan where it is not defined.
        draws: >= 1.

    Returns:
        One pair per problem on which both sides have at least 2 correct completions and a value, in the order of
        `judged_a`. How many remain belongs beside the result.
    Raises:
        ValueError: draws < 1, or a side has two problems of one id.
    """
    if draws < 1:
        raise ValueError(f"matched: expected draws >= 1, got {draws}")
    others = _by_id(judged_b)
    pairs = []
    for problem, first in _by_id(judged_a).items():
        if problem not in others:
            continue
        sides = [[sample for sample in judged.samples if sample.correct] for judged in (first, others[problem])]
        m = min(map(len, sides))
        if m < MIN_CORRECT:
            continue
        a, b = (_mean_value(side, m, value, draws, Random(derive_seed(seed, "matched", problem))) for side in sides)
        if not (math.isnan(a) or math.isnan(b)):
            pairs.append(Pair(problem=problem, samples=m, a=a, b=b))
    return pairs


def _by_id(problems: Sequence[ProblemResult]) -> dict[str, ProblemResult]:
    twice = [problem for problem, times in Counter(judged.problem for judged in problems).items() if times > 1]
    if twice:
        raise ValueError(f"matched: expected each problem once on a side, got {twice[0]!r} more than once")
    return {judged.problem: judged for judged in problems}


def _mean_value(
    samples: Sequence[Sample], m: int, value: Callable[[Sequence[Sample]], float], draws: int, random: Random
) -> float:
    """nan as soon as one subset has no value: a mean over the others would be of longer texts."""
    values = [value(subset) for subset in _subsets(samples, m, draws, random)]
    return math.fsum(values) / len(values)


def _subsets(samples: Sequence[Sample], m: int, draws: int, random: Random) -> Iterator[Sequence[Sample]]:
    if math.comb(len(samples), m) <= draws:
        yield from combinations(samples, m)
        return
    for _ in range(draws):
        yield random.sample(samples, m)
