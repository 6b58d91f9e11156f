"""Several accepted answers: one mechanism for every reward, which itself sees one answer at a time."""

from collections.abc import Callable

import pytest

from progrpo import rewards
from progrpo.environment import digest
from progrpo.rewards._results import best
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem, Verdict

TWO = Problem(id="x", prompt="p", answer="1/2", accepted=("B", "7"))


def reward(name: str, **settings: object) -> rewards.Reward:
    return rewards.load(Choice.model_validate({"name": name, **settings}))


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("math", ("\\boxed{0.5}", "\\boxed{7}", "\\boxed{B}"), "\\boxed{8}"),
        ("dapo_math", ("Answer: 1/2", "Answer: 7", "Answer: B"), "Answer: 8"),
        ("length", ("\\boxed{0.5}", "\\boxed{7}"), "\\boxed{8}"),
        ("combined", ("\\boxed{0.5}", "\\boxed{7}"), "\\boxed{8}"),
    ],
)
def test_any_of_them_counts(name: str, right: tuple[str, ...], wrong: str) -> None:
    settings = {
        "length": {"over": {"name": "math"}, "limit_tokens": 9, "buffer_tokens": 3},
        "combined": {"parts": [{"name": "math"}, {"name": "dapo_math"}]},
    }.get(name, {})
    own = reward(name, **settings)
    assert [own.score(text, TWO).status for text in right] == ["correct"] * len(right)
    assert own.score(wrong, TWO).status == "wrong"


def test_a_reward_sees_one_answer_at_a_time(make_module: Callable[[str], str]) -> None:
    """0.2 by the first, 0.7 by the second: the largest counts, though the first is correct already."""
    name = make_module(
        "def score(text, problem):\n    assert problem.accepted == ()\n    return {'a': 0.2, 'b': 0.7}[problem.answer]\n"
    )
    assert reward(name).score("", Problem(id="x", prompt="", answer="a", accepted=("b",))).reward == 0.7


def test_the_order_of_verdicts() -> None:
    given = {
        name: Verdict(status=name, reward=0.0) for name in ("no_answer", "wrong", "bad_gold", "crashed", "correct")
    }
    assert best(list(given.values())).status == "correct"
    assert best([given["wrong"], given["crashed"]]).status == "crashed"
    assert best([given["wrong"], given["bad_gold"]]).status == "bad_gold"
    assert best([given["no_answer"], given["wrong"]]).status == "wrong"


def test_what_is_decided_at_once() -> None:
    """ "7" meets the plain gold without algebra, whatever the other; a miss of the plain one leaves the other to algebra."""
    problem = Problem(id="x", prompt="", answer=r"\ln 8", accepted=("7",))
    own = reward("math")
    met = own.fast_verdict("\\boxed{7}", problem)
    assert met is not None
    assert met.correct
    assert own.fast_verdict(r"\boxed{3\ln 2}", problem) is None
    assert own.score(r"\boxed{3\ln 2}", problem).correct


def test_every_accepted_answer_is_checked() -> None:
    own = reward("choice", options=4)
    assert own.gold_fault(Problem(id="x", prompt="", answer="A", accepted=("B",))) is None
    fault = own.gold_fault(Problem(id="x", prompt="", answer="A", accepted=("Q",)))
    assert fault is not None
    assert fault.startswith("accepted answer 'Q': the gold answer is 'Q'")


def test_through_the_verifier_and_its_workers() -> None:
    problem = Problem(id="x", prompt="", answer=r"\ln 8", accepted=("7",))
    with Verifier(Choice(name="math"), VerifySettings(workers=1)) as verifier:
        texts = (r"\boxed{3\ln 2}", "\\boxed{7}", "\\boxed{\\sqrt{7}}")
        assert [one.status for one in verifier.judge([(text, problem) for text in texts])] == [
            "correct",
            "correct",
            "wrong",
        ]
        assert verifier.gold_faults([problem]) == [None]


def test_the_digest_of_problems_with_one_answer_is_as_before() -> None:
    one = Problem(id="x", prompt="p", answer="1")
    assert digest([one]) == "e01655a3633e60d7e2c87681a3ae6e4f3e0050fe9bf5ea51c0938492e542be91"
    assert digest([Problem(id="x", prompt="p", answer="1", accepted=("2",))]) != digest([one])
