"""Which sequences each process forwards."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.train.rows import TokenRows
from progrpo.train.share import shares


def rows_of(prompts: list[int], completions: list[list[int]]) -> TokenRows:
    """TokenRows by the lengths of prompts, and of the completions of each."""
    return TokenRows(
        prompts=tuple(torch.zeros(prompts[p], dtype=torch.long) for p in range(len(prompts)) for _ in completions[p]),
        completions=tuple(torch.zeros(length, dtype=torch.long) for lengths in completions for length in lengths),
        group=len(completions[0]),
    )


def test_the_largest_group_goes_first_to_whoever_has_least() -> None:
    # Tokens of the groups: 2+8+8 = 18, 2+3+3 = 8, 2+4+2 = 8, 2+1+1 = 4; together 38, 19 for each of two processes.
    rows = rows_of([2, 2, 2, 2], [[8, 8], [3, 3], [4, 2], [1, 1]])
    # 18 to the first; 8 and 8 to the second (16 < 18); 4 to the second (16 < 18).
    assert [share.tolist() for share in shares(rows, torch.arange(8), 2)] == [[0, 1], [2, 3, 4, 5, 6, 7]]


def test_a_group_beyond_an_even_share_is_cut_unless_it_must_not() -> None:
    # One group of 3 + 4 * 5 = 23 tokens: 11.5 each. Pieces: 3+5 = 8 (with the next 13), so one completion a piece.
    rows = rows_of([3], [[5, 5, 5, 5]])
    assert [share.tolist() for share in shares(rows, torch.arange(4), 2)] == [[0, 2], [1, 3]]
    whole = shares(rows, torch.arange(4), 2, keep_groups_together=True)
    assert [share.tolist() for share in whole] == [[0, 1, 2, 3], []]


@given(
    completions=st.lists(st.lists(st.integers(1, 30), min_size=3, max_size=3), min_size=1, max_size=7),
    count=st.integers(1, 5),
    keep=st.booleans(),
    drop=st.integers(0, 3),
)
def test_shares_hold_every_sequence_once_and_are_even(
    completions: list[list[int]], count: int, keep: bool, drop: int
) -> None:
    rows = rows_of([4] * len(completions), completions)
    index = torch.tensor([n for n in range(3 * len(completions)) if n % 4 != drop], dtype=torch.long)
    divided = shares(rows, index, count, keep_groups_together=keep)
    assert len(divided) == count
    assert sorted(n for share in divided for n in share.tolist()) == index.tolist()
    assert all(share.tolist() == sorted(share.tolist()) for share in divided)
    if keep:
        groups = [{n // 3 for n in share.tolist()} for share in divided]
        assert sum(map(len, groups)) == len(set().union(*groups))
    # Given away largest first, no process has more than the mean and the largest piece.
    pieces = [4 + sum(len(rows.completions[n]) for n in index.tolist() if n // 3 == p) for p in range(len(completions))]
    tokens = [
        sum(len(rows.completions[n]) for n in share.tolist()) + 4 * len({n // 3 for n in share.tolist()})
        for share in divided
    ]
    assert max(tokens) <= sum(tokens) / count + max(pieces)
