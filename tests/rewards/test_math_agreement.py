"""How often Math-Verify judges as the rows of math_kinds.py say: the table of docs/verification.md, counted."""

import logging
import re
from pathlib import Path

import pytest
from math_kinds import KINDS

PAGE = Path(__file__).parent.parent.parent / "docs" / "verification.md"
_ROW = re.compile(r"\| ([a-z ]+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|")


def table() -> dict[str, list[int]]:
    return {
        match[1]: [int(number) for number in match.groups()[1:]] for match in _ROW.finditer(PAGE.read_text("utf-8"))
    }


def test_the_table_counts_every_row_once() -> None:
    found = table()
    assert list(found) == [*KINDS, "all"]
    for kind, (right, wrong) in KINDS.items():
        rows, agreed, rejected, accepted = found[kind]
        assert rows == len(right) + len(wrong) == agreed + rejected + accepted, kind
        assert rejected <= len(right), kind
        assert accepted <= len(wrong), kind
    assert found.pop("all") == [sum(column) for column in zip(*found.values(), strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_math_verify_judges_so_often_as_the_table_says(kind: str) -> None:
    from math_verify import parse, verify

    logging.disable(logging.WARNING)
    counts = {True: [0, 0], False: [0, 0]}
    for right, pairs in zip((True, False), KINDS[kind], strict=True):
        for gold, answer in pairs:
            one = parse(rf"\boxed{{{gold}}}", parsing_timeout=None)
            other = parse(rf"So it is $\boxed{{{answer}}}$.", parsing_timeout=None)
            counts[right][verify(one, other, timeout_seconds=None)] += 1
    logging.disable(logging.NOTSET)
    agreed = counts[True][True] + counts[False][False]
    assert table()[kind] == [sum(map(len, KINDS[kind])), agreed, counts[True][False], counts[False][True]]
