"""What a run is fed: how its prompts are rendered, which problems it takes, and in which order."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from progrpo.api.subject import Subject, find_model
from progrpo.errors import DataError
from progrpo.files import read_jsonl
from progrpo.model.chat import Chat
from progrpo.model.tokenizer import encode_prompt
from progrpo.rollout.generate import require_context
from progrpo.train.plan import STOPS
from progrpo.types import Problem
from stand_ins.runs import plan, run, token_rows

Make = Callable[..., dict[str, Any]]
BRIEF = {"system_prompt": "be brief", "chat_template_kwargs": {"enable_thinking": False}}


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
    rows = token_rows(path, 1)
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


def test_benchmarks_are_checked_with_the_system_prompt(
    settings: Make, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """A benchmark of plain text cannot have one: found before the run, not at its first evaluation."""
    made = settings(
        model={"path": str(tiny_folder(chat=True)), "system_prompt": "be brief"},
        task={"name": "file", "train": str(sums(tmp_path / "a.jsonl", 4)), "test": str(sums(tmp_path / "b.jsonl", 2))},
        evaluate={"every": 2, "tasks": ["countdown"]},
        verify={"check_gold": False},
    )
    (stop,) = [line for line in plan(made) if "which no template renders" in line]
    assert stop.startswith(STOPS)
    with pytest.raises(DataError, match="which no template renders"):
        run(made)


def test_a_long_system_prompt_counts_where_prompts_are_compared_with_the_context(
    tiny_folder: Callable[..., Path],
) -> None:
    """The first prompt fits to the token and the second, longer by two, does not, however short both are without it."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder(chat=True))
    chat = Chat(system_prompt="be brief " * 400)
    first, second = ("what is 3", "what is 3 + 1")
    problems = [Problem(id=text, prompt=({"role": "user", "content": text},), answer="4") for text in (first, second)]
    longest = len(encode_prompt(tokenizer, problems[0].prompt, chat))
    assert longest > 1200  # far more than the prompts themselves could have
    fits = {"positions": longest + 1, "max_new_tokens": 1, "source": "sums", "chat": chat}
    require_context(problems[:1], tokenizer, **fits)
    with pytest.raises(DataError, match="sums: 1 of 2 prompts is too long for a completion of 1 token within"):
        require_context(problems, tokenizer, **fits)


def test_a_mixture_is_trained_in_its_shares_and_measured_by_source(settings: Make, tmp_path: Path) -> None:
    parts = [
        {"train": str(sums(tmp_path / f"{name}.jsonl", 12)), "chat": False, "held_out_fraction": 0.3, "weight": weight}
        for name, weight in (("easy", 3), ("hard", 1))
    ]
    made = settings(task={"name": "mixture", "parts": parts}, steps=2, checkpoint={})
    assert [line for line in plan(made) if line.startswith("source")] == [
        "source easy: 7 training problems, 3 of each rollout on average",
        "source hard: 7 training problems, 1 of each rollout on average",
    ]
    path = run(made)
    rows = read_jsonl(path / "rollouts" / "step-000001.jsonl")
    assert [row["problem"].split("/")[0] for row in rows].count("easy") == 3 * 4
    before, first, last = read_jsonl(path / "metrics.jsonl")
    share = {name: sum(row["correct"] for row in rows if row["problem"].startswith(name)) for name in ("easy", "hard")}
    assert first["source/easy/correct"] == share["easy"] / 12
    assert first["source/hard/correct"] == share["hard"] / 4
    evaluated = read_jsonl(path / "evaluations" / "step-000002.jsonl")
    of_easy = [row["correct"] / row["n"] for row in evaluated if row["problem"].startswith("easy/")]
    assert last["source/easy/held_out"] == sum(of_easy) / len(of_easy)
    assert "source/hard/held_out" in before
