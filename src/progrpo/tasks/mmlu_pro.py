"""MMLU-Pro: 12,032 multiple-choice questions of 14 subjects with up to ten options.

Data: TIGER-Lab/MMLU-Pro (MIT; arXiv:2406.01574), test 12,032 questions, validation 70 (5 per subject, worked examples).
Prompt: the question, options from A) on, and a last line `Answer: LETTER`, zero-shot, for models that reason. shots=1 to 5
puts that many worked examples of the same subject before it and takes the shape of github.com/TIGER-AI-Lab/MMLU-Pro, which
asks for "the answer is (X)"; official=true takes that shape and that repository's way of finding the letter.
Judged by rewards/choice; where the official script guesses a letter at random, no letter is no answer. Facts: category (the
subject; a mean per category is reported beside the mean over questions), src.

Pitfalls: "N/A" options are padding and are left out, so the number of letters differs between questions. The official run
is shots=5, official=true, chat=false (text to be continued), temperature 0, 2,048 tokens, and stops at "Question:", since a
base model goes on to write questions; it drops examples until the prompt fits 2,048 tokens, which is not done here.

Samples: 1. The paper names MMLU-Pro as a test out of distribution and gives one score, without a number of samples or
shots; with 12,032 questions one sample each has a standard error of less than half a point.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from progrpo.errors import DataError
from progrpo.tasks._choice_problems import LETTERS, lettered, zero_shot
from progrpo.tasks._published import (
    PublishedParams,
    Source,
    column,
    find_files,
    published_rows,
    require_count,
    require_test,
    text_column,
    with_ids,
)
from progrpo.tasks._rows import Row, read_rows
from progrpo.types import Problem

SAMPLES = {"paper": 1, "recommended": 1}

SOURCES = (Source(repo="TIGER-Lab/MMLU-Pro", files={"test": ("data/test-*.parquet",)}),)

_EXAMPLES = (Source(repo="TIGER-Lab/MMLU-Pro", files={"validation": ("data/validation-*.parquet",)}),)
"""Of their own, so that one file of test rows is never taken for worked examples: theirs is mmlu_pro-validation.jsonl."""

_PADDING = "N/A"

_OFFICIAL = (
    "The following are multiple choice questions (with answers) about {subject}. Think step by step and then finish your "
    'answer with "the answer is (X)" where X is the correct letter choice.\n\n\n'
)
"""How the official prompt begins; the form of the answer is part of the benchmark."""


class Params(PublishedParams):
    expected: int | None = Field(12032, ge=1)
    """Questions there must be; null accepts any number."""
    shots: int = Field(0, ge=0, le=5)
    """Worked examples of the same subject in the prompt, from the validation split; 0 for none."""
    shots_path: Path | None = None
    """A file of the validation rows, needed where `path` is one file; None looks where the test rows are looked for, and for
    $PROGRPO_DATA/mmlu_pro-validation.jsonl."""
    official: bool = False
    """The official prompt and the official way of finding the letter, with any number of shots."""


def reward(params: Params) -> Mapping[str, Any]:
    """rewards/choice, in its official mode on demand."""
    return {"name": "choice", "options": 10, "mode": "mmlu_pro" if params.official else "last"}


def load(split: str, params: Params) -> list[Problem]:
    """Read the questions.

    Raises:
        DataError: see `published_rows`; another split than "test"; a question without options or with an answer that is
            none of them; a subject without enough worked examples; another number of questions than expected.
    """
    require_test("mmlu_pro", split)
    examples = _examples(params) if params.shots else {}
    problems, identities = [], []
    for place, row in published_rows("mmlu_pro", SOURCES, "test", params):
        options, letter = _options(row, place)
        question = text_column(row, ("question",), place)
        category = text_column(row, ("category",), place)
        prompt = zero_shot(question, options)
        if params.shots or params.official:
            prompt = _official(question, options, category, _shots(examples, category, place, params.shots))
        problem = Problem(
            id="",
            prompt=params.messages(prompt),
            answer=letter,
            info={"options": options},
            place=place,
            facts={"category": category, **({"src": row["src"]} if row.get("src") else {})},
        )
        problems.append(problem)
        identities.append(None if row.get("question_id") is None else str(row["question_id"]))
    require_count("mmlu_pro", len(problems), params, "questions")
    return with_ids(problems, identities)


def _options(row: Row, place: str) -> tuple[tuple[str, ...], str]:
    """The options without padding, and the letter of the right one among them."""
    listed = column(row, ("options",), place)
    if not isinstance(listed, list) or not all(isinstance(option, str) for option in listed):
        raise DataError(f"{place}: 'options' must be a list of texts, got {listed!r:.80}")
    letter = text_column(row, ("answer",), place).strip().upper()
    index = LETTERS.find(letter) if len(letter) == 1 else -1
    if not 0 <= index < len(listed) or listed[index].strip() == _PADDING:
        raise DataError(f"{place}: the answer is {letter!r}, which is none of the {len(listed)} options")
    if row.get("answer_index") is not None and row["answer_index"] != index:
        raise DataError(
            f"{place}: the answer is {letter}, but answer_index is {row['answer_index']}; which one is right?"
        )
    kept = [position for position, option in enumerate(listed) if option.strip() != _PADDING]
    return tuple(listed[position] for position in kept), LETTERS[kept.index(index)]


def _official(question: str, options: Sequence[str], category: str, examples: Sequence[str]) -> str:
    asked = f"Question:\n{question}\nOptions:\n{lettered(options, '. ')}\nAnswer: Let's think step by step."
    return _OFFICIAL.format(subject=category) + "".join(examples) + asked


def _examples(params: Params) -> dict[str, list[str]]:
    """The worked examples of each subject, in the official shape and order."""
    if params.shots_path is None and params.path is not None and params.path.is_file():
        raise DataError(
            f"task mmlu_pro: shots={params.shots} needs the validation rows, and path={params.path} is one file; give "
            f"task.shots_path=FILE, or a folder that holds both"
        )
    where = params.model_copy(update={"path": params.shots_path or params.path, "source": None})
    try:
        files = find_files("mmlu_pro-validation", _EXAMPLES, "validation", where)
    except DataError as error:
        raise DataError(
            f"task mmlu_pro: shots={params.shots} needs worked examples, for which task.shots_path=FILE stands in the "
            f"place of task.path; {error}"
        ) from None
    examples: dict[str, list[str]] = {}
    for place, row in (pair for path in files for pair in read_rows(path)):
        options, _ = _options(row, place)
        question = text_column(row, ("question",), place)
        worked = text_column(row, ("cot_content",), place).removeprefix("A: ").removeprefix("Answer: ").strip()
        examples.setdefault(text_column(row, ("category",), place), []).append(
            f"Question:\n{question}\nOptions:\n{lettered(options, '. ')}\nAnswer: {worked}\n\n"
        )
    return examples


def _shots(examples: Mapping[str, Sequence[str]], category: str, place: str, shots: int) -> Sequence[str]:
    if len(examples.get(category, ())) < shots:
        raise DataError(
            f"{place}: {shots} worked examples of {category!r} are wanted, the validation rows have "
            f"{len(examples.get(category, ()))}; is their file complete?"
        )
    return examples[category][:shots] if shots else ()
