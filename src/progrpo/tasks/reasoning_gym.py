"""Any data set of reasoning-gym, procedural and offline: arithmetic, algebra, logic, games, and more; several, with weights.

    task: {name: reasoning_gym, dataset: gsm_symbolic}
    task: {name: reasoning_gym, dataset: simple_equations, config: {min_terms: 2, max_terms: 3}}
    task: {name: reasoning_gym, datasets: [{name: countdown, weight: 2}, {name: chain_sum, config: {max_terms: 3}}]}

Training and held-out questions come from seeds of their own, whatever `seed` says, and with the same settings no question of
one is asked in the other: training leaves out what is held out, so that the held-out questions do not depend on `train_size`.
Another seed or more held-out questions may ask what was trained on, where a data set has few questions; evaluating a run warns
of it. Judged by the data set's own scorer. Needs `pip install 'progrpo[reasoning-gym]'`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import Field, model_validator

from progrpo.errors import DataError, SplitError
from progrpo.settings import Settings
from progrpo.tasks._reasoning_gym import GymDraw, GymSource, Question, drawn_apart
from progrpo.types import Message, Problem

__all__ = ["WeightedDataset", "worked_answer"]

MAX_NEW_TOKENS = 1024
ENDLESS = True


class WeightedDataset(Settings):
    name: str
    """Of the data set in reasoning-gym."""
    weight: float = Field(1.0, gt=0)
    """How often it is drawn, against the others."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The data set's own settings."""


class Params(Settings):
    dataset: str | None = None
    """Name of one data set: gsm_symbolic, countdown, simple_equations, ..."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The data set's own settings: how hard its questions are."""
    datasets: tuple[WeightedDataset, ...] = ()
    """Several data sets in place of one; `category` of a problem is then its data set."""
    train_size: int = Field(1000, ge=1)
    """Questions to train on, all different."""
    test_size: int = Field(100, ge=1)
    """Held-out questions, none of which is trained on."""
    seed: int = 0
    """Of the draw of questions; each split has a span of reasoning-gym's seeds to itself for any value."""
    tag: str | None = Field("answer", pattern=r"^[A-Za-z][\w-]*$")
    """The answer stands between <tag> and </tag>; None: the whole completion is the answer."""
    instruction: str | None = None
    """Put after each question; None asks for the answer between the tags."""
    chat: bool = True
    """A question is a user's message for the model's chat template; false gives the model plain text."""
    shots: int = Field(0, ge=0, le=64)
    """Questions with their worked answers before each question, the same ones for all; they are in neither split."""

    @model_validator(mode="after")
    def _one_way(self) -> "Params":
        if (self.dataset is None) == (not self.datasets):
            raise ValueError("give either dataset, for instance dataset=gsm_symbolic, or several as datasets")
        if self.datasets and self.config:
            raise ValueError("config is for a single dataset; of several each has its own: {name: ..., config: {...}}")
        names = [one.name for one in self.datasets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"datasets: {twice[0]!r} stands twice")
        return self


def reward(params: Params) -> Mapping[str, Any]:
    """The data sets' scorer, which reads the answer where the instruction asks for it."""
    return {"name": "reasoning_gym", "tag": params.tag}


def load(split: str, params: Params) -> list[Problem]:
    """The questions of "train" or "test".

    Raises:
        HostError: reasoning-gym is missing. ConfigError: no such data set or setting, or too few different questions.
        SplitError: another split.
    """
    if split not in ("train", "test"):
        raise SplitError(f"reasoning_gym: unknown split {split!r}; expected train or test")
    questions = _questions(params.model_dump_json(), split)
    before = _shots(questions.get("shots", ()), params)
    configs = {one.name: one.config for one in _sources(params)}
    return [_problem(one, params, configs[one.dataset], before) for one in questions[split]]


def worked_answer(problem: Problem, tag: str | None) -> str:
    """A reply that is right: the data set's worked solution where it gives one, then the answer as it is to be written.

    Raises:
        DataError: the data set gives no answer.
    """
    if problem.answer is None:
        raise DataError(
            f"problem {problem.id!r}: data set {problem.info['dataset']!r} gives no answer that could be shown"
        )
    return _reply(problem.info["entry"], tag)


@lru_cache(maxsize=8)
def _questions(settings: str, split: str) -> Mapping[str, Sequence[Question]]:
    params = Params.model_validate_json(settings)
    sizes = {"test": params.test_size} | ({"shots": params.shots} if params.shots else {})
    if split == "train":
        sizes["train"] = params.train_size
    return drawn_apart(GymDraw(sources=_sources(params), seed=params.seed, sizes=sizes))


def _sources(params: Params) -> tuple[GymSource, ...]:
    if params.dataset is not None:
        return (GymSource(name=params.dataset, config=params.config),)
    return tuple(GymSource(name=one.name, config=one.config, weight=one.weight) for one in params.datasets)


def _problem(
    question: Question, params: Params, config: Mapping[str, Any], before: Sequence[tuple[str, str]]
) -> Problem:
    return Problem(
        id=f"{question.dataset}-{question.seed}",
        prompt=_prompt(question, params, before),
        answer=question.entry["answer"],
        info={"dataset": question.dataset, "config": dict(config), "entry": dict(question.entry)},
        place=f"data set {question.dataset}, seed {question.seed}",
        facts={"category": question.dataset} if params.datasets else {},
    )


def _prompt(question: Question, params: Params, before: Sequence[tuple[str, str]]) -> str | tuple[Message, ...]:
    asked = _asked(question, params)
    if not params.chat:
        return "".join(f"{text}\n{reply}\n\n" for text, reply in before) + f"{asked}\n"
    shown = [
        message
        for text, reply in before
        for message in ({"role": "user", "content": text}, {"role": "assistant", "content": reply})
    ]
    return (*shown, {"role": "user", "content": asked})


def _asked(question: Question, params: Params) -> str:
    instruction = params.instruction
    if instruction is None:
        asks = f"\nGive the final answer alone between <{params.tag}> and </{params.tag}>."
        instruction = "" if params.tag is None else asks
    return f"{question.entry['question'].rstrip()}{instruction}"


def _shots(questions: Sequence[Question], params: Params) -> list[tuple[str, str]]:
    for question in questions:
        if question.entry["answer"] is None:
            raise DataError(f"task.shots: data set {question.dataset!r} gives no answers that could be shown; set 0")
    return [(_asked(question, params), _reply(question.entry, params.tag)) for question in questions]


def _reply(entry: Mapping[str, Any], tag: str | None) -> str:
    """Without a tag the answer alone: the scorer then reads the whole reply."""
    if tag is None:
        return str(entry["answer"])
    solution = (entry.get("metadata") or {}).get("answer_cot")
    return (f"{solution}\n" if solution else "") + f"<{tag}>{entry['answer']}</{tag}>"
