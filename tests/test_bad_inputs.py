"""docs/bad_inputs.md has a row for each case of scripts/bad_inputs.py, and none ends in a traceback."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from progrpo.cli import EXIT_STATUSES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "bad_inputs.md").read_text("utf-8")
spec = importlib.util.spec_from_file_location("bad_inputs", ROOT / "scripts" / "bad_inputs.py")
assert spec is not None
assert spec.loader is not None
bad_inputs = importlib.util.module_from_spec(spec)
sys.modules["bad_inputs"] = bad_inputs  # dataclasses look their module up
spec.loader.exec_module(bad_inputs)


def test_the_page_has_a_row_for_each_case() -> None:
    rows = re.findall(r"^\| ([^|]+) \| `(.*)` \| [\d.]+ \| [\d.]+ \| (\d+) \|$", PAGE, flags=re.MULTILINE)
    assert [row[0] for row in rows] == [description for _, description, _ in bad_inputs.CASES]
    assert len(rows) > 80
    assert {int(status) for _, _, status in rows} == {1, 2, 3, 143}
    assert not [said for _, said, _ in rows if not said or "Traceback" in said]


def test_the_page_says_what_each_status_means() -> None:
    for status, meaning in EXIT_STATUSES.items():
        assert f"| {status} | {meaning} |" in PAGE


def test_what_counts_as_a_fault() -> None:
    given = bad_inputs.Given(words=[])

    def ended(status: int, *lines: str) -> object:
        return bad_inputs.Ended(status=status, lines=lines, seconds=1.0, silence=0.0)

    assert bad_inputs.faults(given, ended(2, "loading ..", "error: no such file")) == []
    assert bad_inputs.faults(given, ended(1, "Traceback (most recent call last):", "KeyError: 1")) == [
        "a traceback",
        "status 1, expected 2",
        "0 lines of error",
    ]
    assert bad_inputs.faults(given, ended(2, "error: a", "error: b")) == ["2 lines of error"]
    assert bad_inputs.faults(given, ended(2, "error: a", "and more of it")) == ["lines after the error"]


def test_a_row_may_keep_the_seconds_that_were_measured_before() -> None:
    ended = bad_inputs.Ended(status=3, lines=("error: a | b",), seconds=71.0, silence=11.0)
    assert bad_inputs.row_of("a case", ended) == "| a case | `error: a \\| b` | 71.0 | 11.0 | 3 |"
    before = "| a case | `error: c \\| d` | 3.3 | 1.2 | 2 |"
    assert bad_inputs.row_of("a case", ended, before) == "| a case | `error: a \\| b` | 3.3 | 1.2 | 3 |"


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", range(len(bad_inputs.CASES)), ids=[f"{one[0]}: {one[1]}" for one in bad_inputs.CASES]
)
def test_no_case_has_a_fault(number: int) -> None:
    given, ended = bad_inputs.run_case(bad_inputs.CASES[number][2])
    assert bad_inputs.faults(given, ended) == [], ended
