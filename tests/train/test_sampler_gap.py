import math

import pytest
import torch

from progrpo.train.sampler_gap import SamplerGap, _quantile


def test_by_hand() -> None:
    # ratios 1.2, 1, 0.8 | 1.05 and a masked one; |d| 0.18232 0 0.22314 0.04879; two of four outside [0.9, 1.1]
    gap = SamplerGap()
    sampler = torch.tensor([[-1.0, -2.0, -0.5]])
    gap.add(sampler + torch.tensor([[1.2, 1.0, 0.8]]).log(), sampler, torch.tensor([[True, True, True]]))
    gap.add(torch.tensor([[math.log(1.05), 9.0]]), torch.zeros(1, 2), torch.tensor([[True, False]]))
    found = {name: ratio.value for name, ratio in gap.metrics().items()}
    assert found["sampler/gap"] == pytest.approx(0.45425 / 4, abs=1e-5)
    # sorted 0 0.04879 0.18232 0.22314, position 0.95 * 3 = 2.85
    assert found["sampler/gap_p95"] == pytest.approx(0.18232 + 0.85 * 0.04082, abs=1e-5)
    assert found["sampler/outside"] == 0.5
    # r - 1 - log r: 0.01768 0 0.02314 0.00121
    assert found["sampler/kl"] == pytest.approx(0.04203 / 4, abs=1e-5)


def test_nothing_is_logged_of_nothing() -> None:
    assert SamplerGap().metrics() == {}
    empty = SamplerGap()
    empty.add(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool))
    assert empty.metrics() == {}


@pytest.mark.parametrize("count", [1, 2, 3, 20, 21, 1000])
def test_the_quantile_is_torchs_without_its_limit(count: int) -> None:
    values = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    for level in (0.0, 0.5, 0.95, 1.0):
        assert _quantile(values, level) == float(values.quantile(level))


@pytest.mark.slow
def test_a_gap_of_more_tokens_than_torchs_quantile_takes() -> None:
    gap, rows = SamplerGap(), torch.zeros(1, 2**24 + 1)
    gap.add(rows + 0.01, rows, torch.ones(rows.shape, dtype=torch.bool))
    assert gap.metrics()["sampler/gap_p95"].value == pytest.approx(0.01, rel=1e-5)
