import math
import re

import pytest
from made_up_runs import ACCOUNTED, MakeRun, metrics_row, write_jsonl

from progrpo.report.read import load_runs
from progrpo.report.run_page.cost import cost_table, hidden_share
from progrpo.report.run_page.page import make_page


def test_rates_and_shares_are_those_of_the_whole_run(make_run: MakeRun) -> None:
    path = make_run("a")
    second = ACCOUNTED | {
        "tokens/generated": 900.0,
        "tokens/forwarded": 3000.0,
        "tokens/logit_row_share": 0.9,
        "policy/zero_advantage_share": 0.75,
        "time/verify_s": 0.5,
        "memory/peak_gib": 1.25,
    }
    write_jsonl(path / "metrics.jsonl", [metrics_row(1, **ACCOUNTED), metrics_row(2, **second)])
    columns, cells = cost_table(load_runs([path]))
    assert {column.label: cell for column, cell in zip(columns, cells[0], strict=True)} == {
        "Generated": "600",  # 300 + 900 in 2 s
        "Trained": "100",  # 200 + 200 in 4 s
        "Logit rows": "80%",  # 500 + 2,700 of 4,000
        "Advantage 0": "50%",
        "Peak memory": "1.50",
        "Verification hidden": "50%",  # 0.6 s of 0.6 + 0.6 s
    }
    assert hidden_share(load_runs([path])[0]) == pytest.approx(0.5)


def test_what_a_run_of_an_older_version_lacks_is_a_dash(make_run: MakeRun) -> None:
    old, new = make_run("old"), make_run("new", accounted=True)
    columns, cells = cost_table(load_runs([old, new]))
    assert len(columns) == 6
    assert cells[0] == ["–"] * 6
    assert "–" not in cells[1]
    assert cost_table(load_runs([old])) == ([], [[]])


def test_a_verifier_that_took_no_time_hid_none(make_run: MakeRun) -> None:
    path = make_run("a")
    none = ACCOUNTED | {"time/verify_s": 0.0, "time/verify_hidden_s": 0.0}
    write_jsonl(path / "metrics.jsonl", [metrics_row(1, **none)])
    assert math.isnan(hidden_share(load_runs([path])[0]))


@pytest.mark.usefixtures("unrendered")
def test_the_page_shows_what_it_cost(make_run: MakeRun) -> None:
    old, new = make_run("old"), make_run("new", accounted=True)
    page = make_page(load_runs([old, new]), title="t")
    section = page[page.index("<h2>What it cost</h2>") : page.index("<h2>Every metric</h2>")]
    assert section.count("<svg") == 2
    assert re.findall(r'<td class="number">([^<]*)</td>', section) == [
        *["–"] * 6,
        *["300", "100", "50%", "25%", "1.50", "75%"],
    ]
    alone = make_page(load_runs([old]), title="t")
    section = alone[alone.index("<h2>What it cost</h2>") : alone.index("<h2>Every metric</h2>")]
    assert section.count("<svg") == 1  # its seconds
    assert "<table" not in section
