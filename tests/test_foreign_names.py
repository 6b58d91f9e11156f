"""What people bring from TRL and verl is answered with our name, and every name that is answered exists."""

import re

import pytest

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.foreign_names import TRL, VERL, ours
from progrpo.model.lora import LoraSettings
from progrpo.settings import Choice, parse
from progrpo.tasks.file import Params as FileParams
from progrpo.train.settings import RunSettings, load_settings


def keys_in(words: str) -> list[str]:
    """Names of settings in an answer; what stands in brackets is explanation."""
    return re.findall(r"\b(?:[a-z_]+\.)+[a-z_]+\b", re.sub(r"\([^)]*\)", "", words))


@pytest.mark.parametrize("name", sorted(TRL | VERL))
def test_every_answer_names_what_exists(name: str) -> None:
    words = (TRL | VERL)[name]
    assert ours(name).startswith(f"{name!r} is ")
    for key in keys_in(words):
        section, _, rest = key.partition(".")
        known = {"method": methods.Params, "task": FileParams}.get(section)
        if key == "reward.parts":
            continue
        if key.startswith("model.lora."):
            known, rest = LoraSettings, rest.removeprefix("lora.")
        if known is None:
            known = RunSettings.model_fields[section].annotation
        assert rest in known.model_fields, key
    first = words.split()[0].split("=")[0].rstrip(",:")
    assert first in ("nothing", "--resume", *RunSettings.model_fields) or "." in first


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("num_generations=8", "override 'num_generations=8': 'num_generations' is TRL's name; here it is batch.group"),
        ("optim.learning_rate=1e-6", "'optim.learning_rate' is TRL's name; here it is optim.lr"),
        ("actor_rollout_ref.rollout.n=8", "'actor_rollout_ref.rollout.n' is verl's name; here it is batch.group"),
        ("algorithm.adv_estimator=grpo", "'algorithm.adv_estimator' is verl's name; here it is method"),
        ("fp16=true", "'fp16' is TRL's name; here it is nothing: fp16 rounds log-probs too coarsely"),
        ("optim.lrr=1", "override 'optim.lrr=1': unknown key 'optim.lrr'; did you mean 'lr'"),
    ],
)
def test_what_is_said(override: str, answer: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_settings("math", [override])
    assert answer in str(raised.value)
    assert "math.yaml" not in str(raised.value)


def test_a_method_answers_too() -> None:
    with pytest.raises(ConfigError, match=r"method grpo: 'beta' is TRL's name; here it is method.kl_coef"):
        methods.load(Choice(name="grpo", beta=0.04))
    assert ours("lr") == ""
    with pytest.raises(ConfigError, match="'data.train_batch_size' is verl's name; here it is batch.prompts"):
        parse(RunSettings, {"data": {"train_batch_size": 8}}, where="recipe")
