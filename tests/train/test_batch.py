import pytest
import torch

from progrpo.methods.step import part_of_batch
from progrpo.model import LanguageModel
from progrpo.train.columns import column_mask, pad_columns
from progrpo.train.micro_batch import micro_batches
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.train.rows import TokenRows, make_rows
from progrpo.train.token_counts import TokenCounts
from progrpo.types import Group

CPU = torch.device("cpu")


def test_verdicts_are_there_where_they_are_asked_for(groups: tuple[Group, ...]) -> None:
    assert make_rollout_batch(groups, frozenset()).verdicts == ()
    batch = make_rollout_batch(groups, frozenset({"verdicts"}))
    assert batch.verdicts == tuple(group.verdicts for group in groups)
    assert part_of_batch(batch, slice(1, 3)).verdicts == batch.verdicts[1:3]


def test_rollout_batch_holds_what_the_groups_hold(groups: tuple[Group, ...]) -> None:
    batch = make_rollout_batch(groups, frozenset({"entropies", "prompt_logprobs"}))
    assert batch.rewards.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]]
    for p, group in enumerate(groups):
        for g, completion in enumerate(group.completions):
            n, length = 3 * p + g, len(completion.token_ids)
            assert batch.lengths[p, g] == length
            assert batch.mask[n].sum() == length
            assert torch.equal(batch.old_logprobs[n, :length], completion.sampler_logprobs)
            assert torch.equal(batch.entropies[n, :length], completion.entropies)
            assert not batch.old_logprobs[n, length:].any()
        prompt = len(group.prompt_ids)
        assert torch.equal(batch.prompt_logprobs[p, :prompt], group.prompt_logprobs)
        assert batch.prompt_mask[p].tolist() == [0 < t < prompt for t in range(batch.prompt_mask.shape[1])]


def test_only_what_is_needed_is_stacked(groups: tuple[Group, ...]) -> None:
    batch = make_rollout_batch(groups, frozenset())
    assert batch.entropies is None
    assert batch.prompt_logprobs is None


def test_micro_batches_hold_every_sequence_once_within_the_budget(
    groups: tuple[Group, ...], tiny_model: LanguageModel
) -> None:
    rows = make_rows(groups)
    index = torch.tensor([7, 0, 3, 11, 5, 2])
    for budget in (1, 40, 10_000):
        seen = []
        for micro in micro_batches(rows, index, columns=9, budget=budget, pad_id=0, device=CPU, share=False):
            assert micro.tokens.numel() <= budget or len(micro.index) == 1
            seen += micro.index.tolist()
            for row, n in enumerate(micro.index.tolist()):
                whole = torch.cat([rows.prompts[n], rows.completions[n]])
                assert torch.equal(micro.tokens[row][micro.present[row]], whole)
                assert torch.equal(micro.tokens[row][micro.scored[row]], rows.completions[n])
                assert micro.mask[row].sum() == len(rows.completions[n])
        assert sorted(seen) == sorted(index.tolist())


@pytest.mark.parametrize("share", [False, True])
def test_columns_take_the_scored_tokens_in_order(groups: tuple[Group, ...], share: bool) -> None:
    rows = make_rows(groups)
    index = torch.arange(12)
    (micro,) = micro_batches(rows, index, columns=9, budget=10_000, pad_id=0, device=CPU, share=share)
    columns = micro.as_columns(micro.tokens.float())
    for row, n in enumerate(micro.index.tolist()):
        assert columns[row, : len(rows.completions[n])].tolist() == rows.completions[n].tolist()
        assert not columns[row, len(rows.completions[n]) :].any()


def test_padding_helpers() -> None:
    assert pad_columns([torch.tensor([1.0]), torch.tensor([2.0, 3.0])]).tolist() == [[1, 0], [2, 3]]
    assert pad_columns([torch.zeros(0)]).tolist() == [[0.0]]
    assert column_mask(torch.tensor([0, 2]), 3).tolist() == [[False] * 3, [True, True, False]]


def made_up(prompts: list[int], lengths: list[list[int]]) -> TokenRows:
    """Groups with prompts 100, 101, ... and completions 0, 1, 2, ... of these lengths."""
    return TokenRows(
        prompts=tuple(torch.arange(100, 100 + q) for q, own in zip(prompts, lengths, strict=True) for _ in own),
        completions=tuple(torch.arange(n) for own in lengths for n in own),
        group=len(lengths[0]),
    )


def test_a_packed_line_holds_each_prompt_once() -> None:
    rows = made_up([2, 3], [[2, 1], [1, 3]])
    (micro,) = micro_batches(rows, torch.tensor([0, 2, 3]), columns=3, budget=20, pad_id=0, device=CPU, share=True)
    # The larger part first: group 1 (3 + 1 + 3), then sequence 0 alone (2 + 2).
    assert micro.index.tolist() == [2, 3, 0]
    assert micro.tokens.tolist() == [[100, 101, 102, 0, 0, 1, 2, 100, 101, 0, 1]]
    assert micro.positions.tolist() == [[0, 1, 2, 3, 3, 4, 5, 0, 1, 2, 3]]
    # Both completions of group 1 follow token 2, the last of their prompt; a prompt's first token names itself.
    assert micro.previous.tolist() == [[0, 0, 1, 2, 2, 4, 5, 7, 7, 8, 9]]
    assert micro.scored.int().tolist() == [[0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1]]
    assert [(p.first, p.column, p.length) for p in micro.prompts] == [(2, 0, 3), (0, 7, 2)]
    assert micro.token_counts == TokenCounts(positions=11, padding=0, repeated_prompt=0, logit_rows=6)


def test_lines_keep_to_the_budget_and_repeat_a_prompt_only_where_a_group_is_cut() -> None:
    rows = made_up([4, 4], [[5, 5, 5], [1, 1, 1]])
    micros = list(micro_batches(rows, torch.arange(6), columns=5, budget=14, pad_id=0, device=CPU, share=True))
    # 4 + 5 + 5 fills a line; 4 + 5 is left of group 0, and 4 + 1 + 1 + 1 finds no room beside it.
    assert [micro.index.tolist() for micro in micros] == [[0, 1], [2], [3, 4, 5]]
    assert [micro.tokens.numel() for micro in micros] == [14, 9, 7]
    assert [micro.repeated for micro in micros] == [0, 4, 0]


def test_the_work_of_a_rectangle() -> None:
    rows = made_up([4, 2], [[5, 1], [1, 3]])
    (micro,) = micro_batches(rows, torch.arange(4), columns=5, budget=99, pad_id=0, device=CPU, share=False)
    # 4 rows of 9; 9 + 5 + 3 + 5 = 22 tokens, of which a second prompt of 4 and one of 2 are repeats.
    assert micro.token_counts == TokenCounts(positions=36, padding=14, repeated_prompt=6, logit_rows=10)
    # The scoring pass counts a prompt again that another micro-batch of it had.
    halves = micro_batches(rows, torch.arange(2), columns=5, budget=9, pad_id=0, device=CPU, share=False)
    assert [micro.repeated for micro in halves] == [0, 4]
