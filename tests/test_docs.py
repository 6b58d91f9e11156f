"""The pages say what the code does: the methods of docs/paper_index.md, the metrics of docs/metrics.md."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from progrpo import methods, plugins, schema
from progrpo.files import read_jsonl
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings
from stand_ins import every_method
from stand_ins.every_method import OF_SMALL_MODELS, REQUIRED

ROOT = Path(__file__).parent.parent
METRICS = (ROOT / "docs" / "metrics.md").read_text("utf-8")
PAGE = (ROOT / "docs" / "paper_index.md").read_text("utf-8")
METHODS = plugins.names("methods")
PACKAGES = {"task": "tasks", "reward": "rewards", "method": "methods", "engine": "engines"}


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


make_docs = load_script()


# --- docs/settings.md ---


def test_the_page_of_settings_is_what_the_script_makes() -> None:
    found = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert make_docs.settings_page() == found, "run `python scripts/make_docs.py`"
    assert "| `batch.group` | `8` | whole number, ≥ 2 | G, completions per problem. |" in found
    assert "| `model.lora.r` | `16` | whole number, ≥ 1 |" in found  # a section within a section
    assert "| `sampling.max_new_tokens` | (needed) |" in found


# --- docs/paper_index.md ---


def test_the_page_is_what_the_script_makes() -> None:
    made = make_docs.tables([make_docs.read(make_docs.METHODS / f"{name}.py") for name in METHODS])
    assert make_docs.rewrite(PAGE, made) == PAGE, "run `python scripts/make_docs.py`"


def test_every_method_has_a_row_and_every_row_a_file() -> None:
    made = PAGE.split(make_docs.BEGIN)[1].split(make_docs.END)[0]
    named = re.findall(r"^\| `(\w+)` \|", made, flags=re.MULTILINE)
    assert named == METHODS * 2  # two tables, in the order of the files
    files = re.findall(r"\| `(methods/\w+\.py)` \|", made)
    assert files == [f"methods/{name}.py" for name in METHODS]
    assert all((ROOT / "src" / "progrpo" / file).is_file() for file in files)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_where_it_comes_from_and_how_it_is_reproduced(name: str) -> None:
    entry = make_docs.read(make_docs.METHODS / f"{name}.py")
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", entry.source)
    assert re.match(r"(paper|code|second-hand)\b", entry.evidence)
    unknown = {setting: why for setting in settings_in(entry.reproduce) if (why := fault(name, *setting))}
    assert not unknown


@pytest.mark.parametrize("name", METHODS)
def test_the_settings_in_the_table_are_those_of_the_method(name: str) -> None:
    entry = make_docs.read(make_docs.METHODS / f"{name}.py")
    module = plugins.load("methods", name)
    assert list(entry.presets) == list(getattr(module, "PRESETS", {}))
    required = {setting.removesuffix(" (required)") for setting in entry.settings if "=" not in setting}
    fields = getattr(module, "Params", methods.Params).model_fields
    assert required == {key for key, field in fields.items() if field.is_required()} == {*REQUIRED.get(name, {})}
    params = every_method.load(name).params
    own = dict(setting.split("=", 1) for setting in entry.settings if "=" in setting)
    assert {key: yaml_value(text) for key, text in own.items()} == {key: getattr(params, key) for key in own}
    own |= dict.fromkeys(required, "")
    # GRPO's defaults are left out, and nothing else
    shared = methods.Params()
    others = {key: value for key, value in params if key not in own}
    assert others == {key: getattr(shared, key) for key in others}


def settings_in(text: str) -> list[tuple[str, str]]:
    """Settings named in prose: key=value anywhere, `key: value` and `key=value` as code."""
    found = re.findall(r"(?<![\w.])([a-z][\w.]*)=([^\s;,()`]*[^\s;,()`.])", text)
    for code in re.findall(r"`([^`]*)`", text):
        if match := re.fullmatch(r"([a-z][\w.]*): (.+)", code):
            found.append((match[1], match[2]))
    return found


def fault(method: str, key: str, text: str) -> str | None:
    """What is wrong with `key=text` as a setting of a run of this method; None if nothing."""
    value = yaml_value(text)
    module = plugins.load("methods", method)
    if key == "preset":
        return None if value in getattr(module, "PRESETS", {}) else "no such preset"
    if key == "add":
        return None if value in METHODS else "no such method"
    own = getattr(module, "Params", methods.Params)
    if key in own.model_fields:
        return wrong_type(own, key, value)
    *sections, last = key.split(".")
    if len(sections) == 1 and sections[0] in PACKAGES and last == "name":
        return None if value in plugins.names(PACKAGES[sections[0]]) else "no such name"
    model: Any = RunSettings
    for section in sections:
        field = model.model_fields.get(section)
        model = field and field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return "no such section"
    return wrong_type(model, last, value) if last in model.model_fields else "no such setting"


def yaml_value(text: str) -> Any:
    """A value as the command line reads it; YAML 1.1 takes 1e-6 for a string, which the settings make a number of."""
    value = yaml.safe_load(text)
    return float(value) if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else value


def wrong_type(model: type[BaseModel], key: str, value: Any) -> str | None:
    field = model.model_fields[key]
    try:
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value, strict=True)
    except ValidationError as error:
        return error.errors()[0]["msg"]
    return None


def test_wrong_settings_are_found() -> None:
    text = "alpha=0.3, `preset: paper`; optim.lr=1e-6 (`batch.group: 8`), skip=never."
    assert settings_in(text) == [
        ("alpha", "0.3"),
        ("optim.lr", "1e-6"),
        ("skip", "never"),
        ("preset", "paper"),
        ("batch.group", "8"),
    ]
    assert [fault("progrpo", *setting) for setting in settings_in(text)] == [None] * 5
    assert fault("progrpo", "reward.name", "dapo_math") is None
    assert fault("progrpo", "steps", "300") is None
    assert fault("progrpo", "alhpa", "0.3") == "no such setting"
    assert fault("progrpo", "optim.alpha", "0.3") == "no such setting"
    assert fault("progrpo", "optimiser.lr", "1e-6") == "no such section"
    assert fault("progrpo", "preset", "papre") == "no such preset"
    assert fault("progrpo", "reward.name", "dapo_maths") == "no such name"
    assert fault("progrpo", "alpha", "-1") == "Input should be greater than or equal to 0"
    assert fault("progrpo", "alpha", "true") == "Input should be a valid number"
    assert fault("progrpo", "skip", "sometimes") is not None
    assert fault("grpo", "alpha", "0.3") == "no such setting"


MADE_UP = '''"""Made up: `a | b` and *stars*.

Source: Nobody 1992; arXiv:1234.56789, Eq. 1 and 2; arXiv:2345.67890, Sec. 3; some/code@0123abc core_algos.py,
 recipe/*.sh.
Evidence: code;
 and more.
Reproduce: big_one=0.1, `other: 2`.

After a blank line an entry is over.
"""
PRESETS = {"one": {"big_one": 1.0}, "two": {}}

class Params(methods.Params):
    big_one: float = Field(2e-4, ge=0)
    yes: bool = True
    nothing: int | None = None
    kind: Literal["a"] = "a"
'''


def test_a_docstring_becomes_a_row(tmp_path: Path) -> None:
    path = tmp_path / "made_up.py"
    path.write_text(MADE_UP)
    lines = make_docs.tables([make_docs.read(path)]).split("\n")
    assert lines[2] == (
        r"| `made_up` | Made up: `a \| b` and \*stars\*. | "
        "`big_one=0.0002`, `yes=true`, `nothing=null`, `kind=a`; presets `one`, `two` |"
    )
    assert lines[6] == (
        "| `made_up` | Nobody 1992; [arXiv:1234.56789](https://arxiv.org/abs/1234.56789); "
        "[arXiv:2345.67890](https://arxiv.org/abs/2345.67890); "
        r"[some/code@0123abc](https://github.com/some/code/tree/0123abc) core_algos.py, recipe/\*.sh | "
        "Eq. 1 and 2 (1234.56789); Sec. 3 (2345.67890) | `methods/made_up.py` | "
        "`big_one=0.1`, `other: 2` | code; and more |"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Evidence:", "Evidences:", "no line that starts with Evidence:"),
        ("Reproduce: big_one=0.1, `other: 2`.", "Reproduce:", "no line that starts with Reproduce:"),
        ("After a blank line", "Source: again", "has Source: twice"),
    ],
)
def test_a_docstring_without_its_entries_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "made_up.py"
    path.write_text(MADE_UP.replace(old, new))
    with pytest.raises(ValueError, match=message):
        make_docs.read(path)


def test_only_what_stands_between_the_markers_is_rewritten() -> None:
    page = f"before\n{make_docs.BEGIN}\nold\n{make_docs.END}\nafter\n"
    assert make_docs.rewrite(page, "new") == f"before\n{make_docs.BEGIN}\n\nnew\n\n{make_docs.END}\nafter\n"
    for broken in (page + make_docs.BEGIN, page.replace(make_docs.END, ""), f"{make_docs.END}{make_docs.BEGIN}"):
        with pytest.raises(ValueError, match="once each, in this order"):
            make_docs.rewrite(broken, "new")


# --- docs/metrics.md ---

OWN_KEYS = {(one.method, one.key) for one in schema.OWN}
SWITCHED_ON: dict[str, dict[str, Any]] = {"dapo": {"max_rounds": 2}, **REQUIRED, **OF_SMALL_MODELS}
"""Settings under which a method logs all its keys, where the defaults do not."""


@pytest.mark.parametrize("name", METHODS)
def test_every_key_a_method_logs_is_documented(name: str, tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    data = {
        "out": str(tmp_path / "run"),
        "steps": 2,
        "model": {"path": str(tiny_folder())},
        "task": {"name": "countdown", "numbers": 3, "max_number": 6, "max_target": 20, "min_used": 2}
        | {"min_solutions": 1, "train_size": 24},
        "reward": {"name": "stand_ins.parity"},
        "method": {"name": name, **SWITCHED_ON.get(name, {})},
        "sampling": {"max_new_tokens": 6},
        "batch": {"prompts": 4, "group": 4, "minibatch_prompts": 2, "micro_tokens": 128},
        "evaluate": {"every": 0},
        "record": {"rollouts_every": 0},
        "checkpoint": {"every": 0},
    }
    path = train(parse(RunSettings, data, where="test")).path
    logged = {key for row in read_jsonl(path / "metrics.jsonl") for key in row}
    own = {key for method, key in OWN_KEYS if method == name}
    shared = {key for key in logged if schema.metric(key).method is None}
    assert logged - shared == own


def test_the_tables_of_metrics_are_what_the_script_makes() -> None:
    assert make_docs.with_metrics(METRICS) == METRICS, "run `python scripts/make_docs.py`"


def test_every_metric_and_measure_has_its_row() -> None:
    keys = [one.key for one in schema.METRICS] + [f"evaluate/{one.key}" for one in schema.columns()]
    assert sorted(re.findall(r"^\| `([^`]+)`(?: \(and .*?\))? \|", METRICS, flags=re.MULTILINE)) == sorted(keys)
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \|", METRICS, flags=re.MULTILINE)
    assert sorted(rows) == sorted(OWN_KEYS)


def test_the_table_of_single_methods_names_methods() -> None:
    assert OWN_KEYS
    assert {method for method, _ in OWN_KEYS} <= set(METHODS)


def test_every_statement_on_the_method_names_a_test() -> None:
    named = set(re.findall(r"\[`([a-z_0-9]+)`\]", (ROOT / "docs" / "method.md").read_text("utf-8")))
    tests = (ROOT / "tests" / "methods" / "test_tabular.py").read_text("utf-8")
    assert len(named) >= 10
    assert named <= set(re.findall(r"^def test_(\w+)", tests, re.MULTILINE))
