"""Settings: frozen models read from YAML with dotted overrides, refused with the nearest name when unknown."""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypeVar, cast

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from progrpo.annotations import is_list, is_number
from progrpo.errors import ConfigError
from progrpo.foreign_names import ours


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys refused, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _lists_of_one(cls, data: Any) -> Any:
        """A single value where a list is expected is a list of one: record.trackers=tensorboard."""
        if not isinstance(data, Mapping):
            return data
        cls._require_no_truth_values(data)
        single = {
            key: [value]
            for key, value in data.items()
            if isinstance(value, str | int | float)
            and (field := cls.model_fields.get(key)) is not None
            and is_list(field.annotation)
        }
        return {**data, **single, **cls._empty_texts(data)}

    @classmethod
    def _require_no_truth_values(cls, data: Mapping[Any, Any]) -> None:
        """Refuse true and false where a number is expected, which Python takes for 1 and 0; YAML reads yes and on so, too."""
        for key, value in data.items():
            field = cls.model_fields.get(key)
            if isinstance(value, bool) and field is not None and is_number(field.annotation):
                raise ValueError(
                    f"{key}: expected a number, got {str(value).lower()} (YAML reads yes, no, on and off so, too)"
                )

    @classmethod
    def _empty_texts(cls, data: Mapping[Any, Any]) -> dict[str, str]:
        """Null where a text is expected that is empty by default is that one: YAML reads `task.instruction=` so."""
        fields = cls.model_fields
        return {
            key: ""
            for key, value in data.items()
            if value is None and key in fields and fields[key].annotation is str and fields[key].default == ""
        }


SHORT = {"method": "name", "task": "name", "reward": "name", "engine": "name", "model": "path", "parallel": "mode"}
"""Sections that one value may stand for: method=grpo, model=Qwen/Qwen2.5-0.5B."""


class Choice(BaseModel):
    """The choice of one variation: its `name`, and every other key for the `Params` of that file."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


NamedChoice = Annotated[
    Choice,
    BeforeValidator(
        lambda value: {"name": value} if isinstance(value, str) else value, json_schema_input_type=str | Choice
    ),
]
"""A choice that may be written as its name alone, for lists of choices."""

S = TypeVar("S", bound=BaseModel)


def parse(
    model: type[S],
    data: Mapping[str, Any],
    *,
    where: str,
    overrides: "Sequence[Override]" = (),
    hint: Callable[[str], str] = lambda key: "",
) -> S:
    """Validate `data` as `model`.

    Args:
        where: what the user wrote, for the message ("recipes/math.yaml", "method progrpo").
        overrides: those that were applied to it: a fault of one is told as its own.
        hint: what is to be said of an unknown key; "" where nothing is, and the nearest known key stands in its place.

    Raises:
        ConfigError: one line per problem with the dotted key, what was expected and what was got.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        told: dict[str, list[str]] = {}
        for problem in error.errors():
            place = _override_at(problem, overrides) or where
            told.setdefault(place, []).append(_explain(model, problem, hint))
        raise ConfigError("; ".join(f"{place}: " + "; ".join(lines) for place, lines in told.items())) from None


def _override_at(problem: Mapping[str, Any], overrides: "Sequence[Override]") -> str | None:
    """The last override that a problem is about, as it was said: of this very key, of one above or below it, or, where two
    settings do not agree, one that the message names. None where the fault stands in what was overridden."""
    location, message = tuple(str(part) for part in problem["loc"]), str(problem["msg"])
    among = []
    for one in reversed(overrides):
        key = tuple(one.key.split("."))
        if key == location[: len(key)]:
            return str(one.said)
        if location == key[: len(location)]:  # it is one of what does not agree, in the section or in all of them
            if _names(message, ".".join(key[len(location) :])):
                return str(one.said)
            among += [str(one.said)] if location else []
    return among[0] if among else None


def _names(text: str, key: str) -> bool:
    """Whether a text names a dotted key, not as a part of another word."""
    return re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.]*\w)", text) is not None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one mapping from a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the path of a recipe, for instance recipes/math.yaml")
    try:
        data = _load_yaml(path.read_text("utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no YAML, or no UTF-8
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        held = {type(None): "nothing", list: "a list", str: "text"}.get(type(data), type(data).__name__)
        raise ConfigError(f"{path}: expected a mapping of settings, got {held}")
    return data


class Override(NamedTuple):
    """One change of a setting: its dotted key, the value, and how it was said, for messages."""

    key: str
    value: Any
    said: str


def read_overrides(overrides: Iterable[str] | Mapping[str, Any]) -> list[Override]:
    """Overrides in order. Text is `dotted.key=value` with the value read as YAML ("3e-6", "true", "[1, 2]"). Of a mapping each
    key may be dotted, too; a mapping in it changes those keys of a section that it names, and with a "name" the whole section.

    Raises:
        ConfigError: text without "=", or a value that is no YAML.
    """
    if isinstance(overrides, Mapping):
        return [one for key, value in overrides.items() for one in _flat_overrides(key, value)]
    return [_read_override(override) for override in overrides]


def apply_overrides(
    data: Mapping[str, Any],
    overrides: Iterable[str] | Mapping[str, Any] | Sequence[Override],
    *,
    short: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return a copy of `data` with each override applied, see `read_overrides`.

    Args:
        short: sections that a single value may stand for, and the key it is of: {"method": "name"} makes `method=grpo` the
            section {"name": "grpo"}, whatever it held before.

    Raises:
        ConfigError: see `read_overrides`; or an override runs through a value that is not a mapping.
    """
    parsed = overrides if _are_read(overrides) else read_overrides(cast("Iterable[str]", overrides))
    result: dict[str, Any] = _copy(data)
    for section, key in short.items():
        if section in result and not isinstance(result[section], Mapping | None):
            result[section] = {key: result[section]}
    for one in cast("Sequence[Override]", parsed):
        *parents, last = one.key.split(".")
        node = result
        for depth, parent in enumerate(parents):
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{one.said}: {'.'.join(parents[: depth + 1])} is a value, not a section")
        whole = not parents and last in short and not isinstance(one.value, Mapping | None)
        node[last] = {short[last]: one.value} if whole else one.value
    return result


def _are_read(overrides: Iterable[str] | Mapping[str, Any] | Sequence[Override]) -> bool:
    return isinstance(overrides, list) and all(isinstance(one, Override) for one in overrides)


def _read_override(override: str) -> Override:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected key=value, for instance optim.lr=3e-6")
    try:
        return Override(key, _load_yaml(text), f"override {override!r}")
    except ValueError as error:
        open_ended = [end for start, end in ("{}", "[]") if text.count(start) > text.count(end)]
        quoted = f"; if the shell split it, quote it: '{override} ...{open_ended[0]}'" if open_ended else ""
        raise ConfigError(f"override {override!r}: the value is not readable as YAML: {error}{quoted}") from error


def _flat_overrides(key: str, value: Any) -> list[Override]:
    if isinstance(value, Mapping) and value and "name" not in value:
        return [one for inner, item in value.items() for one in _flat_overrides(f"{key}.{inner}", item)]
    return [Override(key, _copy(value), f"{key}={value!r:.80}")]


def _load_yaml(text: str) -> Any:
    """Raises ValueError with the place and the fault in one line if the text is no YAML."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys and says nothing; a recipe with two learning rates must not load."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _explain(model: type[BaseModel], problem: Mapping[str, Any], hint: Callable[[str], str]) -> str:
    """One sentence for one pydantic error: key, rule, value, remedy."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location) or "settings"
    if problem["type"] == "extra_forbidden":
        inner = flatten(problem["input"]) if isinstance(problem["input"], Mapping) else {}
        translated = [words for name in ([f"{key}.{one}" for one in inner] or [key]) if (words := ours(name))]
        if translated:
            return "; ".join(translated)
        if said := hint(key):
            return f"unknown key {key!r}; {said}"
        known = list(_fields(model, location[:-1]))
        elsewhere = _sections_with(model, location[-1])
        near = elsewhere or get_close_matches(location[-1], known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key {key!r}; {remedy}"
    if problem["type"] == "missing":
        return f"{key}: missing; it has no default{_example(model, location)}"
    message: str = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("model_type", "model_attributes_type"):
        message = "expected a section of settings"
    if not location:
        return message
    return f"{key}: {message[0].lower()}{message[1:]}" + (
        "" if problem["type"] == "value_error" else f", got {_read_as(problem['input'], problem['type'])}"
    )


def _read_as(value: Any, kind: str) -> str:
    """A refused value as it would be written in YAML where that differs, and how else what is nothing there is said."""
    if value is not None:
        return repr(value)
    return "null, as nothing is read" + ('; an empty text is written ""' if kind == "string_type" else "")


def _example(model: type[BaseModel], location: Sequence[str]) -> str:
    """How a missing setting could be written, after `Field(examples=...)`; of a choice's name, what lists those there are."""
    named = [part for part in location[:-1] if not part.isdecimal()]
    if location[-1] == "name" and named and (listed := _LISTED.get(named[-1])):
        return f"; progrpo list {listed} names those there are"
    known = _fields(model, list(location[:-1])).get(location[-1])
    if known is None or not known.examples:
        return ""
    written = yaml.safe_dump({location[-1]: known.examples[0]}, default_flow_style=True, sort_keys=False, width=1000)
    return f"; for instance {written.strip()[1:-1]}"


_LISTED = {
    "method": "methods",
    "reward": "rewards",
    "engine": "engines",
    "task": "tasks",
    "tasks": "tasks",
    "measures": "measures",
}


def _sections_with(model: type[BaseModel], key: str, path: tuple[str, ...] = ()) -> list[str]:
    """Dotted places at which a key of exactly this name exists, in any section."""
    places = [".".join((*path, key))] if path and key in model.model_fields else []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            places += _sections_with(field.annotation, key, (*path, name))
    return places


def _fields(model: type[BaseModel], path: list[str]) -> Mapping[str, FieldInfo]:
    """The fields of the section at a path; none where there is no such section."""
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return {}
        model = field.annotation
    return model.model_fields


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings in sections as one table with dotted keys."""
    table: dict[str, Any] = {}
    for key, value in settings.items():
        table |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return table


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The same as text, as one would write it on the command line."""
    return {key: "null" if value is None else str(value) for key, value in flatten(settings, prefix).items()}
