"""Environments of verifiers as task and reward here, and our graders as rewards there."""

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import stand_ins
from progrpo import rewards, tasks
from progrpo.adapters import verifiers as adapter
from progrpo.errors import ConfigError, DataError, HostError, VerifierError
from progrpo.settings import Choice

ENV = "sums_env"


class Data(SimpleNamespace):
    """A task of verifiers, for what is read."""

    @property
    def prompt_text(self) -> str:
        return str(self.prompt)

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return dict(vars(self))


def judged(function: Any, reply: str, **data: Any) -> float:
    return float(asyncio.run(function(task=Data(prompt="?", **data), trace=SimpleNamespace(last_reply=reply))))


def test_our_graders_are_rewards_there() -> None:
    """By name with their defaults, and with settings; the gold in whatever field."""
    assert judged(adapter.choice, "The answer is (B).", answer="B") == 1.0
    assert judged(adapter.choice, "The answer is (C).", answer="B") == 0.0
    own = adapter.grader("expression", answer="target", correct_reward=2.0)
    assert judged(own, "2*3", target=6, numbers=[2, 3]) == 2.0
    assert judged(own, "2+3", target=6, numbers=[2, 3]) == 0.0
    with pytest.raises(AttributeError, match=r"no 'mathh'; rewards: .*math"):
        _ = adapter.mathh


def test_a_reward_that_counts_tokens_is_refused() -> None:
    length = {"over": {"name": "expression"}, "limit_tokens": 20, "buffer_tokens": 10}
    with pytest.raises(ConfigError, match="reward length: it counts the completion's tokens"):
        adapter.grader("length", **length)
    parts = [{"name": "expression"}, {"name": "length", **length}]
    with pytest.raises(ConfigError, match="reward combined: it counts the completion's tokens"):
        adapter.grader("combined", parts=parts)
    both = adapter.grader("combined", parts=[{"name": "expression"}, {"name": "choice", "weight": 0.5}])
    assert both.__name__ == "combined"


def test_a_grader_that_fails_is_no_zero() -> None:
    with pytest.raises(VerifierError, match="expression: bad_gold"):
        judged(adapter.expression, "2*3", answer="six", numbers=[2, 3])


def test_without_verifiers_the_task_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from progrpo.rewards.verifiers import _verifiers

    _verifiers.cache_clear()
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(HostError, match=r"pip install 'progrpo\[verifiers\]'"):
        tasks.problems(Choice(name="verifiers", taskset="anything"), "train")


# --- with verifiers ---


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("verifiers", reason="verifiers is missing: make test-adapters")
    monkeypatch.syspath_prepend(Path(stand_ins.__file__).parent)


@pytest.mark.usefixtures("host")
def test_an_environment_is_a_task_and_a_reward() -> None:
    """Rewards of 1 and, by half its weight, 0.5: right and brief 1.5, right alone 1, brief alone 0.5."""
    task = tasks.load(Choice(name="verifiers", taskset=ENV, test_size=2, config={"largest": 5}))
    train, test = task.problems("train"), task.problems("test")
    assert [one.prompt for one in test] == ["1+1=", "2+2="]
    assert [(one.prompt, one.answer) for one in train] == [("3+3=", "6"), ("4+4=", "8"), ("5+5=", "10")]
    reward = rewards.load(task.reward())
    for text, total, status in (("6", 1.5, "correct"), ("7", 0.5, "correct"), ("seven", 0.0, "wrong")):
        verdict = reward.score(text, train[0])
        assert (verdict.reward, verdict.status) == (total, status)
    assert reward.score("6", train[0]).parts == {"right": 1.0, "brief": 0.5}
    strict = rewards.load(Choice(name="verifiers", correct_above=0.9))
    assert strict.score("7", train[0]).status == "wrong"
    with pytest.raises(DataError, match="no tasks for split 'train'"):
        tasks.problems(Choice(name="verifiers", taskset=ENV, config={"largest": 5}), "train")


@pytest.mark.usefixtures("host")
def test_what_a_reply_is_not_enough_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import sums_env

    from progrpo.rewards.verifiers import _taskset

    async def setup(self: Any, trace: Any, runtime: Any) -> None: ...

    for name, value, message in (("NEEDS_CONTAINER", True, "a container"), ("setup", setup, "a runtime")):
        _taskset.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(sums_env.SumsTask, name, value)
            with pytest.raises(ConfigError, match=f"needs {message}"):
                tasks.problems(Choice(name="verifiers", taskset=ENV), "test")


@pytest.mark.usefixtures("host")
def test_our_graders_are_plugged_in_by_path() -> None:
    """By verifiers' own loader, into its own task, on its own trace."""
    import verifiers.v1 as vf
    from sums_env import SumsData, SumsTask

    from progrpo.rewards.verifiers import _trace

    config = vf.TaskConfig(rewards={"ours": {"fn": "progrpo.adapters.verifiers.math", "weight": 2.0}})
    task = SumsTask(SumsData(prompt="1+1=", answer="2"), config)
    trace = _trace(task, r"\boxed{2}")
    asyncio.run(task.score(trace))
    assert trace.rewards["ours"].value == 2.0
