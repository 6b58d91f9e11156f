import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cli import Here, countdown_recipe

from progrpo.cli.seeds import seeds_asked_for, with_seed
from progrpo.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "count", "seeds", "others"),
    [
        (["optim.lr=1e-5", "seed=3..5"], None, range(3, 6), ["optim.lr=1e-5"]),
        (["seed=7..7"], None, range(7, 8), []),
        (["steps=2"], 3, range(3), ["steps=2"]),
        (["seed=4"], None, None, ["seed=4"]),
        ([], None, None, []),
    ],
)
def test_seeds_of_a_range_or_a_count(
    overrides: list[str], count: int | None, seeds: range | None, others: list[str]
) -> None:
    assert seeds_asked_for(overrides, count) == (seeds, others)


@pytest.mark.parametrize(
    ("overrides", "count", "message"),
    [
        (["seed=5..3"], None, r"seed=5\.\.3: expected the first and the last"),
        (["seed=0..5000"], None, "at most 1000 seeds"),
        (["seed=2"], 3, r"--seeds 3 and seed=2: give one of them; --seeds 3 is seed=0\.\.2"),
        (["seed=0..2"], 3, "give one of them"),
        (["seed=0..2", "seed=5"], None, "give one of them"),
    ],
)
def test_seeds_that_cannot_be_meant(overrides: list[str], count: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        seeds_asked_for(overrides, count)


def test_each_seed_has_a_directory_of_its_own() -> None:
    assert with_seed("runs/grpo", 3) == ["seed=3", "out=runs/grpo-3"]


def rows(path: Path) -> list[dict[str, Any]]:
    """What a run logged, without its seconds and its memory."""
    logged = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(("time/", "memory/"))} for row in logged]


def test_seeds_are_trained_one_after_another_each_as_if_alone(
    tmp_path: Path, tiny_folder: Callable[..., Path], here: Here
) -> None:
    recipe = countdown_recipe(tmp_path, tiny_folder())
    out = tmp_path / "several"
    status, _, err = here("train", recipe, f"out={out}", "--seeds", 2)
    assert status == 0, err
    assert f"progrpo compare {out}-0 {out}-1" in err
    assert not out.exists()
    status, _, err = here("train", recipe, "seed=1", f"out={tmp_path / 'alone'}")
    assert status == 0, err
    assert rows(tmp_path / "several-1") == rows(tmp_path / "alone")
    assert rows(tmp_path / "several-0") != rows(tmp_path / "alone")
    # a directory that is taken is said before anything is trained
    shutil.rmtree(f"{out}-0")
    status, _, err = here("train", recipe, f"out={out}", "seed=0..1")
    assert status == 2
    assert f"{out}-1 already holds a run" in err
    assert not Path(f"{out}-0").exists()


def test_seeds_are_one_json_object(tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    recipe = countdown_recipe(tmp_path, tiny_folder())
    status, out, err = here("train", recipe, "seed=3..4", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)["runs"]
    assert [(one["run"], one["step"]) for one in found] == [(f"{tmp_path / 'run'}-{seed}", 2) for seed in (3, 4)]


def test_the_plan_names_all_seeds(tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    recipe = countdown_recipe(tmp_path, tiny_folder())
    status, plan, err = here("train", recipe, "seed=3..4", "--dry-run")
    assert status == 0, err
    assert yaml.safe_load(plan)["seed"] == 3
    assert plan.endswith(f"# then the same with seed 4, into {tmp_path / 'run'}-4\n")
