import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from progrpo.errors import DataError
from progrpo.tasks._published import (
    PublishedParams,
    Source,
    column,
    find_files,
    published_rows,
    require_count,
    require_test,
    text_column,
    with_ids,
)
from progrpo.tasks._rows import read_rows
from progrpo.types import Problem

SOURCES = (
    Source(repo="made/first", files={"train": ("data/train-*.jsonl",), "test": ("one.jsonl", "two.jsonl")}),
    Source(repo="made/second", files={"train": ("all.jsonl",)}),
)


def jsonl(path: Path, *texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def texts(split: str = "train", **given_settings: Any) -> list[str]:
    params = PublishedParams(**given_settings)
    return [row["text"] for _, row in published_rows("made", SOURCES, split, params)]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[dict[str, Any]]]:
    """Stand in for the hub: answer with a folder or raise; returns the list of calls."""
    monkeypatch.delenv("PROGRPO_DATA", raising=False)

    def answer(with_: Any) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def snapshot_download(repo: str, **options: Any) -> str:
            calls.append({"repo": repo, **options})
            if isinstance(with_, Exception):
                raise with_
            return str(with_)

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
        return calls

    return answer


# Rows of a file


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1), min_size=1))
@example(["two\r\nlines", "one\rmore", "\ufeff", " é "])
def test_every_kind_of_file_gives_the_same_rows(values: list[str]) -> None:
    import csv

    rows = [{"text": value} for value in values]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "a.jsonl").write_text(lines)
        (folder / "lines.json").write_text(lines)
        (folder / "array.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
        parquet(folder / "a.parquet", rows)
        with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
        for path in sorted(folder.iterdir()):
            assert [row for _, row in read_rows(path)] == rows, path.name


def test_places_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [place for place, _ in read_rows(path)] == [f"{path}, line 1", f"{path}, line 3"]


def test_only_the_wanted_parquet_columns_are_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"a": 1, "b": {"c": 2}, "d": 3}])
    assert [row for _, row in read_rows(path, ["b", "a", "missing"])] == [{"a": 1, "b": {"c": 2}}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": ', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"a": 1}\n[2]\n', r"a\.jsonl, line 2: expected a JSON object, got list"),
        ("a.jsonl", b'{"a": "\xff"}\n', r"a\.jsonl, line 1: not JSON"),
        ("a.json", b'[{"a": 1}, {"a"', r"a\.json: not JSON"),
        ("a.csv", b'a,b\n1,"2\n', r"a\.csv: not readable as CSV"),
        ("a.csv", b"a,b\n1,2\n3\n", r"a\.csv, row 2: has another number of fields"),
        ("a.csv", b"a,b\n1,2,3\n", r"a\.csv, row 1: has another number of fields"),
        ("a.csv", b"a\n\xff\n", r"a\.csv: not readable as CSV"),
        ("a.parquet", b"PAR1 and then nothing", r"a\.parquet: not readable as Parquet"),
        ("a.xlsx", b"", r"expected a file ending in \.jsonl"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_rows(path))


def test_a_parquet_file_cut_short(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"a": str(n) * 50} for n in range(1000)])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not readable as Parquet"):
        list(read_rows(path))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read_rows(tmp_path / "a.jsonl"))


# Where rows are looked for


def test_a_path_is_a_file_or_a_folder_like_the_repository(tmp_path: Path) -> None:
    jsonl(tmp_path / "data/train-1.jsonl", "b")
    jsonl(tmp_path / "data/train-0.jsonl", "a")
    (tmp_path / "data/train-0.md").write_text("no data")
    assert texts(path=tmp_path) == ["a", "b"]
    assert texts(path=tmp_path / "data/train-1.jsonl") == ["b"]


def test_the_order_of_the_search(mirror: Path) -> None:
    jsonl(mirror / "made/second/all.jsonl", "another source's copy")
    assert texts() == ["another source's copy"]
    jsonl(mirror / "made/first/data/train-0.jsonl", "the repository's copy")
    assert texts() == ["the repository's copy"]
    jsonl(mirror / "made.jsonl", "one file")
    assert texts() == ["one file"]
    jsonl(mirror / "made-train.jsonl", "one file of the split")
    assert texts() == ["one file of the split"]
    assert texts(path=jsonl(mirror / "elsewhere.jsonl", "a path")) == ["a path"]


def test_a_named_source_is_the_only_one(mirror: Path, hub: Callable[[Any], Any], monkeypatch: Any) -> None:
    monkeypatch.setenv("PROGRPO_DATA", str(mirror))
    jsonl(mirror / "made/first/data/train-0.jsonl", "first")
    calls = hub(jsonl(mirror / "snapshot/all.jsonl", "second").parent)
    assert texts(source="made/second") == ["second"]
    assert calls[0]["repo"] == "made/second"


def test_half_a_split_is_refused(mirror: Path) -> None:
    jsonl(mirror / "made/first/one.jsonl", "1")
    with pytest.raises(DataError, match=r"made/first has one\.jsonl but no two\.jsonl"):
        texts("test")
    with pytest.raises(DataError, match=r"first has no two\.jsonl"):
        texts("test", path=mirror / "made/first")
    jsonl(mirror / "made/first/two.jsonl", "2")
    assert texts("test") == texts("test", path=mirror / "made/first") == ["1", "2"]


def test_of_several_wildcards_one_must_match(tmp_path: Path) -> None:
    sources = (Source(repo="made/third", files={"test": ("data/test*", "test*")}),)
    jsonl(tmp_path / "test.jsonl", "1")
    assert find_files("made", sources, "test", PublishedParams(path=tmp_path)) == [tmp_path / "test.jsonl"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has no data/test\* or test\*"):
        find_files("made", sources, "test", PublishedParams(path=tmp_path / "empty"))


def test_the_hub_is_asked_for_the_files_of_the_split(tmp_path: Path, hub: Callable[[Any], Any]) -> None:
    jsonl(tmp_path / "data/train-0.jsonl", "from the hub")
    calls = hub(tmp_path)
    assert texts(revision="v2") == ["from the hub"]
    expected = {"repo_type": "dataset", "revision": "v2", "allow_patterns": ["data/train-*.jsonl"]}
    assert calls == [{"repo": "made/first", **expected}]


def test_without_data_the_message_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PROGRPO_DATA", raising=False)  # and HF_HUB_OFFLINE=1: the real hub client refuses at once
    with pytest.raises(DataError) as caught:
        texts("test")
    message = str(caught.value)
    assert "task made: no data for the test split: made/first cannot be downloaded" in message
    assert "put one.jsonl and two.jsonl of the dataset made/first under $PROGRPO_DATA/made/first/" in message
    assert "$PROGRPO_DATA/made.jsonl" in message
    assert "task.path=FILE" in message
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"under {tmp_path}/made/first/"):
        texts()


def hub_error(kind: str, text: str) -> Exception:
    from huggingface_hub import errors

    # The response is of whichever HTTP library the hub's client is built on; the errors only keep it.
    class Response:
        headers: dict[str, str] = {}  # noqa: RUF012 - a stand-in
        request = None
        status_code = 403

    made: Exception = getattr(errors, kind)(text, response=Response())
    return made


def test_a_gated_repository(hub: Callable[[Any], Any]) -> None:
    hub(hub_error("GatedRepoError", "restricted"))
    with pytest.raises(DataError, match=r"made/first is gated: accept its terms.*hf auth login.*put data/train"):
        texts()


def test_a_failing_hub(hub: Callable[[Any], Any]) -> None:
    hub(hub_error("RepositoryNotFoundError", "404\nmore"))
    with pytest.raises(DataError, match=r"cannot be downloaded \(RepositoryNotFoundError: 404\); put"):
        texts()


def test_an_error_of_the_http_library_itself(hub: Callable[[Any], Any]) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    hub(HfHubHTTPError.__bases__[0]("connection reset"))
    with pytest.raises(DataError, match=r"cannot be downloaded .*connection reset"):
        texts()


def test_a_revision_without_the_file(tmp_path: Path, hub: Callable[[Any], Any]) -> None:
    hub(tmp_path)
    with pytest.raises(DataError, match=r"made/first at revision main has no file data/train-\*\.jsonl"):
        texts()


@pytest.mark.parametrize(
    ("given_settings", "split", "message"),
    [
        ({"source": "made/third"}, "train", "unknown source 'made/third'; expected one of made/first, made/second"),
        ({}, "validation", "it has no validation split; it has train, test"),
        ({"path": "/nowhere/at/all"}, "train", "path=/nowhere/at/all: no such file or folder; put data/train-"),
    ],
)
def test_what_cannot_be_looked_for(given_settings: dict[str, str], split: str, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("*", r"\*")):
        find_files("made", SOURCES, split, PublishedParams(**given_settings))


def test_a_mirror_that_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match="PROGRPO_DATA=.*none: no such folder"):
        texts()


# Columns and counts


def test_columns_go_by_any_of_their_names() -> None:
    assert column({"Problem": 1}, ("problem", "Problem"), "row 1") == 1
    with pytest.raises(DataError, match="row 1: no column 'problem' or 'Problem'; the row has task, answer"):
        column({"task": 1, "answer": 2}, ("problem", "Problem"), "row 1")


@pytest.mark.parametrize(("value", "text"), [("a ", "a "), (27, "27"), (27.0, "27"), (-1.0, "-1"), (12.5, "12.5")])
def test_text_columns(value: Any, text: str) -> None:
    assert text_column({"a": value}, ("a",), "row 1") == text


@pytest.mark.parametrize("value", ["", "  ", None, True, [1], float("nan"), float("inf")])
def test_what_is_no_text(value: Any) -> None:
    with pytest.raises(DataError, match="row 1: 'a' must be text or a number, got"):
        text_column({"a": value}, ("a",), "row 1")


def test_the_number_of_problems() -> None:
    require_count("made", 3, PublishedParams(expected=3))
    require_count("made", 3, PublishedParams())
    with pytest.raises(DataError, match=r"task made: expected 30 problems, got 29\. .*task\.expected=null"):
        require_count("made", 29, PublishedParams(expected=30))
    with pytest.raises(DataError, match="the data has no questions"):
        require_count("made", 0, PublishedParams(), "questions")


def test_a_benchmark_has_a_test_split_only() -> None:
    require_test("made", "test")
    with pytest.raises(DataError, match="it has a test split and no train split; train on another task"):
        require_test("made", "train")


@pytest.mark.parametrize(
    ("identities", "ids"),
    [(["x", "y"], ["x", "y"]), (["x", "x"], ["0", "1"]), (["x", None], ["0", "1"]), ([None, None], ["0", "1"])],
)
def test_published_ids_where_all_have_one_and_no_two_the_same(identities: list[str | None], ids: list[str]) -> None:
    problems = [Problem(id="", prompt="a"), Problem(id="", prompt="b")]
    assert [problem.id for problem in with_ids(problems, identities)] == ids


def test_prompts() -> None:
    params = PublishedParams(system="Be brief.", instruction=" Box it.")
    user = {"role": "user", "content": "2+2? Box it."}
    assert params.messages("2+2?") == ({"role": "system", "content": "Be brief."}, user)
    assert PublishedParams(instruction=" Box it.").messages("2+2?") == (user,)
    assert PublishedParams(chat=False, system="Be brief.", instruction=" Box it.").messages("2+2?") == (
        "Be brief.\n\n2+2? Box it."
    )
    assert PublishedParams(chat=False).messages("2+2?") == "2+2?"
