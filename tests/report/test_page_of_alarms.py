"""Alarms on the page of a run and on that of a comparison, and in `compare`."""

import json
from pathlib import Path

import pytest
from made_up_runs import MakeRun

from progrpo.api.compare import compare
from progrpo.cli.report import run_compare
from progrpo.report.alarms import raised
from progrpo.report.read import load_runs
from progrpo.report.run_page.page import make_page

pytestmark = pytest.mark.usefixtures("unrendered")
BEGINS = {"step": 2, "alarm": "truncation", "event": "begins", "metric": "rollout/truncated", "value": 0.5}
BEGINS |= {"text": "50 % are <cut>", "since": 2}
ENDS = BEGINS | {"step": 4, "event": "ends", "value": None, "text": "it is over"}


def with_alarms(run: Path, *events: object) -> Path:
    (run / "alarms.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return run


def test_what_began_and_what_is_over(make_run: MakeRun) -> None:
    later = BEGINS | {"step": 7, "since": 7}
    (run,) = load_runs([with_alarms(make_run("one"), BEGINS, ENDS, later)])
    assert [(one.alarm, one.step, one.until, one.steps) for one in raised([run])] == [
        ("truncation", 2, 4, "steps 2 to 4"),
        ("truncation", 7, None, "from step 7 on"),
    ]


def test_the_page_shows_them_and_says_where_none_was(make_run: MakeRun) -> None:
    runs = {name: make_run(name) for name in ("before", "quiet", "loud")}
    with_alarms(runs["quiet"])
    with_alarms(runs["loud"], BEGINS)
    pages = {name: make_page(load_runs([run]), title=name) for name, run in runs.items()}
    assert 'id="alarms"' not in pages["before"]  # of a version that watched for none
    assert "<p>None was raised.</p>" in pages["quiet"]
    assert '<code>truncation</code></td><td class="number">from step 2 on</td>' in pages["loud"]
    assert "50 % are &lt;cut&gt;" in pages["loud"]
    both = make_page(load_runs([runs["quiet"], runs["loud"]]), title="both")
    assert both.count("<code>truncation</code>") == 1


def test_compare_tells_them(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run("quiet"), with_alarms(make_run("loud"), BEGINS, ENDS)]
    run_compare(runs, tmp_path / "page.html")
    assert "loud: alarm truncation, steps 2 to 4: 50 % are <cut>\n" in capsys.readouterr().out
    (row,) = compare(runs).alarms.to_dict("records")
    assert row == {"run": "loud", "alarm": "truncation", "step": 2, "until": 4, "text": "50 % are <cut>"}


def test_a_mark_stands_where_it_begins(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[object, object]] = []
    from matplotlib.axes import Axes

    plot = Axes.plot

    def noted(self: Axes, *values: object, **look: object) -> object:
        if look.get("marker") == "v" and look.get("clip_on") is False:
            drawn.append((values[0], look["color"]))
        return plot(self, *values, **look)

    monkeypatch.setattr(Axes, "plot", noted)
    make_page(load_runs([make_run("quiet"), with_alarms(make_run("loud"), BEGINS)]), title="page")
    assert {step for step, _ in drawn} == {2}
    assert len({colour for _, colour in drawn}) == 1
