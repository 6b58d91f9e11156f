from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from progrpo.errors import ConfigError
from progrpo.settings import Choice, Settings, apply_overrides, flat, parse, read_overrides, read_yaml


class Inner(Settings):
    rate: float = Field(0.1, ge=0, le=1)
    names: tuple[str, ...] = ()


class Outer(Settings):
    inner: Inner = Inner()
    steps: int
    ending: str = ""


class Whole(Settings):
    method: Choice = Field(examples=[{"name": "grpo", "eps": 0.1}])
    lr: float = Field(examples=[3e-6])
    tasks: tuple[Choice, ...] = ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"steps": 1, "inner": {"rat": 1}}, "unknown key 'inner.rat'; did you mean 'rate'?"),
        ({"steps": 1, "stpes": 1}, "unknown key 'stpes'; did you mean 'steps'?"),
        ({"steps": 1, "qqq": 1}, "unknown key 'qqq'; known keys: ending, inner, steps"),
        ({}, "steps: missing"),
        ({"steps": "many"}, "steps: input should be a valid integer.*got 'many'"),
        ({"steps": 1, "inner": {"rate": 1.5}}, "inner.rate: input should be less than or equal to 1, got 1.5"),
        ({"steps": 1, "inner": {"rate": float("nan")}}, "inner.rate"),
        ({"steps": None}, "steps: input should be a valid integer, got null, as nothing is read$"),
        ({"steps": 1, "inner": None}, "inner: expected a section of settings, got null, as nothing is read$"),
        ({"steps": 1, "inner": 3}, "inner: expected a section of settings, got 3$"),
        ({"steps": 1, "ending": 3}, "ending: input should be a valid string, got 3$"),
    ],
)
def test_messages(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Outer, data, where="file.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"lr": 1}, "method: missing; it has no default; for instance method: {name: grpo, eps: 0.1}"),
        ({"method": {"name": "grpo"}}, "lr: missing; it has no default; for instance lr: 3.0e-06"),
        (
            {"lr": 1, "method": {"eps": 1}},
            "method.name: missing; it has no default; progrpo list methods names those there are",
        ),
        (
            {"lr": 1, "method": {"name": "a"}, "tasks": [{"name": "b"}, {}]},
            "tasks.1.name: missing; it has no default; progrpo list tasks names those there are",
        ),
    ],
)
def test_what_is_missing_is_shown_by_an_example(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(Whole, data, where="file.yaml")
    assert str(raised.value) == f"file.yaml: {message}"


def test_nothing_is_an_empty_text_where_that_is_the_default() -> None:
    changed = apply_overrides({"steps": 1, "ending": "!"}, ["ending="])
    assert changed["ending"] is None
    assert parse(Outer, changed, where="x").ending == ""


def test_all_faults_are_named_at_once_with_the_source() -> None:
    with pytest.raises(ConfigError, match=r"file.yaml: .*rate.*; .*steps"):
        parse(Outer, {"inner": {"rate": 2}, "steps": []}, where="file.yaml")


def test_overrides() -> None:
    data = {"inner": {"rate": 0.5}, "steps": 3}
    changed = apply_overrides(data, ["inner.rate=1e-3", "steps=7", "inner.names=[a, b]"])
    assert parse(Outer, changed, where="x") == Outer(inner=Inner(rate=1e-3, names=("a", "b")), steps=7)
    assert data == {"inner": {"rate": 0.5}, "steps": 3}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("steps.x=3", "is a value"),
        ("model.lora={r:", r"if the shell split it, quote it: 'model.lora=\{r: \.\.\.\}'$"),
        ("data.pass_rate=[0.1,", r"if the shell split it, quote it: 'data.pass_rate=\[0.1, \.\.\.\]'$"),
        ("steps=]", r"override 'steps=\]': the value is not readable as YAML: [^']*(']')?$"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"steps": 1}, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "key 'a' stands twice"),
        ("- 1\n", "expected a mapping"),
        ("a: [1\n", "not readable as YAML"),
        ("", "expected a mapping"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().rate = 1.0


def test_choice_keeps_the_plugin_s_keys() -> None:
    choice = Choice(name="progrpo", alpha=0.3)
    assert choice.name == "progrpo"
    assert choice.params == {"alpha": 0.3}


def test_flat() -> None:
    assert flat({"a": {"b": None, "c": [1]}, "d": True}) == {"a.b": "null", "a.c": "[1]", "d": "True"}


class Lists(Settings):
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] | None = None
    pair: tuple[float, float] = (0.0, 1.0)


def test_a_single_value_is_a_list_of_one() -> None:
    assert parse(Lists, {"names": "a", "numbers": 3}, where="x") == Lists(names=("a",), numbers=(3,))
    assert parse(Lists, {"names": ["a", "b"], "numbers": None}, where="x").names == ("a", "b")
    with pytest.raises(ConfigError, match="pair"):
        parse(Lists, {"pair": 1.0}, where="x")
    with pytest.raises(ConfigError, match=r"names.0: .*got 3"):
        parse(Lists, {"names": 3}, where="x")


def test_an_override_is_told_by_its_own_words() -> None:
    data = {"inner": {"rate": "fast"}, "steps": 1}
    changes = read_overrides(["inner.rate=slow", "steps=2", "steps=none"])
    with pytest.raises(ConfigError) as raised:
        parse(Outer, apply_overrides(data, changes), where="file.yaml", overrides=changes)
    first, second = str(raised.value).split("; ")
    assert {first.split(": ")[0], second.split(": ")[0]} == {"override 'inner.rate=slow'", "override 'steps=none'"}
    with pytest.raises(ConfigError, match=r"^file.yaml: inner.rate: "):
        parse(Outer, data, where="file.yaml", overrides=read_overrides(["steps=2"]))


@pytest.mark.parametrize(
    ("key", "named"), [("steps", True), ("batch.prompts", True), ("out", False), ("prompts", False), ("batch", False)]
)
def test_a_rule_between_settings_is_told_by_an_override_that_it_names(key: str, named: bool) -> None:
    """Keys are whole words: "rollout" names no `out`, "batch.prompts" neither `batch` nor `prompts`."""

    class Rule(Settings):
        @model_validator(mode="before")
        @classmethod
        def _refuse(cls, data: object) -> object:
            raise ValueError("steps=3 does not go with the rollout of batch.prompts=4")

    with pytest.raises(ConfigError) as raised:
        parse(Rule, {}, where="file.yaml", overrides=read_overrides([f"{key}=3"]))
    place = f"override '{key}=3'" if named else "file.yaml"
    assert str(raised.value) == f"{place}: steps=3 does not go with the rollout of batch.prompts=4"


def test_of_several_overrides_of_a_section_the_one_that_the_rule_names_is_told() -> None:
    class Section(Settings):
        size: int = 1
        part: int = 1
        other: int = 1

        @model_validator(mode="after")
        def _agree(self) -> "Section":
            if self.size % self.part:
                raise ValueError(f"part={self.part} does not divide size={self.size}")
            return self

    class Rule(Settings):
        section: Section = Section()

    changes = read_overrides(["section.size=3", "section.part=2", "section.other=5"])
    with pytest.raises(ConfigError, match=r"^override 'section.part=2': section: part=2 does not divide size=3$"):
        parse(Rule, apply_overrides({}, changes), where="file.yaml", overrides=changes)
    whole = read_overrides(["section={size: 3, part: 2}"])
    with pytest.raises(ConfigError, match=r"^override 'section=\{size: 3, part: 2\}': section: part=2"):
        parse(Rule, apply_overrides({}, whole), where="file.yaml", overrides=whole)


def test_one_value_stands_for_a_section() -> None:
    short = {"method": "name"}
    data = {"method": {"name": "progrpo", "alpha": 0.3}}
    assert apply_overrides(data, ["method=grpo"], short=short) == {"method": {"name": "grpo"}}
    assert apply_overrides(data, ["method=grpo", "method.scale=none"], short=short)["method"] == {
        "name": "grpo",
        "scale": "none",
    }
    assert apply_overrides({"method": "grpo"}, ["method.scale=none"], short=short)["method"]["name"] == "grpo"
    assert apply_overrides(data, {"method": {"alpha": 1}, "inner.rate": 2}) == {
        "method": {"name": "progrpo", "alpha": 1},
        "inner": {"rate": 2},
    }


class Numbers(Settings):
    count: int = 1
    rate: Annotated[float, Field(gt=0)] | None = None
    share: float | int = 0.5
    on: bool = False
    either: bool | int = 0
    place: Literal[False, "here"] = False


@pytest.mark.parametrize("key", ["count", "rate", "share"])
def test_a_truth_value_is_no_number(key: str) -> None:
    # Python would take true for 1, and YAML reads yes and on as true
    for value in (True, False):
        with pytest.raises(ConfigError, match=f"{key}: expected a number, got {str(value).lower()}"):
            parse(Numbers, {key: value}, where="test")
    assert parse(Numbers, {key: 3}, where="test") == Numbers(**{key: 3})


def test_a_truth_value_stays_one_where_it_may_be() -> None:
    made = parse(Numbers, {"on": True, "either": True, "place": False}, where="test")
    assert (made.on, made.either, made.place) == (True, True, False)
