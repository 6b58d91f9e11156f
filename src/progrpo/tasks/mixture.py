"""Several files, data sets or tasks as one: in shares that weights give, or each problem once per epoch.

    task:
      name: mixture
      parts:
        - {train: a.jsonl, weight: 2} # a part without a name is the task file
        - {train: b.parquet, test: b-test.parquet, prompt_key: question, weight: 1}
        - {name: hub, dataset: openai/gsm8k, config: main, prompt_key: question, weight: 1}

With weights, each rollout takes its problems from the parts in these shares: of P problems a part of share w gives P * w,
rounded up or down by a draw that is right on average, and each part comes round by itself, in a new order each time. Without
any, the parts are one list. Every part is held out by its own settings, and the problem's part is its fact "source".
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from progrpo import plugins, tasks
from progrpo.settings import Choice, Settings
from progrpo.types import Problem

__all__ = ["Params", "Part", "endless", "load", "reward", "sources"]


class Part(Choice):
    name: str = "file"
    weight: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Share of the rollouts, relative to those of the others."""
    source: str | None = None
    """What its problems are called by in metrics and evaluations; None: its file, data set or task."""

    @property
    def label(self) -> str:
        """`source`, or what stands for it."""
        data = self.params.get("train") or self.params.get("test") or self.params.get("dataset")
        return self.source or (Path(str(data)).name.split(".")[0] if data else plugins.label(self.name))

    @property
    def choice(self) -> Choice:
        """The task that it is."""
        return Choice(name=self.name, **self.params)


class Params(Settings):
    parts: tuple[Part, ...] = Field(
        min_length=1, examples=[[{"train": "a.jsonl", "weight": 2}, {"train": "b.jsonl", "weight": 1}]]
    )
    """Tasks: of each its settings (`name`, "file" without one), a `weight`, and a `source`."""

    @field_validator("parts")
    @classmethod
    def _written_out(cls, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """With every setting of each part's task, checked and with its default."""
        return tuple(
            Part(**{**part.model_dump(), **tasks.load(part.choice).params.model_dump(mode="json")}) for part in parts
        )

    @model_validator(mode="after")
    def _agrees(self) -> "Params":
        weighted = [part.weight is not None for part in self.parts]
        if any(weighted) and not all(weighted):
            bare = self.parts[weighted.index(False)].label
            raise ValueError(f"part {bare!r} has no weight and others have; give all of them one, or none")
        labels = [part.label for part in self.parts]
        if twice := next((label for label in labels if labels.count(label) > 1), None):
            raise ValueError(f"two parts are called {twice!r}; tell them apart with source: NAME")
        if any("/" in label for label in labels):
            raise ValueError(f"source: expected a name without a slash, got {next(n for n in labels if '/' in n)!r}")
        return self


def load(split: str, params: Params) -> list[Problem]:
    """The problems of all parts, each with its part's name before its id and as its facts "source" and "category"."""
    return [
        replace(
            problem,
            id=f"{part.label}/{problem.id}",
            facts={"category": part.label, **problem.facts, "source": part.label},
        )
        for part in params.parts
        for problem in tasks.problems(part.choice, split)
    ]


def sources(params: Params) -> Mapping[str, float | None]:
    """The parts and their weights."""
    return {part.label: part.weight for part in params.parts}


def endless(params: Params) -> bool:
    """Whether those of any part are."""
    return any(tasks.load(part.choice).endless for part in params.parts)


def reward(params: Params) -> dict[str, object]:
    """The reward that all parts name; where they name several, each problem's own (`by_source`)."""
    named = {part.label: tasks.reward(part.choice).model_dump() for part in params.parts}
    first, *others = named.values()
    if any(other != first for other in others):
        return {"name": "by_source", "rewards": named}
    return first
