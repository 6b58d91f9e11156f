"""How long a run is, in epochs: what they make in steps, where they are refused, and how they are written down."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from progrpo.errors import ConfigError
from progrpo.files import read_jsonl
from progrpo.report.read import load_runs
from progrpo.settings import parse
from progrpo.train.plan import make_plan
from progrpo.train.problems import in_steps
from progrpo.train.settings import RunSettings, load_settings
from progrpo.train.setup import choose
from stand_ins.runs import run

Make = Callable[..., dict[str, Any]]
BARE = {"model": "m", "task": "file", "method": "grpo", "sampling": {"max_new_tokens": 4}}


@pytest.fixture
def in_epochs(settings: Make, tmp_path: Path) -> Make:
    """The settings of a run on 10 problems, 4 a rollout, that has epochs instead of steps."""
    path = tmp_path / "ten.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n}+1=", "answer": n + 1}) + "\n" for n in range(10)))

    def make(**changes: Any) -> dict[str, Any]:
        made = settings(task={"name": "file", "train": str(path), "chat": False}, evaluate={}, checkpoint={"every": 2})
        return {key: value for key, value in made.items() if key != "steps"} | {"epochs": 1.5} | changes

    return make


@pytest.mark.parametrize(
    ("epochs", "problems", "prompts", "minibatch", "steps"),
    [
        (1, 100, 10, None, 10),
        (1, 101, 10, None, 11),  # the last rollout is filled up from the next epoch
        (2.5, 100, 20, 5, 52),  # 250 problems: 13 rollouts of 4 steps each
        (1.1, 100, 11, None, 10),  # 1.1 * 100 = 110.00000000000001 is 110
        (0.01, 30, 3, None, 1),
    ],
)
def test_epochs_are_whole_rollouts(
    epochs: float, problems: int, prompts: int, minibatch: int | None, steps: int
) -> None:
    batch = {"prompts": prompts, "minibatch_prompts": minibatch}
    settings = load_settings(BARE | {"epochs": epochs, "batch": batch})
    assert in_steps(settings, problems).steps == steps
    # Exactly so many problems are met as that many epochs hold, or up to a rollout more.
    assert -1e-9 < steps // settings.batch.steps_per_rollout * prompts - epochs * problems < prompts + 1e-9


def test_a_run_meets_each_problem_so_often_and_is_resumed_to_the_same_end(in_epochs: Make, tmp_path: Path) -> None:
    path = run(in_epochs())
    # 15 problems: 4 rollouts of 4.
    assert [row["step"] for row in read_jsonl(path / "metrics.jsonl")] == [1, 2, 3, 4]
    met = Counter(
        row["problem"] for step in range(1, 5) for row in read_jsonl(path / "rollouts" / f"step-{step:06d}.jsonl")
    )
    assert set(met) == {str(n) for n in range(10)}
    assert sorted(met.values()) == [4] * 4 + [8] * 6  # 16 problems of 4 completions each
    # What is written down can be read again, and says the steps that were made of it.
    config = yaml.safe_load((path / "config.yaml").read_text())
    assert (config["epochs"], config["steps"]) == (1.5, 0)
    assert parse(RunSettings, config, where="config.yaml").epochs == 1.5
    assert load_runs([path])[0].steps_planned == 4
    whole = (path / "checkpoints" / "step-000004" / "model.safetensors").read_bytes()
    shutil.rmtree(path / "checkpoints" / "step-000004")
    run(in_epochs(), resume=True)
    assert (path / "checkpoints" / "step-000004" / "model.safetensors").read_bytes() == whole
    with pytest.raises(ConfigError, match=r"has made 4 steps already, more than the 3 of 1 epoch$"):
        run(in_epochs(epochs=1), resume=True)
    run(in_epochs(epochs=2), resume=True)
    assert read_jsonl(path / "metrics.jsonl")[-1]["step"] == 5


def test_the_plan_says_what_an_epoch_is(in_epochs: Make, settings: Make) -> None:
    def lines(data: dict[str, Any], *begins: str) -> list[str]:
        return [line for line in make_plan(choose(parse(RunSettings, data, where="test"))) if line.startswith(begins)]

    batch = {"prompts": 4, "minibatch_prompts": 2, "group": 4}
    assert lines(in_epochs(batch=batch), "epoch:", "run:") == [
        "epoch: 10 training problems = 2.5 rollouts = 5 optimiser steps",
        "run: 1.5 epochs = 8 optimiser steps = 4 rollouts = 64 completions",
    ]
    in_steps_given = {key: value for key, value in in_epochs(steps=4).items() if key != "epochs"}
    assert lines(in_steps_given, "epoch:", "run:") == [
        "run: 4 optimiser steps = 4 rollouts = 64 completions",
        "epoch: 10 training problems = 2.5 rollouts = 2.5 optimiser steps",
    ]
    assert lines(settings(), "epoch:") == []  # countdown


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": {"name": "countdown"}}, "epochs=1.5: task countdown makes up its problems, .*; say .* with steps"),
        (
            {"task": {"name": "mixture", "parts": [{"name": "grid_path"}]}},
            "epochs=1.5: task mixture makes up its problems",
        ),
        (
            {"task": {"name": "mixture", "parts": [{"train": "a.jsonl", "weight": 1}]}},
            "epochs=1.5: the sources of a mixture with weights come round at rates of their own",
        ),
        ({"method": {"name": "dapo", "max_rounds": 3}}, "method dapo takes up to 3 times batch.prompts problems"),
    ],
)
def test_epochs_that_cannot_be_counted_are_refused(in_epochs: Make, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        choose(parse(RunSettings, in_epochs(**changes), where="test"))


def test_exactly_one_of_steps_and_epochs() -> None:
    with pytest.raises(ConfigError, match=r"how long\? Give steps \(optimiser steps\), or epochs"):
        load_settings(BARE)
    with pytest.raises(ConfigError, match="steps=4 and epochs=2: give one of the two"):
        load_settings(BARE | {"steps": 4, "epochs": 2})
    with pytest.raises(ConfigError, match="steps=4 and epochs=2"):
        load_settings("math", ["epochs=2", "steps=4"])
    # Of a recipe that says the one, the other takes its place.
    assert (load_settings("math", ["epochs=2"]).steps, load_settings("math", ["epochs=2"]).epochs) == (0, 2)
    assert load_settings(BARE | {"epochs": 2}, ["steps=4"]).epochs is None
    assert load_settings("math", ["epochs=null"]).steps == load_settings("math").steps > 0
    assert load_settings(BARE | {"epochs": 2, "steps": None}).steps == 0
