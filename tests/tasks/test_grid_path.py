import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.errors import ConfigError
from progrpo.rewards import path
from progrpo.settings import Choice
from progrpo.tasks import _procedural, grid_path, problems

SMALL = grid_path.Params(
    rows=3, columns=4, walls=2, min_moves=2, max_moves=7, min_solutions=2, max_solutions=6, train_size=60, test_size=15
)


@pytest.mark.parametrize(
    ("grid", "max_moves", "expected"),
    [
        # S .      right and down, or down and right
        # . G
        ("S./.G", 4, ["DR", "RD"]),
        # S # G    straight on is closed: one way round of 4 moves
        # . . .
        ("S#G/...", 4, ["DRRU"]),
        # S . G    straight on, or round the lower row, or down and up in either half: D R U R and R D R U
        # . . .
        ("S.G/...", 4, ["DRRU", "DRUR", "RDRU", "RR"]),
        ("S.G/...", 3, ["RR"]),
        ("S#G", 9, []),
        # S . .    C(4, 2) = 6 ways of 4 moves, less the 4 over the middle cell: RDRD, RDDR, DRRD, DRDR
        # . # .
        # . . G
        ("S../.#./..G", 8, ["DDRR", "RRDD"]),
    ],
)
def test_paths_counted_by_hand(grid: str, max_moves: int, expected: list[str]) -> None:
    assert list(grid_path.solutions(grid, max_moves)) == expected


def test_paths_between_the_corners_of_an_empty_grid() -> None:
    # A007764: 2, 12, 184 self-avoiding paths between opposite corners of 2 x 2, 3 x 3, 4 x 4 points;
    # the shortest alone: C(2, 1), C(4, 2), C(6, 3)
    for side, all_paths, shortest in ((2, 2, 2), (3, 12, 6), (4, 184, 20)):
        middle = ["." * side] * (side - 2)
        grid = "/".join(["S" + "." * (side - 1), *middle, "." * (side - 1) + "G"])
        assert len(list(grid_path.solutions(grid, side * side))) == all_paths
        assert len(list(grid_path.solutions(grid, 2 * (side - 1)))) == shortest


@given(st.permutations("SG##.....").map("".join), st.integers(1, 5))
def test_solutions_are_the_strings_that_verify(cells: str, max_moves: int) -> None:
    grid = "/".join((cells[:3], cells[3:6], cells[6:]))
    strings = ("".join(moves) for n in range(1, max_moves + 1) for moves in itertools.product("DLRU", repeat=n))
    right = {text for text in strings if _verifies(text, grid, max_moves)}
    found = list(grid_path.solutions(grid, max_moves))
    assert set(found) == right
    assert len(found) == len(right)


def _verifies(text: str, grid: str, max_moves: int) -> bool:
    try:
        path.follow(path.read_grid(grid), text, max_moves)
    except path.PathError:
        return False
    return True


def test_a_problem_keeps_what_the_settings_say() -> None:
    params = grid_path.Params(train_size=50)
    for problem in grid_path.load("train", params):
        paths = list(grid_path.solutions(problem.info["grid"], 8))
        assert problem.facts == {"solutions": len(paths)}
        assert 4 <= len(paths) <= 24
        assert 4 <= min(map(len, paths)) <= max(map(len, paths)) <= 8
        assert problem.info["grid"].count("#") == 6
        assert [len(row) for row in problem.info["grid"].split("/")] == [5] * 5
        for text in paths:
            verdict = path.score(text, problem, path.Params())
            assert (verdict.status, verdict.canonical) == ("correct", text)


def test_problems_are_a_function_of_the_settings() -> None:
    assert grid_path.load("train", SMALL) == grid_path.load("train", SMALL)
    assert grid_path.load("train", SMALL) != grid_path.load("train", SMALL.model_copy(update={"seed": 1}))
    longer = SMALL.model_copy(update={"train_size": 80})
    assert grid_path.load("train", longer)[:60] == grid_path.load("train", SMALL)


def test_splits_are_disjoint_across_seeds() -> None:
    ids = {
        split: {p.id for seed in range(3) for p in grid_path.load(split, SMALL.model_copy(update={"seed": seed}))}
        for split in _procedural.SPLIT_SHARES
    }
    assert min(map(len, ids.values())) > 15
    for one, other in itertools.combinations(ids.values(), 2):
        assert not one & other


def test_a_grid_has_one_split_whatever_the_rules() -> None:
    longer = SMALL.model_copy(update={"max_moves": 9, "max_solutions": None})
    assert not {p.id for p in grid_path.load("train", SMALL)} & {p.id for p in grid_path.load("test", longer)}


def test_shares_of_the_splits() -> None:
    grids = {"".join(cells) for cells in itertools.permutations("SG##....", 8)}  # 8!/(2! 4!) = 840
    counts = dict.fromkeys(_procedural.SPLIT_SHARES, 0)
    for cells in grids:
        counts[grid_path.split_of(f"{cells[:4]}/{cells[4:]}")] += 1
    assert len(grids) == 840
    for split, share in _procedural.SPLIT_SHARES.items():
        assert counts[split] / 840 == pytest.approx(share, abs=0.05)  # 3 standard errors of a share of 0.6


def test_styles() -> None:
    problem = grid_path.load("train", SMALL)[0]
    assert problem.prompt == f"{problem.info['grid']}:"
    words = grid_path.load("train", SMALL.model_copy(update={"style": "words"}))[0]
    assert words.info == problem.info
    assert problem.info["grid"].replace("/", "\n") in words.prompt
    assert "at most 7 moves" in words.prompt


def test_too_many_problems_asked_for() -> None:
    tiny = grid_path.Params(rows=2, columns=2, walls=0, min_moves=1, max_moves=3, min_solutions=2, test_size=100)
    with pytest.raises(ConfigError, match=r"only [0-9]+ problems of split 'test' exist"):
        grid_path.load("test", tiny)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"rows": 9}, "rows: input should be less than or equal to 8, got 9"),
        ({"rows": 2, "columns": 2, "walls": 3}, "walls 3 leave no start and goal among 4 cells; at most 2"),
        ({"min_moves": 9}, "min_moves 9 exceeds max_moves 8"),
        ({"min_solutions": 5, "max_solutions": 2}, "max_solutions 2 is below min_solutions 5"),
        ({"wals": 5}, "unknown key 'wals'; did you mean 'walls'"),
    ],
)
def test_bad_settings(choice: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        problems(Choice(name="grid_path", **choice), "train")


def test_unknown_split() -> None:
    with pytest.raises(ConfigError, match="grid_path: unknown split 'dev'"):
        grid_path.load("dev", SMALL)
