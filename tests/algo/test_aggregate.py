import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.algo.aggregate import sequence_weights, weighted_sum

LENGTHS = torch.tensor([[2, 6], [4, 4]])  # tokens per group 8 and 8, in all 16; P = 2, N = 4


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("group_token", [[1 / 16, 1 / 16], [1 / 16, 1 / 16]]),  # 1 / (2 * 8)
        ("token", [[1 / 16, 1 / 16], [1 / 16, 1 / 16]]),  # 1 / 16
        ("sequence", [[1 / 8, 1 / 24], [1 / 16, 1 / 16]]),  # 1 / (4 * len)
        ("fixed", [[1 / 40] * 2] * 2),  # 1 / (4 * 10)
    ],
)
def test_weights(how: str, expected: list[list[float]]) -> None:
    weights = sequence_weights(LENGTHS, how=how, fixed_length=10)
    assert weights.tolist() == [pytest.approx(row) for row in expected]


def test_group_token_differs_from_token_where_groups_differ_in_length() -> None:
    # tokens of the groups 3 and 9: 1/(2*3), 1/(2*9), against 1/12 for all
    lengths = torch.tensor([[1, 2], [4, 5]])
    assert sequence_weights(lengths, how="group_token").tolist() == [
        pytest.approx([1 / 6] * 2),
        pytest.approx([1 / 18] * 2),
    ]
    assert sequence_weights(lengths, how="token").tolist() == [pytest.approx([1 / 12] * 2)] * 2


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=4), st.integers(0, 99))
def test_each_rule_equals_its_textbook_form(lengths: list[list[int]], seed: int) -> None:
    counts = torch.tensor(lengths)
    values = torch.randn(counts.numel(), 9, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(9)[None, :] < counts.flatten()[:, None]
    rows = [values[n, : counts.flatten()[n]] for n in range(counts.numel())]
    groups = [torch.cat(rows[3 * p : 3 * p + 3]) for p in range(len(lengths))]

    def mean(parts: list[torch.Tensor]) -> float:
        return sum(part.mean().item() if len(part) else 0.0 for part in parts) / len(parts)

    textbook = {
        "group_token": mean(groups),
        "token": mean([torch.cat(rows)]),
        "sequence": mean(rows),
        "fixed": sum(row.sum().item() for row in rows) / (len(rows) * 7),
    }
    for how, expected in textbook.items():
        weights = sequence_weights(counts, how=how, fixed_length=7).flatten()
        assert weighted_sum(values, mask, weights).item() == pytest.approx(expected, abs=1e-5)


def test_empty_sequences_weigh_nothing() -> None:
    lengths = torch.tensor([[0, 0], [0, 3]])
    for how in ("group_token", "token", "sequence", "fixed"):
        weights = sequence_weights(lengths, how=how, fixed_length=5)
        assert torch.isfinite(weights).all()
        assert weights[lengths == 0].tolist() == [0.0, 0.0, 0.0]


def test_weighted_sum_ignores_what_is_masked_and_stops_its_gradient() -> None:
    values = torch.tensor([[1.0, float("nan")], [2.0, 3.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, True]])
    total = weighted_sum(values, mask, torch.tensor([0.5, 0.1]))
    total.backward()
    assert total.item() == pytest.approx(0.5 * 1 + 0.1 * 5)
    assert values.grad.tolist() == [[0.5, 0.0], pytest.approx([0.1, 0.1])]


def test_splitting_a_step_changes_no_gradient() -> None:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(6, 5, generator=generator, requires_grad=True)
    lengths = torch.tensor([[5, 2, 3], [1, 4, 5]])
    mask = torch.arange(5)[None, :] < lengths.flatten()[:, None]
    weights = sequence_weights(lengths, how="sequence").flatten()
    weighted_sum(values, mask, weights).backward()
    whole = values.grad.clone()
    values.grad = None
    for part in ([4], [0, 5], [1, 2, 3]):
        weighted_sum(values[part], mask[part], weights[part]).backward()
    assert torch.equal(values.grad, whole)


@pytest.mark.parametrize("fixed_length", [None, 0, -3])
def test_fixed_needs_a_length(fixed_length: int | None) -> None:
    with pytest.raises(ValueError, match="fixed_length"):
        sequence_weights(LENGTHS, how="fixed", fixed_length=fixed_length)


def test_lengths_are_unchanged() -> None:
    lengths = LENGTHS.clone()
    sequence_weights(lengths, how="token")
    assert torch.equal(lengths, LENGTHS)


def test_dropped_sequences_count_nowhere() -> None:
    # Of 2 groups of 2 the second group and one sequence of the first are dropped: N = 1, P = 1, 3 tokens.
    lengths = torch.tensor([[3, 2], [4, 5]])
    kept = torch.tensor([[True, False], [False, False]])
    for how, expected in (("group_token", 1 / 3), ("token", 1 / 3), ("sequence", 1 / 3), ("fixed", 1 / 10)):
        weights = sequence_weights(lengths, how=how, fixed_length=10, kept=kept)
        assert weights.flatten().tolist() == pytest.approx([expected, 0, 0, 0])
    assert sequence_weights(lengths, kept=torch.zeros_like(kept)).sum() == 0
