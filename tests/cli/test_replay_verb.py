"""The verb `replay` on a tiny run: what is printed, as text and as JSON, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stand_ins.runs import run, tiny_settings

Here = Callable[..., Any]


@pytest.fixture(scope="module")
def path(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"evaluate": {"every": 3, "n": 2}, "checkpoint": {"every": 1, "keep": 1}, "alarms": {"watch": False}}
    data = tiny_settings(tiny_folder(), tmp_path_factory.mktemp("replay") / "run")
    return run(data | changes | {"steps": 3, "optim": {}})


def test_without_a_step_it_says_which_can_be_replayed(path: Path, here: Here) -> None:
    status, out, _ = here("replay", path)
    assert status == 0
    assert out.split("\n")[0].strip() == "rollouts that were kept"
    rows = [line.split("  ") for line in out.splitlines() if line.strip()[:1].isdecimal()]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["1", "the start", "the first of the run; leads to the checkpoint of step 1"],
        ["2", "the start", "follows the checkpoint of step 1; leads to the checkpoint of step 2"],
        ["3", "the start", "follows the checkpoint of step 2; leads to the checkpoint of step 3"],
    ]
    status, out, _ = here("replay", path, "--json")
    assert json.loads(out)["kept"][1]["from"] == 0


def test_a_step_is_shown_with_what_another_method_would_have_done(path: Path, here: Here) -> None:
    status, out, err = here("replay", path, "alpha=0.6", "--step", 3, "--method", "progrpo", "--step-too", "--micro", 1)
    assert status == 0, err
    assert "from the start; kept: follows the checkpoint of step 2; leads to the checkpoint of step 3" in out
    assert " values are equal to the last bit\n" in out
    for words in ("micro-batch 1 of ", "cosine of the gradients", "entropy, from ", "the run's", "policy/grad_norm"):
        assert words in out
    page = path.parent / "page.html"
    status, _, err = here("replay", path, "--step", 3, "--method", "grpo", "--out", page)
    assert status == 0, err
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    assert data["methods"] == ["the run's", "grpo"]
    assert all(len(one["tokens"]["weights"]) == 2 for one in data["completions"])
    status, out, _ = here(
        "replay", path, "--step", 3, "--sample", "--method", "twice=progrpo", "twice.alpha=0.6", "--json"
    )
    result = json.loads(out)
    assert status == 0
    assert result["agrees"]
    assert {one["status"] for one in result["values"]} == {"equal"}
    assert [one["parts_at"] for one in result["drawn"]] == [None] * 16
    assert list(result["others"]["methods"]) == ["the run's", "twice"]


def test_what_differs_ends_with_1_and_what_cannot_be_asked_with_2(path: Path, here: Here) -> None:
    config = path / "config.yaml"
    before = config.read_text()
    try:
        settings = yaml.safe_load(before)
        settings["optim"]["lr"] = 3e-4
        config.write_text(yaml.safe_dump(settings))
        status, out, _ = here("replay", path, "--step", 2)
    finally:
        config.write_text(before)
    assert status == 1
    assert "differs: setting optim.lr: 1e-06 in the bundle, 0.0003 in config.yaml" in out
    assert "not as it was written: 1" in out
    for words, message in (
        (
            ("--step", 4),
            "step 4 cannot be replayed: its rollout was not kept with its tokens. Steps that can: 1, 2, 3.",
        ),
        (("--method", "grpo"), "which step? --step N"),
        (("--step", 1, "--method", "grppo"), "did you mean"),
        (("--step", 1, "--out", "page.html"), "--out: expected PAGE.html and a --method to compare with"),
        (("--step", 1, "alpha=1"), "'alpha=1': settings are those of a method"),
    ):
        status, _, err = here("replay", path, *words)
        assert status == 2
        assert message in err
    status, _, err = here("replay", path.parent, "--step", 1)
    assert status == 2
    assert "expected a run directory" in err
