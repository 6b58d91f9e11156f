"""The text of each token, so that the tokens of a completion spell exactly its text."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from progrpo.model.tokenizer import decode

_BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer decodes the first bytes of an unfinished character to."""
_WHOLE = 2048
"""Tokens up to which a completion that does not decode piece by piece is decoded prefix by prefix, in quadratic time."""


Decode = Callable[[Sequence[int]], str]


def token_texts(tokenizer: Any, ids: Sequence[int], text: str) -> list[str] | None:
    """Cut a completion's text at its token boundaries.

    Args:
        text: the completion, as the run decoded it: without end tokens and filler, or without any special token.

    Returns:
        One text per token; joined they are `text`. A token that was left out has none; a character whose bytes lie in several
        tokens belongs to the last of them. None where these tokens do not spell `text` (another tokenizer's ids?).
    """
    spelling = next((one for one in _spellings(tokenizer, ids) if one(ids) == text), None)
    if spelling is None:
        return None
    pieces = _by_window(spelling, ids)
    if pieces is None or "".join(pieces) != text:
        pieces = _by_prefix(spelling, ids, text) if len(ids) <= _WHOLE else None
    return pieces


def _spellings(tokenizer: Any, ids: Sequence[int]) -> Iterator[Decode]:
    """The ways in which a run may have decoded these tokens; which tokens end a completion, only the model knows."""
    own = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    for dropped in (own, {*own, *ids[-1:]}):
        yield lambda part, dropped=dropped: decode(tokenizer, part, dropped)  # type: ignore[misc]
    yield lambda part: str(tokenizer.decode(list(part), skip_special_tokens=True))


def _by_window(spelling: Decode, ids: Sequence[int]) -> list[str] | None:
    """Decode each token after the tokens of the piece before it, for a tokenizer may treat the first of a text apart."""
    pieces: list[str] = []
    start = emitted = 0
    for index in range(len(ids)):
        before = spelling(ids[start:emitted])
        now = spelling(ids[start : index + 1])
        unfinished = now.endswith(_BROKEN) and index + 1 < len(ids)
        if unfinished or now == before:
            pieces.append("")
            continue
        if not now.startswith(before):
            return None
        pieces.append(now[len(before) :])
        start, emitted = emitted, index + 1
    return pieces


def _by_prefix(spelling: Decode, ids: Sequence[int], text: str) -> list[str]:
    """Cut `text` where the decoded prefixes cease to agree with it: whatever they are, the pieces spell the text."""
    ends = [0]
    for index in range(len(ids)):
        prefix = spelling(ids[: index + 1])
        ends.append(max(ends[-1], _agreement(prefix, text)))
    ends[-1] = len(text)
    return [text[start:end] for start, end in pairwise(ends)]


def _agreement(one: str, other: str) -> int:
    """Characters from the start that two texts share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
