"""What a run is fed: how its prompts are rendered, which problems it takes, and in which order."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer

from progrpo.api.subject import Subject, find_model
from progrpo.files import read_jsonl
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.plan import make_plan
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose

Make = Callable[..., dict[str, Any]]
BRIEF = {"system_prompt": "be brief", "chat_template_kwargs": {"enable_thinking": False}}


def run(data: dict[str, Any], **kwargs: Any) -> Path:
    return train(parse(RunSettings, data, where="test"), **kwargs).path


def plan(data: dict[str, Any]) -> list[str]:
    return make_plan(choose(parse(RunSettings, data, where="test")))


def sums(path: Path, count: int, *, first: int = 0) -> Path:
    """A file of problems "what is 3 + 1?"."""
    rows = [{"prompt": f"what is {n} + 1?", "answer": n + 1} for n in range(first, first + count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_system_prompt_is_in_every_prompt_and_stays_with_the_run(
    settings: Make, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny_folder(chat=True)
    task = {"name": "file", "train": str(sums(tmp_path / "sums.jsonl", 4))}
    model = {"path": str(folder), **BRIEF}
    made = settings(
        model=model,
        task=task,
        steps=1,
        evaluate={},
        checkpoint={},
        record={"tokens": True},
        verify={"check_gold": False},
    )
    # The template of the tiny model knows no such variable.
    (said,) = [line for line in plan(made) if "chat_template_kwargs" in line]
    assert said.startswith("warning: model.chat_template_kwargs: the chat template names no 'enable_thinking'")
    path = run(made)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = read_jsonl(path / "rollouts" / "step-000001.jsonl")
    fed = {tokenizer.decode(row["prompt_ids"]).replace(" ", "") for row in rows}
    assert fed == {f"s:bebriefu:whatis{n}+1?a:" for n in range(4)}
    of_run = yaml.safe_load((path / "config.yaml").read_text())["model"]
    assert {key: of_run[key] for key in BRIEF} == BRIEF
    # Evaluated as the run or as its checkpoint, it is fed the same; what is asked for goes first.
    for given in (path, path / "checkpoints" / "step-000001"):
        about, _ = find_model(str(given), Subject(), where="test")
        assert (about.system_prompt, about.chat_template_kwargs) == ("be brief", {"enable_thinking": False})
        bare, _ = find_model(str(given), Subject(model={"system_prompt": None}), where="test")
        assert bare.system_prompt is None
    # A model that belongs to no run takes none of it.
    assert find_model(str(folder), Subject(), where="test")[0].system_prompt is None
