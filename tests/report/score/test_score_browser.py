"""The page of `score` in a browser."""

import re
from pathlib import Path

import pytest
from made_up_runs import HOSTILE
from test_score_page import EMBEDDED, page_of

from stand_ins.browser import dom
from stand_ins.rollouts import group

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("chromium")]


def test_the_table_is_filled_and_a_completion_shown(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*group("p"), *group("q", ("correct",) * 4)], config=EMBEDDED)
    found = dom(page, tmp_path)
    assert 'data-ready="yes"' in found
    assert re.search(r'<p id="error"[^>]* hidden="">', found)
    table = found[found.index('<div id="table"') : found.index('id="chosen"')]
    assert table.count('class="correct"') == 5
    assert table.count("<tr") == 9
    assert "+1.500" in table
    assert "+1.419" in table
    panels = found[found.index('<div id="panels"') :]
    # five characters and the end token, by each of two methods; two of six tokens underlined
    assert len(re.findall(r'class="token ', panels)) == 12
    assert len(re.findall(r'class="token [a-z]* ?low"', panels)) == 4
    assert panels.count("&lt;eos&gt;</span>") == 2
    assert "color-mix" in panels


def test_hostile_text_and_no_tokens(tmp_path: Path) -> None:
    page = page_of(tmp_path, group("p<i>", tokens=False, completion=HOSTILE), methods=("grpo", "dr_grpo"))
    found = dom(page, tmp_path)
    assert 'data-ready="yes"' in found
    panels = found[found.index('<div id="panels"') :]
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in panels
    assert "<i>" not in found[found.index('<div id="table"') :]


def test_a_failing_script_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, group("p"))
    found = dom(page.replace('id="data">{', 'id="data">{broken'), tmp_path)
    assert "data-ready" not in found
    assert 'role="alert">The script of this page failed' in found
