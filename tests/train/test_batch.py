import torch

from progrpo.model import LanguageModel
from progrpo.train.batch import column_mask, make_rollout_batch, make_rows, micro_batches, pad_columns
from progrpo.types import Group


def test_rollout_batch_holds_what_the_groups_hold(groups: tuple[Group, ...]) -> None:
    batch = make_rollout_batch(groups, frozenset({"entropies", "prompt_logprobs"}))
    assert batch.rewards.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]]
    for p, group in enumerate(groups):
        for g, completion in enumerate(group.completions):
            n, length = 3 * p + g, len(completion.token_ids)
            assert batch.lengths[p, g] == length
            assert batch.mask[n].sum() == length
            assert torch.equal(batch.logprobs[n, :length], completion.logprobs)
            assert torch.equal(batch.entropies[n, :length], completion.entropies)
            assert not batch.logprobs[n, length:].any()
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
        for micro in micro_batches(rows, index, columns=9, budget=budget, pad_id=0, device=torch.device("cpu")):
            assert micro.tokens.numel() <= budget or len(micro.index) == 1
            seen += micro.index.tolist()
            for row, n in enumerate(micro.index.tolist()):
                whole = torch.cat([rows.prompts[n], rows.completions[n]])
                assert torch.equal(micro.tokens[row][micro.present[row]], whole)
                assert torch.equal(micro.tokens[row][micro.scored[row]], rows.completions[n])
                assert micro.mask[row].sum() == len(rows.completions[n])
        assert sorted(seen) == sorted(index.tolist())


def test_columns_take_the_scored_tokens_in_order(groups: tuple[Group, ...]) -> None:
    rows = make_rows(groups)
    index = torch.arange(12)
    (micro,) = micro_batches(rows, index, columns=9, budget=10_000, pad_id=0, device=torch.device("cpu"))
    columns = micro.as_columns(micro.tokens.float())
    for row, n in enumerate(micro.index.tolist()):
        assert columns[row, : len(rows.completions[n])].tolist() == rows.completions[n].tolist()
        assert not columns[row, len(rows.completions[n]) :].any()


def test_padding_helpers() -> None:
    assert pad_columns([torch.tensor([1.0]), torch.tensor([2.0, 3.0])]).tolist() == [[1, 0], [2, 3]]
    assert pad_columns([torch.zeros(0)]).tolist() == [[0.0]]
    assert column_mask(torch.tensor([0, 2]), 3).tolist() == [[False] * 3, [True, True, False]]
