"""HumanEval+ (EvalPlus): 164 small functions to complete, each with many more tests than HumanEval has.

Data: evalplus/humanevalplus, split test (columns task_id, prompt, canonical_solution, entry_point, test). DeepCoder's copy,
and with it the numbers of that family of papers, has 163: HumanEval/32 is left out there, for its test calls a helper that
does not exist in the published row. `drop=[HumanEval/32]` does the same; print the number of problems beside a score.
"""

from pydantic import Field

from progrpo.errors import DataError
from progrpo.tasks._code_prompts import COMPLETE
from progrpo.tasks._published import (
    PublishedParams,
    Source,
    column,
    published_rows,
    require_count,
    require_test,
    text_column,
)
from progrpo.tasks._rows import Row
from progrpo.types import Problem

REWARD = "code"
SAMPLES = {"paper": 16, "recommended": 16}
SOURCES = (Source(repo="evalplus/humanevalplus", files={"test": ("data/test*",)}),)


class Params(PublishedParams):
    expected: int | None = Field(164, ge=1)
    """Problems before any is dropped."""
    drop: tuple[str, ...] = ()
    """Ids of problems to leave out, for instance HumanEval/32."""


def load(split: str, params: Params) -> list[Problem]:
    """The problems of the test split; there is no other.

    Raises:
        DataError: see `published_rows`; a row lacks a column; there are not as many rows as expected; `drop` names a
            problem that is not there.
    """
    require_test("humaneval_plus", split)
    problems = [_problem(row, place, params) for place, row in published_rows("humaneval_plus", SOURCES, split, params)]
    require_count("humaneval_plus", len(problems), params)
    if unknown := set(params.drop) - {problem.id for problem in problems}:
        raise DataError(f"task humaneval_plus: drop names {', '.join(sorted(unknown))}, which the data does not have")
    return [problem for problem in problems if problem.id not in params.drop]


def _problem(row: Row, place: str, params: Params) -> Problem:
    prompt, solution = text_column(row, ("prompt",), place), column(row, ("canonical_solution",), place)
    info = {
        "entry_point": text_column(row, ("entry_point",), place),
        "test": text_column(row, ("test",), place),
        "prompt": prompt,
    }
    if isinstance(solution, str) and solution.strip():
        info["solution"] = prompt + solution
    return Problem(
        id=text_column(row, ("task_id",), place),
        prompt=params.messages(COMPLETE.format(prompt=prompt.strip("\n"))),
        info=info,
        place=place,
    )
