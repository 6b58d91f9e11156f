"""A row of someone's data as a problem: which columns hold what, and how a prompt is made of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from progrpo.errors import DataError
from progrpo.files import to_json
from progrpo.seeds import derive_seed
from progrpo.settings import Settings
from progrpo.tasks._answers import read_answers
from progrpo.types import Message, Problem

_LONGEST_PROMPT = 4_000_000
"""Characters: a million tokens of English. Tokenising what is longer takes minutes, only to refuse it."""


class RowParams(Settings):
    """Settings of every task that reads rows."""

    prompt_key: str = "prompt"
    """Column of the prompt: text, or chat messages [{"role", "content"}]. A dot reaches into a mapping."""
    answer_key: str | None = "answer"
    """Column of the gold answer (a list: of the accepted answers), for instance reward_model.ground_truth; None where the
    reward needs none (it then reads `info_keys`, for instance tests)."""
    id_key: str | None = None
    """Column of a unique id, text or a whole number; None numbers the rows."""
    info_keys: tuple[str, ...] | None = ()
    """Columns handed to the reward as they are; None: all of them, as a reward gets them that names columns itself."""
    chat: bool = True
    """A text prompt becomes one user message for the model's chat template; false gives it to the model as it stands."""
    instruction: str = ""
    """Appended to a text prompt or to the last user message, for instance " Put the final answer in \\\\boxed{}."."""
    held_out_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the training problems kept for evaluation, chosen by a hash of each prompt; used where the data name no held-out
    problems of their own."""


def to_problem(row: Mapping[str, Any], place: str, index: int, params: RowParams) -> Problem:
    """The problem of a row.

    Args:
        place: where it was read, in words. index: its number, and its id where no column is.

    Raises:
        DataError: it has no prompt or answer, or one that is none (the place is named).
    """
    answer: str | None = None
    accepted: tuple[str, ...] = ()
    if params.answer_key is not None:
        from progrpo.rewards.math.golds import after_hashes  # which takes a tenth of a second

        golds = read_answers(_at(row, params.answer_key, place), place, params.answer_key)
        answer, *others = dict.fromkeys(map(after_hashes, golds))
        accepted = tuple(others)
    prompt = _prompt(_at(row, params.prompt_key, place), place, params)
    identity = str(index) if params.id_key is None else _id(_at(row, params.id_key, place), place, params.id_key)
    info = dict(row) if params.info_keys is None else {key: _at(row, key, place) for key in params.info_keys}
    return Problem(id=identity, prompt=prompt, answer=answer, accepted=accepted, info=info, place=place)


def _id(value: Any, place: str, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError(f"{place}: {key!r}, the id, must be text or a whole number, got {value!r:.80}")
    return str(value)


def _prompt(value: Any, place: str, params: RowParams) -> str | tuple[Message, ...]:
    if isinstance(value, str) and value.strip():
        text = value + params.instruction
        _require_bounded(text, place, params)
        return ({"role": "user", "content": text},) if params.chat else text
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        messages = [_message(one, index, place, params) for index, one in enumerate(value, start=1)]
        if params.instruction:
            _append(messages, params.instruction, place)
        _require_bounded("".join(message["content"] for message in messages), place, params)
        return tuple(messages)
    raise DataError(
        f'{place}: {params.prompt_key!r} must be text or a list of {{"role", "content"}} messages, got {value!r:.80}'
    )


def _message(value: Any, index: int, place: str, params: RowParams) -> dict[str, str]:
    """One chat message, its content as text."""
    where = f"{place}: message {index} of {params.prompt_key!r}"
    if not isinstance(value, Mapping) or not isinstance(value.get("role"), str):
        raise DataError(f'{where} must be {{"role", "content"}}, got {value!r:.80}')
    content = value.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        texts = [
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content
        ]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f'{where}: its content must be text or parts {{"type": "text", "text": ...}} (no images), got {content!r:.80}'
            )
        content = "".join(map(str, texts))
    if content is None:
        raise DataError(f"{where} (of the {value['role']}) has no content; remove it, or give it text")
    if not isinstance(content, str):
        raise DataError(f"{where}: its content must be text or a list of text parts, got {content!r:.80}")
    return {**value, "content": content}


def _require_bounded(text: str, place: str, params: RowParams) -> None:
    if len(text) > _LONGEST_PROMPT:
        raise DataError(
            f"{place}: {params.prompt_key!r} has {len(text):,} characters, more than any model's context "
            f"({_LONGEST_PROMPT:,} is the most that is read); is a line break missing?"
        )


def _append(messages: list[dict[str, str]], instruction: str, place: str) -> None:
    """Put the instruction behind the last user message, which need not be the last: the assistant's may be begun."""
    for message in reversed(messages):
        if message["role"] == "user":
            message["content"] += instruction
            return
    raise DataError(f"{place}: no message of the user, to which task.instruction could be appended")


def _at(row: Mapping[str, Any], key: str, place: str) -> Any:
    """The value at a dotted key; the whole key is tried first."""
    if key in row:
        return row[key]
    value: Any = row
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise DataError(f"{place}: no {key!r}; the row has {', '.join(sorted(map(str, row)))}")
        value = value[part]
    return value


def split_off(problems: Sequence[Problem], split: str, params: RowParams, *, where: str, remedy: str) -> list[Problem]:
    """The problems of one split where both come from the same rows (`held_out_fraction`).

    Raises:
        DataError: there are none; the message says which `remedy` would bring some.
    """
    held_out = [_is_held_out(problem, params.held_out_fraction) for problem in problems]
    chosen = [problem for problem, held in zip(problems, held_out, strict=True) if held is (split == "test")]
    if not chosen:
        raise DataError(
            f"{where}: no problems for the {split} split; {remedy}, another task.held_out_fraction than "
            f"{params.held_out_fraction:g}, or switch evaluation off with evaluate.every=0"
        )
    return chosen


def _is_held_out(problem: Problem, fraction: float) -> bool:
    """Drawn by the prompt, so that the same question is on one side, whatever white space stands around it."""
    prompt = problem.prompt
    bare = prompt.strip() if isinstance(prompt, str) else [_without_ends(message) for message in prompt]
    return derive_seed("held-out", to_json(bare)) / 2**63 < fraction


def _without_ends(message: Message) -> Mapping[str, Any]:
    content = message.get("content")
    return {**message, "content": content.strip()} if isinstance(content, str) else message
