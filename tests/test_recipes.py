"""Every shipped recipe resolves where there is no network, and those of the paper hold its Table 1."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from progrpo import methods
from progrpo.train.plan import STOPS, make_plan
from progrpo.train.settings import RunSettings, load_settings
from progrpo.train.setup import choose, resolve
from progrpo.types import RolloutBatch

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
PAPER = sorted((ROOT / "recipes" / "paper").glob("*.yaml"))
STEMS = ("qwen2.5-32b-math", "qwen2.5-7b-math", "r1-distill-qwen-1.5b-math", "r1-distill-qwen-7b-code")
MODELS = {
    "qwen2.5-32b-math": "Qwen/Qwen2.5-32B",
    "qwen2.5-7b-math": "Qwen/Qwen2.5-7B",
    "r1-distill-qwen-1.5b-math": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    "r1-distill-qwen-7b-code": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT / "recipes"))


def settings_of(stem: str, method: str, *overrides: str) -> RunSettings:
    return load_settings(ROOT / "recipes" / "paper" / f"{stem}-{method}.yaml", overrides)


@pytest.fixture(autouse=True)
def _nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan reads the data where it finds it; here it finds none, whatever this machine has."""
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_resolves_without_a_network(recipe: Path) -> None:
    settings = resolve(load_settings(recipe))
    lines = make_plan(choose(settings))
    assert lines[0].startswith(f"method {settings.method.name}: ")
    assert any(line.startswith(("memory:", f"{STOPS}model")) for line in lines)
    # what is written out is what the run would use: it resolves to itself
    assert resolve(RunSettings.model_validate(settings.model_dump(mode="json"))) == settings


def test_there_are_two_recipes_for_each_of_the_papers_models() -> None:
    assert [path.stem for path in PAPER] == [f"{stem}-{method}" for stem in STEMS for method in ("grpo", "progrpo")]


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("method", ["grpo", "progrpo"])
def test_table_1(stem: str, method: str) -> None:
    settings = resolve(settings_of(stem, method))
    batch = settings.batch
    assert (batch.prompts, batch.minibatch_prompts, batch.group) == (512, 32, 8)
    assert batch.steps_per_rollout == 16
    assert (settings.optim.lr, settings.sampling.temperature, settings.sampling.max_new_tokens) == (1e-6, 1.0, 8192)
    assert settings.optim.warmup_steps == 10 * batch.steps_per_rollout
    params = methods.load(settings.method).params
    assert (params.clip_low, params.clip_high, params.aggregate) == (0.2, 0.28, "group_token")
    assert settings.model.path == MODELS[stem]
    assert settings.reward is not None
    assert settings.reward.name == {"math": "dapo_math", "code": "code"}[stem.rsplit("-", 1)[1]]
    assert batch.micro_tokens >= settings.data.max_prompt_tokens + settings.sampling.max_new_tokens


@pytest.mark.parametrize("stem", STEMS)
def test_the_two_recipes_of_a_model_differ_in_the_method_alone(stem: str) -> None:
    grpo, progrpo = (settings_of(stem, method).model_dump(mode="json") for method in ("grpo", "progrpo"))
    differing = {key for key in grpo if grpo[key] != progrpo[key]}
    assert differing == {"method", "out"}


@pytest.mark.parametrize("stem", STEMS)
def test_the_baseline_is_progrpo_without_its_term(stem: str) -> None:
    batch = RolloutBatch(
        rewards=torch.tensor([[1.0, -1.0, -1.0], [1.0, 1.0, -1.0]]),
        correct=torch.tensor([[True, False, False], [True, True, False]]),
        truncated=torch.zeros(2, 3, dtype=torch.bool),
        lengths=torch.tensor([[2, 1, 2], [2, 2, 1]]),
        mask=torch.tensor([[1, 1], [1, 0], [1, 1], [1, 1], [1, 1], [1, 0]], dtype=torch.bool),
        old_logprobs=-torch.arange(12.0).view(6, 2),
        prompt_logprobs=torch.full((2, 2), -1.0),
        prompt_mask=torch.ones(2, 2, dtype=torch.bool),
    )
    baseline = methods.load(settings_of(stem, "grpo").method)
    off = methods.load(settings_of(stem, "progrpo", "method.alpha=0").method)
    on = methods.load(settings_of(stem, "progrpo").method)
    assert torch.equal(baseline.advantages(batch).values, off.advantages(batch).values)
    assert torch.equal(baseline.weights(batch.lengths, 8), off.weights(batch.lengths, 8))
    for name in ("clip_low", "clip_high"):
        assert getattr(baseline.params, name) == getattr(off.params, name)
    assert not torch.equal(on.advantages(batch).values, off.advantages(batch).values)


def overrides_in_the_readme() -> list[tuple[str, ...]]:
    """The `key=value` words of each line of README.md that trains."""
    text = (ROOT / "recipes" / "paper" / "README.md").read_text("utf-8")
    lines = [line.split("#")[0].split() for line in text.splitlines() if line.strip().startswith("progrpo train ")]
    return sorted({tuple(word for word in line if "=" in word and "$" not in word) for line in lines})


@pytest.mark.parametrize("overrides", overrides_in_the_readme(), ids=" ".join)
def test_the_readmes_overrides_are_settings(overrides: tuple[str, ...]) -> None:
    resolved = resolve(settings_of("qwen2.5-7b-math", "progrpo", *overrides))
    written: dict[str, Any] = yaml.safe_load(yaml.safe_dump(resolved.model_dump(mode="json")))
    for override in overrides:
        key, value = override.split("=", 1)
        node: Any = written
        for part in (key + ".mode" if key == "parallel" else key).split("."):  # parallel=fsdp2 is short for the mode
            node = node[part]
        assert node == yaml.safe_load(value)
