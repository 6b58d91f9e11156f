from collections import Counter

import pytest

from progrpo.errors import ConfigError
from progrpo.train.stream import ProblemStream
from progrpo.types import Problem

PROBLEMS = [Problem(id=str(n), prompt="") for n in range(10)]


def ids(stream: ProblemStream, start: int, count: int) -> list[tuple[int, str]]:
    return [(epoch, problem.id) for epoch, problem in stream.take(start, count)]


def stream(**changes: object) -> ProblemStream:
    return ProblemStream(PROBLEMS, **{"seed": 0, "shuffle": True, "per_rollout": 4} | changes)


def test_every_epoch_holds_every_problem_once_in_a_new_order() -> None:
    taken = ids(stream(), 0, 30)
    for epoch in range(3):
        part = taken[10 * epoch : 10 * epoch + 10]
        assert Counter(part) == Counter((epoch, str(n)) for n in range(10))
    assert [i for _, i in taken[:10]] != [i for _, i in taken[10:20]]


def test_it_is_a_function_of_the_place() -> None:
    whole = ids(stream(), 0, 40)
    fresh = stream()
    assert [item for start in range(0, 40, 4) for item in ids(fresh, start, 4)] == whole
    assert ids(stream(), 17, 4) == whole[17:21]


def test_seeds_differ_and_order_can_be_kept() -> None:
    assert ids(stream(), 0, 10) != ids(stream(seed=1), 0, 10)
    assert ids(stream(shuffle=False), 8, 4) == [(0, "8"), (0, "9"), (1, "0"), (1, "1")]


def test_a_rollout_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch.prompts=11 exceeds the 10 training problems"):
        stream(per_rollout=11)
