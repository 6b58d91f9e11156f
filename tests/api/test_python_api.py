"""The Python way, as someone in a notebook uses it: own problems, own reward, train, look, evaluate, compare, score."""

import importlib
import inspect
import pydoc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import progrpo
from progrpo import recipes
from progrpo.errors import ConfigError, DataError, RunDirectoryError, StopTraining
from progrpo.files import read_jsonl

ROWS = [{"prompt": f"{n}+1=", "answer": str(n + 1), "parity": n % 2} for n in range(8)]
SETTINGS: dict[str, Any] = {
    "steps": 3,
    "method": "grpo",
    "sampling": {"max_new_tokens": 6},
    "batch": {"prompts": 2, "group": 4, "micro_tokens": 128},
    "evaluate": {"every": 3, "n": 4},
    "checkpoint": {"every": 2},
    "record": {"tokens": True},
}


def even(prompts: list[Any], completions: list[Any], parity: list[int], **columns: Any) -> list[float | None]:
    """Rewards half of all completions or so, by their length."""
    assert len(prompts) == len(completions) == len(columns["answer"])
    return [float(len(one) % 2 == other) for one, other in zip(completions, parity, strict=True)]


class Told(progrpo.Callback):
    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_start(self, run: progrpo.TrainingRun, done: int, steps: int) -> None:
        self.events.append(("start", run.path.name, done, steps))

    def on_step(self, run: progrpo.TrainingRun, step: int, metrics: Any) -> None:
        assert len(run.metrics) == len(run.metrics.loc[:step])  # the row is there already
        self.events.append(("step", step))

    def on_evaluation(self, run: progrpo.TrainingRun, step: int, measures: Any) -> None:
        self.events.append(("evaluation", step, "pass@1" in measures))

    def on_checkpoint(self, run: progrpo.TrainingRun, step: int, path: Path) -> None:
        self.events.append(("checkpoint", step, (path / "config.json").is_file()))

    def on_end(self, run: progrpo.TrainingRun) -> None:
        self.events.append("end")


@pytest.fixture(scope="module")
def trained(
    tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[progrpo.TrainingRun, Told]:
    told, out = Told(), tmp_path_factory.mktemp("python") / "run"
    steps: list[int] = []
    run = progrpo.train(
        SETTINGS,
        model={"path": str(tiny_folder())},
        task={"train": ROWS, "test": ROWS[:2], "chat": False},
        reward=even,
        out=str(out),
        callbacks=[told, lambda step, metrics: steps.append(step)],
        progress=False,
    )
    assert steps == [0, 1, 2, 3]
    return run, told


def test_a_run_from_rows_and_a_function(trained: tuple[progrpo.TrainingRun, Told]) -> None:
    run, told = trained
    assert list(run.metrics.index) == [0, 1, 2, 3]
    samples = run.samples()
    assert len(samples) == 3 * 2 * 4
    # what the function rewards: an even length of an even problem, an odd one of an odd problem
    numbers = samples["prompt"].str.extract(r"^(\d)\+1=$")[0].astype(int)
    expected = (samples["completion"].str.len() % 2 == numbers % 2).astype(float)
    assert list(samples["reward"]) == list(expected)
    assert run.metrics.loc[1, "rollout/reward"] == pytest.approx(run.samples(1)["reward"].mean())
    assert "token_ids" not in samples
    assert "token_ids" in run.samples(1, tokens=True)
    assert list(run.checkpoints) == [2, 3]
    assert run.checkpoint == run.path / "checkpoints" / "step-000003"
    assert sorted(set(run.evaluations()["step"])) == [0, 3]
    assert len(run.evaluations(3)) == 2
    assert run.settings["reward"]["name"] == f"{__name__}:even"
    assert run.settings["task"]["info_keys"] is None
    assert read_jsonl(run.path / "problems" / "train.jsonl") == ROWS
    assert told.events == [
        ("start", "run", 0, 3),
        ("evaluation", 0, True),
        *[("step", 0), ("step", 1), ("step", 2), ("checkpoint", 2, True)],
        *[("evaluation", 3, True), ("step", 3), ("checkpoint", 3, True), "end"],
    ]
    assert repr(run).endswith("3 steps, 2 checkpoints)")
    with pytest.raises(DataError, match="no rollout of step 9 was written; there are 1 to 3"):
        run.samples(9)


def test_tokens_of_other_completions_are_refused(trained: tuple[progrpo.TrainingRun, Told], tmp_path: Path) -> None:
    shutil.copytree(trained[0].path, tmp_path / "run")
    run = progrpo.load_run(tmp_path / "run")
    rows = tmp_path / "run" / "rollouts" / "step-000001.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    assert len(run.samples(1)) == 2 * 4 - 1
    with pytest.raises(DataError, match="its completions or verdicts are not those of"):
        run.samples(1, tokens=True)


def test_a_run_goes_on_with_the_same_rows_alone(trained: tuple[progrpo.TrainingRun, Told]) -> None:
    run, _ = trained
    again: dict[str, Any] = {**SETTINGS, "model": run.settings["model"]["path"], "out": str(run.path), "steps": 4}
    with pytest.raises(ConfigError, match="has other problems than those given"):
        progrpo.train(again, task={"train": ROWS[1:], "test": ROWS[:2]}, reward=even, resume=True, progress=False)
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        progrpo.train(again, task={"train": ROWS, "test": ROWS[:2]}, reward=even, progress=False)
    assert read_jsonl(run.path / "problems" / "train.jsonl") == ROWS


def test_evaluate_compare_and_score(trained: tuple[progrpo.TrainingRun, Told], tmp_path: Path) -> None:
    run, _ = trained
    found = progrpo.evaluate(run, n=4, max_new_tokens=6, out=str(tmp_path / "own"), progress=False)
    assert run.settings["reward"] == found.headers[0]["settings"]["reward"]  # judged as it was trained
    by_measure = found.measures.set_index("measure")
    assert by_measure.loc["pass@1", "low"] <= by_measure.loc["pass@1", "mean"] <= by_measure.loc["pass@1", "high"]
    assert len(found.samples()) == 2 * 4
    own = progrpo.evaluate(
        run,
        [{"prompt": "1=", "hint": "x"}],
        reward=lambda text, problem: True,
        n=2,
        max_new_tokens=3,
        out=tmp_path / "rows",
        progress=False,
    )
    assert own.measures.set_index("measure").loc["pass@1", "mean"] == 1.0

    page = tmp_path / "comparison.html"
    compared = progrpo.compare([run, progrpo.load_run(run.path)], out=page)
    assert page.read_text().startswith("<!doctype html>")
    assert compared.page == page
    assert set(compared.differences["mean"]) == {0.0}
    assert set(compared.held_out["step"]) == {3}

    scores = progrpo.score(run, ["grpo", "strong=progrpo"], strong={"alpha": 2.0})
    assert list(scores.statistics.index) == ["grpo", "strong"]
    assert list(scores.completions["grpo"]) == pytest.approx(list(run.samples(3)["advantage"]))
    assert scores.page(tmp_path / "scores.html").is_file()
    assert progrpo.score(run.rollouts[1], ["grpo"]).completions["file"].unique() == [str(run.rollouts[1])]


def test_seeds_of_problems_given_as_rows_are_one_run(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    settings = {**SETTINGS, "steps": 1, "evaluate": {"every": 1, "n": 2}, "model": str(tiny_folder())}
    task = {"train": ROWS, "test": ROWS[:2], "chat": False}
    runs = [
        progrpo.train(
            settings, task=task, reward=even, seed=seed, out=f"{tmp_path}/{name}-{seed}", method=name, progress=False
        )
        for name in ("grpo", "progrpo")
        for seed in (0, 1)
    ]
    found = progrpo.compare(runs)
    assert set(found.held_out.groupby("run")["seeds"].max().items()) == {("grpo", 2), ("progrpo", 2)}
    assert set(found.differences["run"]) == {"progrpo"}
    assert found.notes == ()


def rows_one_by_one() -> Any:
    """An iterator, as a generator of rows is."""
    return iter(ROWS)


def test_a_callback_ends_a_run(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    def enough(step: int, metrics: Any) -> None:
        if step == 1:
            raise StopTraining("enough")

    run = progrpo.train(
        {**SETTINGS, "evaluate": {"every": 0}},
        model=str(tiny_folder()),
        task={"train": rows_one_by_one(), "chat": False},
        reward=["stand_ins.parity", even],
        callbacks=[enough],
        out=str(tmp_path / "run"),
        progress=False,
    )
    assert list(run.metrics.index) == [1]
    assert list(run.checkpoints) == [1]
    assert {"reward/stand_ins.parity", f"reward/{__name__}:even"} <= set(run.metrics)


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    base = {**SETTINGS, "model": "nowhere", "out": str(tmp_path / "run")}
    with pytest.raises(DataError, match=r"train problems, row 2: expected a mapping .* got 5"):
        progrpo.train(base, task=[ROWS[0], 5], progress=False)  # type: ignore[list-item]
    with pytest.raises(DataError, match="row 1: cannot be written as JSON: .*set"):
        progrpo.train(base, task=[{"prompt": {1}}], progress=False)
    with pytest.raises(ConfigError, match="got an empty list"):
        progrpo.train(base, task=ROWS, reward=[], progress=False)


def test_settings_from_a_recipe_a_mapping_and_keywords(tmp_path: Path) -> None:
    by_name = progrpo.load_settings("math", {"optim": {"lr": 3e-6}, "sampling.temperature": 0.9, "method": "grpo"})
    by_path = progrpo.load_settings(
        str(recipes.find("math")), ["optim.lr=3e-6", "sampling.temperature=0.9", "method=grpo"]
    )
    assert by_name == by_path
    assert by_name.method.model_dump() == {"name": "grpo"}
    assert (by_name.optim.lr, by_name.optim.warmup_steps) == (3e-6, 8)
    assert progrpo.load_settings(yaml.safe_load(recipes.find("math").read_text()), {"out": "runs/math"}) == (
        progrpo.load_settings("math")
    )
    # a section with a name is replaced, one without is changed
    assert progrpo.load_settings("demo/progrpo", {"method": {"name": "grpo"}}).method.params == {}
    assert progrpo.load_settings("demo/progrpo", {"method": {"alpha": 1.0}}).method.params == {"alpha": 1.0}


def test_recipes_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipes.find("math") == recipes.find("recipes/math.yaml")
    assert recipes.find("balanced") == recipes.find("demo/balanced")
    assert recipes.find("paper/qwen2.5-7b-math-grpo").name == "qwen2.5-7b-math-grpo.yaml"
    Path("math").mkdir()
    assert recipes.find("math").is_file()  # a folder of that name is no recipe
    Path("math.yaml").write_text("steps: 1")
    assert recipes.find("math.yaml") == Path("math.yaml")
    with pytest.raises(ConfigError, match=r"maths: no such file, and no recipe of that name; did you mean 'math'\?"):
        recipes.find("maths")
    assert all(summary and len(summary) < 200 for summary in recipes.summaries().values())


def test_packages_that_are_called_too() -> None:
    from progrpo import evaluate, train  # as a stranger writes it

    importlib.import_module("progrpo.evaluate.score")
    assert train is progrpo.train
    assert evaluate is progrpo.evaluate
    assert progrpo.train.loop.__name__ == "progrpo.train.loop"  # type: ignore[attr-defined]
    assert progrpo.evaluate.score.__name__ == "progrpo.evaluate.score"  # type: ignore[attr-defined]
    assert list(inspect.signature(progrpo.train).parameters)[:3] == ["settings", "task", "reward"]
    with pytest.raises(ConfigError, match="no recipe of that name"):
        progrpo.train("nosuchrecipe")


def test_help_shows_the_way_in() -> None:
    text = pydoc.render_doc(progrpo, renderer=pydoc.plaintext)
    for words in (
        "progrpo.train(",
        "progrpo.evaluate(",
        "compare(runs",
        "score(rollouts",
        "load_run(path",
        "class Callback",
    ):
        assert words in text.replace("(\n        ", "(")  # Python 3.13 writes long signatures on several lines
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = progrpo.trian
    assert set(progrpo.__all__) <= set(dir(progrpo))
    assert all(getattr(progrpo, name) is not None for name in progrpo.__all__)
