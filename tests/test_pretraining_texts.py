"""What scripts/make_embedded_model.py trains on: right answers to problems of the pre-training split, in known characters."""

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from progrpo import plugins, rewards
from progrpo.settings import Choice
from progrpo.tasks import countdown, grid_path


def load_script() -> ModuleType:
    path = Path(__file__).parent.parent / "scripts" / "pretraining_texts.py"
    spec = importlib.util.spec_from_file_location("pretraining_texts", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    return script


texts = load_script()
SMALL: dict[str, dict[str, Any]] = {
    "countdown": {"numbers": 3, "max_number": 6, "min_used": 2},
    "grid_path": {"rows": 4},
}


@pytest.mark.parametrize("name", sorted(texts.GAMES))
def test_drawn_answers_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "GRIDS", 50)
    game, task = texts.GAMES[name], plugins.load("tasks", name)
    reward = rewards.load(Choice(name=task.REWARD))
    examples = game.examples(SMALL[name])
    params = task.Params(**SMALL[name], min_solutions=1, max_solutions=None, train_size=50)
    by_prompt = {problem.prompt: problem for problem in task.load("pretrain", params)}
    rng, judged = random.Random(0), 0
    for _ in range(3000):
        prompt, answer = game.draw(rng.choice(examples), rng)
        assert set(prompt + answer) <= set(game.characters)
        if prompt in by_prompt:
            judged += 1
            assert reward.score(answer, by_prompt[prompt]).correct
    assert judged > 100


def test_examples_are_of_the_pretraining_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "GRIDS", 50)
    assert {grid_path.split_of(grid) for grid, _ in texts.path_examples({})} == {"pretrain"}
    numbers = [(numbers, target) for numbers, target, _ in texts.countdown_examples(SMALL["countdown"])]
    assert {countdown.split_of(*key) for key in numbers} == {"pretrain"}


def test_the_same_seed_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "GRIDS", 20)
    first, second = (
        [texts.draw_path(example, rng) for example in texts.path_examples({})]
        for rng in (random.Random(3), random.Random(3))
    )
    assert first == second
