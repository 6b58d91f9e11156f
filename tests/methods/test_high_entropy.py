import math

import pytest

from progrpo import methods
from progrpo.errors import ConfigError
from progrpo.methods import Method
from progrpo.settings import Choice
from stand_ins.method_steps import make_case, random_case, require_close, require_same, split, take_step
from stand_ins.naive_methods import for_all_tokens, group_relative, high_entropy_tokens, surrogate_loss

OLD = [[-1.0, -2.0, -3.0], [-1.0, -2.0]]
ENTROPIES = [[0.2, 1.5, 0.9], [1.1, 0.1]]
A = math.sqrt(0.5)


def load(**params: object) -> Method:
    return methods.load(Choice(name="high_entropy", **params))


def test_by_hand() -> None:
    # 0.4 of 5 tokens are the two of entropy 1.5 and 1.1; they alone count: 1/2 each. Ratios 1.25 and 1, A = +-sqrt(1/2):
    #   J = (1.25 A - A)/2, slopes 1.25 A/2 and -A/2
    now = [[-1.0, -2.0 + math.log(1.25), -3.0], OLD[1]]
    case = make_case(2, [1.0, 0.0], OLD, now=now, entropies=ENTROPIES)
    taken = take_step(load(fraction=0.4, eps=0.0), case)
    assert taken.made.keep.tolist() == [[False, True, False], [True, False, False]]
    assert taken.loss == pytest.approx(-0.125 * A)
    require_close(taken.gradient, [[0.0, -1.25 * A / 2, 0.0], [A / 2, 0.0]])


@pytest.mark.parametrize(
    ("fraction", "tokens"), [(0.01, 1), (0.2, 1), (0.21, 2), (0.4, 2), (0.6, 3), (0.99, 5), (1.0, 5)]
)
def test_the_share_is_rounded_up(fraction: float, tokens: int) -> None:
    # of 5; 0.2 * 5 is 1 and 0.6 * 5 is 3, whatever they are in binary
    taken = take_step(load(fraction=fraction), make_case(2, [1.0, 0.0], OLD, entropies=ENTROPIES))
    assert int(taken.made.keep.sum()) == tokens


def test_equal_entropies_go_to_the_earlier_token() -> None:
    taken = take_step(load(fraction=0.4), make_case(2, [1.0, 0.0], OLD))
    assert taken.made.keep.tolist() == [[True, True, False], [False, False, False]]


def test_the_step_does_not_shrink_with_the_share() -> None:
    # Of tokens that are all alike, a fifth has the same mean: the gradients add up to the same.
    old = [[-1.0] * 10, [-1.0] * 10]
    entropies = [[1.0 - 0.01 * t for t in range(10)]] * 2
    case = make_case(2, [1.0, 0.0], old, entropies=entropies)
    fifth, everything = (take_step(load(fraction=fraction), case) for fraction in (0.2, 1.0))
    for one, other in zip(fifth.gradient, everything.gradient, strict=True):
        assert sum(one) == pytest.approx(sum(other))
        assert sum(value != 0 for value in one) == 2


@pytest.mark.parametrize(
    ("params", "cut"),
    [
        ({}, False),
        ({"fraction": 0.5, "aggregate": "group_token"}, False),
        ({"fraction": 0.3, "pool": "micro"}, True),
    ],
)
def test_it_is_the_formula_written_as_loops(params: dict[str, object], cut: bool) -> None:
    method = load(**params)
    chosen = method.params
    for seed in range(30):
        case = random_case(seed)
        parts = split(case) if cut else [list(range(len(case.now)))]
        taken = take_step(method, case, parts=parts)
        kept = high_entropy_tokens(case, [pool for pool in parts if pool], fraction=chosen.fraction)
        advantages = for_all_tokens(case, group_relative(case.rewards, case.group))
        expected = surrogate_loss(case, advantages, low=0.2, high=0.28, how=chosen.aggregate, kept=kept)
        require_same(taken, expected, case)
        for n, t in set(case.tokens) - kept:
            assert taken.gradient[n][t] == 0.0
        if not cut:
            require_close(take_step(method, case, parts=split(case)).gradient, taken.gradient)


def test_with_all_tokens_it_is_grpo_with_the_same_clip() -> None:
    grpo = methods.load(Choice(name="grpo", aggregate="token", clip_high=0.28))
    for seed in range(10):
        case = random_case(seed)
        one, other = take_step(load(fraction=1.0), case), take_step(grpo, case)
        assert one.loss == other.loss
        assert one.gradient == other.gradient


def test_defaults_and_needs() -> None:
    params = load().params
    assert (params.fraction, params.clip_low, params.clip_high, params.aggregate) == (0.2, 0.2, 0.28, "token")
    assert load().needs == {"entropies", "refresh"}
    with pytest.raises(ConfigError, match="fraction"):
        load(fraction=0.0)
