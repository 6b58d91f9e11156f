import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cli import Here

from progrpo import plugins
from progrpo.cli.schema import VARIATIONS, meanings, models_of, params_of, run_schema
from progrpo.errors import ConfigError
from progrpo.settings import SHORT, Choice
from progrpo.train.settings import RunSettings, load_settings

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted(ROOT.glob("recipes/**/*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return run_schema()


def test_the_verb_prints_it(here: Here) -> None:
    status, out, err = here("schema")
    assert status == 0, err
    assert json.loads(out)["properties"]["optim"]["$ref"] == "#/$defs/OptimSettings"


def test_a_setting_has_type_range_default_and_meaning(schema: dict[str, Any]) -> None:
    assert schema["$defs"]["OptimSettings"]["properties"]["lr"] == {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 1e-6,
        "description": "The learning rate after warm-up.",
    }
    assert schema["$defs"]["OptimSettings"]["additionalProperties"] is False


@pytest.mark.parametrize("section", VARIATIONS)
def test_every_variation_is_there_with_its_own_settings(schema: dict[str, Any], section: str) -> None:
    chosen = schema["properties"][section]["anyOf"][0]
    named = {one["if"]["properties"]["name"]["const"]: one["then"]["properties"] for one in chosen["allOf"]}
    assert list(named) == plugins.names(VARIATIONS[section])
    for name, properties in named.items():
        params = params_of(VARIATIONS[section], name)
        assert set(params.model_fields if params else ()) <= properties.keys()


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert references(schema) <= {f"#/$defs/{name}" for name in schema["$defs"]}


def test_every_setting_says_what_it_means() -> None:
    models = {model.__name__: model for model in models_of(RunSettings)}
    for package in VARIATIONS.values():
        for name in plugins.names(package):
            if params := params_of(package, name):
                models |= {f"{package}.{name}": model for model in models_of(params)}
    silent = [
        f"{where}.{key}"
        for where, model in models.items()
        if not issubclass(model, Choice)
        for key, meaning in meanings(model).items()
        if not meaning
    ]
    # clip ranges, aggregations and the like that a method sets otherwise are explained once, in progrpo.methods.Params
    assert not silent


WRONG = [
    ({"optim": {"lr": 0}}, "lr"),
    ({"optim": {"learning_rate": 1e-6}}, "learning_rate"),
    ({"method": {"name": "progrpo", "alhpa": 0.3}}, "alhpa"),
    ({"method": {"name": "progrpo", "preset": "papre"}}, "papre"),
    ({"task": {"name": "countdown", "numbers": "four"}}, "four"),
    ({"parallel": "fdsp2"}, "fdsp2"),
    ({"method": 3}, "3"),
    ({"record": {"trackers": "tensorbaord"}}, "tensorbaord"),
]
RIGHT = [
    {"parallel": "fsdp2"},
    {"method": "grpo", "task": "countdown", "reward": "expression", "engine": "hf", "model": "embedded:countdown"},
    {"reward": "./mine.py"},
    {"reward": None},
    {"record": {"trackers": "tensorboard", "profile_rollouts": 3}},
    {"evaluate": {"measures": "pass_at_k"}},
    {"model": {"path": "m", "lora": {"target": "q_proj"}}},
    {"method": {"name": "./mine.py", "anything": 1}},
    {"method": {"name": "grpo", "add": "progrpo"}},
    {"evaluate": {"measures": ["pass_at_k", {"name": "./brevity.py", "limit": 3}]}},
    {"sampling": {"max_new_tokens": 8, "stop": "###"}},
]


def recipe(changes: dict[str, Any]) -> dict[str, Any]:
    whole = {"steps": 1, "model": {"path": "m"}, "task": {"name": "countdown"}, "method": {"name": "grpo"}}
    return whole | {"sampling": {"max_new_tokens": 8}} | changes


@pytest.fixture(scope="module")
def checker(schema: dict[str, Any]) -> Any:
    try:
        import jsonschema
    except ImportError:
        pytest.skip("jsonschema is missing: pip install jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_what_the_schema_refuses_and_takes(checker: Any) -> None:
    for changes, word in WRONG:
        assert word in str(next(checker.iter_errors(recipe(changes)), ""))
    for changes in RIGHT:
        assert not [error.message for error in checker.iter_errors(recipe(changes))]


@pytest.mark.parametrize("changes", [*RIGHT, *(changes for changes, _ in WRONG)])
def test_the_reader_takes_what_the_schema_takes(checker: Any, changes: dict[str, Any]) -> None:
    """A section given as its name alone, a list of one given as its entry: `load_settings` and the schema agree."""
    whole = recipe(changes)
    refused = bool(list(checker.iter_errors(whole)))
    try:
        load_settings(whole)
    except ConfigError:
        assert refused
    else:
        # the settings of a variation are known once it is loaded
        assert not refused or any(isinstance(changes.get(section), dict) for section in ("method", "task"))


def test_every_section_may_be_its_name_alone(schema: dict[str, Any], checker: Any) -> None:
    names = {
        "method": "grpo",
        "task": "countdown",
        "reward": "expression",
        "engine": "hf",
        "model": "m",
        "parallel": "ddp",
    }
    assert names.keys() == SHORT.keys()
    for section, name in names.items():
        assert not [error.message for error in checker.iter_errors(recipe({section: name}))]
    (entry,) = [
        kind for kind in schema["$defs"]["RecordSettings"]["properties"]["trackers"]["anyOf"] if "allOf" in kind
    ]
    assert entry["allOf"][0]["enum"] == ["tensorboard", "wandb", "trackio"]


def test_every_recipe_keeps_to_the_schema(checker: Any) -> None:
    faults = {
        str(path): [error.message for error in checker.iter_errors(yaml.safe_load(path.read_text()))]
        for path in RECIPES
    }
    assert not {path: found for path, found in faults.items() if found}
