import json
from pathlib import Path

import pytest

from progrpo.errors import DataError
from progrpo.settings import Choice
from progrpo.tasks import problems

ROWS = [{"prompt": f"What is {n} + 1?", "answer": n + 1, "source": {"name": f"s{n}"}} for n in range(40)]


def jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path: Path, split: str = "train", **settings: object) -> list:
    return list(problems(Choice(name="file", train=str(path), **settings), split))


def test_text_becomes_a_user_message(tmp_path: Path) -> None:
    first = load(jsonl(tmp_path / "a.jsonl", ROWS), instruction=" Think.")[0]
    assert first.prompt == ({"role": "user", "content": "What is 0 + 1? Think."},)
    assert first.answer == "1"
    assert first.id == "0"


def test_text_as_it_stands(tmp_path: Path) -> None:
    assert load(jsonl(tmp_path / "a.jsonl", ROWS), chat=False)[0].prompt == "What is 0 + 1?"


def test_messages_and_dotted_keys(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    rows = [{"prompt": messages, "reward_model": {"ground_truth": "4"}, "key": "k7"}]
    settings = {"answer_key": "reward_model.ground_truth", "id_key": "key", "instruction": " Box it."}
    (problem,) = load(jsonl(tmp_path / "a.jsonl", rows), **settings)
    assert problem.prompt == (messages[0], {"role": "user", "content": "2+2? Box it."})
    assert (problem.answer, problem.id) == ("4", "k7")


def test_the_instruction_goes_to_the_user_where_an_answer_is_begun(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "Let me see:"}]
    (problem,) = load(jsonl(tmp_path / "a.jsonl", [{"prompt": messages, "answer": "4"}]), instruction=" Box it.")
    assert problem.prompt == ({"role": "user", "content": "2+2? Box it."}, messages[1])
    path = jsonl(tmp_path / "b.jsonl", [{"prompt": messages[1:], "answer": "4"}])
    assert load(path)[0].prompt == (messages[1],)
    with pytest.raises(DataError, match=r"b.jsonl, line 1: no message of the user, to which task.instruction"):
        load(path, instruction=" Box it.")


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    assert [problem.answer for problem in load(path)] == [str(n + 1) for n in range(40)]


def test_info_columns_reach_the_reward(tmp_path: Path) -> None:
    assert load(jsonl(tmp_path / "a.jsonl", ROWS), info_keys=["source.name"])[3].info == {"source.name": "s3"}


def test_held_out_share_is_disjoint_and_stable(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    train, test = (load(path, split, held_out_fraction=0.25) for split in ("train", "test"))
    assert len(train) + len(test) == 40
    assert 4 <= len(test) <= 16
    assert not {p.id for p in train} & {p.id for p in test}
    # the choice goes by the prompt, not by its place in the file
    moved = jsonl(tmp_path / "b.jsonl", ROWS[::-1])
    assert {p.prompt[0]["content"] for p in load(moved, "test", held_out_fraction=0.25)} == {
        p.prompt[0]["content"] for p in test
    }


def test_white_space_around_a_question_makes_it_no_other_one(tmp_path: Path) -> None:
    spaced = [{**row, "prompt": f" {row['prompt']}\n"} for row in ROWS]
    plain, other = (jsonl(tmp_path / name, rows) for name, rows in (("a.jsonl", ROWS), ("b.jsonl", spaced)))
    for chat in (True, False):
        one, two = (load(path, "test", held_out_fraction=0.25, chat=chat) for path in (plain, other))
        assert [p.answer for p in one] == [p.answer for p in two]


def test_test_file(tmp_path: Path) -> None:
    train, test = jsonl(tmp_path / "a.jsonl", ROWS[:30]), jsonl(tmp_path / "b.jsonl", ROWS[30:])
    assert len(load(train, test=str(test))) == 30
    assert len(load(train, "test", test=str(test))) == 10


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.jsonl", None, "no such file"),
        ("a.jsonl", "", "the file has no rows"),
        ("a.jsonl", "\n\n", "the file has no rows"),
        ("a.txt", "x", "expected a file ending in"),
        ("a.jsonl", '{"prompt": "p", "answer": "1"}\n{"prompt": "p"}\n', r"line 2: no 'answer'; the row has prompt"),
        ("a.jsonl", '{"prompt": "p", "answer": ""}\n', r"line 1: 'answer' is empty"),
        ("a.jsonl", '{"prompt": "p", "answer": null}\n', r"line 1: 'answer' is empty"),
        ("a.jsonl", '{"prompt": "", "answer": 1}\n', r"line 1: 'prompt' must be text or a list"),
        (
            "a.jsonl",
            '{"prompt": [{"role": "user"}], "answer": 1}\n',
            r"message 1 of 'prompt' \(of the user\) has no content",
        ),
        ("a.jsonl", '{"prompt": "p", "answer": 1}\n{"prompt": \n', r"line 2: not JSON"),
        ("a.jsonl", "[1]\n", r"line 1: expected a JSON object, got list"),
        ("a.parquet", "junk", "not readable as Parquet"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        load(path)


def test_no_held_out_problems(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no problems for the test split; give task.test=FILE"):
        load(jsonl(tmp_path / "a.jsonl", ROWS), "test")


def test_ids_are_text_or_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    def ids(*given: str) -> list[str]:
        path.write_text("".join(f'{{"prompt": "p", "answer": "1", "id": {one}}}\n' for one in given))
        return [problem.id for problem in load(path, id_key="id")]

    assert ids("7", '"a/b"', '"7a"') == ["7", "a/b", "7a"]
    for wrong in ("null", "NaN", "1.5", "true", '{"n": 1}', "[1]", '""'):
        with pytest.raises(DataError, match="line 2: 'id', the id, must be text or a whole number, got"):
            ids("1", wrong)
