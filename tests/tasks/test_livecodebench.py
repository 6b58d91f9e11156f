"""LiveCodeBench: the window and release, and private tests that are read without unpickling anything."""

import base64
import contextlib
import datetime
import json
import os
import pickle
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo import tasks
from progrpo.errors import ConfigError, DataError
from progrpo.settings import Choice, parse
from progrpo.tasks import _lcb_pickle
from progrpo.tasks._lcb_pickle import inflate, pickled_text, read_private_tests
from progrpo.tasks.livecodebench import Params
from progrpo.types import Problem

FIXTURE = Path(__file__).parent / "fixtures" / "code_livecodebench.jsonl"
ROWS = [json.loads(line) for line in FIXTURE.read_text().splitlines()]
TESTS = [{"input": "1", "output": "2", "testtype": "stdin"}]


def load(path: Path = FIXTURE, **settings: Any) -> Sequence[Problem]:
    choice = {"name": "livecodebench", "path": str(path), "expected": None, **settings}
    return tasks.problems(Choice(**choice), "test")


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def test_the_window_holds_its_first_day_and_not_the_day_after_its_last() -> None:
    assert [problem.id for problem in load()] == ["toy_square", "9001", "toy_last"]
    assert [problem.id for problem in load(end="2025-02-02")] == ["toy_square", "9001", "toy_last", "toy_late"]
    assert [problem.id for problem in load(start="2024-07-31", end="2024-08-01")] == ["toy_early"]
    with pytest.raises(DataError, match="no problems with 2026-01-01 <= contest date < 2026-02-01"):
        load(start="2026-01-01", end="2026-02-01")
    with pytest.raises(DataError, match="it has a test split and no train split"):
        tasks.problems(Choice(name="livecodebench", path=str(FIXTURE)), "train")


def test_the_published_number_is_expected_of_the_default_window_only() -> None:
    with pytest.raises(DataError, match="expected 279 problems with 2024-08-01 <= contest date < 2025-02-01, got 3"):
        tasks.problems(Choice(name="livecodebench", path=str(FIXTURE)), "test")
    for settings, expected in (
        ({}, 279),
        ({"start": "2024-08-01", "release": "v5"}, 279),
        ({"end": datetime.date(2025, 2, 1)}, 279),
        ({"end": "2025-01-01"}, None),
        ({"release": "v6"}, None),
        ({"release": "v6", "expected": 12}, 12),
        ({"expected": None}, None),
    ):
        params = parse(Params, settings, where="task")
        assert params.expected == expected
        assert parse(Params, params.model_dump(mode="json"), where="a resolved recipe") == params
    with pytest.raises(ConfigError, match="must lie before end"):
        parse(Params, {"start": "2025-02-01"}, where="task")


def test_facts_and_tests() -> None:
    square, pairs, last = load()
    window = "release v5, 2024-08-01 <= contest date < 2025-02-01"
    assert pairs.facts == {
        "category": "medium",
        "difficulty": "medium",
        "platform": "leetcode",
        "contest_date": "2024-11-16",
        "window": window,
    }
    assert [test["input"] for test in pairs.info["tests"]] == ['"aab"', '"zzzz"', '""']
    assert pairs.info["fn_name"] == "pairs"
    assert "fn_name" not in square.info
    assert [test["output"] for test in square.info["tests"]] == ["9\n", "144\n"]
    assert [test["output"] for test in last.info["tests"]] == ["b a\n", "yz x\n"]
    assert "def pairs(self, s: str) -> int:" in pairs.prompt[-1]["content"]  # type: ignore[index]
    assert "standard input" in square.prompt[-1]["content"]  # type: ignore[index]


def test_a_release_is_all_files_up_to_its_number(tmp_path: Path) -> None:
    for name, row in (("test.jsonl", 1), ("test2.jsonl", 2), ("test3.jsonl", 3)):
        (tmp_path / name).write_text(json.dumps(ROWS[row]))
    assert [problem.id for problem in load(tmp_path, release="v1")] == ["toy_square"]
    assert [problem.id for problem in load(tmp_path, release="v3")] == ["toy_square", "9001", "toy_last"]
    with pytest.raises(DataError, match="has no test4.jsonl"):
        load(tmp_path, release="v4")
    (tmp_path / "test2.jsonl").write_text(json.dumps(ROWS[1]))
    with pytest.raises(DataError, match="ids must be unique"):
        load(tmp_path, release="v2")


def test_the_converted_copy_has_dates_of_its_own(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "release_v5"
    folder.mkdir()
    date = datetime.datetime(2024, 8, 1, 12)
    table = pyarrow.Table.from_pylist([ROWS[1] | {"contest_date": date}])
    pyarrow.parquet.write_table(table, folder / "test-00000-of-00001.parquet")
    (problem,) = load(tmp_path, source="lighteval/code_generation_lite")
    assert problem.facts["contest_date"] == "2024-08-01"


def test_a_row_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for change, words in (
        ({"contest_date": "soon"}, "'contest_date' must be a date"),
        ({"public_test_cases": "[{"}, "'public_test_cases' is not JSON"),
        ({"public_test_cases": "{}", "private_test_cases": "{}"}, "neither a JSON list nor base64"),
        ({"public_test_cases": '{"a": 1}'}, "'public_test_cases' must be a list"),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, "no tests"),
        ({"question_content": " "}, "'question_content' must be text"),
    ):
        path = tmp_path / "row.jsonl"
        path.write_text(json.dumps(ROWS[1] | change))
        with pytest.raises(DataError, match=f"row.jsonl, line 1: .*{words}"):
            load(path)


class Evil:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"echo > {self.path}",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    touched, data = tmp_path / "touched", packed(pickle.dumps(Evil(tmp_path / "touched"), protocol))
    with pytest.raises(DataError, match="row 7: the pickle of private tests wants (STACK_)?GLOBAL"):
        read_private_tests(data, "row 7")
    assert not touched.exists()
    pickle.loads(zlib.decompress(base64.b64decode(data)))
    assert touched.exists()  # it is as malicious as it says


@pytest.mark.parametrize(
    "value", [b"bytes", bytearray(b"x"), 7, 1.5, None, True, ["[]"], ("[]",), {"[]": "[]"}, {"a"}], ids=repr
)
def test_a_pickle_of_anything_but_one_text_is_refused(value: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(DataError, match="refused"):
            pickled_text(pickle.dumps(value, protocol), "row")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Pid\n.", "PERSID"),  # a persistent id
        (b"\x8c\x01aQ.", "BINPERSID"),
        (b"\x82\x01.", "EXT1"),  # a registered extension
        (b"cos\nsystem\n(S'true'\ntR.", "GLOBAL"),
        (b"\x8c\x02[]\x8c\x02[].", "must hold one text, got 2"),
        (b"\x80\x04.", "must hold one text, got 0"),
        (b"\x8c\x02[].cos\nsystem\n.", "must hold one text"),  # something behind the end
        (b"\x8c\x02[]", "damaged"),  # no end
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f[]", "damaged"),  # a text longer than there is
        (b"", "damaged"),
    ],
)
def test_odd_pickles(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        pickled_text(data, "row")


@given(st.text(), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_every_pickled_text_comes_back(text: str, protocol: int) -> None:
    assert pickled_text(pickle.dumps(text, protocol), "row") == text


@given(st.binary(max_size=40))
def test_no_bytes_do_anything_but_read_or_be_refused(data: bytes) -> None:
    with contextlib.suppress(DataError):
        assert isinstance(pickled_text(data, "row"), str)


def test_a_zip_bomb_is_refused_before_it_swells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lcb_pickle, "LARGEST_BYTES", 2**20)
    bomb = zlib.compress(bytes(2**26))
    assert len(bomb) < 2**17
    tracemalloc.start()
    with pytest.raises(DataError, match="swell to more than 1048576 bytes"):
        inflate(bomb, "row")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
    assert inflate(zlib.compress(bytes(2**20)), "row") == bytes(2**20)  # exactly at the limit


def test_both_ways_of_writing_private_tests() -> None:
    text = json.dumps(TESTS)
    assert read_private_tests(text, "row") == read_private_tests(TESTS, "row") == TESTS
    assert read_private_tests(packed(pickle.dumps(text)), "row") == TESTS
    whole = zlib.compress(pickle.dumps(text))
    for damaged in (whole[:-3], whole + b"x", b"x" + whole):
        with pytest.raises(DataError, match="damaged or cut short"):
            read_private_tests(base64.b64encode(damaged).decode(), "row")
    with pytest.raises(DataError, match="must be a list, got dict"):
        read_private_tests(packed(pickle.dumps("{}")), "row")
    with pytest.raises(DataError, match="not JSON"):
        read_private_tests("", "row")
