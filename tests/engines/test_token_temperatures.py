import math

import pytest
import torch

from progrpo.engines import Sampling
from progrpo.engines.hf.sampling import sample
from progrpo.types import TokenTemperatures

LOGITS = torch.tensor([[math.log(3.0), 0.0]])
LOG_H = math.log(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
"""Of probabilities 3/4 and 1/4: log 0.5623."""


def first_below(sampling: Sampling, *, within: tuple[float, float]) -> bool:
    """Whether the first token is drawn up to a number between these, and the second from there on."""
    tokens = [int(sample(LOGITS, torch.tensor([u], dtype=torch.float64), sampling)[0]) for u in within]
    return tokens == [0, 1]


@pytest.mark.parametrize(
    ("temperatures", "first"),
    [
        # at the centre, none; one unit above, of one: factor 1.5, 3^(1/1.5) : 1, so 0.67534
        (TokenTemperatures(strength=0.5, centre=LOG_H, above=1.0, below=1.0), 0.75),
        (TokenTemperatures(strength=0.5, centre=LOG_H - 1, above=1.0, below=9.0), 0.67534),
        # one unit below, of two: h = -1/2, factor 0.75, 3^(1/0.75) : 1; with the sign turned factor 1.25
        (TokenTemperatures(strength=0.5, centre=LOG_H + 1, above=9.0, below=2.0), 0.81227),
        (TokenTemperatures(strength=0.5, centre=LOG_H + 1, above=9.0, below=-2.0), 0.70659),
        # beyond the extremes h stays 1 and -1: factors 1.5 and 0.5
        (TokenTemperatures(strength=0.5, centre=LOG_H - 7, above=1.0, below=1.0), 0.67534),
        (TokenTemperatures(strength=0.5, centre=LOG_H + 7, above=1.0, below=1.0), 0.9),
    ],
)
def test_a_token_is_drawn_at_the_temperature_of_its_entropy(temperatures: TokenTemperatures, first: float) -> None:
    plain = Sampling(max_new_tokens=1)
    sampling = plain.with_temperatures(temperatures)
    assert first_below(sampling, within=(first - 1e-4, first + 1e-4))
    # What is said of the token is said of the distribution at the run's temperature.
    uniform = torch.tensor([0.3], dtype=torch.float64)
    assert torch.equal(sample(LOGITS, uniform, sampling)[1], sample(LOGITS, uniform, plain)[1])


def test_the_run_s_temperature_is_multiplied() -> None:
    # At T = 2 the odds are sqrt(3) : 1; a factor of 1.5 makes them 3^(1/3) : 1, so 0.59055
    odds = math.sqrt(3)
    share = odds / (1 + odds)
    height = math.log(-share * math.log(share) - (1 - share) * math.log(1 - share))
    hot = Sampling(max_new_tokens=1, temperature=2.0)
    temperatures = TokenTemperatures(strength=0.5, centre=height - 1, above=1.0, below=1.0)
    assert first_below(hot.with_temperatures(temperatures), within=(0.5904, 0.5907))


def test_sampling_with_and_without_are_not_the_same() -> None:
    plain = Sampling(max_new_tokens=1)
    one = plain.with_temperatures(TokenTemperatures(strength=0.5, centre=0.0, above=1.0, below=1.0))
    assert plain.temperatures is None
    assert one != plain
    assert one == plain.with_temperatures(TokenTemperatures(strength=0.5, centre=0.0, above=1.0, below=1.0))
    assert one.model_dump() == plain.model_dump()
