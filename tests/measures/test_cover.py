"""Cover@τ by hand, at its edges, and against Pass@k, of which it is the other side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.errors import ConfigError
from progrpo.measures import load
from progrpo.measures.cover import Params, covered, measure
from progrpo.settings import Choice
from stand_ins.judged import counts, judged


def test_by_hand() -> None:
    # 2 of 4 are right: a quarter and a half are reached, three quarters are not.
    assert measure(judged(4, 2), Params()) == {"cover@0.25": 1.0, "cover@0.5": 1.0, "cover@0.75": 0.0}
    (chosen,) = load([Choice(name="cover", tau=[1, 0.1])])
    assert chosen.measure(judged(3, 0)) == {"cover@1.0": 0.0, "cover@0.1": 0.0}


@pytest.mark.parametrize("tenths", range(1, 11))
def test_a_share_is_reached_exactly(tenths: int) -> None:
    """As floats 0.7 * 10 is more than 7."""
    tau = float(f"0.{tenths}") if tenths < 10 else 1.0
    assert covered(10, tenths, tau)
    assert not covered(10, tenths - 1, tau)
    assert covered(1000, 100 * tenths, tau)


@given(counts, st.floats(0.01, 1), st.floats(0.01, 1))
def test_it_falls_with_tau_and_grows_with_correct_samples(case: tuple[int, int], one: float, other: float) -> None:
    n, c = case
    low, high = sorted((one, other))
    assert covered(n, c, low) >= covered(n, c, high)
    assert c == n or covered(n, c + 1, low) >= covered(n, c, low)
    assert covered(n, n, high)
    assert not covered(n, 0, low)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=6), st.integers(1, 20))
def test_pass_at_k_is_an_average_of_it(correct: list[int], k: int) -> None:
    """E[1 − (1−p)^k] = ∫ k (1−τ)^(k−1) Cover@τ dτ: with p = c/8 Cover is constant between eighths, and the weight integrates
    to (1−a)^k − (1−b)^k there."""
    expected = sum(1 - (1 - c / 8) ** k for c in correct) / len(correct)
    cover = {j: sum(covered(8, c, j / 8) for c in correct) / len(correct) for j in range(1, 9)}
    averaged = sum(share * ((1 - (j - 1) / 8) ** k - (1 - j / 8) ** k) for j, share in cover.items())
    assert averaged == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("case", [(0, 0, 0.5), (3, 4, 0.5), (3, -1, 0.5), (3, 1, 0.0), (3, 1, 1.1)])
def test_what_cannot_be_is_refused(case: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="cover@τ: expected"):
        covered(*case)


@pytest.mark.parametrize("tau", [[0.0], [1.5], []])
def test_settings_are_shares(tau: list[float]) -> None:
    with pytest.raises(ConfigError, match="tau"):
        load([Choice(name="cover", tau=tau)])
