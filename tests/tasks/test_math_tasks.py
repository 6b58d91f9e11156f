import json
import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo import rewards, tasks
from progrpo.errors import DataError
from progrpo.settings import Choice
from progrpo.tasks._math_problems import PREFIX, SUFFIX, bare, whole_number, wrap
from progrpo.types import Problem

FIXTURES = Path(__file__).parent / "fixtures"

# Of each fixture: the gold answers in the order of its rows, and another answer for each.
GOLDS = {
    "aime24": (["25", "30", "49"], ["52", "31", "049.5"]),
    "aime25": (["315", "144", "9"], ["45", "143", "90"]),
    "amc23": (["27", "-1", "12.5"], ["26", "1", "13"]),
    "math500": (
        [r"\frac{5}{6}", r"[2,\infty)", r"\text{even}", r"\left( 3, \frac{\pi}{2} \right)"],
        [r"\frac{2}{5}", r"(2,\infty)", r"\text{odd}", r"\left( \frac{\pi}{2}, 3 \right)"],
    ),
    "minerva": (
        ["4.4e7", "np.arcsin(10/13)", "-1./3", "5 e^{-2 t}", r"E=\frac{1}{2} m v^{2}"],
        ["4.4e6", r"\arcsin(10/12)", "1/3", "5 e^{2 t}", "m v^2"],
    ),
    "olympiadbench": (
        ["-1, 2", r"2 \sqrt{3}", "(1,2), (2,1)", "3.14"],
        ["-1", r"3 \sqrt{2}", "(1,2)", "3.2"],
    ),
}
SIZES = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500, "minerva": 272, "olympiadbench": 674}
BENCHMARKS = sorted(GOLDS)


def load(task: str, split: str = "test", **settings: Any) -> Sequence[Problem]:
    settings = {"path": str(FIXTURES / f"{task}.jsonl"), "expected": None} | settings
    return tasks.problems(Choice(name=task, **settings), split)


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text("utf-8").splitlines()]


def jsonl(path: Path, *given_rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in given_rows), "utf-8")
    return path


def parquet(path: Path, given_rows: Sequence[dict[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(given_rows)), path)
    return path


def content(problem: Problem) -> str:
    (message,) = problem.prompt
    assert isinstance(message, dict)
    return str(message["content"])


# Every benchmark


@pytest.mark.parametrize("task", BENCHMARKS)
def test_each_gold_verifies_and_another_answer_does_not(task: str) -> None:
    reward = rewards.load(tasks.reward(Choice(name=task)))
    golds, others = GOLDS[task]
    problems = load(task)
    assert [problem.answer for problem in problems] == golds
    for problem, other in zip(problems, others, strict=True):
        assert reward.gold_fault(problem) is None
        assert reward.score(f"So it is $\\boxed{{{problem.answer}}}$.", problem).reward == 1.0
        assert reward.score(f"Because of this.\n\nAnswer: ${problem.answer}$", problem).correct
        assert reward.score(f"So it is $\\boxed{{{other}}}$.", problem).status == "wrong"


@pytest.mark.parametrize("task", BENCHMARKS)
def test_the_mirror_may_hold_one_file_or_the_repository(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(task)
    monkeypatch.setenv("PROGRPO_DATA", str(FIXTURES))
    assert load(task, path=None) == expected
    module = import_module(f"progrpo.tasks.{task}")
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    for source in module.SOURCES:
        (pattern, *more) = source.files["test"]
        path = tmp_path / source.repo / pattern.replace("*", "-00000" if pattern.endswith("*") else "00000")
        path = path if path.suffix else path.with_suffix(".jsonl")
        half = len(rows(task)) // 2 if more else None
        if path.suffix == ".parquet":
            parquet(path, rows(task))
        else:
            jsonl(path, *rows(task)[:half])
        for other in more:
            jsonl(tmp_path / source.repo / other, *rows(task)[half:])
        found = load(task, path=None, source=source.repo)
        assert [(one.prompt, one.answer, one.id) for one in found] == [
            (one.prompt, one.answer, one.id) for one in expected
        ]


@pytest.mark.parametrize("task", BENCHMARKS)
def test_a_benchmark_must_be_complete(task: str) -> None:
    with pytest.raises(DataError, match=f"task {task}: expected {SIZES[task]} problems, got {len(GOLDS[task][0])}"):
        tasks.problems(Choice(name=task, path=str(FIXTURES / f"{task}.jsonl")), "test")


@pytest.mark.parametrize("task", BENCHMARKS)
def test_a_benchmark_is_not_trained_on(task: str) -> None:
    with pytest.raises(DataError, match="it has a test split and no train split"):
        load(task, "train")


@pytest.mark.parametrize("task", BENCHMARKS)
def test_prompts_are_bare_unless_told_otherwise(task: str) -> None:
    instruction = "\nPlease reason step by step, and put your final answer within \\boxed{}."
    problems = load(task)
    names = ("problem", "Problem", "question")
    given_texts = [next(row[name] for name in names if name in row) for row in rows(task)]
    assert all(content(problem).endswith(text) for problem, text in zip(problems, given_texts, strict=True))
    instructed = load(task, instruction=instruction)
    assert [content(problem) for problem in instructed] == [content(problem) + instruction for problem in problems]
    assert load(task, chat=False)[0].prompt == content(problems[0])


@pytest.mark.parametrize("task", BENCHMARKS)
def test_renamed_columns_and_empty_splits(task: str, tmp_path: Path) -> None:
    (first, *_) = rows(task)
    renamed = {f"new_{name}": value for name, value in first.items()}
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: no column 'problem' or 'Problem' or .*the row has new_"):
        load(task, path=str(jsonl(tmp_path / "a.jsonl", renamed)))
    answers = ("answer", "Answer", "final_answer", "solution", "Solution")
    unanswered = {name: value for name, value in first.items() if name not in answers}
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: no column '(final_)?answer'"):
        load(task, path=str(jsonl(tmp_path / "a.jsonl", unanswered)))
    with pytest.raises(DataError, match=f"task {task}: the data has no problems"):
        load(task, path=str(jsonl(tmp_path / "empty.jsonl")))


def test_each_benchmark_says_what_it_is_and_how_often_it_is_sampled() -> None:
    for task in BENCHMARKS:
        module = import_module(f"progrpo.tasks.{task}")
        assert str(SIZES[task]) in module.__doc__.split("\n")[0]
        assert module.SAMPLES == {"paper": 32, "recommended": 64}


# AIME


@pytest.mark.parametrize("name", ["aime24_padded", "aime24_boxed", "aime24_verl"])
def test_every_mirror_of_aime_is_the_same_problems(name: str) -> None:
    def both(problems: Sequence[Problem]) -> list[tuple[str, str | None]]:
        return [(content(problem), problem.answer) for problem in problems]

    assert both(load("aime24", path=str(FIXTURES / f"{name}.jsonl"))) == both(load("aime24"))


def test_repeated_rows_are_one_problem(tmp_path: Path) -> None:
    # 3 problems, 3 copies of each: 9 rows. A repeated row with another answer is no copy.
    problems = load("aime24", path=str(FIXTURES / "aime24_verl.jsonl"), expected=3)
    assert [problem.id for problem in problems] == ["0", "1", "2"]
    repeated = rows("aime24")
    path = jsonl(tmp_path / "a.jsonl", *repeated, {**repeated[1], "Answer": 31})
    with pytest.raises(DataError, match=r"line 4: the same problem has the answer '30' in .*line 2 and '31' here"):
        load("aime24", path=str(path))


def test_published_ids() -> None:
    assert [problem.id for problem in load("aime24")] == ["made-up-1", "made-up-2", "made-up-3"]
    assert load("math500")[0].id == "made/up/1.json"
    assert [problem.id for problem in load("minerva")] == ["0", "1", "2", "3", "4"]


def test_both_papers_of_aime_2025_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    papers = rows("aime25_opencompass")
    for name, row in zip(("aime2025-I.jsonl", "aime2025-II.jsonl"), papers, strict=True):
        with pytest.raises(DataError):
            load("aime25", path=None, source="opencompass/AIME2025")
        jsonl(tmp_path / "opencompass/AIME2025" / name, row)
    found = load("aime25", path=None, expected=2)
    assert [(content(problem), problem.answer) for problem in found] == [
        (papers[0]["question"], "336"),
        (papers[1]["question"], "512"),
    ]


@pytest.mark.parametrize("answer", ["1000", "-1", "2.5", "twelve", "1,000"])
def test_what_is_no_aime_answer(answer: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"problem": "Count.", "answer": answer})
    with pytest.raises(DataError, match=r"line 1: an AIME answer is a whole number from 0 to 999, got"):
        load("aime24", path=str(path))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[
            ("025", "25"),
            ("27.0", "27"),
            ("-1.0", "-1"),
            ("27.", "27"),
            (r"336^\circ", "336"),
            ("0", "0"),
            ("000", "0"),
        ],
        *[(r"$336^{\circ}$", "336"), ("336°", "336"), (" 7 ", "7"), ("12.5", None), ("1e3", None), ("x", None)],
    ],
)
def test_whole_numbers(text: str, number: str | None) -> None:
    assert whole_number(text) == number


@given(st.integers(-(10**14), 10**14), st.integers(0, 3))
def test_a_whole_number_is_itself_in_any_spelling(number: int, zeros: int) -> None:
    sign, digits = ("-" if number < 0 else ""), "0" * min(zeros, 1) + str(abs(number))
    assert whole_number(f"{sign}{digits}") == whole_number(f"{sign}{digits}.{'0' * zeros}") == str(number)


# The others


def test_answers_of_amc_stored_as_text() -> None:
    assert [one.answer for one in load("amc23", path=str(FIXTURES / "amc23_text.jsonl"))] == ["27", "-1"]


def test_subject_and_level_of_math500() -> None:
    assert load("math500")[1].facts == {"category": "Algebra", "subject": "Algebra", "level": 2}


def test_the_gold_of_minerva_is_the_last_box_of_the_solution(tmp_path: Path) -> None:
    found = load("minerva", path=str(FIXTURES / "minerva_repo.jsonl"))
    assert [(one.answer, one.id) for one in found] == [("4.4e7", "0"), (r"-\frac{1}{3}", "1")]
    assert found[0].facts == {"category": "Introduction to Astronomy"}
    path = jsonl(tmp_path / "a.jsonl", {"problem": "Why?", "solution": "Because."})
    with pytest.raises(DataError, match=r"line 1: there is no column 'answer', and 'solution' has no \\boxed"):
        load("minerva", path=str(path))


def test_minerva_golds_mean_what_they_say() -> None:
    reward = rewards.load(Choice(name="math"))
    answers = [r"4.4 \times 10^{7}", r"\arcsin\frac{10}{13}", r"-\frac{1}{3}", "y(t)=5e^{-2t}", r"\frac{m v^2}{2}"]
    for problem, answer in zip(load("minerva"), answers, strict=True):
        assert reward.score(f"\\boxed{{{answer}}}", problem).correct, problem.answer


def test_several_answers_of_olympiadbench_in_any_order() -> None:
    reward = rewards.load(Choice(name="math"))
    problems = load("olympiadbench")
    assert reward.score(r"\boxed{2, -1}", problems[0]).correct
    assert reward.score(r"\boxed{(2,1), (1,2)}", problems[2]).correct
    assert reward.score(r"\boxed{2}", problems[0]).status == "wrong"


def test_facts_and_context_of_olympiadbench(tmp_path: Path) -> None:
    problem = load("olympiadbench")[3]
    assert problem.facts == {
        "category": "Geometry",
        "subfield": "Geometry",
        "answer_type": "Numerical",
        "is_multiple_answer": False,
        "unit": "cm",
        "error": "1e-2",
    }
    assert content(problem) == "A circle has diameter $1$ cm.\nHow long is it around?"
    reward = rewards.load(Choice(name="math"))
    assert reward.score(r"\boxed{3.14 \text{ cm}}", problem).correct
    for empty in ([], None, [None], [""]):
        row = {"question": "How?", "final_answer": empty}
        with pytest.raises(DataError, match=r"line 1: 'final_answer'"):
            load("olympiadbench", path=str(jsonl(tmp_path / "a.jsonl", row)))


# DAPO-Math-17k

TEXTS = ["What is $17 \\cdot 2$?", "Add the numbers from $1$ to $10$.", "求 $6$ 的阶乘。", "How many edges has a cube?"]


def dapo(split: str = "train", **settings: Any) -> Sequence[Problem]:
    return load("dapo_math", split, **({"held_out": 0} | settings))


def test_copies_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    problems = dapo(prompt="bare")
    assert [content(problem) for problem in problems] == TEXTS
    assert [problem.answer for problem in problems] == ["34", "55", "720", "12"]
    assert [problem.id for problem in problems] == ["a", "b", "c", "d"]
    assert "7 rows are 4 problems; copies and rows in other languages left out: 3;" in caplog.text
    assert "1 problem with copies of another answer" in caplog.text


@pytest.mark.parametrize("name", ["dapo_math", "dapo_math_processed"])
def test_prompts_are_wrapped_once(name: str) -> None:
    problems = dapo(path=str(FIXTURES / f"{name}.jsonl"), language="en")
    assert [content(problem) for problem in problems] == [f"{PREFIX}{TEXTS[i]}{SUFFIX}" for i in (0, 1, 3)]
    assert [problem.answer for problem in problems] == ["34", "55", "12"]


def test_dapo_golds_verify_by_their_reward() -> None:
    reward = rewards.load(tasks.reward(Choice(name="dapo_math")))
    for problem in dapo():
        assert reward.gold_fault(problem) is None
        assert reward.score(f"Step by step.\n\nAnswer: {problem.answer}", problem).reward == 1.0
        assert reward.score(f"Step by step.\n\nAnswer: {problem.answer}1", problem).status == "wrong"


@pytest.mark.parametrize(("language", "count"), [("all", 4), ("en", 3), ("cn", 1)])
def test_languages(language: str, count: int) -> None:
    assert len(dapo(language=language, expected=count)) == count


def test_the_folder_of_the_processed_copy_goes_by_the_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    copy = "open-r1/DAPO-Math-17k-Processed"
    processed = rows("dapo_math_processed")
    parquet(tmp_path / copy / "all/train-00000-of-00001.parquet", processed)
    parquet(tmp_path / copy / "en/train-00000-of-00001.parquet", processed[:2])
    assert len(dapo(path=None)) == 3
    assert len(dapo(path=None, language="en")) == 2
    parquet(tmp_path / "BytedTsinghua-SIA/DAPO-Math-17k/data/dapo-math-17k.parquet", rows("dapo_math"))
    assert len(dapo(path=None)) == 4
    assert len(dapo(path=None, source=copy)) == 3


def test_held_out_problems_are_disjoint_and_go_by_the_problem(tmp_path: Path) -> None:
    many = [{"prompt": f"What is {n} + 1?", "solution": str(n + 1)} for n in range(60)]
    path = str(jsonl(tmp_path / "a.jsonl", *many))
    train, test = (dapo(split, path=path, held_out=10, prompt="bare") for split in ("train", "test"))
    assert (len(train), len(test)) == (50, 10)
    assert not {content(one) for one in train} & {content(one) for one in test}
    # neither the order of the rows, nor copies, nor the wrapper change the choice
    turned = [{**row, "prompt": wrap(row["prompt"])} for row in (many + many)[::-1]]
    moved = dapo("test", path=str(jsonl(tmp_path / "b.jsonl", *turned)), held_out=10)
    assert {bare(content(one)) for one in moved} == {content(one) for one in test}
    assert {one.answer for one in moved} == {one.answer for one in test}


@pytest.mark.parametrize(
    ("split", "settings", "message"),
    [
        ("test", {"held_out": 0}, r"no problems for the test split: held_out=0 of 4 .*evaluate\.every=0"),
        ("train", {"held_out": 256}, "no problems for the train split: held_out=256 of 4"),
        ("train", {"expected": 17398}, "expected 17398 problems, got 4"),
        ("validation", {}, "it has the splits train and test, got 'validation'"),
    ],
)
def test_dapo_splits_that_cannot_be(split: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dapo(split, **settings)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": PREFIX + SUFFIX, "solution": "1"}, "the prompt has a wrapper but no problem in it"),
        ({"prompt": [{"role": "system", "content": "a"}], "solution": "1"}, "must hold one user message, got 0"),
        ({"prompt": [{"role": "user", "content": ""}], "solution": "1"}, "'prompt': 'content' must be text"),
        ({"text": "a", "solution": "1"}, "no column 'problem'"),
        ({"prompt": "a", "reward_model": {"style": "rule"}}, "'reward_model': no column 'ground_truth'"),
        ({"prompt": "a"}, "no column 'solution'"),
    ],
)
def test_dapo_rows_that_cannot_be_used(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"a\.jsonl, line 1.*{message}"):
        dapo(path=str(jsonl(tmp_path / "a.jsonl", row)))


@given(st.text(), st.integers(0, 3))
def test_the_wrapper_comes_off_and_never_twice_on(text: str, times: int) -> None:
    wrapped = text
    for _ in range(times):
        wrapped = f"{PREFIX}{wrapped}{SUFFIX}"
    assert bare(wrapped) == bare(text) == bare(wrap(wrapped))
    once = wrap(bare(wrapped))
    assert once == f"{PREFIX}{bare(text)}{SUFFIX}"
    assert wrap(once) == once


def test_half_a_wrapper_is_no_wrapper() -> None:
    whole = f"{PREFIX}What is 2 + 2?{SUFFIX}"
    assert wrap(f"{PREFIX}What is 2 + 2?") == wrap(f"What is 2 + 2?{SUFFIX}") == wrap("What is 2 + 2?") == whole
    assert wrap(whole) is whole
