"""Paths through a grid: letters U D L R that lead from the start to the goal, on free cells, over no cell twice.

A grid is rows of "." (free), "#" (wall) and one "S" (start) and "G" (goal), joined by "/". A path is its own canonical
form: two paths are one solution exactly if they make the same moves.
"""

import re
from dataclasses import dataclass

from progrpo import rewards
from progrpo.rewards import _tagged
from progrpo.types import Problem, Verdict

__all__ = ["MOVES", "follow", "read_grid", "step"]

CANONICAL = True
MOVES = {"D": (1, 0), "L": (0, -1), "R": (0, 1), "U": (-1, 0)}
"""What a move adds to (row, column); row 0 is the first."""
_PATH = re.compile(r"[DLRU]+")

Cell = tuple[int, int]


class Params(rewards.Params):
    tag: str | None = None
    """Take the text of the last `<tag>...</tag>` as the answer; None takes the whole completion."""


class GridError(ValueError):
    """The text is no grid with one start and one goal."""


class PathError(ValueError):
    """The path breaks a rule or ends elsewhere."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of cells with a start and a goal; cells are (row, column) from (0, 0)."""

    rows: tuple[str, ...]
    start: Cell
    goal: Cell

    def at(self, cell: Cell) -> str | None:
        """What stands on a cell; None outside the grid."""
        row, column = cell
        return self.rows[row][column] if 0 <= row < len(self.rows) and 0 <= column < len(self.rows[0]) else None


def score(text: str, problem: Problem, params: Params) -> Verdict:
    """Judge one completion: a path through `problem.info["grid"]` of at most `problem.info["max_moves"]` moves.

    `no_answer`: empty, or anything beside the letters U D L R. `wrong`: the first rule that is broken, in the order of the
    moves, is in the detail. `bad_gold`: see `gold_fault`.
    """
    fault = gold_fault(problem, params)
    if fault is not None:
        return Verdict(status="bad_gold", reward=params.wrong_reward, detail=fault)
    path = _tagged.last(text, params.tag)
    if path is None:
        return Verdict(status="no_answer", reward=params.wrong_reward, detail=f"no <{params.tag}> in the completion")
    if not _PATH.fullmatch(path):
        detail = "expected the letters U D L R and nothing else" if path else "empty"
        return Verdict(status="no_answer", reward=params.wrong_reward, extracted=path[:80], detail=detail)
    try:
        follow(read_grid(problem.info["grid"]), path, problem.info["max_moves"])
    except PathError as error:
        return Verdict(status="wrong", reward=params.wrong_reward, extracted=path[:80], detail=str(error))
    return Verdict(status="correct", reward=params.correct_reward, extracted=path, canonical=path)


def gold_fault(problem: Problem, params: Params) -> str | None:
    """Why a problem cannot be judged: no grid, or no limit of moves."""
    grid, max_moves = problem.info.get("grid"), problem.info.get("max_moves")
    if not isinstance(grid, str):
        return f"grid must be text, rows joined by '/', got {grid!r:.80}"
    if type(max_moves) is not int or max_moves < 1:
        return f"max_moves must be a whole number of at least 1, got {max_moves!r:.80}"
    try:
        read_grid(grid)
    except GridError as error:
        return str(error)
    return None


def read_grid(text: str) -> Grid:
    """Read "S../.#./..G".

    Raises:
        GridError: another character, rows of different lengths, or not one S and one G.
    """
    rows = tuple(text.split("/"))
    if not re.fullmatch(r"[.#SG/]+", text) or not rows[0] or len({len(row) for row in rows}) != 1:
        raise GridError(f"grid must be rows of one length of . # S G, joined by '/', got {text!r:.80}")
    if text.count("S") != 1 or text.count("G") != 1:
        raise GridError(f"grid must have one S and one G, got {text.count('S')} and {text.count('G')}")
    cells = {symbol: (row, line.index(symbol)) for row, line in enumerate(rows) for symbol in "SG" if symbol in line}
    return Grid(rows, cells["S"], cells["G"])


def follow(grid: Grid, path: str, max_moves: int) -> None:
    """Walk `path` (letters U D L R); no more than `max_moves` + 1 of its letters are looked at, however long it is.

    Raises:
        PathError: it leaves the grid, hits a wall, visits a cell twice, is too long, or does not end at the goal.
    """
    cell = grid.start
    visited = {cell}
    for count, move in enumerate(path[: max_moves + 1], start=1):
        if count > max_moves:
            raise PathError(f"too long: {len(path)} moves, at most {max_moves} are allowed")
        cell = step(cell, move)
        if grid.at(cell) is None:
            raise PathError(f"leaves the grid at move {count}")
        if grid.at(cell) == "#":
            raise PathError(f"hits a wall at move {count}")
        if cell in visited:
            raise PathError(f"visits a cell twice at move {count}")
        visited.add(cell)
    if cell != grid.goal:
        raise PathError(f"ends in row {cell[0] + 1}, column {cell[1] + 1}, not at the goal")


def step(cell: Cell, move: str) -> Cell:
    """The cell one move on, inside the grid or not."""
    down, right = MOVES[move]
    return cell[0] + down, cell[1] + right
