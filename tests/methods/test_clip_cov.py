import math

import pytest
import torch

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from stand_ins.method_steps import Case, make_case, random_case, require_close, require_same, split, take_step
from stand_ins.naive_methods import (
    clip_cov_candidates,
    for_all_tokens,
    group_relative,
    surrogate_loss,
    whole_part,
)

# As in test_kl_cov.py: covariances 2A, 0, 2A and 0 with A = sqrt(1/2), so 1.4142 twice.
OLD = [[-1.0, -3.0], [-5.0, -3.0]]
A = math.sqrt(0.5)
# Six tokens of covariance: A = +-sqrt(1/2), mean 0; log-probs of mean -3 at distances 2, 1, -3 and -2, -1, 3.
#   A * (2, 1, -3) = 1.414, 0.707, -2.121;   -A * (-2, -1, 3) = 1.414, 0.707, -2.121
SIX = [[-1.0, -2.0, -6.0], [-5.0, -4.0, 0.0]]


def load(**params: object) -> Method:
    return methods.load(Choice(name="clip_cov", eps=0.0, **params))


def silenced(method: Method, case: Case, **kwargs: object) -> set[tuple[int, int]]:
    """The tokens that the method drew."""
    weights = take_step(method, case, **kwargs).made.weights
    assert set(weights.unique().tolist()) <= {0.0, 1.0}
    return {(n, t) for n, t in (weights == 0).nonzero().tolist()}


def test_by_hand() -> None:
    # Half of 4 tokens are 2, and two have a covariance between 1 and 5: both lose their gradient, and their place in the
    # mean stays. J = 1/4 (A - A) over the other two; slopes A/4 and -A/4.
    taken = take_step(load(ratio=0.5), make_case(2, [1.0, 0.0], OLD))
    assert taken.made.weights.tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert taken.loss == pytest.approx(0.0, abs=1e-7)
    require_close(taken.gradient, [[0.0, -A / 4], [0.0, A / 4]])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, {(0, 0), (1, 0)}),  # between 1 and 5
        ({"cov_low": 0.5}, {(0, 0), (0, 1), (1, 0), (1, 1)}),
        ({"cov_low": 0.5, "cov_high": 1.0}, {(0, 1), (1, 1)}),
        ({"cov_low": -5.0, "cov_high": 0.0}, {(0, 2), (1, 2)}),
        ({"cov_low": 3.0}, set()),
    ],
)
def test_only_candidates_are_drawn(params: dict[str, float], expected: set[tuple[int, int]]) -> None:
    assert silenced(load(ratio=1.0, **params), make_case(2, [1.0, 0.0], SIX)) == expected


def test_tokens_that_are_clipped_already_are_no_candidates() -> None:
    # The first token of the right completion rose to 1.5 times its probability, that of the wrong one fell to a half: with
    # the clip at 1.2 and 0.8 neither has a gradient to lose. Covariances change a little, but all four stay above 0.1.
    case = make_case(2, [1.0, 0.0], SIX, now=[[-1 + math.log(1.5), -2, -6], [-5 - math.log(2), -4, 0]])
    inside = {"cov_low": 0.1, "ratio": 1.0}
    assert silenced(load(**inside), case) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert silenced(load(clip_low=0.2, clip_high=0.2, **inside), case) == {(0, 1), (1, 1)}
    # and on the other side of the ratio the clip silences nothing
    swapped = make_case(2, [0.0, 1.0], SIX, now=case.now)
    everywhere = {"cov_low": -9.0, "cov_high": 9.0, "ratio": 1.0}
    assert len(silenced(load(clip_low=0.2, clip_high=0.2, **everywhere), swapped)) == 6


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (1e-6, 1), (0.3, 1), (0.34, 2), (0.5, 3), (0.7, 4), (1.0, 4)])
def test_as_many_as_the_ratio_says_and_one_at_least(ratio: float, count: int) -> None:
    # of 6 tokens, rounded down; there are four candidates
    assert len(silenced(load(ratio=ratio, cov_low=0.5), make_case(2, [1.0, 0.0], SIX))) == count


def test_a_ratio_that_is_a_whole_number_of_tokens_is_that_number() -> None:
    # 0.29 * 100 is 28.999999999999996 in binary
    rows = [[-1.0 - 0.01 * t for t in range(50)], [-2.0 - 0.01 * t for t in range(50)]]
    case = make_case(2, [1.0, 0.0], rows)
    assert len(silenced(load(ratio=0.29, cov_low=-9.0), case)) == 29


def test_the_draw_is_that_of_the_step_s_seed() -> None:
    method, case = load(ratio=0.2, cov_low=0.5), make_case(2, [1.0, 0.0], SIX)
    draws = [silenced(method, case, seed=seed) for seed in range(80)]
    assert draws[:20] == [silenced(method, case, seed=seed) for seed in range(20)]
    # one of four: each 20 times, give or take three standard deviations (3.9)
    for token in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert 8 < sum(draw == {token} for draw in draws) < 32


def test_the_draw_does_not_depend_on_torch_s_own_generator_nor_touch_it() -> None:
    method, case = load(ratio=0.2, cov_low=0.5), make_case(2, [1.0, 0.0], SIX)
    torch.manual_seed(1)
    one, before = silenced(method, case, seed=5), torch.get_rng_state()
    torch.manual_seed(2)
    assert silenced(method, case, seed=5) == one
    torch.manual_seed(1)
    silenced(method, case, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("params", [{}, {"pool": "micro"}, {"clip_low": 0.2, "clip_high": 0.2}])
def test_it_is_the_formula_written_as_loops(params: dict[str, object]) -> None:
    method = methods.load(Choice(name="clip_cov", ratio=0.25, cov_low=0.05, cov_high=0.8, **params))
    chosen, drawn, candidates = method.params, 0, 0
    for seed in range(30):
        case = random_case(seed)
        cut = chosen.pool == "micro"
        parts = split(case) if cut else [list(range(len(case.now)))]
        taken = take_step(method, case, parts=parts, seed=seed)
        silent = {(n, t) for n, t in (taken.made.weights == 0).nonzero().tolist()}
        for pool in parts:
            own = {token for token in silent if token[0] in pool}
            possible = clip_cov_candidates(
                case, pool, cov=(chosen.cov_low, chosen.cov_high), clip=(chosen.clip_low, chosen.clip_high)
            )
            tokens = sum(n in pool for n, _ in case.tokens)
            assert own <= possible
            assert len(own) == min(len(possible), max(1, whole_part(chosen.ratio, tokens)))
            drawn, candidates = drawn + len(own), candidates + len(possible)
        advantages = for_all_tokens(case, group_relative(case.rewards, case.group))
        expected = surrogate_loss(
            case, advantages, low=chosen.clip_low, high=chosen.clip_high, how="token", silent=silent
        )
        require_same(taken, expected, case)
        if not cut:
            again = take_step(method, case, parts=split(case), seed=seed)
            require_close(again.gradient, taken.gradient)
    assert 0 < drawn < candidates


def test_ratio_0_is_grpo_with_the_same_clip() -> None:
    own = methods.load(Choice(name="clip_cov", ratio=0.0))
    grpo = methods.load(Choice(name="grpo", aggregate="token", clip_low=1.0, clip_high=1.0))
    for seed in range(10):
        case = random_case(seed)
        one, other = take_step(own, case), take_step(grpo, case)
        assert one.loss == other.loss
        assert one.gradient == other.gradient


def test_defaults_are_the_7b_script_s() -> None:
    params = methods.load(Choice(name="clip_cov")).params
    assert (params.clip_low, params.clip_high, params.ratio) == (1.0, 1.0, 2e-4)
    assert (params.cov_low, params.cov_high) == (1.0, 5.0)
    assert methods.load(Choice(name="clip_cov")).needs == {"refresh"}
