import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.algo.confidence import low_count, sequence_confidence, sequence_log_confidence, sequence_logprob
from progrpo.errors import ShapeError


def logs(*probabilities: float) -> torch.Tensor:
    return torch.tensor([[math.log(p) for p in probabilities]])


def everything(values: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(values, dtype=torch.bool)


def test_geometric_mean_of_the_lowest_fifth() -> None:
    # 10 tokens, ceil(0.2 * 10) = 2 lowest: 0.1 and 0.4; sqrt(0.1 * 0.4) = 0.2
    values = logs(0.9, 0.1, 0.8, 0.9, 0.4, 0.9, 0.9, 0.9, 0.9, 0.5)
    assert sequence_confidence(values, everything(values)).item() == pytest.approx(0.2)


def test_arithmetic_mean() -> None:
    # the same two: (0.1 + 0.4) / 2 = 0.25
    values = logs(0.9, 0.1, 0.8, 0.9, 0.4, 0.9, 0.9, 0.9, 0.9, 0.5)
    assert sequence_confidence(values, everything(values), mean="arithmetic").item() == pytest.approx(0.25)


def test_fraction_one_is_length_normalised_likelihood() -> None:
    # (0.5 * 0.25 * 0.5 * 0.25) ** (1/4) = 2 ** (-6/4)
    values = logs(0.5, 0.25, 0.5, 0.25)
    assert sequence_confidence(values, everything(values), fraction=1.0).item() == pytest.approx(2**-1.5)


@pytest.mark.parametrize(
    ("length", "rounding", "expected"),
    [
        (1, "ceil", 1), (5, "ceil", 1), (6, "ceil", 2), (10, "ceil", 2), (11, "ceil", 3),
        (35, "ceil", 7),  # 0.2 * 35 = 7.000000000000001 in floats: a bare ceiling gives 8
        (4, "floor", 1), (9, "floor", 1), (10, "floor", 2),
        (7, "round", 1), (8, "round", 2), (3, "round", 1),
        (0, "ceil", 0), (0, "floor", 0),
    ],
)  # fmt: skip
def test_number_of_low_tokens(length: int, rounding: str, expected: int) -> None:
    assert low_count(torch.tensor([length]), fraction=0.2, rounding=rounding).tolist() == [expected]


@given(st.integers(1, 5000), st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.7, 1.0]))
def test_ceiling_agrees_with_exact_arithmetic(length: int, fraction: float) -> None:
    from fractions import Fraction

    exact = math.ceil(Fraction(str(fraction)) * length)
    assert low_count(torch.tensor([length]), fraction=fraction, rounding="ceil").item() == exact


def test_selection_by_entropy() -> None:
    # the highest entropy is at token 2, whose probability is 0.8; the lowest probability, 0.1, is not selected
    values = logs(0.1, 0.9, 0.8, 0.9, 0.9)
    entropy = torch.tensor([[0.1, 0.2, 0.9, 0.3, 0.3]])
    assert sequence_confidence(values, everything(values), entropy=entropy).item() == pytest.approx(0.8)


def test_ties_in_entropy_go_to_the_earlier_token() -> None:
    values = logs(0.9, 0.3, 0.6, 0.9, 0.9)
    entropy = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0]])
    assert sequence_confidence(values, everything(values), entropy=entropy).item() == pytest.approx(0.3)


def test_masked_positions_may_hold_anything() -> None:
    values = torch.tensor([[-0.5, float("nan"), float("-inf"), 7.0, -1.0]])
    mask = torch.tensor([[True, False, False, False, True]])
    # 2 tokens, 1 lowest: exp(-1)
    assert sequence_confidence(values, mask).item() == pytest.approx(math.exp(-1))


def test_padding_changes_nothing() -> None:
    values = torch.log(torch.rand(4, 13, generator=torch.Generator().manual_seed(0)))
    padded = torch.cat([values, torch.full((4, 9), -50.0)], dim=1)
    mask = torch.cat([everything(values), torch.zeros(4, 9, dtype=torch.bool)], dim=1)
    assert torch.equal(sequence_confidence(padded, mask), sequence_confidence(values, everything(values)))


def test_rows_are_independent() -> None:
    values = torch.log(torch.rand(5, 13, generator=torch.Generator().manual_seed(1)))
    order = torch.tensor([3, 1, 4, 0, 2])
    whole = sequence_confidence(values, everything(values))
    assert torch.equal(sequence_confidence(values[order], everything(values)), whole[order])


def test_a_row_without_a_token_gives_nan_and_leaves_others_alone() -> None:
    values = torch.tensor([[-1.0, -2.0], [-1.0, -2.0]])
    mask = torch.tensor([[False, False], [True, True]])
    result = sequence_confidence(values, mask)
    assert result[0].isnan()
    assert result[1].item() == pytest.approx(math.exp(-2))


def test_minus_infinity_gives_confidence_zero() -> None:
    values = torch.tensor([[-1.0, float("-inf"), -1.0]])
    assert sequence_confidence(values, everything(values)).item() == 0.0


def test_bf16_is_averaged_in_float32() -> None:
    values = torch.log(torch.rand(2, 4096, generator=torch.Generator().manual_seed(2))).bfloat16()
    result = sequence_confidence(values, everything(values))
    assert result.dtype == torch.float32
    assert torch.equal(result, sequence_confidence(values.float(), everything(values)))


def test_no_gradient_flows() -> None:
    values = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    assert not sequence_confidence(values, everything(values)).requires_grad


def test_input_is_unchanged() -> None:
    values, mask = torch.tensor([[-3.0, -1.0, -2.0]]), torch.tensor([[True, True, False]])
    before = values.clone(), mask.clone()
    sequence_confidence(values, mask)
    assert torch.equal(values, before[0])
    assert torch.equal(mask, before[1])


def test_shapes_are_compared() -> None:
    with pytest.raises(ShapeError, match=r"mask: expected shape \(2, 3\), got \(2, 4\)"):
        # the decorated annotations would refuse it first, so the check is reached without them
        sequence_confidence.__wrapped__(torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction: expected a value in"):
        sequence_confidence(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), fraction=fraction)


def test_the_logarithm_by_hand_and_where_the_probability_underflows() -> None:
    # the lowest of five: log 0.5; of -200 only the log is left
    logprobs = torch.tensor([[-0.1, -0.2, math.log(0.5), -0.3, -0.4], [-200.0, -0.2, -0.3, -0.1, -0.1]])
    mask = torch.ones(2, 5, dtype=torch.bool)
    assert sequence_log_confidence(logprobs, mask).tolist() == pytest.approx([math.log(0.5), -200.0])
    assert sequence_confidence(logprobs, mask).tolist() == pytest.approx([0.5, 0.0])
    # of all tokens, the mean: -(0.1 + 0.2 + 0.69315 + 0.3 + 0.4) / 5
    assert sequence_log_confidence(logprobs, mask, fraction=1.0)[0].item() == pytest.approx(-0.33863, abs=1e-5)
    # the mean of the two lowest probabilities 0.5 and exp(-0.4) = 0.67032: log 0.58516
    assert sequence_log_confidence(logprobs, mask, fraction=0.4, mean="arithmetic")[0].item() == pytest.approx(
        math.log(0.58516), abs=1e-5
    )


def test_the_log_probability_of_a_whole_sequence() -> None:
    logprobs = torch.tensor([[-1.0, -0.5, 7.0], [3.0, 3.0, 3.0]])
    mask = torch.tensor([[True, True, False], [False] * 3])
    found = sequence_logprob(logprobs, mask)
    assert found[0].item() == -1.5
    assert math.isnan(found[1].item())
    assert math.isnan(sequence_log_confidence(logprobs, mask)[1].item())
