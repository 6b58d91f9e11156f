"""A JSON schema of the settings of a run, for editors that complete and check recipes."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from progrpo import methods, plugins
from progrpo.annotations import is_list
from progrpo.files import to_json
from progrpo.settings import SHORT, Choice
from progrpo.train.settings import RunSettings

VARIATIONS = {"task": "tasks", "reward": "rewards", "method": "methods", "engine": "engines"}
"""Sections that choose a variation, and its package."""


def run_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of what `progrpo train` reads: each setting with its type, range, default and meaning.

    A section that chooses a variation takes any name (a dotted path, a file), and of a name in this package its settings.
    """
    schema = RunSettings.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    _describe(schema, definitions, RunSettings)
    for section, package in VARIATIONS.items():
        variation = _variation(package, definitions)
        meaning = schema["properties"][section].get("description", "")
        named = variation["properties"][SHORT[section]]
        optional = [{"type": "null"}] if section == "reward" else []
        schema["properties"][section] = {"description": meaning, "anyOf": [variation, named, *optional]}
    for section, key in SHORT.items():
        whole = schema["properties"][section]
        if section not in VARIATIONS:
            short = definitions[whole["$ref"].rsplit("/", 1)[-1]]["properties"][key]
            schema["properties"][section] = {
                "description": whole.get("description", ""),
                "anyOf": [{"$ref": whole["$ref"]}, short],
            }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of progrpo",
        **_trimmed(schema),
    }


def run_print_schema() -> str:
    """The schema as text."""
    return to_json(run_schema(), indent=1)


def models_of(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A settings model and those that its fields hold, each once."""
    seen: dict[str, type[BaseModel]] = {}

    def visit(one: type[BaseModel]) -> None:
        if one.__name__ in seen or issubclass(one, Choice):
            return
        seen[one.__name__] = one
        for field in one.model_fields.values():
            for inner in _inner(field.annotation):
                visit(inner)

    visit(model)
    yield from seen.values()


def params_of(package: str, name: str) -> type[BaseModel] | None:
    """The settings of a variation; None where it has none."""
    default = methods.Params if package == "methods" else None
    params: type[BaseModel] | None = getattr(plugins.load(package, name), "Params", default)
    return params


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _inner(part)


def _describe(schema: dict[str, Any], definitions: dict[str, Any], model: type[BaseModel]) -> None:
    """Write the meaning of each field into its place, and that a list of one may be written as its entry."""
    for one in models_of(model):
        place = schema if one is model else definitions.get(one.__name__, {})
        for name, field in one.model_fields.items():
            if is_list(field.annotation) and name in place.get("properties", {}):
                _take_single(place["properties"][name])
        for name, meaning in meanings(one).items():
            if meaning and name in place.get("properties", {}):
                place["properties"][name]["description"] = meaning


def _take_single(field: dict[str, Any]) -> None:
    """Let a list, or a list or null, be given as its only entry, where that is a text or a number."""
    kinds = field.get("anyOf") or [{key: field.pop(key) for key in ("type", "items") if key in field}]
    entry: dict[str, Any] = next((kind["items"] for kind in kinds if kind.get("type") == "array"), {})
    field["anyOf"] = [*kinds, {"allOf": [entry, {"type": ["string", "number", "boolean"]}]}]


def _variation(package: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Any name; of each name of the package its own settings and no others."""
    summaries = plugins.summaries(package)
    named = []
    for name in summaries:
        params = params_of(package, name)
        schema = params.model_json_schema(ref_template=f"#/$defs/{package}.{name}.{{model}}") if params else {}
        inner = schema.pop("$defs", {})
        if params:
            _describe(schema, inner, params)
        definitions.update({f"{package}.{name}.{key}": definition for key, definition in inner.items()})
        properties = {"name": {"const": name}} | schema.get("properties", {})
        if package == "methods":
            presets = list(getattr(plugins.load(package, name), "PRESETS", {}))
            properties |= {"add": {"description": "A method whose shift is added to the advantages."}}
            properties |= {"preset": {"enum": presets, "description": "A named set of settings."}} if presets else {}
        named.append(
            {
                "if": {"properties": {"name": {"const": name}}},
                "then": {"properties": properties, "additionalProperties": False},
            }
        )
    described = {"anyOf": [{"enum": list(summaries)}, {"type": "string"}], "description": _listed(summaries)}
    required = [] if package == "engines" else ["name"]
    return {"type": "object", "properties": {"name": described}, "required": required, "allOf": named}


def _listed(summaries: dict[str, str]) -> str:
    return "\n".join(f"{name}: {summary}" for name, summary in summaries.items())


def _trimmed(node: Any) -> Any:
    """Without titles that only repeat a key."""
    if isinstance(node, dict):
        return {key: _trimmed(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    return [_trimmed(one) for one in node] if isinstance(node, list) else node


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """What the source says under each field of a settings model, on one line; "" where it says nothing."""
    texts: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if isinstance(owner, type) and issubclass(owner, BaseModel) and owner is not BaseModel:
            texts |= _said(owner)
    return {name: texts.get(name, "") for name in model.model_fields}


def _said(owner: type[BaseModel]) -> dict[str, str]:
    """The text under each annotated name in the source of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
