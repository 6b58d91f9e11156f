"""Every method trains: a short run on countdown with the model that ships in the package."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import progrpo
from progrpo import plugins
from progrpo.files import read_jsonl
from progrpo.train.loop import train
from progrpo.train.settings import load_settings
from stand_ins.every_method import OF_SMALL_GROUPS, OF_SMALL_MODELS, REQUIRED

RECIPE = Path(__file__).parents[2] / "recipes" / "demo" / "grpo.yaml"
EMBEDDED = Path(progrpo.__file__).parent / "embedded" / "countdown" / "model.safetensors"
STEPS = 30
SMALL = ("batch.prompts=4", "batch.minibatch_prompts=2", "batch.group=4", f"steps={STEPS}", "evaluate.every=0")


@pytest.mark.slow
@pytest.mark.parametrize("name", plugins.names("methods"))
def test_a_run_of_every_method_finishes_and_moves_the_weights(name: str, tmp_path: Path) -> None:
    chosen = {"name": name, **REQUIRED.get(name, {}), **OF_SMALL_GROUPS.get(name, {}), **OF_SMALL_MODELS.get(name, {})}
    method = ", ".join(f"{key}: {value!r}" for key, value in chosen.items())
    run = train(load_settings(RECIPE, [*SMALL, f"method={{{method}}}", f"out={tmp_path / 'run'}"]))
    rows = read_jsonl(run.path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row in rows:
        wrong = {key: value for key, value in row.items() if value is not None and not math.isfinite(value)}
        assert not wrong, f"step {row['step']}"
        # The change of entropy is known in every step that trained on something, and in no other.
        assert (row["policy/predicted_entropy_change"] is None) == (row["tokens/trained"] == 0), f"step {row['step']}"
    assert any(row["policy/predicted_entropy_change"] for row in rows)

    before = load_file(EMBEDDED)
    after = load_file(run.path / "checkpoints" / f"step-{STEPS:06d}" / "model.safetensors")
    assert after.keys() == before.keys()  # a method's own net is no part of the model
    assert all(torch.isfinite(weights).all() for weights in after.values())
    # No part of the model stands aside.
    unmoved = [key for key, weights in after.items() if torch.equal(weights, before[key])]
    assert not unmoved
