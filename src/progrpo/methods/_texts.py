"""Where steps and marks are in a completion, from the texts of its tokens."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Place(NamedTuple):
    """The tokens that hold a mark: from `first` on, up to `end`, which holds none of it any more."""

    first: int
    end: int


def place_of(texts: Sequence[str], mark: str) -> Place | None:
    """The tokens of a completion that hold the first `mark`, which may begin or end within a token; None without it."""
    start = "".join(texts).find(mark)
    if start < 0:
        return None
    first = end = at = 0
    for index, text in enumerate(texts):
        if at <= start < at + len(text):
            first = index
        at += len(text)
        if at >= start + len(mark):
            end = index + 1
            break
    return Place(first, end)


def line_steps(texts: Sequence[Sequence[str]], width: int) -> Int[Tensor, "N S"]:
    """The number of the step that each token belongs to, from 0 on; -1 behind the last token.

    A step ends with a token that has a line break in it; tokens of line breaks alone that follow belong to that step, too, so
    that empty lines make none.

    Args:
        texts: of each completion's tokens. width: S.
    """
    steps = torch.full((len(texts), width), -1)
    for row, completion in enumerate(texts):
        number, ended, numbers = 0, False, []
        for text in completion:
            if ended and text.strip():
                number, ended = number + 1, False
            numbers.append(number)
            ended = ended or "\n" in text
        steps[row, : len(numbers)] = torch.tensor(numbers, dtype=torch.long)
    return steps
