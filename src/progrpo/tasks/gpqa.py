"""GPQA: graduate-level questions of biology, physics and chemistry, four options; the 198 of its diamond subset by default.

Data: Idavidrein/gpqa (CC BY 4.0; arXiv:2311.12022), files gpqa_diamond.csv (198), gpqa_main.csv (448), gpqa_extended.csv (546).
The repository is gated: accept its terms on the hub and log in. Its authors ask that no example is published in plain text:
the rows that an evaluation writes, and its HTML page, hold the prompts, so keep them to yourself.
Prompt: the question, options A) to D), and a last line `Answer: LETTER`, zero-shot. Judged by rewards/choice: the last letter
given as the answer; no letter is no answer, never a guess. Facts: category (high-level domain), subdomain.

Pitfalls: the right answer stands in a column of its own, so options must be shuffled, and scores move with the order: here
it is a permutation drawn from (seed, question), the same in any run and whatever the order of the rows.

Samples: the paper names GPQA as a test out of distribution but neither its subset nor a number of samples. Diamond and 16
samples are FlowRL's, whose harness it most likely used.
"""

import random
from typing import Any, Literal

from pydantic import Field, model_validator

from progrpo.seeds import derive_seed
from progrpo.tasks._choice_problems import LETTERS, zero_shot
from progrpo.tasks._published import (
    PublishedParams,
    Source,
    published_rows,
    require_count,
    require_test,
    text_column,
    with_ids,
)
from progrpo.tasks._rows import Row
from progrpo.types import Problem

REWARD = {"name": "choice", "options": 4}
SAMPLES = {"paper": 16, "recommended": 16}

_SIZES = {"diamond": 198, "main": 448, "extended": 546}

Subset = Literal["diamond", "main", "extended"]


class Params(PublishedParams):
    expected: int | None = Field(198, ge=1)
    """Questions there must be; where it is not given, the size of the subset; null accepts any number."""
    subset: Subset = "diamond"
    """`diamond` is part of `main`, and that of `extended`."""
    seed: int = 0
    """Of the order of the options."""

    @model_validator(mode="before")
    @classmethod
    def _size_of_subset(cls, data: Any) -> Any:
        size = _SIZES.get(str(data.get("subset"))) if isinstance(data, dict) else None
        return data if size is None or "expected" in data else {**data, "expected": size}


def _sources(subset: Subset) -> tuple[Source, ...]:
    """Where the data is published; each subset is a file."""
    return (Source(repo="Idavidrein/gpqa", files={"test": (f"gpqa_{subset}.csv",)}),)


SOURCES = _sources("diamond")


def load(split: str, params: Params) -> list[Problem]:
    """Read the questions of the subset and shuffle their options.

    Raises:
        DataError: see `published_rows`; another split than "test"; a question or option is empty; another number of
            questions than expected.
    """
    require_test("gpqa", split)
    rows = published_rows("gpqa", _sources(params.subset), split, params)
    drawn = [_problem(row, place, params) for place, row in rows]
    require_count("gpqa", len(drawn), params, "questions")
    return with_ids([problem for problem, _ in drawn], [identity for _, identity in drawn])


def _problem(row: Row, place: str, params: Params) -> tuple[Problem, str | None]:
    """The problem without its id, and its published id."""
    question = text_column(row, ("Question", "question"), place).strip()
    wrong = [text_column(row, (f"Incorrect Answer {number}",), place).strip() for number in (1, 2, 3)]
    options = [text_column(row, ("Correct Answer",), place).strip(), *wrong]
    identity = str(row.get("Record ID") or "").strip() or None
    order = [0, 1, 2, 3]
    random.Random(derive_seed(params.seed, "gpqa", identity or question)).shuffle(order)
    shuffled = [options[index] for index in order]
    facts = {"category": row.get("High-level domain"), "subdomain": row.get("Subdomain")}
    problem = Problem(
        id="",
        prompt=params.messages(zero_shot(question, shuffled)),
        answer=LETTERS[order.index(0)],
        info={"options": tuple(shuffled)},
        place=place,
        facts={name: value for name, value in facts.items() if value},
    )
    return problem, identity
