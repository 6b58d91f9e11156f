from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.rewards.path import Params, read_grid, score
from progrpo.types import Problem, Verdict

# S . .
# . # .
# . . G
GRID = "S../.#./..G"


def judge(text: str, grid: object = GRID, max_moves: object = 6, **params: str | float) -> Verdict:
    problem = Problem(id="x", prompt="", info={"grid": grid, "max_moves": max_moves})
    return score(text, problem, Params.model_validate(params))


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [
        ("RRDD", "correct", ""),
        ("DDRR", "correct", ""),
        (" DDRR\n", "correct", ""),
        ("DRDR", "wrong", "hits a wall at move 2"),
        ("U", "wrong", "leaves the grid at move 1"),
        ("L", "wrong", "leaves the grid at move 1"),  # not the last column by a negative index
        ("RRR", "wrong", "leaves the grid at move 3"),
        ("DDD", "wrong", "leaves the grid at move 3"),
        ("RLRRDD", "wrong", "visits a cell twice at move 2"),  # back on the start
        ("RRDDUD", "wrong", "visits a cell twice at move 5"),  # past the goal and back
        ("RRDDL", "wrong", "ends in row 3, column 2, not at the goal"),  # past the goal
        ("RR", "wrong", "ends in row 1, column 3, not at the goal"),
        ("DDRRX", "no_answer", "expected the letters U D L R and nothing else"),
        ("DD RR", "no_answer", "expected the letters U D L R and nothing else"),
        ("rrdd", "no_answer", "expected the letters U D L R and nothing else"),
        ("RRDD\x00", "no_answer", "expected the letters U D L R and nothing else"),
        (
            "\uff32\uff32\uff24\uff24",
            "no_answer",
            "expected the letters U D L R and nothing else",
        ),  # full-width letters
        ("", "no_answer", "empty"),
        (" \n", "no_answer", "empty"),
    ],
)
def test_paths(text: str, status: str, detail: str) -> None:
    verdict = judge(text)
    assert (verdict.status, verdict.detail) == (status, detail)
    assert verdict.reward == (1.0 if status == "correct" else 0.0)
    assert verdict.canonical == (text.strip() if status == "correct" else None)


def test_the_limit_of_moves() -> None:
    assert judge("RRDD", max_moves=4).correct
    assert judge("RRDD", max_moves=3).detail == "too long: 4 moves, at most 3 are allowed"
    # the first rule broken, in the order of the moves
    assert judge("DRRR", max_moves=3).detail == "hits a wall at move 2"


def test_a_very_long_answer_is_cut_in_the_verdict() -> None:
    verdict = judge("RRDD" + "L" * 1_000_000, max_moves=4)
    assert verdict.detail == "too long: 1000004 moves, at most 4 are allowed"
    assert verdict.extracted is not None
    assert len(verdict.extracted) == 80
    assert judge("?" * 1_000_000).status == "no_answer"


def test_tag_takes_the_last_one() -> None:
    assert judge("maybe <answer>U</answer>, no: <answer>\nDDRR </answer>", tag="answer").correct
    assert judge("DDRR", tag="answer").status == "no_answer"


def test_rewards_are_settings() -> None:
    assert judge("DDRR", correct_reward=2.0).reward == 2.0
    assert [judge(text, wrong_reward=-1.0).reward for text in ("D", "?")] == [-1.0, -1.0]
    assert judge("D", grid=None, wrong_reward=-1.0).reward == -1.0


@pytest.mark.parametrize(
    ("grid", "max_moves", "detail"),
    [
        (None, 6, "grid must be text"),
        (["S.", ".G"], 6, "grid must be text"),
        ("", 6, "grid must be rows of one length"),
        ("/", 6, "grid must be rows of one length"),
        ("S.G/..", 6, "grid must be rows of one length"),
        ("S.G\n...", 6, "grid must be rows of one length"),
        ("S.x/..G", 6, "grid must be rows of one length"),
        ("S../...", 6, "one S and one G, got 1 and 0"),
        ("SS./..G", 6, "one S and one G, got 2 and 1"),
        (GRID, None, "max_moves must be a whole number"),
        (GRID, "6", "max_moves must be a whole number"),
        (GRID, True, "max_moves must be a whole number"),
        (GRID, 0, "max_moves must be a whole number"),
    ],
)
def test_a_problem_that_cannot_be_judged_is_bad_gold(grid: object, max_moves: object, detail: str) -> None:
    verdict = judge("DDRR", grid, max_moves)
    assert verdict.status == "bad_gold"
    assert detail in verdict.detail


def test_a_grid_is_read() -> None:
    read = read_grid("..G/S#.")
    assert (read.rows, read.start, read.goal) == (("..G", "S#."), (1, 0), (0, 2))


@given(st.text())
def test_any_text_gets_a_verdict(text: str) -> None:
    assert judge(text).status in ("correct", "wrong", "no_answer")


GRIDS = st.integers(1, 4).flatmap(
    lambda width: st.permutations("SG#" + "." * (4 * width - 3)).map(
        lambda cells: "/".join("".join(cells[first : first + width]) for first in range(0, 4 * width, width))
    )
)


@given(GRIDS, st.text("UDLR", max_size=9), st.integers(1, 9))
def test_a_verdict_agrees_with_complex_arithmetic(grid: str, path: str, max_moves: int) -> None:
    """An independent checker: cells are complex numbers, and all rules are looked at on the whole path at once."""
    cells = {complex(x, -y): symbol for y, row in enumerate(grid.split("/")) for x, symbol in enumerate(row)}
    start = next(cell for cell, symbol in cells.items() if symbol == "S")
    steps = [{"U": 1j, "D": -1j, "L": -1, "R": 1}[move] for move in path]
    places = [start + sum(steps[:count]) for count in range(len(steps) + 1)]
    right = (
        0 < len(path) <= max_moves
        and all(cells.get(place, "#") != "#" for place in places)
        and all(one != other for index, one in enumerate(places) for other in places[:index])
        and cells[places[-1]] == "G"
    )
    assert all(abs(one - other) == 1 for one, other in pairwise(places))
    assert judge(path, grid, max_moves).correct == right
