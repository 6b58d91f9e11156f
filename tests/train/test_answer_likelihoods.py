"""Answers after the reasoning, against one plain pass per completion; and what tokens spell."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from progrpo.errors import ConfigError, DataError
from progrpo.methods import Method
from progrpo.model import LanguageModel
from progrpo.model.tokenizer import each_spelled, encode_text
from progrpo.settings import parse
from progrpo.train.answers import with_answers
from progrpo.train.loop import train
from progrpo.train.passes import Passes
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.train.scorer import Scorer
from progrpo.train.settings import RunSettings
from progrpo.types import Group
from stand_ins.every_method import load

TEMPERATURE = 1.5


class _Policy:
    """The part of a policy that scores."""

    def __init__(self, model: LanguageModel) -> None:
        self._passes = Passes(model, Scorer(model, TEMPERATURE))

    def score(self, *arguments: Any, **named: Any) -> Any:
        return self._passes.score(*arguments, **named)


@pytest.fixture
def answered(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """The groups of conftest.py with answers of one to three tokens."""
    answers = ("3", "78", "5=5", "18")
    return tuple(
        replace(group, problem=replace(group.problem, answer=answer))
        for group, answer in zip(groups, answers, strict=True)
    )


def found(groups: tuple[Group, ...], model: LanguageModel, method: Method, budget: int) -> Any:
    batch = make_rollout_batch(groups, method.needs)
    ids = [completion.token_ids for group in groups for completion in group.completions]
    batch = replace(batch, token_texts=each_spelled(model.tokenizer, ids))
    return with_answers(batch, groups, method, _Policy(model), model, budget=budget)  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", [30, 10_000])
@pytest.mark.parametrize("after", [None, "=", "+"])
def test_it_is_what_a_plain_pass_gives(
    answered: tuple[Group, ...], tiny_model: LanguageModel, after: str | None, budget: int
) -> None:
    batch, counts = found(answered, tiny_model, load("likelihood", after=after), budget)
    assert batch.answer_mask.sum(dim=1).tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [2] * 3
    n, marked = 0, 0
    for group in answered:
        answer = encode_text(tiny_model.tokenizer, group.problem.answer)
        for completion in group.completions:
            ids = completion.token_ids.tolist()
            mark = [] if after is None else encode_text(tiny_model.tokenizer, after)
            if mark and mark[0] in ids:
                before, marked = ids[: ids.index(mark[0]) + 1], marked + 1
            else:
                before = (ids[:-1] if ids and ids[-1] == tiny_model.tokenizer.eos_token_id else ids) + mark
            whole = torch.tensor([*group.prompt_ids.tolist(), *before, *answer])
            logs = (tiny_model.model(whole[None]).logits[0] / TEMPERATURE).log_softmax(dim=-1)
            expected = [float(logs.detach()[len(whole) - len(answer) + t - 1, token]) for t, token in enumerate(answer)]
            assert batch.answer_logprobs[n, : len(answer)].tolist() == pytest.approx(expected, abs=1e-4)
            assert not batch.answer_logprobs[n, len(answer) :].any()
            n += 1
    assert counts.positions > 0
    assert after != "=" or 0 < marked < n  # of both kinds


@pytest.mark.parametrize(
    ("answer", "after", "message"),
    [
        ("", None, "the answer of problem '0' is '', which the model's tokenizer cannot write"),
        ("3", "é=", "method.after is 'é=', which the model's tokenizer cannot write"),
    ],
)
def test_what_cannot_be_written_is_refused(
    answered: tuple[Group, ...], tiny_model: LanguageModel, answer: str, after: str | None, message: str
) -> None:
    first = replace(answered[0], problem=replace(answered[0].problem, answer=answer))
    with pytest.raises(DataError, match=message):
        found((first, *answered[1:]), tiny_model, load("likelihood", after=after), 100)


def test_an_answer_needs_its_place(answered: tuple[Group, ...], tiny_model: LanguageModel) -> None:
    with pytest.raises(DataError, match=r"reasoning and answer are \d+ tokens, and the model tells 5 apart"):
        found(answered, replace(tiny_model, positions=5), load("likelihood", after=None), 100)


def test_problems_without_answers_are_refused_before_the_run(settings: Callable[..., dict[str, Any]]) -> None:
    task = {"name": "grid_path", "train_size": 8}
    data = settings(task=task, method={"name": "likelihood", "after": None})
    with pytest.raises(ConfigError, match="8 of 8 training problems have none"):
        train(parse(RunSettings, data, where="test"))


def test_each_token_spells_by_itself(tiny_model: LanguageModel) -> None:
    tokenizer = tiny_model.tokenizer
    ids = torch.tensor([*encode_text(tokenizer, "12+3="), tokenizer.eos_token_id])
    assert each_spelled(tokenizer, [ids, ids[:0]]) == (("1", "2", "+", "3", "=", tokenizer.eos_token), ())


def test_score_reads_what_tokens_spell_as_training_did(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Advantages of the file are those that were trained on, and a file without a model says what would help."""
    from progrpo.api.score_apply import apply_methods
    from progrpo.rollout.recorded import read_rollouts

    method = {"name": "pear", "mark": "="}
    quiet = {"evaluate": {"every": 0}, "checkpoint": {"every": 0}, "record": {"tokens": True}}
    run = train(parse(RunSettings, settings(steps=1, method=method, **quiet), where="test"))
    file = read_rollouts(run.path / "rollouts" / "step-000001.jsonl")
    scoring = apply_methods([file], {"pear": load("pear", mark="="), "grpo": load("grpo")})
    pairs = [(one.advantages, one.recorded) for one in scoring.completions]
    assert [advantages[0] for advantages, _ in pairs] == [recorded for _, recorded in pairs]
    assert any(advantages[0] != advantages[1] for advantages, _ in pairs)
    nameless = replace(file, config={})
    with pytest.raises(DataError, match="'pear' reads what tokens spell: .*name one with --model"):
        apply_methods([nameless], {"pear": load("pear")})
    again = apply_methods([nameless], {"pear": load("pear", mark="=")}, str(file.section("model")["path"]))
    assert [one.advantages[0] for one in again.completions] == [advantages[0] for advantages, _ in pairs]
