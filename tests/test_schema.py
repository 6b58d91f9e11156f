"""One schema: what is drawn or named anywhere is in it, and what older versions wrote is read under today's names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from progrpo import plugins, schema
from progrpo.schema.quantity import Quantity

ROOT = Path(__file__).parent.parent
GROUPS = sorted({one.key.split("/")[0] for one in (*schema.METRICS, *schema.OWN) if "/" in one.key} | {"evaluate"})
NAMED = re.compile(rf"(?<![\w/.-])(?:{'|'.join(GROUPS)})/[a-z][\w@]*\w(?![\w/@]|\.\w)")
FILES = [
    *sorted(ROOT.glob("src/progrpo/**/*.py")),
    *sorted(ROOT.glob("scripts/*.py")),
    *ROOT.glob("src/progrpo/**/*.html"),
]


def texts(path: Path) -> Iterator[str]:
    """The strings of a file; what an f-string fills in is left open (`{}`)."""
    if path.suffix != ".py":
        yield path.read_text("utf-8")
        return
    tree = ast.parse(path.read_text("utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def known(key: str) -> bool:
    try:
        schema.metric(key)
    except KeyError:
        return False
    return True


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_metric_that_is_named_is_in_the_schema(path: Path) -> None:
    places = {f"{package}/{name}" for package in plugins.PACKAGES for name in plugins.names(package)}
    named = {key for text in texts(path) for key in NAMED.findall(text)}
    if path.parent.name == "schema":  # where the names of older versions stand
        named -= {old for one in (*schema.METRICS, *schema.OWN) for old in one.formerly}
    assert not {key for key in named if not known(key)} - places


def test_the_search_for_names_finds_them() -> None:
    text = "(`time/no_such_s`), rollout/entropy. evaluate/pass@8 and https://x.org/time/y, time/{name}_s"
    assert NAMED.findall(text) == ["time/no_such_s", "rollout/entropy", "evaluate/pass@8"]


def test_keys_are_there_once_with_a_label_and_a_meaning() -> None:
    for quantities in ((*schema.METRICS, *schema.OWN), schema.columns()):
        keys = [one.key for one in quantities]
        assert len(keys) == len(set(keys))
        assert all(one.label and one.meaning for one in quantities)
        old = [name for one in quantities for name in one.formerly]
        assert not set(old) & set(keys)
        assert len(old) == len(set(old))


def test_a_member_of_a_family_has_its_own_name() -> None:
    assert (schema.metric("evaluate/pass@8").key, schema.metric("evaluate/pass@8").label) == ("pass@8", "Pass@8")
    assert schema.metric("evaluate/pass@1").meaning.startswith("share of correct")
    assert schema.metric("reward/format").label == "Reward format"
    assert schema.column("maj@4") == next(one for one in schema.columns() if one.key == "maj@K").at(4)
    assert schema.column("pass@") is None
    pooled = schema.column("self_bleu_4/pooled")
    assert pooled is not None
    assert (pooled.key, pooled.label, pooled.better) == ("self_bleu_4/pooled", "Self-BLEU-4, pooled", "lower")
    assert getattr(schema.column("raw/rollout_entropy"), "unit", None) == "nats per token"
    assert schema.column("raw/pass@1") is None
    assert schema.column("nothing") is None


@pytest.mark.parametrize("key", ["rollout/entropie", "evaluate/pass@x", "evaluate/rollout/entropy", "reward/"])
def test_a_key_that_nothing_logs_is_refused(key: str) -> None:
    with pytest.raises(KeyError, match="no metric"):
        schema.metric(key)


def test_each_measure_of_the_package_declares_what_it_measures() -> None:
    for name in plugins.names("measures"):
        assert all(isinstance(one, Quantity) for one in plugins.load("measures", name).COLUMNS)


def test_old_names_are_read_as_todays(monkeypatch: pytest.MonkeyPatch) -> None:
    reward = Quantity(key="rollout/reward", label="Reward", unit="", formerly=("train/reward", "rollout/score"))
    family = Quantity(key="pass@K", label="Pass@K", unit="%", formerly=("pass_at_K",))
    monkeypatch.setattr(schema, "METRICS", (reward,))
    monkeypatch.setattr(schema, "_columns", lambda: (family,))
    row = {"step": 1, "train/reward": 0.5, "evaluate/pass_at_8": 0.25, "other": 1}
    assert schema.in_todays_words(row) == {"step": 1, "rollout/reward": 0.5, "evaluate/pass@8": 0.25, "other": 1}
    assert schema.measures_in_todays_words({"pass_at_2": 1.0}) == {"pass@2": 1.0}
    both = {"rollout/score": 0.1, "rollout/reward": 0.2}  # a row with both was written by a version of today
    assert schema.in_todays_words(both) == {"rollout/reward": 0.2}
    assert schema.in_todays_words(dict(reversed(both.items()))) == {"rollout/reward": 0.2}


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("rollout/degenerate_groups", "rollout/zero_std_groups"),
        ("rollout/all_right_groups", "rollout/all_correct_groups"),
        ("rollout/all_wrong_groups", "rollout/all_incorrect_groups"),
        ("policy/predicted_dH", "policy/predicted_entropy_change"),
        ("tokens/head_share", "tokens/logit_row_share"),
    ],
)
def test_keys_that_older_runs_wrote(old: str, today: str) -> None:
    assert schema.in_todays_words({old: 0.25}) == {today: 0.25}
    assert schema.metric(today).key == today


def test_rows_are_handed_on_as_they_are_where_nothing_was_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("METRICS", "OWN"):
        monkeypatch.setattr(schema, name, ())
    monkeypatch.setattr(schema, "_columns", tuple)
    row = {"step": 1}
    assert schema.in_todays_words(row) is row
