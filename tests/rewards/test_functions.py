"""Rewards and tasks as plain functions: of a file, of a module, of this session; called one by one, or as TRL calls them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from progrpo import rewards, tasks
from progrpo.errors import ConfigError, PluginError, own_place
from progrpo.rewards import _functions
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem, Verdict

ROWS = (
    Problem(id="a", prompt="1+1?", answer="2", info={"weight": 3.0}),
    Problem(id="b", prompt=({"role": "user", "content": "2+2?"},), answer="4", info={"weight": 5.0}),
)


def judged(name: str, *texts: str, **params: Any) -> list[Verdict]:
    """The verdicts on one text for each of ROWS."""
    with Verifier(Choice(name=name, **params), VerifySettings()) as verifier:
        return verifier.judge(list(zip(texts, ROWS, strict=False)))


def test_trls_way_of_writing_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "calls.py").write_text("""
calls = []
def reward(prompts, completions, answer, weight, **columns):
    calls.append((prompts, completions, sorted(columns)))
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    return [None if text == "?" else w * (text == a) for text, a, w in zip(texts, answer, weight)]
""")
    monkeypatch.chdir(tmp_path)
    first, second = judged("./calls.py", "2", "5")
    assert [(one.status, one.reward) for one in (first, second)] == [("correct", 3.0), ("wrong", 0.0)]
    # one call for both; a text where the row has a text, messages where it has messages
    calls = rewards.load(Choice(name="./calls.py")).module.score_all.__closure__
    assert calls is not None
    own = next(cell.cell_contents for cell in calls if callable(cell.cell_contents)).__globals__["calls"]
    assert own == [
        (
            ["1+1?", [{"role": "user", "content": "2+2?"}]],
            ["2", [{"role": "assistant", "content": "5"}]],
            [],
        )
    ]
    assert [one.status for one in judged("./calls.py", "?", "4")] == ["bad_gold", "correct"]  # None is no verdict


def test_one_completion_that_a_function_cannot_read_costs_no_other_its_verdict(tmp_path: Path) -> None:
    path = tmp_path / "reads.py"
    path.write_text("def reward(completions, **columns):\n    return list(map(float, completions))\n")
    problems = [ROWS[0]] * 3
    with Verifier(Choice(name=str(path)), VerifySettings()) as verifier:
        one, two, three = verifier.judge(list(zip(["1", "x", "0"], problems, strict=True)))
    assert [one.status, two.status, three.status] == ["correct", "crashed", "wrong"]
    assert "reads.py, line 2, in reward: `return list(map(float, completions))`" in two.detail


@pytest.mark.parametrize(
    ("returned", "message"),
    [("[1.0]", "expected a list of 2 rewards, one a completion, got 1 of them"), ("3.0", "got float")],
)
def test_a_list_of_another_length_is_told(returned: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "short.py"
    path.write_text(f"def reward(completions, **columns):\n    return {returned} if len(completions) > 1 else None\n")
    reward = rewards.load(Choice(name=str(path)))
    with pytest.raises(PluginError, match=message):
        reward.score_all([("1", ROWS[0], None), ("2", ROWS[1], None)])


def test_a_column_that_the_rows_lack_is_named_before_training(tmp_path: Path) -> None:
    path = tmp_path / "lacks.py"
    path.write_text("def reward(completions, solution, bonus=0, **columns):\n    return [0.0] * len(completions)\n")
    with Verifier(Choice(name=str(path)), VerifySettings()) as verifier:
        assert verifier.gold_faults(ROWS[:1]) == ["the reward needs solution; the row has answer, weight"]
        assert verifier.gold_faults([Problem(id="c", prompt="", info={"solution": "1"})]) == [None]


def test_which_function_of_a_file_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = "def {}(completions, **columns):\n    return [{}] * len(completions)\n"
    Path("own.py").write_text(one.format("brief", "1.0") + "def _help(): ...\n")
    Path("several.py").write_text(one.format("brief", "1.0") + one.format("long", "0.0"))
    Path("named.py").write_text(one.format("brief", "0.0") + one.format("reward", "1.0"))
    for name in ("./own.py", "own", "own:brief", "./several.py:brief", "several:brief", "named"):
        assert judged(name, "x")[0].reward == 1.0
    assert judged("several:long", "x")[0].status == "wrong"
    with pytest.raises(
        PluginError, match=r"several.py' defines brief, long; name the one .* reward.name=./several.py:brief"
    ):
        rewards.load(Choice(name="./several.py"))
    with pytest.raises(PluginError, match="has no function 'short'"):
        rewards.load(Choice(name="several:short"))


def test_modules_of_the_current_folder_are_found_and_hide_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(tmp_path))])
    (tmp_path / "mine_here").mkdir()
    Path("mine_here/rewards.py").write_text("import json\ndef score(text, problem): return text == json.dumps(7)\n")
    Path("json.py").write_text("def dumps(value): return 'hidden'\n")
    assert judged("mine_here.rewards", "7")[0].correct
    assert sys.path[-1] == str(tmp_path)
    with pytest.raises(PluginError, match="no module 'mine_here.tasks' on the Python path"):
        rewards.load(Choice(name="mine_here.tasks"))
    assert rewards.load(Choice(name="expression")).module.__name__ == "progrpo.rewards.expression"


def plain(text: str, problem: Problem) -> bool:
    return text == problem.answer


def test_functions_of_a_module_have_a_name_for_every_process_and_others_one_for_this() -> None:
    assert _functions.name_of(plain) == f"{__name__}:plain"
    assert judged(_functions.name_of(plain), "2", "2")[0].correct

    def inner(text: str, problem: Problem) -> bool:
        return text == "inner"

    name = _functions.name_of(inner)
    assert name == "python:inner"
    assert [one.correct for one in judged(name, "inner", "2")] == [True, False]
    with pytest.raises(PluginError, match="was a function of another Python session; give it again"):
        rewards.load(Choice(name="python:nobody"))
    with pytest.raises(ConfigError, match=r"cannot be called as score\(text, problem"):
        _functions.name_of(lambda: 1.0)


def test_a_function_of_the_session_is_not_sent_to_a_worker(tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("SLOW = True\ndef score(text, problem): return 1.0\n")

    def own(completions: list[str], **columns: Any) -> list[float]:
        return [0.5] * len(completions)

    name = _functions.name_of(own)
    with pytest.raises(
        ConfigError, match="own is a function of this session, but a reward beside it is judged in worker"
    ):
        judged("combined", "x", parts=[{"name": str(slow)}, {"name": name}])
    verdict = judged(
        "combined", "1+1", parts=[{"name": "length", "over": {"name": name}, "limit_tokens": 9, "buffer_tokens": 4}]
    )
    assert verdict[0].status == "correct"


def test_parts_in_one_call_give_what_they_give_one_by_one() -> None:
    def lengths(completions: list[str], **columns: Any) -> list[float]:
        return [float(len(one)) for one in completions]

    parts = [{"name": "stand_ins.parity"}, {"name": _functions.name_of(lengths), "weight": 0.1}]
    reward = rewards.load(Choice(name="combined", parts=parts))
    assert reward.batched
    items = [("1", ROWS[0], None), ("22", ROWS[0], "stop"), ("333", ROWS[0], "length")]
    assert reward.score_all(items) == [reward.score(*item) for item in items]


def test_a_cell_of_a_notebook_is_the_users_own() -> None:
    for name in ("<ipython-input-3-abc>", "/tmp/ipykernel_77/123.py"):
        scope: dict[str, Any] = {}
        exec(compile("def reward(text, problem):\n    return 1 / 0\n", name, "exec"), scope)
        _functions._session["cell"] = scope["reward"]
        (verdict,) = judged("python:cell", "x")
        assert f"({name}, line 2, in reward" in verdict.detail
    assert own_place(ValueError()) is None


# --- tasks ---


def test_a_task_of_one_function_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "letters.py"
    path.write_text("""
def load(split):
    return [{"prompt": f"{split} {n}", "answer": n, "hint": "h"} for n in range(3)]
""")
    (tmp_path / "other.py").write_text('def other(split):\n    return [{"prompt": "x", "id": "own"}]\n')
    task = tasks.load(Choice(name=str(path)))
    first = task.problems("train")[0]
    assert (first.id, first.answer, first.info["hint"]) == ("0", "0", "h")
    assert first.prompt == ({"role": "user", "content": "train 0"},)
    with pytest.raises(ConfigError, match="names no reward; give one with reward.name"):
        task.reward()
    other = tasks.load(Choice(name=f"{tmp_path}/other.py:other")).problems("test")
    assert [(one.id, one.answer) for one in other] == [("own", None)]


# --- scripts ---

SCRIPT = """
from functools import partial
from progrpo.rollout.pool import WorkerPool
print("runs")
class Unused: ...
pool = WorkerPool(partial(__import__("importlib").import_module, "served"), limit_s=20, workers=1, memory_bytes=2**33)
print(pool.run([("double", (21,))])[0].value, __file__.endswith("script.py"))
pool.close()
"""


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """What starts processes runs once: without this, each worker would run the script, and train, again."""
    (tmp_path / "served.py").write_text("def warm(): ...\ndef double(number): return 2 * number\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    found = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "runs\n42 True\n"
