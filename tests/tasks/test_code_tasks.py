"""Coding tasks: rows become problems whose own reward takes a right program and refuses a wrong one; what is refused."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from progrpo import rewards, tasks
from progrpo.errors import ConfigError, DataError
from progrpo.settings import Choice
from progrpo.types import Problem

FIXTURES = Path(__file__).parent / "fixtures"
CODE_TASKS = ("deepcoder", "livecodebench", "codeforces", "humaneval_plus")

DEEPCODER = {
    "name": "deepcoder",
    "path": str(FIXTURES / "code_deepcoder.jsonl"),
}
LIVECODEBENCH = {"name": "livecodebench", "path": str(FIXTURES / "code_livecodebench.jsonl"), "expected": None}
PAPER = {
    "name": "codeforces",
    "path": str(FIXTURES / "code_codeforces_deepcoder.jsonl"),
    "expected": None,
    "rating": False,
}
CODEELO = {**PAPER, "path": str(FIXTURES / "code_codeforces_codeelo.jsonl")}
STRICT = {**PAPER, "path": str(FIXTURES / "code_codeforces_strict.jsonl"), "mode": "strict"}
HUMANEVAL = {"name": "humaneval_plus", "path": str(FIXTURES / "code_humaneval_plus.jsonl"), "expected": 2}

ADD = "print(sum(map(int, input().split())))"
ORDER = "for _ in range(int(input())):\n    print(*sorted(map(int, input().split())))"
SCALE = "class Solution:\n    def scale(self, xs: List[int], k: int) -> List[int]:\n        return [x * k for x in xs]"
PAIRS = "class Solution:\n    def pairs(self, s: str) -> int:\n        return sum(a == b for a, b in zip(s, s[1:]))"

PROGRAMS: list[tuple[dict[str, Any], str, int, str, str]] = [
    # task, split, problem, right program, wrong program (right on the first or the visible test only, where it can be)
    (DEEPCODER, "train", 0, ADD, "print(3)"),
    (DEEPCODER, "train", 1, "print(*(w[::-1] for w in input().split()))", "print(input()[::-1])"),
    (DEEPCODER, "train", 2, "def count_even(xs): return sum(x % 2 == 0 for x in xs)", "def count_even(xs): return 2"),
    (DEEPCODER, "train", 3, SCALE, SCALE.replace("x * k", "2 * x")),
    (LIVECODEBENCH, "test", 0, "print(int(input()) ** 2)", "print(3 * int(input()))"),
    (LIVECODEBENCH, "test", 1, PAIRS, PAIRS.replace("s[1:]", "s[1:3]")),
    (LIVECODEBENCH, "test", 2, "print(*input().split()[::-1])", "print(input()[::-1])"),
    (PAPER, "test", 0, ORDER, ORDER.replace("sorted", "list")),
    (PAPER, "test", 1, "print(len(input()))", "print(3)"),
    (CODEELO, "test", 1, "print(len(input()))", "print(3)"),
    (STRICT, "test", 0, "n = int(input())\nprint(next(d for d in range(2, n) if n % d == 0))", "print(6)"),
    (STRICT, "test", 1, ADD, "print(3)"),
    (HUMANEVAL, "test", 0, "def below(xs, t): return all(x < t for x in xs)", "def below(xs, t): return True"),
    (HUMANEVAL, "test", 1, "def half(x): return x * 0.5", "def half(x): return 1.5"),
]


def load(choice: dict[str, Any], split: str = "test", **settings: Any) -> Sequence[Problem]:
    return tasks.problems(Choice(**{**choice, **settings}), split)


def rewritten(path: Path, source: str, **changes: Any) -> str:
    """The first row of a fixture in a file of its own; a value of None takes the column out."""
    row = json.loads((FIXTURES / source).read_text().split("\n")[0]) | changes
    path.write_text(json.dumps({key: value for key, value in row.items() if value is not None}))
    return str(path)


def asked(problem: Problem) -> str:
    assert isinstance(problem.prompt, tuple)
    return problem.prompt[-1]["content"]


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    ("choice", "split", "index", "right", "wrong"), PROGRAMS, ids=[f"{row[0]['name']}-{row[2]}" for row in PROGRAMS]
)
def test_the_tasks_own_reward_tells_right_from_wrong(
    choice: dict[str, Any], split: str, index: int, right: str, wrong: str
) -> None:
    reward = rewards.load(tasks.reward(Choice(**choice)))
    problem = load(choice, split)[index]
    for program, status in ((right, "correct"), (wrong, "wrong")):
        verdict = reward.score(f"So:\n```python\n{program}\n```", problem)
        assert verdict.status == status, verdict.detail


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(("choice", "split"), [(DEEPCODER, "train"), (HUMANEVAL, "test")])
def test_published_solutions_pass(choice: dict[str, Any], split: str) -> None:
    reward = rewards.load(tasks.reward(Choice(**choice)))
    problems = load(choice, split)
    assert [reward.gold_fault(problem) for problem in problems] == [None] * len(problems)
    spoilt = Problem(id="x", prompt="", info={**problems[0].info, "solution": "def below(xs, t): return 3"})
    assert "own solution fails" in (reward.gold_fault(spoilt) or "")


def test_deepcoder_reads_every_shape() -> None:
    problems = load(DEEPCODER, "train")
    assert len(problems) == 4  # the fifth row is the first with other white space
    assert [problem.info.get("solution", "").split("\n")[-2:] for problem in problems[:2]] == [
        ["print(sum(map(int, input().split())))", "```"],
        ["print(*(w[::-1] for w in input().split()))"],
    ]
    assert "solution" not in problems[2].info
    assert "reads from standard input" in asked(problems[0])
    assert "the function `count_even`" in asked(problems[2])
    assert "```python\nclass Solution:\n    def scale" in asked(problems[3])
    assert problems[3].info["fn_name"] == "scale"


def test_deepcoder_knows_parts_by_their_folders(tmp_path: Path) -> None:
    for folder, name in (("taco", "train-00000"), ("lcbv5", "train-00000"), ("lcbv5", "test-00000")):
        (tmp_path / folder).mkdir(exist_ok=True)
        changes = {"problem": f"{folder} {name}"}
        rewritten(tmp_path / folder / f"{name}.jsonl", "code_deepcoder.jsonl", **changes)
    at = {"name": "deepcoder", "path": str(tmp_path), "parts": ["taco", "lcbv5"]}
    taco, lcb = load(at, "train")
    assert (taco.facts, taco.info["cpu_s"]) == ({"category": "taco"}, 12)
    assert (lcb.facts, lcb.info["cpu_s"]) == ({"category": "lcbv5"}, 6)
    assert [asked(problem).split("\n")[0] for problem in load(at, "test")] == ["lcbv5 test-00000"]
    with pytest.raises(DataError, match="put primeintellect/train"):
        load({"name": "deepcoder", "path": str(tmp_path)}, "train")
    with pytest.raises(DataError, match="no validation split"):
        load(at, "validation")


def test_deepcoders_limits() -> None:
    assert tasks.reward(Choice(name="deepcoder")).params == {"max_tests": 15, "cpu_s": 12, "total_s": 180.0}
    assert tasks.reward(Choice(name="deepcoder", parts=["lcbv5"])).params["cpu_s"] == 6
    with pytest.raises(ConfigError, match="parts"):
        tasks.reward(Choice(name="deepcoder", parts=["apps"]))


def test_humaneval_counts_before_it_drops() -> None:
    assert [problem.id for problem in load(HUMANEVAL, drop=["HumanEval/32"])] == ["HumanEval/0"]
    with pytest.raises(DataError, match="drop names HumanEval/33"):
        load(HUMANEVAL, drop=["HumanEval/33"])
    with pytest.raises(DataError, match="expected 164 problems, got 2"):
        load({key: value for key, value in HUMANEVAL.items() if key != "expected"})
    assert 'def half(x: float) -> float:\n    """Half of x."""\n```' in asked(load(HUMANEVAL)[1])


@pytest.mark.parametrize(
    "choice", [DEEPCODER, LIVECODEBENCH, PAPER, STRICT, HUMANEVAL], ids=lambda choice: choice["name"]
)
def test_damaged_empty_and_missing_files(
    choice: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = "train" if choice["name"] == "deepcoder" else "test"
    cut, empty = tmp_path / "cut.jsonl", tmp_path / "empty.jsonl"
    cut.write_text(Path(choice["path"]).read_text()[:-40])
    with pytest.raises(DataError, match=r"cut.jsonl, line \d: not JSON"):
        load(choice, split, path=str(cut))
    empty.write_text("")
    with pytest.raises(DataError, match="the data has no"):
        load(choice, split, path=str(empty))
    with pytest.raises(DataError, match="no such file or folder; put"):
        load(choice, split, path=str(tmp_path / "absent"))
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    shutil.copy(choice["path"], tmp_path / f"{choice['name']}.jsonl")
    parts = {"parts": ["primeintellect"]} if choice is DEEPCODER else {}
    assert len(load(choice, split, path=None, **parts)) == len(load(choice, split))


@pytest.mark.parametrize(
    ("choice", "column"),
    [
        (DEEPCODER, "problem"),
        (DEEPCODER, "tests"),
        (LIVECODEBENCH, "contest_date"),
        (LIVECODEBENCH, "private_test_cases"),
        (LIVECODEBENCH, "question_content"),
        (PAPER, "problem"),
        (PAPER, "tests"),
        (STRICT, "official_tests"),
        (STRICT, "contest_id"),
        (HUMANEVAL, "test"),
        (HUMANEVAL, "canonical_solution"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_a_renamed_column_is_named(choice: dict[str, Any], column: str, tmp_path: Path) -> None:
    source = Path(choice["path"]).name
    changes = {"contest_date": "2024-09-01"} if choice is LIVECODEBENCH else {}
    path = rewritten(tmp_path / "renamed.jsonl", source, **{**changes, column: None})
    with pytest.raises(DataError, match=rf"renamed.jsonl, line 1: no columns? '{column}'"):
        load(choice, "train" if choice is DEEPCODER else "test", path=path, expected=None)


def test_tests_of_another_kind_are_refused(tmp_path: Path) -> None:
    for tests in ("", [], 3):
        path = rewritten(tmp_path / "a.jsonl", "code_deepcoder.jsonl", tests=tests)
        with pytest.raises(DataError, match=r"line 1: 'tests' must be tests"):
            load(DEEPCODER, "train", path=path)
    path = rewritten(tmp_path / "a.jsonl", "code_deepcoder.jsonl", metadata="{")
    with pytest.raises(DataError, match="'metadata' is not JSON"):
        load(DEEPCODER, "train", path=path)


@pytest.mark.parametrize("name", CODE_TASKS)
def test_a_task_says_what_it_is(name: str) -> None:
    task = tasks.load(Choice(name=name))
    module, params = task.module, task.params
    assert module.__doc__
    assert tasks.reward(Choice(name=name)).name == "code"
    rewards.load(tasks.reward(Choice(name=name)))
    if name != "deepcoder":
        assert module.SAMPLES == {"paper": 16, "recommended": 16}
        assert params.expected == {"livecodebench": 279, "codeforces": 408, "humaneval_plus": 164}[name]
