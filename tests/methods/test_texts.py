import pytest
import torch

from progrpo.methods._texts import line_steps, place_of


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["so", "</think>", "4"], (1, 2)),
        (["so<", "/thi", "nk", ">4", "5"], (0, 4)),  # begins in the first token, ends in the fourth
        (["", "</think>"], (1, 2)),
        (["</think>", "</think>"], (0, 1)),  # the first
        (["<think>", "4"], None),
        (["</thi", "nk"], None),
        ([], None),
    ],
)
def test_the_tokens_that_hold_a_mark(texts: list[str], expected: tuple[int, int] | None) -> None:
    assert place_of(texts, "</think>") == expected


def test_steps_end_with_lines() -> None:
    texts = [
        ["a", "b\n", "c", "\n", "\n", " ", "d"],  # blank tokens belong to the step before them
        ["\n", "a"],
        ["a\nb", "c"],
        [],
    ]
    steps = line_steps(texts, 8)
    assert steps.tolist() == [
        [0, 0, 1, 1, 1, 1, 2, -1],
        [0, 1, -1, -1, -1, -1, -1, -1],
        [0, 1, -1, -1, -1, -1, -1, -1],
        [-1] * 8,
    ]
    assert steps.dtype == torch.long
