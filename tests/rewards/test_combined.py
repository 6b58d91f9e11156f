from collections.abc import Callable

import pytest

from progrpo import rewards
from progrpo.errors import ConfigError
from progrpo.settings import Choice
from progrpo.types import Problem

PROBLEM = Problem(id="p", prompt="", answer="6", info={"numbers": [2, 4]})
PART = """
from progrpo.rewards import Params
from progrpo.types import Verdict
def score(text, problem, params):
    if text == "raise":
        raise RuntimeError("boom")
    status = "crashed" if text == "fail" else "wrong"
    return Verdict(status=status, reward=float(len(text)), detail="by length")
"""


@pytest.fixture
def part(make_module: Callable[[str], str]) -> str:
    return make_module(PART)


def load(*parts: dict[str, object]) -> rewards.Reward:
    return rewards.load(Choice(name="combined", parts=list(parts)))


def test_rewards_are_weighted_and_the_first_judges(part: str) -> None:
    both = load({"name": "expression", "weight": 2.0, "wrong_reward": -1.0}, {"name": part, "weight": 0.1})
    right, wrong = both.score("2+4", PROBLEM), both.score("2*4", PROBLEM)
    # 2 * 1 + 0.1 * 3 and 2 * -1 + 0.1 * 3
    assert (right.status, right.reward) == ("correct", pytest.approx(2.3))
    assert (wrong.status, wrong.reward) == ("wrong", pytest.approx(-1.7))
    assert right.parts == {"expression": 1.0, part: 3.0}
    assert (right.extracted, right.canonical) == ("2+4", "2+4")
    assert both.wrong_reward == pytest.approx(-2.0)


def test_a_part_that_fails_makes_the_whole_fail(part: str) -> None:
    verdict = load({"name": "expression"}, {"name": part}).score("fail", PROBLEM)
    assert verdict.status == "crashed"
    assert verdict.detail == "by length"


def test_terms_on_length_keep_their_weight(part: str) -> None:
    long = {"name": "length", "over": {"name": "expression"}, "limit_tokens": 20, "buffer_tokens": 8, "weight": 0.5}
    both = load(long, {"name": part, "weight": 1.0})
    verdict = both.length_term(both.score("2+4", PROBLEM), 16)
    # 0.5 * (1 - 0.5) + 1 * 3
    assert verdict.reward == pytest.approx(3.25)
    assert verdict.parts == {"expression": 1.0, "length": pytest.approx(-0.5), part: 3.0}
    assert verdict.correct


def test_a_part_made_of_several_is_logged_by_those(part: str) -> None:
    long = {"name": "length", "over": {"name": "expression"}, "limit_tokens": 20, "buffer_tokens": 8}
    both = load(long, {"name": part})
    verdict = both.length_term(both.score("2+4", PROBLEM), 16)
    assert verdict.parts == {"expression": 1.0, "length": pytest.approx(-0.5), part: 3.0}
    assert verdict.reward == pytest.approx(3.5)


def test_a_part_that_brings_parts_of_its_own_keeps_its_reward(make_module: Callable[[str], str]) -> None:
    """Which is not the sum of its parts."""
    several = make_module(
        "from progrpo.types import Verdict\n"
        "def score(text, problem):\n"
        "    return Verdict(status='wrong', reward=-1.0, detail='', parts={'a': 1.0, 'expression': 4.0})\n"
    )
    plain = load({"name": several}, {"name": "expression"})
    verdict = plain.length_term(plain.score("2+4", PROBLEM), 16)
    assert verdict.reward == pytest.approx(-1.0 + 1.0)
    assert verdict.parts == {"a": 1.0, f"{several}.expression": 4.0, several: -1.0, "expression": 1.0}
    long = {"name": "length", "over": {"name": several}, "limit_tokens": 20, "buffer_tokens": 8, "weight": 0.5}
    shaped = load(long, {"name": "expression"})
    verdict = shaped.length_term(shaped.score("2+4", PROBLEM), 16)
    assert verdict.reward == pytest.approx(0.5 * (-1.0 - 0.5) + 1.0)
    more = {"a": 1.0, "length.expression": 4.0, several: -1.0, "length": pytest.approx(-0.5)}
    assert verdict.parts == {"expression": 1.0} | more


def test_one_slow_part_makes_it_slow_and_limits_add_up() -> None:
    both = load({"name": "expression"}, {"name": "math"})
    assert both.slow
    assert both.limit_s == 20.0
    assert not load({"name": "expression"}).slow


def test_the_first_fault_of_a_gold_counts(part: str) -> None:
    both = load({"name": part}, {"name": "expression"})
    assert both.gold_fault(PROBLEM) is None
    assert "the target" in str(both.gold_fault(Problem(id="p", prompt="", answer="x")))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "parts"),
        ([{"name": "expression"}, {"name": "expression"}], "'expression' stands twice"),
        ([{"name": "expression", "wrong_rewrad": 1}], "did you mean 'wrong_reward'"),
        ([{"weight": 1.0}], "name"),
        ([{"name": "combined", "parts": [{"name": "expression"}]}], "combined within combined"),
        (
            [
                {
                    "name": "length",
                    "over": {"name": "combined", "parts": [{"name": "expression"}]},
                    "limit_tokens": 9,
                    "buffer_tokens": 1,
                }
            ],
            "combined within combined",
        ),
    ],
)
def test_bad_settings_are_refused(parts: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(*parts)
