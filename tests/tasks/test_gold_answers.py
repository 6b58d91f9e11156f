"""What a data file's answer becomes: texts that a completion can meet, or one line that says why not."""

import gzip
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo import rewards
from progrpo.errors import DataError
from progrpo.settings import Choice
from progrpo.tasks import problems
from progrpo.tasks._answers import number_text, read_answers

ROW = {"prompt": "p", "answer": "1"}


def load(path: Path, **settings: object) -> list[Any]:
    return list(problems(Choice.model_validate({"name": "file", "train": str(path), **settings}), "train"))


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ("7", ("7",)),
        (" 7 ", (" 7 ",)),
        (7, ("7",)),
        (27.0, ("27",)),
        (-0.0, ("0",)),
        (0.1 + 0.2, ("0.3",)),
        (1 - 0.9, ("0.1",)),  # 0.09999999999999998
        (0.9999999999999999, ("1",)),
        (1e-7, ("0.0000001",)),
        (1e22, ("1" + 22 * "0",)),
        (2.0**53, ("9007199254740992",)),  # 16 digits, all of them meant
        (1.5e300, ("1.5E+300",)),
        (Decimal("1.50"), ("1.50",)),
        (["7"], ("7",)),
        ([["7"]], None),
        (["1", "2"], ("1", "2")),
        (["1/2", 0.5], ("1/2", "0.5")),
        (["2", 2, 2.0], ("2",)),
        (("a", "b"), ("a", "b")),
        ("['1', '2']", ("['1', '2']",)),  # text is text
    ],
)
def test_answers(value: Any, answers: tuple[str, ...] | None) -> None:
    if answers is None:
        with pytest.raises(DataError, match="must be text"):
            read_answers(value, "here", "answer")
    else:
        assert read_answers(value, "here", "answer") == answers


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            {"value": 1},
            "'answer' must be text, a finite number, or a list of several accepted answers, got {'value': 1}",
        ),
        (True, "must be text, a finite number, or a list of several accepted answers, got True (bool)"),
        ([True], "got True (bool)"),
        (["1", {}], "got {} (dict)"),
        (math.nan, "'answer' is nan, which no answer equals"),
        (["1", math.inf], "'answer' is inf"),
        (None, "'answer' is empty"),
        ("", "'answer' is empty"),
        (" ", "'answer' is empty"),
        ([], "'answer' is empty"),
        (["1", ""], "'answer' is empty"),
        (["1", None], "got None (NoneType)"),
    ],
)
def test_what_is_no_answer_is_refused_with_file_and_line(tmp_path: Path, value: Any, words: str) -> None:
    path = written(tmp_path / "a.jsonl", ROW, {"prompt": "q", "answer": value})
    with pytest.raises(DataError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}, line 2: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.integers(-(10**9), 10**9), st.integers(0, 6))
def test_a_decimal_comes_back_however_it_was_summed(units: int, places: int) -> None:
    """k / 10^places is written as itself, also after an error of a few units in the last place of a 64-bit float."""
    exact = Decimal(units).scaleb(-places)
    for number in (float(exact), math.nextafter(float(exact), math.inf), math.nextafter(float(exact), -math.inf)):
        assert exact == 0 or Decimal(number_text(number)) == exact


def test_a_narrow_parquet_float_is_the_number_that_was_meant(tmp_path: Path) -> None:
    """0.1 in 32 bits is 0.10000000149011612, in 16 bits 0.0999755859375."""
    import pyarrow
    import pyarrow.parquet

    columns = {
        "prompt": pyarrow.array(["a", "b"]),
        "answer": pyarrow.array([0.1, 2.0], pyarrow.float32()),
        "half": pyarrow.array([0.1, 2.0], pyarrow.float16()),
        "list": pyarrow.array([[0.1], [0.7, 2.0]], pyarrow.list_(pyarrow.float32())),
        "deep": pyarrow.array([{"gold": 0.3}, {"gold": 0.7}], pyarrow.struct([("gold", pyarrow.float32())])),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path := tmp_path / "a.parquet")
    assert [one.answer for one in load(path)] == ["0.1", "2"]
    assert [one.answer for one in load(path, answer_key="half")] == ["0.1", "2"]
    assert [(one.answer, one.accepted) for one in load(path, answer_key="list")] == [("0.1", ()), ("0.7", ("2",))]
    assert [one.answer for one in load(path, answer_key="deep.gold")] == ["0.3", "0.7"]


def test_an_empty_cell_of_parquet_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"prompt": ["a", "b"], "answer": pyarrow.array([0.1, None], pyarrow.float32())})
    pyarrow.parquet.write_table(table, path := tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet, row 2: 'answer' is empty"):
        load(path)


@pytest.mark.parametrize("answer", [0.1 + 0.2, 1 - 0.9, 3, "0.25"])
def test_a_model_can_meet_a_number(tmp_path: Path, answer: Any) -> None:
    (problem,) = load(written(tmp_path / "a.jsonl", {"prompt": "p", "answer": answer}))
    boxed = f"\\boxed{{{round(float(answer), 3):g}}}"
    assert rewards.load(Choice(name="math")).score(boxed, problem).status == "correct"


def test_several_accepted_answers_reach_the_reward(tmp_path: Path) -> None:
    (problem,) = load(written(tmp_path / "a.jsonl", {"prompt": "x^2 = 4", "answer": ["2", -2]}))
    assert (problem.answer, problem.accepted, problem.answer_text) == ("2", ("-2",), "2 or -2")
    math_reward = rewards.load(Choice(name="math"))
    texts = ("\\boxed{2}", "\\boxed{-2}", "\\boxed{3}", "none")
    assert [math_reward.score(text, problem).status for text in texts] == ["correct", "correct", "wrong", "no_answer"]


def test_of_a_solution_the_final_answer_is_the_gold(tmp_path: Path) -> None:
    """Whatever the reward: `dapo_math` compares text, and some methods ask for the likelihood of the answer."""
    rows = [
        "2+2=<<2+2=4>>4\n#### 4",
        ["a\n#### 1/2", "0.5", "b\n#### 0.5"],
        "#### Why\nBecause.",
        r"It is \boxed{4}.",
        7,
    ]
    path = written(tmp_path / "a.jsonl", *({"prompt": "p", "answer": one} for one in rows))
    found = [(one.answer, one.accepted) for one in load(path)]
    assert found == [("4", ()), ("1/2", ("0.5",)), ("#### Why\nBecause.", ()), (r"It is \boxed{4}.", ()), ("7", ())]
    (tmp_path / "a.csv").write_text('prompt,answer\np,"2+2=4\n#### 4"\n')
    assert [one.answer for one in load(tmp_path / "a.csv")] == ["4"]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz"])
def test_compressed_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"".join(json.dumps(ROW).encode() + b"\n" for _ in range(3))))
    assert [(one.answer, one.place) for one in load(path)] == [("1", f"{path}, line {n}") for n in (1, 2, 3)]
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"a\.json(l\.gz, line \d|\.gz): not readable \(damaged or cut short\?\)"):
        load(path)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="not readable"):
        load(path)


def test_compressed_csv_and_array(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"prompt,answer\np,1\nq,2\n"))
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(json.dumps([ROW, ROW]).encode()))
    assert [one.answer for one in load(tmp_path / "a.csv.gz")] == ["1", "2"]
    assert [one.place for one in load(tmp_path / "b.json.gz")] == [f"{tmp_path / 'b.json.gz'}, row {n}" for n in (1, 2)]
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"prompt,answer\n" + b"p,1\n" * 99)[:-20])
    with pytest.raises(DataError, match="not readable as CSV"):
        load(tmp_path / "a.csv.gz")


def test_content_parts_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}]
    row = {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}], "answer": 4}
    (problem,) = load(written(tmp_path / "a.jsonl", row), instruction=" Box it.")
    assert problem.prompt[1] == {"role": "user", "content": "What is 2 + 2? Box it."}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "message 2 of 'prompt' (of the user) has no content"),
        (3, "message 2 of 'prompt': its content must be text or a list of text parts, got 3"),
        ([], "must be text or parts"),
        ([{"type": "image_url", "image_url": "x"}], "(no images), got [{'type': 'image_url'"),
        ([{"type": "text", "text": None}], "must be text or parts"),
        (["a"], "must be text or parts"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": content}]
    path = written(tmp_path / "a.jsonl", ROW, {"prompt": messages, "answer": 1})
    with pytest.raises(DataError) as refused:
        load(path)
    assert f"{path}, line 2: " in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize("row", [{"prompt": "a \ud83d b", "answer": "1"}, {"prompt": "p", "answer": ["1", "\udc00"]}])
def test_half_a_character_is_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    path = written(tmp_path / "a.jsonl", ROW, row)
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: the (prompt|answer) holds '\\ud[8c]3?[0d]0?', half of a"):
        load(path)


def test_both_lines_of_an_id_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", *({**ROW, "id": name} for name in ("a", "b", "c", "b")))
    with pytest.raises(DataError) as refused:
        load(path, id_key="id")
    assert str(refused.value) == (f"{path}, line 4: the id 'b' is that of {path}, line 2 already; ids must be unique")


def test_a_prompt_beyond_any_context_is_refused_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", ROW, {"prompt": "x" * 4_000_001, "answer": "1"})
    with pytest.raises(DataError, match=r"line 2: 'prompt' has 4,000,001 characters, more than any model's context"):
        load(path)


@pytest.mark.parametrize("part", ["head", "middle", "end"])
def test_damaged_parquet_is_one_line(tmp_path: Path, part: str) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"prompt": f"What is {n}?" * 20, "answer": n} for n in range(300)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path := tmp_path / "a.parquet", row_group_size=50)
    data = path.read_bytes()
    for cut in range(0, len(data), len(data) // 12):
        broken = {"head": data[cut:], "middle": data[:cut] + bytes(64) + data[cut + 64 :], "end": data[:cut]}[part]
        path.write_bytes(broken)
        fault = _fault(path)
        assert fault is None or (fault.startswith(str(path)) and "\n" not in fault)
        assert fault or part != "end" or broken == data


def _fault(path: Path) -> str | None:
    try:
        load(path)
    except DataError as error:
        return str(error)
    return None
