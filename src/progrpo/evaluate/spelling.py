"""The text of each token, so that the tokens of a completion spell exactly its text; and the tokenizer that knows it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from progrpo.errors import ModelError
from progrpo.model import ModelSettings, load_tokenizer
from progrpo.model.tokenizer import decode
from progrpo.rollout.recorded import RolloutFile

_BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer decodes the first bytes of an unfinished character to."""
_WHOLE = 2048
"""Tokens up to which a completion that does not decode piece by piece is decoded prefix by prefix, in quadratic time."""


Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spelling:
    """What turns token ids into text, or why nothing does."""

    tokenizer: Any = None
    source: str = ""
    """The model whose tokenizer it is."""
    missing: str = ""
    """Why there is no tokenizer; "" where there is one."""

    @classmethod
    def of_model(cls, path: str) -> "Spelling":
        """The tokenizer of a model that the user named.

        Raises:
            ModelError: it cannot be loaded.
        """
        return cls(tokenizer=load_tokenizer(ModelSettings(path=path)), source=path)

    @classmethod
    def of_run(cls, file: RolloutFile) -> "Spelling":
        """The tokenizer of the model that a run's settings name; a page does without one that is not there."""
        if not file.tokens:
            return cls(missing="the file holds no token ids; a run records them with record.tokens=true")
        named = file.section("model")
        path, pad = named.get("path"), named.get("pad_token")
        if not isinstance(path, str) or not path:
            return cls(missing="no settings of a run beside the file name a model; name one with --model")
        try:
            settings = ModelSettings(path=path, pad_token=pad if isinstance(pad, str) else None)
            return cls(tokenizer=load_tokenizer(settings), source=path)
        except ModelError as error:
            return cls(missing=f"{error}; name a model with --model")

    def texts(self, ids: list[int], text: str) -> list[str] | None:
        """The text of each token of a completion; None where nothing spells them.

        In place of a special token's text, which is empty, stand U+0000 and its name.
        """
        pieces = None if self.tokenizer is None else token_texts(self.tokenizer, ids, text)
        if pieces is None:
            return None
        special = set(self.tokenizer.all_special_ids)
        return [
            f"\x00{self.tokenizer.convert_ids_to_tokens(token)}" if token in special and not piece else piece
            for token, piece in zip(ids, pieces, strict=True)
        ]


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
    special = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    for dropped in (special, {*special, *ids[-1:]}):
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
