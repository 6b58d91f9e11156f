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


MIXED = [
    Problem(id=f"{source}/{n}", prompt="", facts={"source": source})
    for source, size in (("a", 30), ("b", 7), ("c", 3))
    for n in range(size)
]
WEIGHTS = {"a": 5.0, "b": 2.0, "c": 1.0}


def mixed(**changes: object) -> ProblemStream:
    return ProblemStream(MIXED, **{"seed": 0, "shuffle": True, "per_rollout": 6, "weights": WEIGHTS} | changes)


def test_each_rollout_holds_the_shares_of_its_sources() -> None:
    taken = ids(mixed(), 0, 6 * 400)
    # Shares of 6 problems: 3.75, 1.5 and 0.75; each rollout has one of the two whole numbers around them.
    around = {"a": {3, 4}, "b": {1, 2}, "c": {0, 1}}
    total: Counter[str] = Counter()
    for start in range(0, len(taken), 6):
        counts = Counter(name.split("/")[0] for _, name in taken[start : start + 6])
        assert all(counts[source] in numbers for source, numbers in around.items())
        total += counts
    # 400 draws of a whole number with a spread of at most 1/2: four standard errors are 0.1 problems.
    assert all(abs(total[source] / 400 - share) < 0.1 for source, share in {"a": 3.75, "b": 1.5, "c": 0.75}.items())
    # Sources are mixed within a rollout, too: a mini-batch is no source of its own.
    assert len({name.split("/")[0] for _, name in taken[0::6]}) == 3


def test_each_source_comes_round_by_itself() -> None:
    taken = ids(mixed(), 0, 6 * 60)
    for source, size in (("a", 30), ("b", 7), ("c", 3)):
        of_source = [one for one in taken if one[1].startswith(source)]
        assert len(of_source) >= 2 * size
        for epoch in range(len(of_source) // size):
            part = of_source[size * epoch : size * epoch + size]
            assert Counter(part) == Counter((epoch, f"{source}/{n}") for n in range(size))
    assert [name for _, name in taken if name[0] == "a"][:30] != [name for _, name in taken if name[0] == "a"][30:60]


def test_a_mixture_is_a_function_of_the_place() -> None:
    whole = ids(mixed(), 0, 120)
    assert ids(mixed(), 114, 6) == whole[114:]
    assert ids(mixed(), 40, 13) == whole[40:53]
    assert ids(mixed(seed=1), 0, 120) != whole


def test_a_source_that_is_too_small_for_its_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"source 'c' of the mixture has 3 training problems, .* up to 4 of the 6"):
        mixed(weights={"a": 1.0, "b": 1.0, "c": 2.5})
    with pytest.raises(ConfigError, match="source 'd' of the mixture has 0 training problems"):
        mixed(weights=WEIGHTS | {"d": 0.1})


def test_easy_problems_come_first_in_every_epoch_and_equal_ones_in_its_order() -> None:
    ease = {str(n): n // 4 / 4 for n in range(10)}  # 0 to 3, 4 to 7, and 8 and 9 are equal
    eased = ids(stream(ease=ease), 0, 20)
    plain = ids(stream(), 0, 20)
    for epoch in (0, 1):
        part, drawn = eased[10 * epoch : 10 * epoch + 10], plain[10 * epoch : 10 * epoch + 10]
        assert part == sorted(drawn, key=lambda one: -ease[one[1]])  # a stable sort
    assert eased[:10] != [(0, name) for _, name in eased[10:]]
    assert ids(stream(ease=ease), 13, 4) == eased[13:17]
    kept = ids(stream(ease=ease, shuffle=False), 0, 10)
    assert [name for _, name in kept] == ["8", "9", "4", "5", "6", "7", "0", "1", "2", "3"]
