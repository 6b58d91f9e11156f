import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo import rewards, tasks
from progrpo.errors import ConfigError, DataError
from progrpo.settings import Choice
from progrpo.tasks._choice_problems import zero_shot
from progrpo.types import Problem

FIXTURES = Path(__file__).parent / "fixtures"
TASKS = ("gpqa", "mmlu_pro")


def load(task: str, split: str = "test", **settings: Any) -> Sequence[Problem]:
    settings = {"path": str(FIXTURES / f"{task}.jsonl"), "expected": None} | settings
    return tasks.problems(Choice(name=task, **settings), split)


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text("utf-8").splitlines()]


def jsonl(path: Path, *given_rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given_rows), "utf-8")
    return path


def content(problem: Problem) -> str:
    (message,) = problem.prompt
    assert isinstance(message, dict)
    return str(message["content"])


def right_option(problem: Problem) -> str:
    return str(problem.info["options"]["ABCDEFGHIJ".index(problem.answer or "")])


# Both


@pytest.mark.parametrize("task", TASKS)
def test_each_gold_verifies_and_another_letter_does_not(task: str) -> None:
    reward = rewards.load(tasks.reward(Choice(name=task)))
    for problem in load(task):
        assert reward.gold_fault(problem) is None
        other = "B" if problem.answer == "A" else "A"
        assert reward.score(f"Let me see.\n\nAnswer: {problem.answer}", problem).reward == 1.0
        assert reward.score(f"So \\boxed{{{problem.answer}}}.", problem).correct
        assert reward.score(f"Let me see.\n\nAnswer: {other}", problem).status == "wrong"
        assert reward.score("I cannot say.", problem).status == "no_answer"


@pytest.mark.parametrize(("task", "size"), [("gpqa", 198), ("mmlu_pro", 12032)])
def test_a_benchmark_is_complete_and_not_trained_on(task: str, size: int) -> None:
    with pytest.raises(DataError, match=f"task {task}: expected {size} questions, got"):
        tasks.problems(Choice(name=task, path=str(FIXTURES / f"{task}.jsonl")), "test")
    with pytest.raises(DataError, match="it has a test split and no train split"):
        load(task, "train")


@pytest.mark.parametrize("task", TASKS)
def test_one_file_in_the_mirror(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRPO_DATA", str(FIXTURES))
    assert load(task, path=None) == load(task)


@pytest.mark.parametrize("task", TASKS)
def test_renamed_columns_and_empty_splits(task: str, tmp_path: Path) -> None:
    (first, *_) = rows(task)
    renamed = {f"new {name}": value for name, value in first.items()}
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: no column '.*the row has new "):
        load(task, path=str(jsonl(tmp_path / "a.jsonl", renamed)))
    with pytest.raises(DataError, match=f"task {task}: the data has no questions"):
        load(task, path=str(jsonl(tmp_path / "a.jsonl")))


@given(st.integers(2, 10))
def test_the_zero_shot_prompt_names_its_letters(count: int) -> None:
    options = [f"option {number}" for number in range(count)]
    lines = zero_shot(" Which?\n", options).splitlines()
    last = "ABCDEFGHIJ"[count - 1]
    assert lines[0].endswith(f" or {last}.")
    assert "Answer: LETTER" in lines[0]
    assert lines[2] == "Which?"
    assert lines[4] == "A) option 0"
    assert lines[-1] == f"{last}) option {count - 1}"


# GPQA


def test_gpqa_problems() -> None:
    problems = load("gpqa")
    assert [problem.id for problem in problems] == ["made-up-1", "made-up-2", "made-up-3", "made-up-4"]
    # Options are stripped; the gold letter is that of the correct answer, wherever it came to stand.
    assert [right_option(problem) for problem in problems] == ["Mercury", "carbon dioxide", "neon", "newton"]
    assert sorted(problems[0].info["options"]) == ["Earth", "Mars", "Mercury", "Venus"]
    assert problems[0].facts == {"category": "Physics", "subdomain": "Astrophysics"}
    for problem in problems:
        assert f"\n{problem.answer}) {right_option(problem)}" in content(problem)


def test_the_order_of_the_options_goes_by_seed_and_question(tmp_path: Path) -> None:
    def orders(**settings: Any) -> dict[str, Any]:
        return {problem.id: problem.info["options"] for problem in load("gpqa", **settings)}

    moved = jsonl(tmp_path / "moved.jsonl", *rows("gpqa")[::-1])
    assert orders() == orders(path=str(moved))
    seeds = [orders(seed=seed) for seed in range(8)]
    assert all(len({seed[name] for seed in seeds}) > 1 for name in orders())
    # Without a published id the question itself is what the order is drawn from.
    nameless = [{name: value for name, value in row.items() if name != "Record ID"} for row in rows("gpqa")]
    there = load("gpqa", path=str(jsonl(tmp_path / "a.jsonl", *nameless)))
    back = load("gpqa", path=str(jsonl(tmp_path / "b.jsonl", *nameless[::-1])))
    assert [problem.info for problem in there] == [problem.info for problem in back][::-1]
    assert [problem.id for problem in there] == ["0", "1", "2", "3"]


def test_the_gold_letter_is_not_always_the_same(tmp_path: Path) -> None:
    # 400 questions, each letter expected 100 times with a standard deviation of 8.7.
    (row, *_) = rows("gpqa")
    many = [{**row, "Record ID": f"r{number}"} for number in range(400)]
    letters = [problem.answer for problem in load("gpqa", path=str(jsonl(tmp_path / "a.jsonl", *many)))]
    assert all(60 <= letters.count(letter) <= 140 for letter in "ABCD")


@pytest.mark.parametrize(("subset", "size"), [("diamond", 198), ("main", 448), ("extended", 546)])
def test_a_subset_is_a_file_with_its_own_size(subset: str, size: int, tmp_path: Path, monkeypatch: Any) -> None:
    import csv

    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    path = tmp_path / "Idavidrein/gpqa" / f"gpqa_{subset}.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows("gpqa")[0]))
        writer.writeheader()
        writer.writerows(rows("gpqa"))
    with pytest.raises(DataError, match=f"expected {size} questions, got 4"):
        tasks.problems(Choice(name="gpqa", subset=subset), "test")
    found = load("gpqa", path=None, subset=subset)
    assert [(one.prompt, one.answer) for one in found] == [(one.prompt, one.answer) for one in load("gpqa")]


def test_gpqa_without_data_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"put gpqa_main\.csv of the dataset Idavidrein/gpqa under {tmp_path}"):
        load("gpqa", path=None, subset="main")
    with pytest.raises(ConfigError, match="subset"):
        load("gpqa", subset="hard")


# MMLU-Pro


def test_padding_is_no_option() -> None:
    problems = load("mmlu_pro")
    assert [len(problem.info["options"]) for problem in problems] == [4, 10, 3]
    # The third question has its padding in front: the published letter C, "hour", becomes B.
    assert [problem.answer for problem in problems] == ["B", "J", "B"]
    assert [right_option(problem) for problem in problems] == ["temperature", "17", "hour"]
    assert "N/A" not in "".join(map(content, problems))
    assert [problem.id for problem in problems] == ["70", "71", "72"]
    assert problems[0].facts == {"category": "physics", "src": "made up"}


def test_a_letter_that_is_no_option_of_the_question_is_wrong() -> None:
    reward = rewards.load(tasks.reward(Choice(name="mmlu_pro")))
    verdict = reward.score("Answer: E", load("mmlu_pro")[0])
    assert (verdict.status, verdict.detail) == ("wrong", "E is not among A to D")


def test_worked_examples_are_of_the_same_subject() -> None:
    shots_path = str(FIXTURES / "mmlu_pro-validation.jsonl")
    physics = content(load("mmlu_pro", shots=2, shots_path=shots_path)[0])
    assert physics == (
        "The following are multiple choice questions (with answers) about physics. Think step by step and then finish "
        'your answer with "the answer is (X)" where X is the correct letter choice.\n\n\n'
        "Question:\nWhat is the unit of length?\nOptions:\nA. metre\nB. second\n"
        "Answer: Let's think step by step. Lengths are measured in metres. The answer is (A).\n\n"
        "Question:\nWhat is the unit of mass?\nOptions:\nA. second\nB. kilogram\n"
        "Answer: Let's think step by step. Masses are measured in kilograms. The answer is (B).\n\n"
        "Question:\nWhat does a thermometer measure?\nOptions:\nA. mass\nB. temperature\nC. speed\nD. charge\n"
        "Answer: Let's think step by step."
    )
    one = content(load("mmlu_pro", shots=1, shots_path=shots_path)[0])
    assert (
        one
        == physics.replace(physics[physics.index("Question:\nWhat is the unit of mass") :], "")
        + (physics[physics.index("Question:\nWhat does") :])
    )


def test_worked_examples_in_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shots_path = str(FIXTURES / "mmlu_pro-validation.jsonl")
    monkeypatch.setenv("PROGRPO_DATA", str(FIXTURES))
    assert load("mmlu_pro", path=None, shots=2) == load("mmlu_pro", shots=2, shots_path=shots_path)
    # In a mirror with the test rows alone, these are never taken for examples.
    jsonl(tmp_path / "mmlu_pro.jsonl", *rows("mmlu_pro"))
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    with pytest.raises(
        DataError,
        match=r"shots=2 needs .*task\.shots_path=FILE.*put data/validation-\*\.parquet .*/mmlu_pro-validation\.jsonl",
    ):
        load("mmlu_pro", path=None, shots=2)


def test_worked_examples_need_a_file_of_their_own() -> None:
    with pytest.raises(DataError, match=r"is one file; give task\.shots_path=FILE"):
        load("mmlu_pro", shots=1)
    with pytest.raises(
        DataError, match=r"line 1: 3 worked examples of 'physics' are wanted, the validation rows have 2"
    ):
        load("mmlu_pro", shots=3, shots_path=str(FIXTURES / "mmlu_pro-validation.jsonl"))
    with pytest.raises(ConfigError, match="shots"):
        load("mmlu_pro", shots=6)


def test_a_folder_holds_tests_and_examples(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "data").mkdir()
    for split, name in (("test", "mmlu_pro"), ("validation", "mmlu_pro-validation")):
        path = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(name)), path)
    expected = load("mmlu_pro", shots=2, shots_path=str(FIXTURES / "mmlu_pro-validation.jsonl"))
    found = load("mmlu_pro", shots=2, path=str(tmp_path))
    assert [(one.prompt, one.answer, one.info) for one in found] == [
        (one.prompt, one.answer, one.info) for one in expected
    ]


def test_the_official_mode() -> None:
    official = Choice(name="mmlu_pro", official=True)
    assert tasks.reward(official) == Choice(name="choice", options=10, mode="mmlu_pro")
    assert tasks.reward(Choice(name="mmlu_pro")) == Choice(name="choice", options=10, mode="last")
    (problem, *_) = load("mmlu_pro", official=True, chat=False)
    assert isinstance(problem.prompt, str)
    assert problem.prompt.startswith("The following are multiple choice questions (with answers) about physics.")
    assert problem.prompt.endswith("D. charge\nAnswer: Let's think step by step.")
    # The official script takes the first such phrase of the text.
    reward = rewards.load(tasks.reward(official))
    text = " It shows degrees. The answer is (B).\n\nQuestion:\nWhat is heat? The answer is (C)."
    assert reward.score(text, problem).correct


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "K"}, "the answer is 'K', which is none of the 10 options"),
        ({"answer": "E", "answer_index": 4}, "the answer is 'E', which is none"),
        ({"answer": "AB"}, "the answer is 'AB', which is none"),
        ({"answer_index": 2}, "the answer is B, but answer_index is 2"),
        ({"options": "['a', 'b']"}, "'options' must be a list of texts"),
        ({"options": [1, 2]}, "'options' must be a list of texts"),
        ({"question": ""}, "'question' must be text"),
        ({"category": None}, "'category' must be text"),
    ],
)
def test_mmlu_pro_rows_that_cannot_be_used(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {**rows("mmlu_pro")[0], **change})
    with pytest.raises(DataError, match=rf"a\.jsonl, line 1: {message}"):
        load("mmlu_pro", path=str(path))


def test_how_often_they_are_sampled() -> None:
    from progrpo.tasks import gpqa, mmlu_pro

    assert gpqa.SAMPLES == {"paper": 16, "recommended": 16}
    assert mmlu_pro.SAMPLES == {"paper": 1, "recommended": 1}
