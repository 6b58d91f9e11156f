import pytest
from hypothesis import given
from hypothesis import strategies as st

from progrpo.rewards.choice import Params, gold_fault, score
from progrpo.types import Problem


def problem(gold: str | None, **info: object) -> Problem:
    return Problem(id="x", prompt="", answer=gold, info=info)


def verdict(text: str, gold: str = "B", **params: object) -> tuple[str, str | None]:
    found = score(text, problem(gold), Params(**params))
    return found.status, found.extracted


GIVEN = [
    "Answer: B",
    "Answer: b",
    "answer : B",
    "Answer:B",
    "Answer:\nB",
    "Answer: B.",
    "Answer: (B)",
    "Answer: B) the second",
    "Answer: B. Paris",
    "Answer: $B$",
    "Answer: **B**",
    "**Answer: B**",
    "**Answer:** B",
    "**Answer**: B",
    r"Answer: \boxed{B}",
    r"Answer: \text{B}",
    "Answer: Option B",
    "Answer is: B",
    "Answer： B",
    r"\boxed{B}",
    r"\boxed{(B)}",
    r"\boxed{\text{B}}",
    r"\boxed{\textbf{(B)}}",
    r"\boxed{B. Paris}",
    r"$\boxed{\mathrm{B}}$",
    "The answer is (B)",
    "The answer is (B).",
    "the answer is B.",
    "The final answer is **B**",
    "The correct answer is B",
    "The answer is B because it fits",
    "The answer is for sure B, it can't be A or C",
    "The answer is definitely (B).",
    "the answer is clearly **B**",
    "The answer is: (B)",
    r"The answer is \boxed{B}.",
    "I said A, and Answer: A was wrong.\nAnswer: B",
    r"\boxed{A}, no, \boxed{B}",
    "The answer is (A). Wait: the answer is (B).",
    r"Answer: A, but in the end \boxed{B}",
    "<think>Answer: A</think>Answer: B",
    "<think>Answer: B</think>\nThe answer is (B)",
    "**Correct option: B**",
    "Correct choice: (B)",
    "The correct answer must be (B)",
    "The correct option is (b)",
    "(b) is correct",
    "the answer is (b)",
    # a letter and nothing else
    "B",
    "b",
    "(B)",
    "**B**",
    "B.",
    "B)",
    r"$B$",
    r"\text{B}",
    "Option B",
    " B \n",
    "<think>A or B</think>\n\nB",
    "It must be the second, for two reasons.\n\nB",
    "Because of that:\n**(B)**",
    "B. Paris",
    "B) 10^{-4} eV",
    "(B) Paris",
    "**B.** Paris",
    # a sentence
    "**B** is correct",
    "**B** is correct.",
    "B is correct.",
    "(B) is the correct answer.",
    "Option B is the right one",
    "Option (B) is therefore correct.",
    "B is the answer.",
    "B is the best choice.",
    "The correct option is (B)",
    "The correct option is B.",
    "The correct choice is **B**.",
    "the right option is: B",
    "The best option is option B.",
    "I choose B",
    "I would pick (B).",
    "I'd select option B.",
    "C is wrong. B is correct.",
    "First I thought that A is correct.\nIn the end B is correct.",
    "A is correct in part. Answer: B",
    "Answer: B\nFor A is correct only at night.",
]

OTHER = [
    "Answer: A",
    r"\boxed{C}",
    "The answer is (D)",
    "Answer: B\nAnswer: A",
    "Answer: E",  # no option
    "Answer: A or B",
    "Answer: B or C",
    "Answer: B, C",
    "Answer: (B) and (D)",
    r"\boxed{B, C}",
    "The answer is B or C.",
    "The correct option is (A).",
    "**A** is correct",
    "A",
    "(C)",
    "A is correct and B is correct.",
    "The correct option is B or C.",
    "B is correct, and C is correct, too.",
    "A. Paris",
    "<think>Answer: B</think>Answer: C",
]

NONE = [
    "",
    "B is not correct",
    "B is incorrect.",
    "B is wrong",
    "B isn't the answer",
    "The correct option is not B.",
    "I doubt that B is correct.",
    "If B is correct, so is C.",
    "Is it so that B is correct?",
    "B is correct?",
    "B is correct only if x > 2",
    "Neither A nor B is correct.",
    "The correct option is unclear",
    "The option is a good one",
    "I choose a good one",
    "I choose Because",
    "A\nB",
    "A\nB\nC\nD",
    "A) Paris B) Rome",
    "A. Paris\nB. Rome",
    "B) is wrong",
    "B and C",
    "B, C",
    "B?",
    "Bee",
    "5",
    "Answer: Paris",
    "Answer: Because",
    "Answer: a guess",
    "The answer is a guess",
    "The answer is I think unclear",
    "The answer is A good question",
    "the answer is clear",
    "the answer is clearly a guess",
    "The answer is definitely not B",
    r"\boxed{34}",
    r"\boxed{Both}",
    r"\boxed{}",
    "<think>Answer: B</think> I am done",
    "A, B, C and D are all plausible.",
    "Answer:",
]


@pytest.mark.parametrize("text", GIVEN)
def test_letter_is_found(text: str) -> None:
    assert verdict(text) == ("correct", "B")


@pytest.mark.parametrize("text", OTHER)
def test_another_letter_or_two_are_wrong(text: str) -> None:
    assert verdict(text)[0] == "wrong"


@pytest.mark.parametrize("text", NONE)
def test_no_letter_is_guessed(text: str) -> None:
    assert verdict(text) == ("no_answer", None)
    for gold in "ACD":
        assert verdict(text, gold)[0] == "no_answer"


@pytest.mark.parametrize(
    ("text", "gold"), [("The answer is A.", "A"), ("The answer is A because", "A"), ("the answer is (I)", "I")]
)
def test_letters_that_are_words(text: str, gold: str) -> None:
    assert verdict(text, gold, options=10) == ("correct", gold)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Answer: B", "correct"),
        ("reasons\n\n**Answer: B**\n", "correct"),
        ("Answer: (B).", "correct"),
        ("**Answer:** B", "correct"),
        ("Answer: C", "wrong"),
        ("Answer: B\nThank you", "no_answer"),
        ("Answer: B because", "no_answer"),
        ("The answer is (B)", "no_answer"),
        (r"\boxed{B}", "no_answer"),
        ("Answer: b", "no_answer"),
        ("Answer: B</think>", "no_answer"),
    ],
)
def test_strict_mode_wants_the_line_alone_at_the_end(text: str, expected: str) -> None:
    assert verdict(text, mode="strict")[0] == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is (B). No, the answer is (C).", "B"),  # the first phrase
        ("Answer: C. Hence the answer is B", "B"),  # the phrase before the line
        ("answer: B", "B"),
        ("Answer: B then answer: C", "C"),  # the last on the first line that has one
        ("Answer: B\nAnswer: C", "B"),
        ("I think B is better than C", "C"),  # the last capital alone
        ("Both\nand B\nis Clear", "B"),
        ("ANSWER: B", "B"),
        ("<think>the answer is (B)</think> C", "B"),  # the thinking part counts
        ("the answer is unclear", None),
        ("", None),
    ],
)
def test_mmlu_pro_mode(text: str, found: str | None) -> None:
    status = "no_answer" if found is None else "correct" if found == "B" else "wrong"
    assert verdict(text, mode="mmlu_pro", options=10) == (status, found)


def test_the_problem_says_how_many_options_there_are() -> None:
    seven = problem("G", options=["x"] * 7)
    assert score("Answer: G", seven, Params()).status == "correct"
    assert score("Answer: H", seven, Params()).detail == "H is not among A to G"
    assert score("Answer: G", problem("G"), Params()).status == "bad_gold"
    assert score("Answer: G", problem("G"), Params(options=10)).status == "correct"


@pytest.mark.parametrize("gold", ["B", "b", " B ", "(B)", "B."])
def test_usable_gold(gold: str) -> None:
    assert gold_fault(problem(gold), Params()) is None
    assert score("Answer: B", problem(gold), Params()).status == "correct"


@pytest.mark.parametrize("gold", [None, "", "E", "AB", "1", "Paris", "()"])
def test_unusable_gold(gold: str | None) -> None:
    assert "letter from A to D" in (gold_fault(problem(gold), Params()) or "")
    assert score("Answer: B", problem(gold), Params()).status == "bad_gold"


def test_a_problem_with_one_option_is_no_choice() -> None:
    assert "1 options" in (gold_fault(problem("A", options=["x"]), Params()) or "")


def test_rewards_are_settings() -> None:
    params = Params(correct_reward=2.0, wrong_reward=-1.0)
    found = [score(text, problem("B"), params).reward for text in ("Answer: B", "Answer: C", "")]
    assert found == [2.0, -1.0, -1.0]


@given(st.text(alphabet=st.characters(), max_size=80))
def test_survives_any_text(text: str) -> None:
    for completion in (text, f"Answer: {text}", rf"\boxed{{{text}}}", f"the answer is {text}"):
        for mode in ("last", "strict", "mmlu_pro"):
            (score(completion, problem("B"), Params(mode=mode)).extracted or "").encode()
