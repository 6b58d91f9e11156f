"""Data sets read by the library `datasets`, from folders that are made here."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from progrpo import rewards
from progrpo.errors import ConfigError, DataError
from progrpo.settings import Choice
from progrpo.tasks import for_columns, problems
from stand_ins.needs import need

if find_spec("datasets") is None:
    need("datasets")

import datasets

COLUMNS = {"prompt_key": "question", "answer_key": "gold.text", "info_keys": ["level"]}
ROWS = [{"question": f"{n} + 1?", "gold": {"text": str(n + 1)}, "level": n % 3, "other": 0} for n in range(20)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data files named after their splits, as in a repository of the hub."""
    repository = tmp_path / "data"
    repository.mkdir()
    for split, rows in {"train": ROWS[:12], "validation": ROWS[12:]}.items():
        (repository / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return repository


def load(folder: Path, part: str = "train", **settings: object) -> list:
    return list(problems(Choice(name="hub", dataset=str(folder), **COLUMNS | settings), part))


def test_columns_and_splits(folder: Path) -> None:
    train, test = load(folder, test_split="validation"), load(folder, "test", test_split="validation")
    assert (len(train), len(test)) == (12, 8)
    assert train[3].prompt == ({"role": "user", "content": "3 + 1?"},)
    assert (train[3].answer, train[3].id, dict(train[3].info)) == ("4", "3", {"level": 0})
    assert test[0].place == f"{folder} validation, row 1"
    assert [one.answer for one in load(folder, split="train[:2]", test_split="validation")] == ["1", "2"]


def test_a_share_of_the_split_is_held_out(folder: Path) -> None:
    train, test = (load(folder, part, held_out_fraction=0.4) for part in ("train", "test"))
    assert {one.id for one in train} | {one.id for one in test} == {str(n) for n in range(12)}
    assert 0 < len(test) < 12
    assert not {one.id for one in train} & {one.id for one in test}
    with pytest.raises(DataError, match=r"no problems for the test split; give task.test_split=SPLIT"):
        load(folder, "test")


def test_what_was_saved_to_disk(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list([{"question": "?", "gold": {"text": "1"}, "level": 1, "x": 0.1}])
    data = data.cast_column("x", datasets.Value("float32"))
    datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "saved")
    (problem,) = load(tmp_path / "saved", info_keys=None)
    assert problem.info["x"] == 0.1  # and not 0.10000000149011612
    with pytest.raises(DataError, match=r"cannot be read \(no split 'test'; it has train\)"):
        load(tmp_path / "saved", "test", test_split="test")


def test_the_documented_command_for_gsm8k_trains_on_final_answers(tmp_path: Path) -> None:
    """Its column `answer` is the worked solution; each gold is usable and met by the number alone."""
    solutions = {
        "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all 48+24 = <<48+24=72>>72 clips.\n#### 72": "72",
        "He writes each friend 3*2=<<3*2=6>>6 pages a week\nSo 6*2=<<6*2=12>>12 pages\n#### 12": "12",
        "The total ratio representing the students is 5+6=11\n#### 11": "11",
        "So the profit is 200,000-130,000=$<<200000-130000=70000>>70,000\n#### 70,000": "70,000",
    }
    (repository := tmp_path / "gsm8k").mkdir()
    rows = [{"question": f"{n}?", "answer": solution} for n, solution in enumerate(solutions)]
    (repository / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = load(repository, prompt_key="question", answer_key="answer", info_keys=["answer"])
    assert [one.answer for one in train] == list(solutions.values())
    assert [one.info["answer"] for one in train] == list(solutions)
    reward = rewards.load(Choice(name="math"))
    for one in train:
        assert reward.gold_fault(one) is None
        assert reward.score(f"Answer: {one.answer.replace(',', '')}", one).status == "correct"


def test_what_is_not_there_is_listed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no column 'prompt'; it has question, gold, level, other. Say which with task.pro"
    ):
        load(folder, prompt_key="prompt")
    with pytest.raises(DataError, match=r"no column 'solution'.*task.answer_key=COLUMN, or null where there is none"):
        load(folder, answer_key="solution")
    with pytest.raises(DataError, match=r"no column 'tests'; .* task.info_keys="):
        load(folder, info_keys=["tests"])
    with pytest.raises(DataError, match=r"row 1: no 'gold.words'"):
        load(folder, answer_key="gold.words")
    with pytest.raises(DataError, match=r"data tests: cannot be read .*\"tests\".*train.*validation"):
        load(folder, split="tests")
    with pytest.raises(DataError, match="missing train: cannot be read"):
        load(tmp_path / "missing")


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progrpo.tasks.hub.installed", lambda name: False)
    with pytest.raises(ConfigError, match=r"task hub needs the package datasets: pip install 'progrpo\[hub\]'"):
        load(folder)


def test_a_reward_that_reads_columns_gets_them() -> None:
    assert for_columns(Choice(name="hub", dataset="x")).params["info_keys"] is None
    assert for_columns(Choice(name="hub", dataset="x", info_keys=["a"])).params["info_keys"] == ["a"]
