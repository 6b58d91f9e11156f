"""How a completion ended reaches every reward that asks for it, through the pool and through rewards made of others."""

from pathlib import Path
from typing import Any

import pytest

from progrpo import rewards
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem

PROBLEM = Problem(id="x", prompt="", answer="1")
MATH = {"name": "math", "unfinished": "no_answer"}

SEEN = {
    "keyword": "def score(text, problem, params, *, finish=None):\n    return 1.0 if finish == 'length' else 0.0\n",
    "plain": "def score(text, problem, params, finish=None):\n    return 1.0 if finish == 'length' else 0.0\n",
    "third": "def score(text, problem, finish=None):\n    return 1.0 if finish == 'length' else 0.0\n",
}


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("form", SEEN)
@pytest.mark.parametrize("slow", [False, True])
def test_a_reward_that_asks_is_told(tmp_path: Path, form: str, slow: bool) -> None:
    name = write(tmp_path / f"told_{form}_{slow}.py", SEEN[form] + ("SLOW = True\n" if slow else ""))
    with Verifier(Choice(name=name), VerifySettings(workers=1)) as verifier:
        items: list[Any] = [("a", PROBLEM, "length"), ("a", PROBLEM, "stop"), ("a", PROBLEM, None), ("a", PROBLEM)]
        assert [verdict.reward for verdict in verifier.judge(items)] == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("arguments", ["text, problem", "text, problem, params"])
def test_a_reward_that_does_not_ask_is_not_told(tmp_path: Path, arguments: str) -> None:
    name = write(tmp_path / f"not_told_{len(arguments)}.py", f"def score({arguments}):\n    return 1.0\n")
    assert rewards.load(Choice(name=name)).score("a", PROBLEM, "length").correct


@pytest.mark.parametrize(
    "choice",
    [
        MATH,
        {"name": "length", "over": MATH, "limit_tokens": 9, "buffer_tokens": 3},
        {"name": "combined", "parts": [MATH, {"name": "dapo_math"}]},
        {"name": "combined", "parts": [{"name": "length", "over": MATH, "limit_tokens": 9, "buffer_tokens": 3}]},
    ],
)
def test_rewards_made_of_others_pass_it_on(choice: dict[str, Any]) -> None:
    reward = rewards.load(Choice.model_validate(choice))
    for judge in (reward.score, reward.fast_verdict):
        found = [judge(r"\boxed{1}", PROBLEM, finish) for finish in ("length", "stop", None)]
        assert [verdict.status for verdict in found if verdict] == ["no_answer", "correct", "correct"]
