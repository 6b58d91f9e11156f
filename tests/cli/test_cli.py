"""The verbs as a user types them."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from progrpo import plugins, recipes

Here = Callable[..., tuple[int, str, str]]
"""The fixture of conftest.py: words to exit status, standard output and error."""
ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


def own_process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "progrpo", *words], capture_output=True, text=True, timeout=240)


def countdown_recipe(folder: Path, model: Path, **changes: Any) -> Path:
    settings = {
        "steps": 2,
        "out": str(folder / "run"),
        "model": {"path": str(model)},
        "task": {
            "name": "countdown",
            "numbers": 3,
            "max_number": 6,
            "max_target": 20,
            "min_used": 2,
            "min_solutions": 1,
        }
        | {"train_size": 8, "test_size": 2},
        "method": {"name": "progrpo"},
        "sampling": {"max_new_tokens": 6},
        "batch": {"prompts": 2, "group": 2},
        "evaluate": {"every": 2, "n": 2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings | changes))
    return path


def test_help_names_the_verbs() -> None:
    found = own_process("--help")
    assert found.returncode == 0
    for verb in ("train", "evaluate", "compare", "report", "list", "doctor"):
        assert verb in found.stdout


@pytest.mark.parametrize("package", ["methods", "rewards", "tasks", "engines", "measures"])
def test_list(package: str, here: Here) -> None:
    status, out, _ = here("list", package)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == plugins.names(package)


def test_list_of_nothing_known(here: Here) -> None:
    status, _, err = here("list", "methds")
    assert status == 2
    assert "expected one of methods" in err


def test_list_of_everything_and_recipes(here: Here) -> None:
    status, out, _ = here("list")
    assert status == 0
    assert {line for line in out.splitlines() if not line.startswith(" ")} == {f"{name}:" for name in plugins.PACKAGES}
    assert json.loads(here("list", "--json")[1])["rewards"] == plugins.summaries("rewards")
    assert json.loads(here("list", "tasks", "--json")[1]) == plugins.summaries("tasks")
    lines = here("recipes")[1].splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert set(json.loads(here("recipes", "--json")[1])) == set(recipes.names())


VERBS = ("train", "evaluate", "verify", "score", "shift", "compare", "report", "push", "list", "recipes", "doctor")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_two_examples_of_its_own(verb: str, here: Here) -> None:
    status, out, _ = here(verb, "-h")
    assert status == 0
    examples = out.partition("Examples:\n")[2].strip().splitlines()
    assert len(examples) >= 2
    assert any(line.split()[1] == verb for line in examples)
    assert "optim.lr" not in out or verb == "train"  # evaluate refuses it
    assert "--json" in out
    assert "--quiet" in out


def test_version_and_exit_statuses(here: Here) -> None:
    assert here("--version")[:2] == (0, "progrpo 0.1.0\n")
    status, out, _ = here("--help")
    assert status == 0
    assert "Exit status: 0 done" in out
    assert "--install-completion" in out


def test_what_a_library_lacks_for_other_work_is_not_said(here: Here) -> None:
    here("--version")
    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)


def test_doctor(here: Here) -> None:
    status, out, _ = here("doctor")
    assert status == 0
    assert "torch" in out
    assert "progrpo" in out
    assert "processes    one, no launcher" in out
    assert "gloo (CPU) there" in out
    assert all(f"{name} " in out for name in ("peft", "bitsandbytes", "accelerate"))


def test_doctor_speaks_once_for_all_processes(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("RANK", "0")
    assert "processes    2, as the launcher says" in here("doctor")[1]
    monkeypatch.setenv("RANK", "1")
    assert here("doctor")[:2] == (0, "")
    monkeypatch.setenv("RANK", "two")
    status, _, err = here("doctor")
    assert status == 2
    assert "expected three whole numbers" in err


def test_train_report_and_resume(tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    recipe = countdown_recipe(tmp_path, tiny_folder())
    status, _, err = here("train", recipe)
    assert status == 0, err
    assert "held-out: pass@1" in err
    assert (tmp_path / "run" / "checkpoints" / "step-000002" / "model.safetensors").is_file()
    status, _, err = here("train", recipe)
    assert status == 2
    assert "already holds a run; go on with it by --resume" in err
    status, _, err = here("train", recipe, "steps=4", "--resume")
    assert status == 0, err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    status, _, err = here("report", tmp_path / "run")
    assert status == 0, err
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!doctype html>")


def test_json_and_quiet(tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    recipe = countdown_recipe(tmp_path, tiny_folder())
    status, out, err = here("train", recipe, "--dry-run", "--json")
    plan = json.loads(out)
    assert (status, err) == (0, "")
    assert plan["settings"]["steps"] == 2
    assert plan["stops"] == []
    status, out, err = here("train", recipe, "--json")
    trained = json.loads(out)
    assert (status, err) == (0, "")
    assert (trained["run"], trained["step"]) == (str(tmp_path / "run"), 2)
    assert trained["metrics"]["evaluate/pass@1"] >= 0
    assert here("train", recipe, "--resume", "--quiet")[:2] == (0, "")
    status, out, _ = here("evaluate", tmp_path / "run", "-n", "2", "max_new_tokens=4", "--json")
    assert status == 0
    assert json.loads(out)["evaluations"][0]["summary"]["pass@1"]["mean"] >= 0
    status, out, _ = here("compare", tmp_path / "run", tmp_path / "run", "--out", tmp_path / "c.html", "--json")
    assert status == 0
    assert {row["mean"] for row in json.loads(out)["differences"]} == {0.0}
    status, out, _ = here("score", tmp_path / "run", "--method", "grpo", "--json")
    assert (status, list(json.loads(out)["methods"])) == (0, ["grpo"])
    assert json.loads(here("report", tmp_path / "run", "--json")[1]) == {"page": str(tmp_path / "run" / "report.html")}


def test_profile_says_where_its_trace_is(tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    recipe = countdown_recipe(tmp_path, tiny_folder())
    words = ["train", str(recipe), "evaluate.every=0", "--profile"]
    status, _, err = here(*words, "steps=1")
    assert status == 0, err
    assert "no trace was written: record.profile_rollouts begins with 2, and fewer rollouts were made" in err
    # with --resume the next rollout is the first of its process
    status, _, err = here(*words, "record.profile_rollouts=[1]", "--resume")
    assert status == 0, err
    trace = tmp_path / "run" / "profiles" / "step-000002.json.gz"
    assert trace.is_file()
    assert f"trace of step 2: {trace}; open it at https://ui.perfetto.dev" in err.replace("\n", "")
    assert "no trace" not in err


def test_dry_run_writes_nothing(tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    recipe = countdown_recipe(tmp_path, tiny_folder())
    status, out, err = here("train", recipe, "batch.group=16", "method.alpha=0.5", "--dry-run")
    assert status == 0, err
    assert "2 problems x 16 completions = 32 sequences" in out
    assert "can flip the sign of an advantage at group size 16" in out
    assert "memory: about" in out
    assert "training problems, prompts up to" in out
    assert yaml.safe_load(out)["method"]["alpha"] == 0.5  # the plan's lines are YAML comments
    assert not (tmp_path / "run").exists()


def test_a_section_in_short_takes_settings_after_it(
    tmp_path: Path, tiny_folder: Callable[..., Path], here: Here
) -> None:
    recipe = countdown_recipe(tmp_path, tiny_folder())
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{n}+1=", "answer": n + 1}) + "\n" for n in range(20)))
    part = f"{{train: {file}, chat: false, held_out_fraction: 0.2}}"
    words = ("task=mixture", f"task.parts=[{part}]", "method=grpo", "method.aggregate=token", "epochs=2")
    status, out, _ = here("train", str(recipe), *words, "verify.check_gold=false", "--dry-run")
    assert status == 0
    settings = yaml.safe_load(out)
    assert (settings["task"]["name"], settings["method"]["aggregate"], settings["steps"]) == ("mixture", "token", 0)
    assert "# source a: " in out
    assert "# run: 2 epochs = " in out


def test_dry_run_says_what_would_stop_the_run(tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    recipe = countdown_recipe(tmp_path, tiny_folder())
    status, out, err = here("train", str(recipe), "task={name: file, train: nowhere.jsonl}", "--dry-run")
    assert status == 1
    assert err.count("error: the run would stop: nowhere.jsonl: no such file") == 1
    assert "would stop" not in out  # once is enough
    assert yaml.safe_load(out)["task"]["train"] == "nowhere.jsonl"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    status, out, err = here("train", str(recipe), "--dry-run")
    assert status == 1
    assert "the run would stop" in err
    assert "is not empty and holds no run" in err


@pytest.mark.parametrize("recipe", RECIPES, ids=[str(path.relative_to(ROOT)) for path in RECIPES])
def test_shipped_recipes_resolve(recipe: Path, tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    overrides = [] if "demo" in str(recipe) else [f"model.path={tiny_folder(chat=True)}"]
    status, out, err = here("train", str(recipe), *overrides, "--dry-run", cwd=tmp_path)
    reasons = [line for line in err.splitlines() if "the run would stop" in line]
    assert status == bool(reasons)
    # The data of these recipes are not here, nor may be what isolates programs or makes the problems.
    missing = {"no bubblewrap": shutil.which("bwrap"), "reasoning-gym is missing": find_spec("reasoning_gym")}
    known = ("no such file", "no data for", *(reason for reason, there in missing.items() if there is None))
    assert all(any(reason in line for reason in known) for line in reasons), reasons
    assert "sequences" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.lrr=1"], "unknown key 'optim.lrr'"),
        (["method.name=progpro"], "unknown name 'progpro'; did you mean 'progrpo'"),
        (["method.alpha=-1"], "alpha: input should be greater than or equal to 0, got -1"),
        (["task.name=countdwn"], "unknown name 'countdwn'; did you mean 'countdown'"),
        (["engine.name=vlm"], "engines: unknown name 'vlm'; did you mean 'vllm'"),
        (["engine.max_row=3"], "unknown key 'max_row'; did you mean 'max_rows'"),
        (["reward.name=nope"], "rewards: unknown name 'nope'"),
        (["batch.prompts=3", "batch.minibatch_prompts=2"], "minibatch_prompts=2 does not divide prompts=3"),
        (["model.path=/nowhere/at/all"], "no such folder; expected a Hugging Face model folder"),
        (["model.path=embedded:nothing"], "not in the package; embedded models: countdown"),
        (["model.path=no-such-owner/no-such-model"], "there is no folder of this name"),
        (["model.device=quantum"], "model.device: 'quantum' cannot be used here"),
        (["task.numbers"], "expected key=value"),
        (["task.numbers=[1"], "the value is not readable as YAML"),
        (["optim={lr: 1, lr: 2}"], "key 'lr' stands twice"),
        (
            ["method.alpha=1", "method.name=grpo"],
            ": method=grpo replaces the whole section, and method.name=grpo keeps its other keys",
        ),
        (["method.preset=paper", "method.name=grpo"], "unknown preset 'paper'; it is a preset of "),
        (["task.name=grid_path"], "; it is a setting of countdown"),
        (["engine.utilisation=0.5"], "unknown key 'utilisation'"),
        (["device=cpu"], "unknown key 'device'; did you mean 'model.device'"),
    ],
)
def test_bad_input(
    words: list[str], message: str, tmp_path: Path, tiny_folder: Callable[..., Path], here: Here
) -> None:
    status, _, err = here("train", str(countdown_recipe(tmp_path, tiny_folder())), *words)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_is_not_there(here: Here) -> None:
    status, _, err = here("train", "nowhere.yaml")
    assert status == 2
    assert "nowhere.yaml: no such file" in err


PROBLEMS = [{"prompt": f"what is {n}+{n}?", "answer": str(2 * n)} for n in range(12)]


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_your_own_model_on_your_own_problems(
    architecture: str, tmp_path: Path, tiny_folder: Callable[..., Path], here: Here
) -> None:
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    status, _, err = here(
        "train",
        ROOT / "recipes" / "math.yaml",
        f"model.path={tiny_folder(architecture, chat=True)}",
        "task.held_out_fraction=0.3",
        "steps=4",
        "evaluate.every=4",
        "evaluate.n=2",
        "checkpoint.every=4",
        "sampling.max_new_tokens=8",
        "batch={prompts: 4, group: 2, minibatch_prompts: 1}",
        "record.tokens=true",
        cwd=tmp_path,
    )
    assert status == 0, err
    run = tmp_path / "runs" / "math"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[1]["verdict/no_answer"] > 0.5
    assert rows[1]["verdict/crashed"] == rows[1]["verdict/timeout"] == 0
    first = json.loads((run / "rollouts" / "step-000001.jsonl").read_text().splitlines()[0])
    assert first["prompt"][0]["content"].endswith("put the final answer in \\boxed{}.")
    # the model's own chat template was used: "u:<text>a:" with this tokenizer's template
    from transformers import AutoTokenizer

    from stand_ins.runs import token_rows

    text = AutoTokenizer.from_pretrained(run / "checkpoints" / "step-000004").decode(
        token_rows(run, 1)[0]["prompt_ids"]
    )
    assert text.replace(" ", "").startswith("u:whatis")
    assert text.endswith("a:")


def test_a_row_without_an_answer_is_named(tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    rows = [*PROBLEMS, {"prompt": "and this?"}]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = str(ROOT / "recipes" / "math.yaml")
    status, _, err = here("train", recipe, f"model.path={tiny_folder(chat=True)}", cwd=tmp_path)
    assert status == 2
    assert "problems.jsonl, line 13: no 'answer'" in err


def test_messages_need_a_chat_template(tmp_path: Path, tiny_folder: Callable[..., Path], here: Here) -> None:
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    recipe = str(ROOT / "recipes" / "math.yaml")
    status, _, err = here("train", recipe, f"model.path={tiny_folder()}", "task.held_out_fraction=0.3", cwd=tmp_path)
    assert status == 2
    assert "the tokenizer has no chat template" in err
    assert "task.chat=false" in err
