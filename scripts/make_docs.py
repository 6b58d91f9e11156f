"""Write the tables of docs/paper_index.md, made from the docstrings of src/progrpo/methods/*.py, and of docs/metrics.md.

    python scripts/make_docs.py

docs/settings.md is made whole, from the settings and what stands under them.

A method's docstring begins with one line that says what it does, and holds the entries "Source:", "Evidence:" and
"Reproduce:". An entry goes on over several lines, to the next entry or a blank line. A source is parted by semicolons; each
part is a paper or a repository, and what follows its first ", Eq.", ", Sec.", ", Alg." or ", Tab." is the place in it. Only
what stands between two markers of a page is rewritten. The metrics stand in src/progrpo/schema and in the measures' files.
"""

import ast
import re
import typing
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from progrpo import plugins, schema
from progrpo.cli.schema import VARIATIONS, meanings, params_of
from progrpo.evaluate import EvaluateSettings
from progrpo.files import to_json
from progrpo.methods import Params as BaseParams
from progrpo.schema.quantity import Quantity
from progrpo.settings import Choice
from progrpo.train.settings import RunSettings

ROOT = Path(__file__).parent.parent
METHODS = ROOT / "src" / "progrpo" / "methods"
PAGE = ROOT / "docs" / "paper_index.md"
BEGIN = "<!-- made by scripts/make_docs.py from src/progrpo/methods/*.py: begin -->"
END = "<!-- made by scripts/make_docs.py from src/progrpo/methods/*.py: end -->"
METRICS = ROOT / "docs" / "metrics.md"
METRICS_MARKER = "<!-- made by scripts/make_docs.py from src/progrpo/schema: {table} {end} -->"
SETTINGS = ROOT / "docs" / "settings.md"
ENTRIES = ("Source", "Evidence", "Reproduce")

SETTINGS_HEAD = """# Settings

Made by `python scripts/make_docs.py` from the settings themselves; do not edit it here.

A recipe is YAML with these keys; on the command line a dot leads into a section: `progrpo train RECIPE optim.lr=3e-6`. A key
that is not known is refused with the nearest one, and `--dry-run` prints every setting as it is resolved. Values of `_s` are in
seconds, of `_gib` in GiB, shares and fractions lie in [0, 1], steps are optimiser steps, and sizes count problems where they
say `prompts`. `null` is "none", or what the meaning says.

For completion in an editor: `progrpo schema > progrpo.schema.json`, and as the first line of a recipe
`# yaml-language-server: $schema=progrpo.schema.json`.
"""

_ENTRY = re.compile(rf"^({'|'.join(ENTRIES)}):[ ]*(.*)$")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_REPOSITORY = re.compile(r"(?<![\w/])([\w.-]+/[\w.-]+)@([0-9a-f]{7,40})")
_PLACE = re.compile(r",\s+(?=(?:Eq|Sec|Alg|Tab|App)[a-z]*\b)")
_SETTING = re.compile(r"(?<![\w`.])[a-z][a-z_0-9.]*=[^\s;,()]*[^\s;,().]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What the file of one method says of itself.

    Attributes:
        summary: the first line of its docstring.
        source, evidence, reproduce: the entries of the docstring, on one line each.
        settings: its own settings with their defaults, "name=value", as one would write them on the command line.
        presets: names.
    """

    name: str
    summary: str
    source: str
    evidence: str
    reproduce: str
    settings: tuple[str, ...]
    presets: tuple[str, ...]


def read(path: Path) -> Entry:
    """Read a method's file without importing it.

    Raises:
        ValueError: its docstring lacks an entry, or has one twice.
    """
    tree = ast.parse(path.read_text("utf-8"))
    docstring = ast.get_docstring(tree) or ""
    found = entries(docstring)
    if missing := [name for name in ENTRIES if not found.get(name)]:
        raise ValueError(f"{path}: the docstring has no line that starts with {missing[0]}: and says something")
    return Entry(
        name=path.stem,
        summary=docstring.split("\n")[0],
        source=found["Source"],
        evidence=found["Evidence"],
        reproduce=found["Reproduce"],
        settings=tuple(_settings(tree)),
        presets=tuple(_presets(tree)),
    )


def entries(docstring: str) -> dict[str, str]:
    """The entries of a docstring: name -> text on one line, without the full stop at its end.

    Raises:
        ValueError: an entry stands there twice.
    """
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in docstring.split("\n"):
        if match := _ENTRY.match(line):
            if match[1] in found:
                raise ValueError(f"the docstring has {match[1]}: twice")
            current = found.setdefault(match[1], [match[2]])
        elif not line.strip():
            current = None
        elif current is not None:
            current.append(line.strip())
    return {name: " ".join(lines).strip().removesuffix(".") for name, lines in found.items()}


def tables(methods: Sequence[Entry]) -> str:
    """Both tables, a row for each method."""
    what = ["| method | what it does | its own settings and their defaults; presets |", "|---|---|---|"]
    whence = ["| method | source | equations | file | what reproduces it | evidence |", "|---|---|---|---|---|---|"]
    for method in methods:
        own = ", ".join(f"`{setting}`" for setting in method.settings)
        if method.presets:
            own = "; ".join(filter(None, [own, "presets " + ", ".join(f"`{name}`" for name in method.presets)]))
        what.append(_row(f"`{method.name}`", _prose(method.summary), own))
        source, equations = _source(method.source)
        file = f"`methods/{method.name}.py`"
        whence.append(
            _row(f"`{method.name}`", source, equations, file, _prose(method.reproduce), _prose(method.evidence))
        )
    return "\n".join([*what, "", *whence])


def rewrite(page: str, made: str, begin: str = BEGIN, end: str = END) -> str:
    """The page with `made` between its markers.

    Raises:
        ValueError: it has not exactly one marker of each kind, in this order.
    """
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"expected the lines {begin!r} and {end!r} once each, in this order")
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{made}\n\n{end}{rest.split(end)[1]}"


def with_metrics(page: str) -> str:
    """docs/metrics.md with its tables made anew.

    Raises:
        ValueError: a table has not exactly one marker of each kind.
    """
    for table, made in metrics_tables().items():
        begin, end = (METRICS_MARKER.format(table=table, end=which) for which in ("begin", "end"))
        page = rewrite(page, made, begin, end)
    return page


def metrics_tables() -> dict[str, str]:
    """The tables of docs/metrics.md, each under the name that its markers bear."""
    usual = [choice.name for choice in EvaluateSettings().measures]
    others = [name for name in plugins.names("measures") if name not in usual]
    training = sorted(schema.METRICS, key=lambda one: one.key.startswith(schema.HELD_OUT))  # the held-out ones last
    own = sorted(schema.OWN, key=lambda one: str(one.method))
    head, rule = "| key | meaning | unit |", "|---|---|---|"
    return {
        "metrics": "\n".join([head, rule, *map(_metric, training), *_measures(usual)]),
        "measures": "\n".join([head, rule, *_measures(others)]),
        "methods": "\n".join([f"| method {head}", f"|---{rule}", *(f"| {one.method} {_metric(one)}" for one in own)]),
    }


def settings_page() -> str:
    """docs/settings.md: every setting with its default, range and meaning, and what each variation has of its own."""
    lines = [SETTINGS_HEAD]
    sections = dict(RunSettings.model_fields)
    plain = {name: field for name, field in sections.items() if not list(_held(field.annotation))}
    lines += ["## Of the run itself", "", *_fields(RunSettings, "", only=plain)]
    for name, field in sections.items():
        for model in [one for one in _held(field.annotation) if not issubclass(one, Choice)][:1]:
            lines += ["", f"## {name}", "", meanings(RunSettings)[name], "", *_fields(model, f"{name}.")]
    for section, package in VARIATIONS.items():
        lines += ["", f"## {section}", "", meanings(RunSettings)[section]]
        if package == "methods":
            lines += [
                "",
                "Every method has these; what one sets otherwise, and its own: [paper_index.md](paper_index.md).",
            ]
            lines += ["", *_fields(BaseParams, f"{section}.")]
            continue
        for name, summary in plugins.summaries(package).items():
            params = params_of(package, name)
            lines += ["", f"### {section}.name={name}", "", _prose(summary)]
            lines += ["", *_fields(params, f"{section}.")] if params and params.model_fields else []
    return "\n".join(lines) + "\n"


def _fields(model: type[BaseModel], prefix: str, only: Collection[str] = ()) -> list[str]:
    """A table of the fields of a model, and of the models that they hold."""
    rows, said = [], meanings(model)
    for name, field in model.model_fields.items():
        if only and name not in only:
            continue
        default = "(needed)" if field.is_required() else f"`{_default(field)}`"
        rows.append(_row(f"`{prefix}{name}`", default, _kind(field), _prose(said[name])))
        for one in [one for one in _held(field.annotation) if not issubclass(one, Choice)]:
            rows += [line for line in _fields(one, f"{prefix}{name}.") if line.startswith("| `")]
    return ["| setting | default | value | meaning |", "|---|---|---|---|", *rows]


def _held(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _held(part)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return to_json(to_jsonable_python(_plain_value(value)))


def _plain_value(value: Any) -> Any:
    """A default as JSON: a choice by its name alone, a section as what it is without a word."""
    if isinstance(value, Choice):
        return value.name
    if isinstance(value, BaseModel):
        return {}
    return [_plain_value(one) for one in value] if isinstance(value, tuple | list) else value


def _kind(field: FieldInfo) -> str:
    """What a value may be: its type or its words, and its range."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [(sign, getattr(one, key, None)) for one in field.metadata for key, sign in signs.items()]
    ranges = [f"{sign} {bound:g}" for sign, bound in bounds if bound is not None]
    return ", ".join([_type(field.annotation), *ranges])


def _type(annotation: Any) -> str:
    words = {
        int: "whole number",
        float: "number",
        bool: "true, false",
        str: "text",
        type(None): "null",
        dict: "mapping",
        Any: "any",
    }
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in words:
        return words[annotation]
    if origin is Literal:
        return ", ".join(str(part) for part in parts)
    if origin is Annotated:
        return _type(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in parts))
    if origin in (tuple, list, frozenset):
        return "list of " + " and ".join(dict.fromkeys(_type(part) for part in parts if part is not ...))
    if isinstance(annotation, type) and issubclass(annotation, Choice):
        return "name, or {name: ..., key: value}"
    return "mapping" if origin is dict or isinstance(annotation, type) else str(annotation)


def main() -> None:
    SETTINGS.write_text(settings_page(), encoding="utf-8")
    methods = [read(METHODS / f"{name}.py") for name in plugins.names("methods")]
    PAGE.write_text(rewrite(PAGE.read_text("utf-8"), tables(methods)), encoding="utf-8")
    METRICS.write_text(with_metrics(METRICS.read_text("utf-8")), encoding="utf-8")


def _measures(names: Iterable[str]) -> list[str]:
    declared = [one for name in names for one in getattr(plugins.load("measures", name), "COLUMNS", ())]
    return [_quantity(f"{schema.HELD_OUT}{one.key}", f"held-out: {one.meaning}", one) for one in declared]


def _metric(one: Quantity) -> str:
    return _quantity(one.key, f"*rollout*: {one.meaning}" if one.rollout else one.meaning, one)


def _quantity(key: str, meaning: str, one: Quantity) -> str:
    formerly = f"; formerly {', '.join(f'`{old}`' for old in one.formerly)}" if one.formerly else ""
    others = f" (and {', '.join(f'`{variant}`' for variant in one.variants)})" if one.variants else ""
    return _row(f"`{key}`{others}", meaning + formerly, one.logged_unit).replace("|  |", "| |")


def _settings(tree: ast.Module) -> list[str]:
    return [
        f"{node.target.id}={_plain(node.value)}" if _has_default(node.value) else f"{node.target.id} (required)"
        for own in tree.body
        if isinstance(own, ast.ClassDef) and own.name == "Params"
        for node in own.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def _has_default(value: ast.expr | None) -> bool:
    """Whether a field is more than `name: type` or `name: type = Field(ge=0, ...)`."""
    return value is not None and not (isinstance(value, ast.Call) and not value.args)


def _plain(default: ast.expr | None) -> str:
    """A default as one would write it in YAML; that of `Field(default, ...)` is its first argument."""
    value = default.args[0] if isinstance(default, ast.Call) and default.args else default
    if value is None:
        return ""
    plain = ast.literal_eval(value)
    if plain is None:
        return "null"
    return str(plain).lower() if isinstance(plain, bool) else str(plain)


def _presets(tree: ast.Module) -> list[str]:
    return [
        name
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "PRESETS"
        for name in ast.literal_eval(node.value)
    ]


def _source(text: str) -> tuple[str, str]:
    """Where a method comes from, with links, and the places; these name their paper where there are several."""
    parts = [_PLACE.split(part.strip(), maxsplit=1) for part in text.split(";")]
    papers = sum(bool(_ARXIV.search(part[0])) for part in parts)
    places = []
    for part in parts:
        if len(part) == 2:
            paper = _ARXIV.search(part[0])
            places.append(_prose(part[1]) + (f" ({paper[1]})" if paper and papers > 1 else ""))
    return "; ".join(_prose(part[0]) for part in parts), "; ".join(places)


def _prose(text: str) -> str:
    """Text of a docstring as Markdown in a table: links, settings as code, and no accidental markup."""
    pieces = re.split(r"(`[^`]*`)", text)  # odd ones are code already
    for index in range(0, len(pieces), 2):
        piece = pieces[index].replace("*", r"\*")
        piece = _SETTING.sub(lambda match: f"`{match[0]}`", piece)
        piece = _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", piece)
        pieces[index] = _REPOSITORY.sub(r"[\1@\2](https://github.com/\1/tree/\2)", piece)
    return "".join(pieces)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
