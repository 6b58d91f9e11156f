import pytest

from progrpo import rewards
from progrpo.errors import ConfigError
from progrpo.rewards.length import overlong
from progrpo.settings import Choice
from progrpo.types import Problem

PROBLEM = Problem(id="p", prompt="", answer="6", info={"numbers": [2, 4]})


def load(**settings: object) -> rewards.Reward:
    data = {"over": {"name": "expression"}, "limit_tokens": 20, "buffer_tokens": 8} | settings
    return rewards.load(Choice(name="length", **data))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    # DAPO's own numbers: expected length 16,384, buffer 4,096
    [(0, 0.0), (16_384, 0.0), (18_432, -0.5), (20_480, -1.0), (30_000, -1.0)],
)
def test_the_penalty_of_dapo(tokens: int, expected: float) -> None:
    assert overlong(tokens, limit=20_480, buffer=4_096) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "tokens", "status", "reward", "term"),
    [
        ("2+4", 12, "correct", 1.0, 0.0),
        ("2+4", 16, "correct", 0.0, -1.0),  # 2 * (20 - 8 - 16) / 8
        ("2+4", 20, "correct", -1.0, -2.0),  # long and right is still right
        ("2*4", 20, "wrong", -2.0, -2.0),
    ],
)
def test_the_term_is_added_and_the_status_stays(
    text: str, tokens: int, status: str, reward: float, term: float
) -> None:
    length = load(penalty=2.0)
    verdict = length.length_term(length.score(text, PROBLEM), tokens)
    assert verdict.status == status
    assert verdict.reward == pytest.approx(reward)
    assert verdict.parts == {"expression": pytest.approx(reward - term), "length": pytest.approx(term)}


def test_programs_are_no_answers_to_vote_on_with_a_term_either() -> None:
    assert load().answers
    assert not load(over={"name": "code"}).answers
    both = {"name": "combined", "parts": [{"name": "code"}, {"name": "length", "limit_tokens": 9, "buffer_tokens": 1}]}
    assert not rewards.load(Choice(**both)).answers


def test_it_is_as_slow_as_what_it_stands_over() -> None:
    assert not load().slow
    assert load(over={"name": "math"}).slow
    assert load(over={"name": "math", "wrong_reward": -1.0}).wrong_reward == -1.0


def test_the_other_reward_s_gold_check_counts() -> None:
    assert load().gold_fault(PROBLEM) is None
    assert "numbers must be" in str(load().gold_fault(Problem(id="p", prompt="", answer="6")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"buffer_tokens": 21}, "buffer_tokens=21 exceeds limit_tokens=20"),
        ({"over": {"name": "expresion"}}, "did you mean 'expression'"),
        ({"over": {"name": "expression", "tga": "x"}}, "unknown key 'tga'; did you mean 'tag'"),
        ({"limit_tokens": 0}, "limit_tokens"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, LookupError), match=message):
        load(**settings)
