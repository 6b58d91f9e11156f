from collections.abc import Callable

import pytest

from progrpo import rewards
from progrpo.errors import ConfigError
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem

SUM = Problem(id="s", prompt="", answer="6", info={"numbers": [2, 4]}, facts={"source": "sums"})
MATH = Problem(id="m", prompt="", answer="3/4", facts={"source": "math"})
STRAY = Problem(id="x", prompt="", answer="6", facts={"source": "other"})
EACH = {"sums": {"name": "expression", "wrong_reward": -1.0}, "math": "math"}
ALL_AT_ONCE = """
def score_all(texts, problems):
    return [float(len(texts)) if text else -1.0 for text in texts]
"""


def load(**each: object) -> rewards.Reward:
    return rewards.load(Choice(name="by_source", rewards=each or EACH))


def test_each_problem_is_judged_by_its_own() -> None:
    reward = load()
    assert [(one.status, one.reward) for one in (reward.score("2+4", SUM), reward.score("2*4", SUM))] == [
        ("correct", 1.0),
        ("wrong", -1.0),
    ]
    assert (reward.score("\\boxed{0.75}", MATH).status, reward.score("\\boxed{0.7}", MATH).reward) == ("correct", 0.0)
    assert reward.gold_fault(SUM) is None
    assert reward.gold_fault(MATH) is None
    assert reward.wrong_reward == -1.0
    assert reward.slow  # math is
    assert not reward.canonical  # math is not
    assert load(sums={"name": "expression"}).canonical


def test_a_problem_of_no_source_is_nobodys() -> None:
    for stray in (STRAY, Problem(id="y", prompt="", answer="6")):
        assert load().score("6", stray).status == "bad_gold"
        assert "no reward for source" in (load().gold_fault(stray) or "")
    assert load().gold_fault(STRAY) == "no reward for source 'other'; there are some for sums, math"


def test_what_is_judged_in_workers_knows_its_source_there() -> None:
    with Verifier(load().choice, VerifySettings(workers=1)) as verifier:
        faults = verifier.gold_faults([SUM, MATH, STRAY])
    assert [fault is None for fault in faults] == [True, True, False]


def test_a_reward_of_many_at_once_is_called_once_for_its_source(make_module: Callable[[str], str]) -> None:
    reward = load(sums={"name": "expression"}, math={"name": make_module(ALL_AT_ONCE)})
    assert reward.batched
    items = [("2+4", SUM, None), ("a", MATH, None), ("6", STRAY, None), ("2*4", SUM, None), ("b", MATH, None)]
    assert [(one.status, one.reward) for one in reward.score_all(items)] == [
        ("correct", 1.0),
        ("correct", 2.0),
        ("bad_gold", 0.0),
        ("wrong", 0.0),
        ("correct", 2.0),
    ]


def test_programs_are_no_answers_to_vote_on() -> None:
    assert load(sums="expression").answers
    assert not load(sums="expression", programs="code").answers


def test_a_term_on_length_goes_over_all() -> None:
    long = {"name": "length", "over": {"name": "expression"}, "limit_tokens": 20, "buffer_tokens": 8}
    with pytest.raises(ConfigError, match=r"rewards.sums: 'length' may have a term .*; put it over them all"):
        load(sums=long)
    over = rewards.load(Choice(**{**long, "over": {"name": "by_source", "rewards": EACH}}))
    verdict = over.length_term(over.score("2+4", SUM), 16)
    assert verdict.reward == pytest.approx(0.5)  # 1 - (16 - 12) / 8
