import json
from pathlib import Path

import pytest

from progrpo import tasks
from progrpo.errors import ConfigError, DataError
from progrpo.settings import Choice

COUNTDOWN = {"name": "countdown", "numbers": 3, "max_number": 6, "max_target": 20, "min_used": 2, "min_solutions": 1}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    paths = []
    for name, count in (("a", 30), ("b", 10)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(
            "".join(json.dumps({"prompt": f"{name} {n}", "answer": n, "tests": n}) + "\n" for n in range(count))
        )
        paths.append(str(path))
    return paths[0], paths[1]


def load(*parts: dict[str, object]) -> tasks.Task:
    return tasks.load(Choice(name="mixture", parts=list(parts)))


def test_parts_are_one_list_and_each_problem_knows_its_own(files: tuple[str, str]) -> None:
    a, b = files
    task = load({"train": a, "weight": 2}, {"train": b, "weight": 1, "source": "extra", "instruction": " Go."})
    assert task.sources == {"a": 2.0, "extra": 1.0}
    problems = task.problems("train")
    assert [one.id for one in problems] == [f"a/{n}" for n in range(30)] + [f"extra/{n}" for n in range(10)]
    assert {one.facts["source"] for one in problems} == {"a", "extra"}
    assert problems[30].prompt == ({"role": "user", "content": "b 0 Go."},)
    assert problems[30].facts["category"] == "extra"  # what evaluations sum up by


def test_each_part_is_held_out_by_itself(files: tuple[str, str]) -> None:
    a, b = files
    task = load({"train": a, "held_out_fraction": 0.3}, {"train": b, "test": a, "source": "b"})
    train, test = ({one.id for one in task.problems(split)} for split in ("train", "test"))
    assert {one for one in test if one.startswith("b/")} == {f"b/{n}" for n in range(30)}
    assert {one for one in train if one.startswith("b/")} == {f"b/{n}" for n in range(10)}
    of_a = {one for one in train if one.startswith("a/")}, {one for one in test if one.startswith("a/")}
    assert of_a[0] | of_a[1] == {f"a/{n}" for n in range(30)}
    assert not of_a[0] & of_a[1]
    with pytest.raises(DataError, match=r"b.jsonl: no problems for the test split; give task.test=FILE"):
        load({"train": a, "test": a}, {"train": b}).problems("test")


def test_settings_of_the_parts_are_written_out_and_checked(files: tuple[str, str]) -> None:
    (part,) = load({"train": files[0], "weight": 1}).params.model_dump(mode="json")["parts"]
    assert (part["name"], part["weight"], part["prompt_key"], part["held_out_fraction"]) == ("file", 1.0, "prompt", 0.0)
    # As a run's config.yaml has it, it is the same task.
    assert load(part).problems("train") == load({"train": files[0]}).problems("train")
    with pytest.raises(ConfigError, match=r"task mixture: parts: task file: unknown key 'trian'; did you mean 'train'"):
        load({"trian": files[0]})


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([{"train": "a.jsonl", "weight": 1}, {"train": "b.jsonl"}], "part 'b' has no weight and others have"),
        ([{"train": "x/a.jsonl"}, {"train": "y/a.parquet"}], "two parts are called 'a'; tell them apart with source"),
        ([{"train": "a.jsonl", "source": "x/y"}], "expected a name without a slash"),
        ([{"train": "a.jsonl", "weight": 0}], "greater than 0"),
        ([], "at least 1 item"),
    ],
)
def test_parts_that_do_not_agree(parts: list[dict[str, object]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(*parts)


def test_the_reward_is_that_of_all_parts(files: tuple[str, str]) -> None:
    assert load({"train": files[0]}, {"train": files[1]}).reward().name == "math"
    # Where they differ, each problem is judged by that of its part.
    mixed = load({"train": files[0]}, COUNTDOWN).reward()
    assert mixed.name == "by_source"
    assert {source: one["name"] for source, one in mixed.params["rewards"].items()} == {
        "a": "math",
        "countdown": "expression",
    }


def test_a_reward_that_reads_columns_gets_those_of_all_parts(files: tuple[str, str]) -> None:
    a, b = files
    kept = tasks.for_columns(Choice(name="mixture", parts=[{"train": a}, {"train": b, "info_keys": ["answer"]}]))
    infos = [dict(one.info) for one in tasks.problems(kept, "train")]
    assert infos[3] == {"prompt": "a 3", "answer": 3, "tests": 3}
    assert infos[33] == {"answer": 3}
