"""What the small models of scripts/make_embedded_model.py are pre-trained on: for each game prompts and answers to draw.

Everything comes from the pre-training splits.
"""

import ast
import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from progrpo.rewards.expression import apply
from progrpo.settings import parse
from progrpo.tasks import countdown, grid_path


class Game(NamedTuple):
    """What a model is made for.

    Attributes:
        characters: of prompts and answers together; one token each.
        out: where the model goes.
        steps: of pre-training, `rows` answers each. They stop long before the model errs no more, so that a policy that
            starts from it has room to gain.
        examples: examples(settings of the task) -> what `draw` draws from.
        draw: draw(example, rng) -> prompt, answer.
    """

    characters: str
    out: str
    steps: int
    rows: int
    examples: Callable[[dict[str, Any]], Sequence[Any]]
    draw: Callable[[Any, random.Random], tuple[str, str]]


# --- countdown: random solutions, written as the steps of their canonical form: how many numbers, then which, uniformly ---

CountdownExample = tuple[list[int], int, list[list[str]]]


def countdown_examples(settings: dict[str, Any]) -> list[CountdownExample]:
    """Numbers, target and solutions, by how many numbers they use, of every problem of the pre-training split."""
    params = parse(countdown.Params, {"min_solutions": 1} | settings, where="countdown")
    examples = []
    for problem in countdown.enumerate_split("pretrain", params):
        numbers, target = problem.info["numbers"], int(problem.answer or 0)
        by_count: dict[int, list[str]] = {}
        for form in sorted(countdown.solutions(numbers, params)[target]):
            by_count.setdefault(len(re.findall(r"[0-9]+", form)), []).append(form)
        examples.append((list(numbers), target, list(by_count.values())))
    return examples


def draw_countdown(example: CountdownExample, rng: random.Random) -> tuple[str, str]:
    numbers, target, by_count = example
    prompt = countdown.compact_prompt(numbers, target)
    return prompt, write_steps(rng.choice(rng.choice(by_count)))


def write_steps(expression: str) -> str:
    """The steps of a canonical solution, from the inside out: "(6-2)*5+3" gives "6-2=4,4*5=20,20+3=23"."""
    steps: list[str] = []
    _add_steps(ast.parse(expression, mode="eval").body, steps)
    return ",".join(steps)


def _add_steps(tree: ast.expr, steps: list[str]) -> int:
    if isinstance(tree, ast.Constant):
        return int(tree.value)
    assert isinstance(tree, ast.BinOp)
    operator = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}[type(tree.op)]
    left, right = _add_steps(tree.left, steps), _add_steps(tree.right, steps)
    result = apply(operator, left, right)
    assert result is not None
    steps.append(f"{left}{operator}{right}={result}")
    return result


# --- grid_path: random paths, how long and then which, uniformly ---

GRIDS = 20_000

PathExample = tuple[str, list[list[str]]]


def path_examples(settings: dict[str, Any]) -> list[PathExample]:
    """Grid and paths, by their length, of the first `GRIDS` problems of the pre-training split."""
    params = parse(grid_path.Params, settings, where="grid_path")
    examples = []
    for problem in islice(grid_path.generate("pretrain", params), GRIDS):
        by_length: dict[int, list[str]] = defaultdict(list)
        for path in grid_path.solutions(problem.info["grid"], params.max_moves):
            by_length[len(path)].append(path)
        examples.append((problem.info["grid"], list(by_length.values())))
    return examples


def draw_path(example: PathExample, rng: random.Random) -> tuple[str, str]:
    grid, by_length = example
    return grid_path.compact_prompt(grid), rng.choice(rng.choice(by_length))


GAMES = {
    "countdown": Game(
        "0123456789+-*/=,: ", "src/progrpo/embedded/countdown", 1500, 128, countdown_examples, draw_countdown
    ),
    "grid_path": Game(".#SG/:UDLR", "runs/grid_model", 500, 64, path_examples, draw_path),
}
