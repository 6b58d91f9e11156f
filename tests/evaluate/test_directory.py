import json
from pathlib import Path
from typing import Any

import pytest

from progrpo.errors import DataError, RunDirectoryError
from progrpo.evaluate.directory import EvaluationFile, summary
from progrpo.types import ProblemResult, Sample

ASKED: dict[str, Any] = {
    "task": "t",
    "preset": None,
    "model": "m",
    "weights": "w",
    "settings": {"n": 2, "task": {"window": ["a", "b"]}},
    "problems": 2,
    "digest": "d",
    "environment": {"seed": 0},
}


def problem(name: str, correct: int, **facts: str) -> ProblemResult:
    samples = tuple(Sample(text="x\n\ud800", status="correct" if i < correct else "wrong") for i in range(2))
    return ProblemResult(problem=name, facts=facts, samples=samples, measures={"pass@1": correct / 2})


def test_rows_and_header(tmp_path: Path) -> None:
    with EvaluationFile(tmp_path, "t", ASKED) as file:
        assert not file.complete
        file.note(excluded=[])
        file.append([problem("a", 1)], 1.5)
        file.append([problem("b", 2)], 2.0)
        header = file.finish(file.done(), {"rating": 5.0})
    assert header == json.loads((tmp_path / "evaluations/t.json").read_text())
    assert (header["complete"], header["seconds"], header["over_task"]) == (True, 3.5, {"rating": 5.0})
    assert header["summary"]["pass@1"]["mean"] == 0.75
    assert header["statuses"] == {"correct": 3, "wrong": 1}
    with EvaluationFile(tmp_path, "t", ASKED) as file:
        assert file.complete
        assert [one.problem for one in file.done()] == ["a", "b"]


def test_a_row_cut_short_is_forgotten(tmp_path: Path) -> None:
    with EvaluationFile(tmp_path, "t", ASKED) as file:
        file.append([problem("a", 1), problem("b", 2)], 1.0)
    rows = tmp_path / "evaluations/t.jsonl"
    rows.write_bytes(rows.read_bytes()[:-20])
    with EvaluationFile(tmp_path, "t", {**ASKED, "environment": {"seed": 1}}) as file:
        assert [one.problem for one in file.done()] == ["a"]
        file.append([problem("b", 2)], 1.0)
        assert [one.problem for one in file.done()] == ["a", "b"]
        assert file.header["resumed"] == [{"seed": 1}]  # another environment is written down


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights": "other"}, "other weights"),
        ({"settings": {"n": 3, "task": {"window": ["a", "b"]}}}, "settings.n 2, asked for now: 3"),
        ({"settings": {"n": 2, "task": {"window": ["a", "c"]}}, "digest": "e"}, r"other problems .*: task\.window"),
        ({"digest": "e"}, "other problems"),
        ({"preset": "paper"}, "preset None"),
    ],
)
def test_another_question_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with EvaluationFile(tmp_path, "t", ASKED) as file:
        file.append([problem("a", 1)], 1.0)
    before = (tmp_path / "evaluations/t.jsonl").read_bytes()
    with pytest.raises(RunDirectoryError, match=said):
        EvaluationFile(tmp_path, "t", {**ASKED, **changed})
    assert (tmp_path / "evaluations/t.jsonl").read_bytes() == before
    with EvaluationFile(tmp_path, "t", ASKED) as file:  # and it is not locked
        assert len(file.done()) == 1


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    with EvaluationFile(tmp_path, "t", ASKED), pytest.raises(RunDirectoryError, match="another process"):
        EvaluationFile(tmp_path, "t", ASKED)


def test_rows_without_a_header_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations/t.jsonl").write_text("{}\n")
    with pytest.raises(RunDirectoryError, match=r"exists without t\.json"):
        EvaluationFile(tmp_path, "t", ASKED)


def test_categories() -> None:
    found = summary([problem("a", 1, category="x"), problem("b", 2, category="y"), problem("c", 0, category="x")])
    assert found["by_category"] == {"x": {"pass@1": 0.25}, "y": {"pass@1": 1.0}}
    assert "by_category" not in summary([problem("a", 1, category="x")])


def test_what_only_the_summary_reads_may_change(tmp_path: Path) -> None:
    with EvaluationFile(tmp_path, "t", ASKED) as file:
        file.append([problem("a", 1)], 1.0)
        file.finish(file.done(), {"rating": 1.0})
    moved = {"model": "elsewhere/m", "settings": {"n": 2, "task": {"window": ["a", "b"], "rating": False}}}
    with EvaluationFile(tmp_path, "t", {**ASKED, **moved}) as file:
        assert not file.complete  # the summary is made anew, and nothing is sampled
        assert len(file.done()) == 1


def test_a_commit_is_compared_once_it_is_known(tmp_path: Path) -> None:
    with EvaluationFile(tmp_path, "t", ASKED) as file:
        file.require_commit("c1")
        file.require_commit("c1")
        with pytest.raises(RunDirectoryError, match="commit c1 of m, which is now at c2"):
            file.require_commit("c2")


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[]", "expected a JSON object, got list")])
def test_a_damaged_header_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations/t.json").write_text(text)
    (tmp_path / "evaluations/t.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=rf"t\.json: {said}"):
        EvaluationFile(tmp_path, "t", ASKED)


def test_rows_of_something_else_are_named(tmp_path: Path) -> None:
    with EvaluationFile(tmp_path, "t", ASKED) as file:
        (tmp_path / "evaluations/t.jsonl").write_text('{"problem": "a"}\n')
        with pytest.raises(DataError, match=r"t\.jsonl, row 1: no row of an evaluation"):
            file.done()


def test_measuring_anew_is_not_complete_until_it_is(tmp_path: Path) -> None:
    with EvaluationFile(tmp_path, "t", ASKED) as file:
        file.append([problem("a", 1)], 1.0)
        file.finish(file.done(), {})
        file.remeasure(file.done(), [{"name": "tokens"}])
        assert not file.complete
        assert file.header["measures"] == [{"name": "tokens"}]


def test_a_header_without_rows_holds_nothing_fast(tmp_path: Path) -> None:
    with EvaluationFile(tmp_path, "t", ASKED):
        pass  # failed before the first row
    with EvaluationFile(tmp_path, "t", {**ASKED, "digest": "e"}) as file:
        assert file.header["digest"] == "e"
        assert file.done() == []


def test_weights_of_older_versions(tmp_path: Path) -> None:
    old = {key: value for key, value in ASKED.items() if key != "weights"}
    with EvaluationFile(tmp_path, "t", ASKED) as file:
        file.append([problem("a", 1)], 1.0)
    (tmp_path / "evaluations/t.json").write_text(json.dumps(old))
    with pytest.raises(RunDirectoryError, match="weights that were not recorded"):
        EvaluationFile(tmp_path, "t", ASKED)
