"""The pages of a run's rollouts, and the points of its curves that lead to them."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo import load_run
from progrpo.files import read_jsonl
from progrpo.report import rollout_pages
from progrpo.report.read import load_runs
from progrpo.report.rollout_pages import chosen_rollouts, write_rollout_pages
from progrpo.rollout.bundle import bundle_path, sound_bundle
from stand_ins.runs import run, tiny_settings


@pytest.fixture(scope="module")
def path(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rollouts of two steps, the second and third kept without their tokens."""
    data = tiny_settings(tiny_folder(), tmp_path_factory.mktemp("pages") / "run")
    changes = {"steps": 8, "batch": data["batch"] | {"minibatch_prompts": 2}, "optim": {}, "evaluate": {}}
    return run(data | changes | {"checkpoint": {"every": 0}, "alarms": {"watch": False}})


@pytest.fixture
def copied(path: Path, tmp_path: Path) -> Path:
    return shutil.copytree(path, tmp_path / "run")


def data_of(page: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    return data


def test_points_lead_to_pages_with_what_the_run_trained_on(copied: Path) -> None:
    page = load_run(copied).report()
    links = re.findall(r'<a href="(report-rollouts/[^"]*)" aria-label="rollout of step (\d+)">', page.read_text())
    assert {int(step) for _, step in links} == {1, 3, 5, 7}  # both steps of a rollout lead to its page
    assert all((copied / link).is_file() for link, _ in links)
    first = copied / "report-rollouts" / "step-000001.html"
    text, data, rows = first.read_text(), data_of(first), read_jsonl(copied / "rollouts" / "step-000001.jsonl")
    assert "<h1>Rollout of steps 1 to 2</h1>" in text
    assert "Kept with its tokens because: the first of the run." in text
    assert 'href="step-000003.html">later' in text
    assert "earlier" not in text
    shown = {(data["groups"][one["group"]]["name"], one["index"]): one for one in data["completions"]}
    bundle = sound_bundle(bundle_path(copied, 1))
    weights, lengths = bundle.columns("token_weights"), bundle.tensors["lengths"]
    assert weights is not None
    for n, row in enumerate(rows):
        one = shown[row["problem"], row["index"]]
        assert (one["status"], one["detail"], one["text"]) == (row["status"], row["detail"] or "", row["completion"])
        assert one["advantages"] == [pytest.approx(row["advantage"])]
        step = n // 8  # eight sequences a step; weights are in units of one over the step's tokens
        tokens = int(lengths[8 * step : 8 * step + 8].sum())
        (given,) = one["tokens"]["weights"]
        expected = (weights[n, : row["length"]] * tokens).tolist()
        assert (given if isinstance(given, list) else [given] * row["length"]) == pytest.approx(expected, rel=1e-3)
    without = data_of(copied / "report-rollouts" / "step-000003.html")
    assert {one["tokens"] for one in without["completions"]} == {None}
    assert "earlier" in (copied / "report-rollouts" / "step-000003.html").read_text()


def test_what_was_tampered_with_has_no_page_and_is_said(copied: Path) -> None:
    broken = bundle_path(copied, 7)
    broken.write_bytes(broken.read_bytes()[:-1] + b"\x01")
    pages = write_rollout_pages(*load_runs([copied]), copied / "report-rollouts")
    assert [*pages.links] == [1, 3, 5]
    (said,) = pages.left_out
    assert "differs from what was written" in said
    assert pages.link(8) is None
    assert pages.link(6) == "report-rollouts/step-000005.html"


def test_a_row_without_its_advantage_has_no_page(copied: Path) -> None:
    rows = copied / "rollouts" / "step-000003.jsonl"  # kept without its tokens
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    del lines[1]["advantage"]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pages = write_rollout_pages(*load_runs([copied]), copied / "report-rollouts")
    assert [*pages.links] == [1, 5, 7]
    (said,) = pages.left_out
    assert "completion 1: no advantage was recorded; it has no page" in said


def test_there_are_not_more_pages_than_a_folder_can_bear(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (loaded,) = load_runs([copied])
    assert [*chosen_rollouts(loaded)] == [1, 3, 5, 7]
    monkeypatch.setattr(rollout_pages, "PAGES", 3)
    assert [*chosen_rollouts(loaded)] == [1, 3, 7]  # those with tokens, and one of the other two
    monkeypatch.setattr(rollout_pages, "PAGES", 1)
    assert [*chosen_rollouts(loaded)] == [7]
    # a rollout whose rows were not written has its bundle
    (copied / "rollouts" / "step-000007.jsonl").unlink()
    (loaded,) = load_runs([copied])
    assert chosen_rollouts(loaded) == {7: bundle_path(copied, 7)}
