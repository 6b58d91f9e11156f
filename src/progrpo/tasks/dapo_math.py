"""DAPO-Math-17k: about 17,400 competition problems with whole numbers as answers; the training set of the paper.

Data: BytedTsinghua-SIA/DAPO-Math-17k (Apache-2.0; arXiv:2503.14476), or open-r1/DAPO-Math-17k-Processed, which holds each
problem once.
Splits: "train", and "test": `held_out` problems of it, chosen by a hash of the problem alone. They are no benchmark: their
score says how far training has come, on problems like those trained on.
Prompt: as published, which asks for a last line "Answer: ...". Judged by rewards/dapo_math, which needs that line; with
prompt=bare choose reward.name=math and an instruction.

Pitfalls: the published file holds every problem about 100 times (1.79 million rows), so that "one epoch" of it is 100: only the
first copy is read. 17,398 prompts differ as text; other counts go by other keys, hence no `expected`. Some prompts are
there with two different answers: the first one is kept, and how many there are is logged. About one problem in five is in
Chinese.
"""

import logging
import re
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from progrpo.errors import DataError
from progrpo.plural import counted
from progrpo.rewards.dapo_math import last_box
from progrpo.seeds import derive_seed
from progrpo.tasks._math_problems import ANSWER, PROBLEM, SOLUTION, bare, gold_text, identity, prompt_text, wrap
from progrpo.tasks._published import PublishedParams, Source, published_rows, require_count, text_column, with_ids
from progrpo.tasks._rows import Row
from progrpo.types import Problem

logger = logging.getLogger(__name__)

REWARD = "dapo_math"

_COLUMNS = ("prompt", *PROBLEM, *ANSWER, *SOLUTION, "reward_model", "extra_info")
_CHINESE = re.compile(r"[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff]")

Language = Literal["all", "en", "cn"]


class Params(PublishedParams):
    expected: int | None = Field(None, ge=1)
    """Different problems there must be in both splits together; null accepts any number."""
    prompt: Literal["published", "bare"] = "published"
    """`published`: in the wrapper that asks for the "Answer:" line, added where a mirror left it out. `bare`: the problem
    alone. It is never wrapped twice."""
    language: Language = "all"
    """`en`: problems without a Chinese character; `cn`: those with one (as open-r1 divides them)."""
    held_out: int = Field(256, ge=0)
    """Problems kept for the test split; 0 for none."""


def _sources(language: Language) -> tuple[Source, ...]:
    """Where the data is published; the folder of open-r1's copy depends on the language."""
    return (
        Source(repo="BytedTsinghua-SIA/DAPO-Math-17k", files={"train": ("data/dapo-math-17k.parquet",)}),
        Source(repo="open-r1/DAPO-Math-17k-Processed", files={"train": (f"{language}/train-*.parquet",)}),
    )


SOURCES = _sources("all")


def load(split: str, params: Params) -> list[Problem]:
    """Read one split, each problem once.

    Raises:
        DataError: see `published_rows`; another split than "train" and "test"; a row without prompt or gold answer; no
            problem is left for the split.
    """
    if split not in ("train", "test"):
        raise DataError(f"task dapo_math: it has the splits train and test, got {split!r}")
    rows = published_rows("dapo_math", _sources(params.language), "train", params, _COLUMNS)
    problems, texts = _distinct(rows, params)
    require_count("dapo_math", len(problems), params)
    held_out = set(sorted(texts, key=lambda text: derive_seed("held-out", text))[: params.held_out])
    chosen = [problem for problem, text in zip(problems, texts, strict=True) if (text in held_out) is (split == "test")]
    if not chosen:
        raise DataError(
            f"task dapo_math: no problems for the {split} split: held_out={params.held_out} of {len(problems)} are kept "
            f"for evaluation; give another task.held_out" + (", or evaluate.every=0" if split == "test" else "")
        )
    return chosen


def _distinct(rows: Iterable[tuple[str, Row]], params: Params) -> tuple[list[Problem], list[str]]:
    """The first row of each problem, and the bare problems in the same order."""
    problems: dict[str, Problem] = {}
    published: dict[str, str] = {}
    identities, count, disputed = [], 0, set()
    for place, row in rows:
        count += 1
        shown = prompt_text(row, place)
        text = published.get(shown)  # most rows are copies: looking them up is all that they cost
        if text is None:
            text = published[shown] = bare(shown)
        if text in problems:
            if problems[text].answer != _gold(row, place):
                disputed.add(text)
            continue
        if not text:
            raise DataError(f"{place}: the prompt has a wrapper but no problem in it")
        if params.language != "all" and bool(_CHINESE.search(text)) is not (params.language == "cn"):
            continue
        prompt = params.messages(wrap(shown) if params.prompt == "published" else text)
        problems[text] = Problem(id="", prompt=prompt, answer=_gold(row, place), place=place)
        identities.append(identity(row))
    logger.info(
        "task dapo_math: %s are %s; copies and rows in other languages left out: %d; %s with copies of another answer, of "
        "which the first is kept",
        *(counted(count, "row"), counted(len(problems), "problem"), count - len(problems)),
        counted(len(disputed), "problem"),
    )
    return with_ids(list(problems.values()), identities), list(problems)


def _gold(row: Row, place: str) -> str:
    """The gold answer; open-r1's column `solution` holds nothing else."""
    if "reward_model" in row or any(name in row for name in ANSWER):
        return gold_text(row, place)
    solution = text_column(row, SOLUTION, place).strip()
    return last_box(solution) or solution
