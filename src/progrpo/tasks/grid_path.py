"""Paths through small grids with walls, procedural and offline: start to goal in a few moves; many right answers per problem.

A path goes up, down, left or right over free cells, visits none twice and has at most `max_moves` moves. Distinct paths are
distinct solutions, and `facts["solutions"]` counts them all. A problem is its grid; its split is a hash of exactly that (a
mirrored grid is another problem, perhaps of another split).
"""

import random
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from pydantic import Field, model_validator

from progrpo.errors import ConfigError
from progrpo.rewards.path import MOVES, Cell, Grid, read_grid, step
from progrpo.settings import Settings
from progrpo.tasks import _procedural
from progrpo.types import Problem

__all__ = ["compact_prompt", "generate", "solutions", "split_of"]

REWARD = "path"
ENDLESS = True
MAX_NEW_TOKENS = 1024

_WORDS = (
    "In this grid S is the start, G the goal, # a wall and . a free cell:\n{grid}\nFind a path from S to G of at most "
    "{max_moves} moves that hits no wall, stays inside the grid and visits no cell twice. The moves are U (up), D (down), "
    "L (left) and R (right). Think first, then give the moves alone, for instance RRD, between <answer> and </answer>."
)


class Params(Settings):
    """The defaults are the game that scripts/make_embedded_model.py makes a model for."""

    rows: int = Field(5, ge=2, le=8)
    """Height of the grid, in cells."""
    columns: int = Field(5, ge=2, le=8)
    """Width of the grid, in cells."""
    walls: int = Field(6, ge=0, le=62)
    """How many cells are walls; they are drawn at random."""
    min_moves: int = Field(4, ge=1)
    """Keep problems whose shortest path has at least this many moves."""
    max_moves: int = Field(8, ge=1, le=20)
    """A path has at most this many moves."""
    min_solutions: int = Field(4, ge=1)
    """Keep problems with at least this many paths."""
    max_solutions: int | None = Field(24, ge=1)
    """Keep problems with at most this many; None sets no limit (and counting may then take seconds in large empty grids)."""
    train_size: int = Field(1000, ge=1)
    """Problems to train on, all different."""
    test_size: int = Field(256, ge=1)
    """Held-out problems, none of which is among those of training."""
    seed: int = 0
    """Of the draw of problems; the splits stay disjoint across seeds."""
    style: Literal["compact", "words"] = "compact"
    """`compact`: prompt "S..#/.#../...G:", answer "DDRRR", for a small model. `words`: a prompt in English, the answer
    between <answer> tags (give reward.tag=answer)."""

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        cells = self.rows * self.columns
        if self.walls > cells - 2:
            raise ValueError(f"walls {self.walls} leave no start and goal among {cells} cells; at most {cells - 2}")
        if self.min_moves > self.max_moves:
            raise ValueError(f"min_moves {self.min_moves} exceeds max_moves {self.max_moves}; no path could be both")
        if self.max_solutions is not None and self.max_solutions < self.min_solutions:
            raise ValueError(f"max_solutions {self.max_solutions} is below min_solutions {self.min_solutions}")
        return self


def load(split: str, params: Params) -> list[Problem]:
    """The first `train_size` or `test_size` distinct problems of a split ("pretrain" takes train_size too)."""
    size = params.test_size if split == "test" else params.train_size
    return list(islice(generate(split, params), size))


def generate(split: str, params: Params) -> Iterator[Problem]:
    """Yield distinct problems of one split without end.

    Raises:
        ConfigError: unknown split, or 20,000 draws in a row gave nothing new (the setting admits too few problems).
    """
    _procedural.check_split("grid_path", split)

    def draw(rng: random.Random) -> tuple[str, int] | None:
        grid = _draw_grid(rng, params)
        count = _count(grid, params) if split_of(grid) == split else None
        return None if count is None else (grid, count)

    produced = 0
    for grid, count in _procedural.draw_distinct(split, params.seed, draw):
        produced += 1
        yield _problem(grid, count, params)
    raise ConfigError(
        f"grid_path: only {produced} problems of split {split!r} exist or can be found on "
        f"{params.rows} x {params.columns} cells with {params.walls} walls and at most {params.max_moves} moves; "
        "change one of these or ask for fewer problems"
    )


def _draw_grid(rng: random.Random, params: Params) -> str:
    """A grid as one line of text, its start, goal and walls drawn uniformly; perhaps without any path."""
    width = params.columns
    cells = ["."] * (params.rows * width)
    start, goal, *walls = rng.sample(range(len(cells)), params.walls + 2)
    cells[start], cells[goal] = "S", "G"
    for wall in walls:
        cells[wall] = "#"
    return "/".join("".join(cells[first : first + width]) for first in range(0, len(cells), width))


def split_of(grid: str) -> str:
    """The one split a grid belongs to: a hash of its text against the split shares."""
    return _procedural.split_by_hash("grid_path", grid)


def solutions(grid: str, max_moves: int) -> Iterator[str]:
    """Yield every admissible path, in alphabetical order, by depth-first search that never strays too far from the goal."""
    read = read_grid(grid)
    return _search(read, read.start, {read.start}, "", max_moves, _distances(read))


def _search(
    grid: Grid, cell: Cell, visited: set[Cell], path: str, max_moves: int, distances: dict[Cell, int]
) -> Iterator[str]:
    if cell == grid.goal:
        yield path
        return
    for move in MOVES:
        ahead = step(cell, move)
        if ahead not in visited and ahead in distances and len(path) + 1 + distances[ahead] <= max_moves:
            yield from _search(grid, ahead, visited | {ahead}, path + move, max_moves, distances)


def _distances(grid: Grid) -> dict[Cell, int]:
    """The fewest moves to the goal from every cell it can be reached from."""
    distances = {grid.goal: 0}
    queue = deque([grid.goal])
    while queue:
        cell = queue.popleft()
        for ahead in (step(cell, move) for move in MOVES):
            if grid.at(ahead) not in (None, "#") and ahead not in distances:
                distances[ahead] = distances[cell] + 1
                queue.append(ahead)
    return distances


def _count(grid: str, params: Params) -> int | None:
    """How many paths a grid has; None where `params` do not admit it."""
    read = read_grid(grid)
    if _distances(read).get(read.start, 0) < params.min_moves:
        return None
    most = params.max_solutions
    count = sum(1 for _ in islice(solutions(grid, params.max_moves), None if most is None else most + 1))
    return count if params.min_solutions <= count and (most is None or count <= most) else None


def compact_prompt(grid: str) -> str:
    """The prompt of a small model, for instance "S..#/.#../...G:"."""
    return f"{grid}:"


def _problem(grid: str, count: int, params: Params) -> Problem:
    prompt = compact_prompt(grid)
    if params.style == "words":
        prompt = _WORDS.format(grid=grid.replace("/", "\n"), max_moves=params.max_moves)
    info = {"grid": grid, "max_moves": params.max_moves}
    return Problem(id=grid, prompt=prompt, info=info, facts={"solutions": count})
