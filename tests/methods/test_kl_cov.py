import math
from dataclasses import replace

import pytest

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.methods.step import make_step
from progrpo.settings import Choice
from stand_ins.method_steps import Case, make_case, random_case, require_close, require_same, split, take_step
from stand_ins.naive_methods import covariances, kl_cov, marked_count

# One right completion of two tokens and a wrong one of two: A = +-sqrt(1/2), mean 0. Log-probs -1, -3, -5 and -3 have the
# mean -3, so the covariances are 2A, 0, 2A (-A * -2) and 0.
OLD = [[-1.0, -3.0], [-5.0, -3.0]]
MOVED = [[-1.1, -3.1], [-5.1, -3.1]]
A = math.sqrt(0.5)


def test_by_hand() -> None:
    # The policy moved by ln 2 everywhere but in the last token, by -ln 2 there. Its log-probs have the mean
    # -3 + ln 2 / 2 = -2.6534; distances 2.3466, 0.3466, -1.6534, -1.0397; covariances 1.6593, 0.2451, 1.1691, 0.7352.
    # A quarter of 4 tokens is 1: the first. J = 1/4 (2A - ln 2 + 2A - 2A - A/2); slopes r A/4, the first 1/4 less.
    step = math.log(2)
    now = [[-1.0 + step, -3.0 + step], [-5.0 + step, -3.0 - step]]
    method = methods.load(Choice(name="kl_cov", ratio=0.25, eps=0.0))
    taken = take_step(method, make_case(2, [1.0, 0.0], OLD, now=now))
    assert taken.made.marks.tolist() == [[True, False], [False, False]]
    assert taken.loss == pytest.approx(-(1.5 * A - step) / 4)
    require_close(taken.gradient, [[-(2 * A - 1) / 4, -2 * A / 4], [2 * A / 4, A / 2 / 4]])


def test_the_penalty_pulls_back_from_both_sides() -> None:
    # marked tokens whose log-prob fell have the opposite slope: with coef 2, and all 4 tokens marked, it is
    # -+2 beside r A
    step = math.log(2)
    now = [[-1.0 + step, -3.0 - step], [-5.0 + step, -3.0 - step]]
    method = methods.load(Choice(name="kl_cov", ratio=1.0, coef=2.0, eps=0.0))
    taken = take_step(method, make_case(2, [1.0, 0.0], OLD, now=now))
    slopes = [[2 * A - 2, A / 2 + 2], [-2 * A - 2, -A / 2 + 2]]
    require_close(taken.gradient, [[-slope / 4 for slope in row] for row in slopes])


def test_nothing_is_clipped() -> None:
    # ratio e^3 for a right token and a wrong one: the slope is the ratio times A
    now = [[value + 3 for value in row] for row in OLD]
    method = methods.load(Choice(name="kl_cov", ratio=0.0, eps=0.0))
    taken = take_step(method, make_case(2, [1.0, 0.0], OLD, now=now))
    slope = math.exp(3) * A / 4
    require_close(taken.gradient, [[-slope, -slope], [slope, slope]])


def test_the_penalty_has_no_gradient_on_the_policy_that_sampled() -> None:
    case = random_case(1, drift=0.0)
    all_marked = methods.load(Choice(name="kl_cov", ratio=1.0))
    none = methods.load(Choice(name="kl_cov", ratio=0.0))
    assert take_step(all_marked, case).gradient == take_step(none, case).gradient


@pytest.mark.parametrize(("ratio", "tokens"), [(0.0, 0), (1e-4, 1), (0.3, 1), (0.5, 2), (0.74, 2), (1.0, 4)])
def test_at_least_one_token_is_marked_unless_the_ratio_is_0(ratio: float, tokens: int) -> None:
    # of 4 tokens, rounded down
    taken = take_step(methods.load(Choice(name="kl_cov", ratio=ratio)), make_case(2, [1.0, 0.0], OLD, now=MOVED))
    assert int(taken.made.marks.sum()) == tokens


@pytest.mark.parametrize(
    ("params", "cut"),
    [
        ({"ratio": 0.2}, False),
        ({"ratio": 0.5, "coef": 0.3, "aggregate": "group_token"}, False),
        ({"ratio": 0.4, "pool": "micro"}, True),
    ],
)
def test_it_is_the_formula_written_as_loops(params: dict[str, object], cut: bool) -> None:
    method = methods.load(Choice(name="kl_cov", **params))
    chosen, compared = method.params, 0
    for seed in range(30):
        case = random_case(seed)
        everything = [list(range(len(case.now)))]
        parts = split(case) if cut else everything
        if any(tied(case, pool, chosen.ratio) for pool in parts):
            continue
        compared += 1
        taken = take_step(method, case, parts=parts)
        expected = kl_cov(case, parts, ratio=chosen.ratio, coef=chosen.coef, how=chosen.aggregate)
        require_same(taken, expected, case)
        if chosen.pool == "step":
            require_close(take_step(method, case, parts=split(case)).gradient, taken.gradient)
    assert compared > 10


def tied(case: Case, pool: list[int], ratio: float) -> bool:
    """Whether the last token marked and the first that is not are equal but for rounding (of groups without advantage)."""
    found = sorted(covariances(case, pool).values(), reverse=True)
    count = marked_count(ratio, len(found))
    return 0 < count < len(found) and found[count - 1] - found[count] < 1e-6


@pytest.mark.parametrize("neutral", [{"ratio": 0.0}, {"coef": 0.0}])
def test_without_a_penalty_it_is_the_unclipped_surrogate(neutral: dict[str, float]) -> None:
    own = methods.load(Choice(name="kl_cov", **neutral))
    grpo = methods.load(Choice(name="grpo", aggregate="token", clip_low=1.0, clip_high=1e6))
    for seed in range(10):
        case = random_case(seed)
        one, other = take_step(own, case), take_step(grpo, case)
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
        require_close(one.gradient, other.gradient)


def test_presets_and_needs() -> None:
    found = {name: methods.load(Choice(name="kl_cov", preset=name)).params for name in ("7b", "32b", "verl")}
    assert {name: (params.ratio, params.coef) for name, params in found.items()} == {
        "7b": (2e-3, 1.0),
        "32b": (2e-4, 1.0),
        "verl": (2e-4, 0.1),
    }
    assert methods.load(Choice(name="kl_cov")).needs == {"refresh"}
    with pytest.raises(ConfigError, match="ratio"):
        methods.load(Choice(name="kl_cov", ratio=1.5))


def test_rounding_in_the_first_step_of_a_rollout_is_no_penalty() -> None:
    # Nobody has moved: the training pass gives the numbers of the sampling one but for the last bit, of which |.| would
    # make a gradient of +-coef on the marked tokens.
    own = methods.load(Choice(name="kl_cov"))
    batch = random_case(0).rollout()
    first = make_step(batch, own.advantages(batch), slice(0, len(batch.rewards)), seed=0).batch
    assert not own.reweight(first).marks.any()
    later = replace(first, logprobs=first.logprobs - 0.1)
    assert int(own.reweight(later).marks.sum()) == 1  # max(1, floor(0.002 n))
