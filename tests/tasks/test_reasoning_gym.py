"""reasoning-gym as task and reward: the mapping by a stand-in for the package, and the package itself where it is."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stand_ins
from progrpo import rewards, tasks
from progrpo.errors import ConfigError, DataError, HostError, SplitError
from progrpo.rewards import reasoning_gym as scorer
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.tasks import _reasoning_gym as drawing
from progrpo.tasks import reasoning_gym as task
from progrpo.tasks._reasoning_gym import SPAN, SPANS, GymDraw, GymSource, drawn, first_seed
from progrpo.types import Problem

GYM = Path(stand_ins.__file__).parent / "gym"
MISSING = "reasoning-gym is missing: pip install -e '.[reasoning-gym]'"


def _forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "reasoning_gym"]:
        del sys.modules[name]
    for cached in (scorer._factory, scorer._scorer, task._questions):
        cached.cache_clear()


@pytest.fixture
def stand_in() -> Iterator[None]:
    """The stand-in in place of the package, in this process and in those it starts."""
    _forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(GYM)
        yield
    _forget()


@pytest.fixture
def package() -> None:
    _forget()
    if find_spec("reasoning_gym") is None:
        pytest.skip(MISSING)


def draw(*sources: GymSource, seed: int = 0, **sizes: int) -> GymDraw:
    return GymDraw(sources=sources or (GymSource(name="sums", config={}),), seed=seed, sizes=sizes)


def texts(draw: GymDraw) -> dict[str, list[str]]:
    return {split: [one.entry["question"] for one in questions] for split, questions in drawn(draw).items()}


def numbers(questions: list[str]) -> list[int]:
    """The seeds that questions of the stand-in's sums were made from."""
    return [int(one.split()[-1].rstrip("?")) for one in questions]


# --- questions ---


@pytest.mark.usefixtures("stand_in")
def test_a_split_is_the_items_of_its_own_seeds() -> None:
    """Item i of seed s is made from s + i, over the borders of blocks, too."""
    found = numbers(texts(draw(train=600))["train"])
    first = first_seed("sums", "train", 0)
    assert found == list(range(first, first + 600))


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.sampled_from(["sums", "gsm_symbolic"]))
def test_splits_have_no_seed_in_common_whatever_the_seeds(one: int, other: int, name: str) -> None:
    """Spans of 2^30 seeds, and no split leaves its own: training under one seed holds no item of testing under another."""
    for seed in (one, other):
        for split, place in SPANS.items():
            first = first_seed(name, split, seed)
            assert place * SPAN <= first
            assert first + drawing._ITEMS <= (place + 1) * SPAN <= 2**32


@pytest.mark.usefixtures("stand_in")
def test_a_question_stands_in_one_split_once() -> None:
    """Of five questions, one is held out and shown, and the others are trained on, whatever their seeds."""
    few = GymSource(name="few", config={"different": 5})
    for seed in range(5):
        found = texts(draw(few, seed=seed, train=2, test=2, shots=1))
        assert [len(found[split]) for split in ("test", "shots", "train")] == [2, 1, 2]
        assert sorted(one for asked in found.values() for one in asked) == [f"few {number}?" for number in range(5)]


@pytest.mark.usefixtures("stand_in")
def test_what_is_held_out_does_not_depend_on_training() -> None:
    few = GymSource(name="few", config={"different": 40})
    alone = texts(draw(few, test=5))["test"]
    assert alone == texts(draw(few, test=5, train=3))["test"] == texts(draw(few, test=5, train=30))["test"]
    assert texts(draw(few, test=5, train=3))["train"] == texts(draw(few, test=5, train=30))["train"][:3]


@pytest.mark.usefixtures("stand_in")
def test_too_few_questions_are_told() -> None:
    few = GymSource(name="few", config={"different": 5})
    with pytest.raises(
        ConfigError, match=r"few: only 2 different questions for split 'train' beside those of test, of 9"
    ):
        drawn(draw(few, test=3, train=9))


@pytest.mark.usefixtures("stand_in")
def test_several_data_sets_are_drawn_by_their_weights() -> None:
    """3 to 1 of 400: 300 with a standard deviation of 8.7; each data set goes through its own items in order."""
    sources = (
        GymSource(name="sums", config={}, weight=3.0),
        GymSource(name="countdown", config={"terms": 3}, weight=1.0),
    )
    questions = drawn(draw(*sources, train=400))["train"]
    by_name = {name: [one.seed for one in questions if one.dataset == name] for name in ("sums", "countdown")}
    assert 260 < len(by_name["sums"]) < 340
    for name, seeds in by_name.items():
        first = first_seed(name, "train", 0)
        assert seeds == list(range(first, first + len(seeds)))


# --- the task ---


@pytest.mark.usefixtures("stand_in")
def test_the_task_by_its_names() -> None:
    """Its process has a hash seed of its own, and what the package prints there does no harm."""
    loaded = tasks.load(Choice(name="reasoning_gym", dataset="hashed", train_size=3, test_size=2))
    train, test = loaded.problems("train"), loaded.problems("test")
    assert (len(train), len(test)) == (3, 2)
    assert train[0].answer == "0"  # the hash seed
    assert train[0].id == f"hashed-{first_seed('hashed', 'train', 0)}"
    asked = "\nGive the final answer alone between <answer> and </answer>."
    assert train[0].prompt == ({"role": "user", "content": train[0].info["entry"]["question"] + asked},)
    assert loaded.reward() == Choice(name="reasoning_gym", tag="answer")
    assert train[0].facts == {}
    with pytest.raises(SplitError, match="expected train or test"):
        loaded.problems("pretrain")


@pytest.mark.usefixtures("stand_in")
def test_plain_text_with_worked_questions_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "drawn_apart", drawn)
    params = task.Params(
        dataset="sums", config={"terms": 3}, shots=1, chat=False, tag="a", test_size=1, instruction=" ="
    )
    (problem,) = task.load("test", params)
    shown, asked = (first_seed("sums", split, 0) for split in ("shots", "test"))
    assert problem.prompt == (
        f"3 times {shown}? =\n3 of them.\n<a>{3 * shown}</a>\n\n3 times {asked}? =\n"  # the stand-in's solution
    )
    assert task.worked_answer(problem, "a") == f"3 of them.\n<a>{3 * asked}</a>"
    assert task.worked_answer(problem, None) == str(3 * asked)
    # Of a chat, turns.
    (chat,) = task.load("test", params.model_copy(update={"chat": True}))
    assert [one["role"] for one in chat.prompt] == ["user", "assistant", "user"]


@pytest.mark.usefixtures("stand_in")
def test_several_data_sets_are_categories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "drawn_apart", drawn)
    both = [{"name": "sums", "config": {"terms": 4, "signs": ["+", "-"]}}, {"name": "countdown", "weight": 2}]
    problems = tasks.problems(Choice(name="reasoning_gym", datasets=both, test_size=20), "test")
    assert {one.facts["category"] for one in problems} == {"sums", "countdown"}
    by_name = {one.info["dataset"]: one for one in problems}
    assert by_name["sums"].info["config"] == {"terms": 4, "signs": ["+", "-"]}
    assert by_name["countdown"].info["config"] == {}


@pytest.mark.usefixtures("stand_in")
def test_shots_need_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "drawn_apart", drawn)
    unanswered = task.Params(dataset="few", config={"different": 3}, shots=2, test_size=1)
    with pytest.raises(DataError, match=r"task.shots: data set 'few' gives no answers"):
        task.load("test", unanswered)
    answers = {one.answer: one for one in task.load("train", task.Params(dataset="few", train_size=4, test_size=1))}
    with pytest.raises(DataError, match="gives no answer that could be shown"):
        task.worked_answer(answers[None], "answer")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "sumz"}, "no data set 'sumz' among its 6; near: sums"),
        ({"dataset": "composite"}, "for several data sets give task.datasets"),
        ({"dataset": "sums", "config": {"term": 3}}, "'sums' has no setting 'term'; near: terms"),
        ({"dataset": "sums", "config": {"seed": 3}}, "seed is not for the data set's settings"),
        ({"dataset": "sums", "config": {"terms": 1}}, "refuses its settings.*terms must be at least 2"),
        ({"dataset": "sums", "config": {"terms": "x"}}, "refuses its settings"),
        ({}, "give either dataset"),
        ({"dataset": "sums", "datasets": [{"name": "few"}]}, "give either dataset"),
        ({"datasets": [{"name": "few"}, {"name": "few"}]}, "'few' stands twice"),
        ({"datasets": [{"name": "few"}], "config": {"different": 2}}, "config is for a single dataset"),
    ],
)
def test_settings_that_cannot_work_are_told(
    settings: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "drawn_apart", drawn)
    with pytest.raises(ConfigError, match=message):
        tasks.problems(Choice(name="reasoning_gym", **settings), "test")


def test_an_error_of_the_other_process_is_this_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ProgrpoError as it is, anything else by its last line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(GYM)
        with pytest.raises(ConfigError, match="no data set 'sumz'"):
            drawing.drawn_apart(draw(GymSource(name="sumz", config={}), test=1))
    monkeypatch.setattr(drawing.sys, "executable", "/bin/false")
    with pytest.raises(DataError, match="drawing questions failed: exit code 1"):
        drawing.drawn_apart(draw(test=1))


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget()
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(HostError, match=r"pip install 'progrpo\[reasoning-gym\]'"):
        drawn(draw(test=1))
    monkeypatch.setattr(scorer, "find_spec", lambda name: None)
    with pytest.raises(HostError, match=r"pip install 'progrpo\[reasoning-gym\]'"):
        Verifier(Choice(name="reasoning_gym"), VerifySettings())


# --- the reward ---


def posed(dataset: str = "sums", answer: str | None = "6") -> Problem:
    entry = {"question": "2 times 3?", "answer": answer, "metadata": {"signs": ("+",)}}
    return Problem(id="p", prompt="", answer=answer, info={"dataset": dataset, "config": {}, "entry": entry})


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("text", "status", "plain", "partial"),
    [
        ("so <answer>6</answer>", "correct", 2.0, 2.0),
        ("<answer>6</answer> no, <answer> 7 </answer>", "wrong", -1.0, 0.1),  # 0.05 of 2
        ("<answer>six</answer>", "wrong", -1.0, 0.0),
        ("6", "no_answer", -1.0, -1.0),
        ("<answer> </answer>", "no_answer", -1.0, -1.0),
    ],
)
def test_verdicts(text: str, status: str, plain: float, partial: float) -> None:
    for shaped, expected in ((False, plain), (True, partial)):
        settings = {"correct_reward": 2.0, "wrong_reward": -1.0, "partial": shaped}
        problem = posed()
        verdict = rewards.load(Choice(name="reasoning_gym", **settings)).score(text, problem)
        assert (verdict.status, verdict.reward) == (status, pytest.approx(expected))
        assert problem == posed()  # the stand-in's scorer empties what it is given


@pytest.mark.usefixtures("stand_in")
def test_ways_are_told_apart_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reward = rewards.load(Choice(name="reasoning_gym", ways=True))
    assert (reward.canonical, rewards.load(Choice(name="reasoning_gym")).canonical) == (True, False)
    sums = ["2+2=4\n4+2=6\n<answer>6</answer>", " 2+2=4 \n4+2=6<answer>6</answer>", "3+3=6\n<answer>6</answer>"]
    assert [reward.score(text, posed()).canonical for text in sums] == ["2+2=4\n4+2=6", "2+2=4\n4+2=6", "3+3=6"]
    assert reward.score(f"{sums[2]} or <answer>", posed()).canonical == "3+3=6"
    assert reward.score("2+2=4<answer>7</answer>", posed()).canonical is None
    assert rewards.load(Choice(name="reasoning_gym")).score(sums[0], posed()).canonical is None
    assert rewards.load(Choice(name="reasoning_gym", tag=None, ways=True)).score(" 6\n", posed()).canonical == "6"
    monkeypatch.setattr(scorer, "_score_of", lambda problem, answer: 1.0)
    answers = [
        "(6-2)*5 + 3",
        "3+5*(6-2)",
        "1 / 3 * 69",
        "1/3*69",
    ]  # the last two by a broken number: as they are written
    forms = [reward.score(f"so <answer>{one}</answer>", posed("countdown")).canonical for one in answers]
    assert forms == ["(6-2)*5+3", "(6-2)*5+3", "1/3*69", "1/3*69"]


@pytest.mark.usefixtures("stand_in")
def test_a_lower_bar_and_no_tag() -> None:
    reward = rewards.load(Choice(name="reasoning_gym", tag=None, correct_at=0.05))
    assert reward.score(" 7 ", posed()).correct
    assert reward.score("seven", posed()).status == "wrong"


@pytest.mark.usefixtures("stand_in")
def test_golds_and_foreign_problems() -> None:
    reward = rewards.load(Choice(name="reasoning_gym"))
    assert reward.gold_fault(posed()) is None
    assert reward.gold_fault(posed(answer=None)) is None
    odd = posed()
    object.__setattr__(odd, "answer", "7")
    assert reward.gold_fault(odd) == "the data set scores its own answer 0.05"
    with pytest.raises(ConfigError, match="the problem is of another task"):
        reward.score("6", Problem(id="p", prompt="", answer="6"))


@pytest.mark.parametrize(
    ("dataset", "answer", "refused"),
    [
        ("countdown", "(1+2)*3 - 4/2**2", False),
        ("countdown", "x**2 + C*exp(-x)*log(x) + sqrt(2)", False),
        ("countdown", "__import__('os').system('true')", True),
        ("countdown", "3! + __import__('os').system('true')", True),  # no Python, until SymPy has rewritten it
        ("countdown", "(1).__class__", True),
        ("countdown", "sympify('1')", True),
        ("countdown", "S('1')", True),
        ("countdown", "[x for x in (1, 2)]", True),
        ("countdown", "lambda: 1", True),
        ("countdown", "x if 1 else y", True),
        ("countdown", "__builtins__", True),
        ("n_queens", "[['Q', '_'], ['_', 'Q']]", False),
        ("n_queens", "_ Q _\nQ _ _", False),  # eval cannot read it either
        ("n_queens", "valid_solutions", True),
        ("n_queens", "[1 + 1]", True),
        ("n_queens", "print('hello')", True),
        ("n_queens", "(" * 500 + ")" * 500, False),  # eval cannot read it either
        ("sums", "__import__('os')", False),  # its scorer compares text
    ],
)
def test_what_is_more_than_arithmetic_is_not_evaluated(dataset: str, answer: str, refused: bool) -> None:
    """By name of the data set: these evaluate the answer."""
    params = scorer.Params(tag=None)
    verdict = scorer.fast_verdict(answer, posed(dataset), params)
    assert (verdict is not None) == refused
    assert verdict is None or verdict.status == "wrong"


@pytest.mark.parametrize(
    ("dataset", "gold", "answer", "refused"),
    [
        ("string_insertion", "DABEE", "DABEE", False),  # a name to Python, and the answer
        ("string_insertion", "DABEE", "DABE", True),
        ("intermediate_integration", "Integral(f(x), x)", "Integral(f(x), x)", False),
        ("intermediate_integration", "Integral(f(x), x)", "Integral(g(x), x)", True),
        ("game_of_life_halting", "True", "true", False),
        ("game_of_life_halting", "True", "False", True),  # its scorer takes the truth of the text, which is not empty
        ("game_of_life_halting", "True", "banana", True),
        ("complex_arithmetic", "4.0 + 8.0i", "4 + 8i", False),
        ("complex_arithmetic", "4.0 + 8.0i", "nan", True),  # min(1, nan) is 1
    ],
)
def test_the_answer_itself_reaches_the_scorer_and_what_it_would_take_for_it_does_not(
    dataset: str, gold: str, answer: str, refused: bool
) -> None:
    problem = posed(dataset)
    problem = replace(problem, info={**problem.info, "entry": {"answer": gold}})
    verdict = scorer.fast_verdict(answer, problem, scorer.Params(tag=None))
    assert (verdict is not None) == refused
    assert verdict is None or verdict.status == "wrong"


def test_an_answer_that_a_scorer_cannot_read_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(problem: Problem, answer: str) -> float:
        return float(int(answer))

    monkeypatch.setattr(scorer, "_score_of", unread)
    verdict = scorer.score("it is prime", posed(), scorer.Params(tag=None))
    assert verdict.status == "wrong"
    assert verdict.detail.startswith("the data set's scorer: ValueError: invalid literal")
    assert scorer.score("1", posed(), scorer.Params(tag=None)).correct


@pytest.mark.usefixtures("stand_in")
def test_answers_are_scored_in_a_worker(make_module: Callable[[str], str]) -> None:
    """What raises there is the scorer's failure and not the answer's; what needs no scorer never gets there."""
    items = [(f"<answer>{answer}</answer>", posed()) for answer in ("6", "7", "boom")]
    with Verifier(Choice(name="reasoning_gym"), VerifySettings(workers=1)) as verifier:
        verdicts = verifier.judge([*items, ("none", posed())])
        assert verifier.gold_faults([posed()]) == [None]
    assert [one.status for one in verdicts] == ["correct", "wrong", "crashed", "no_answer"]


# --- the package itself ---


@pytest.mark.usefixtures("package")
def test_real_questions_and_scores() -> None:
    """Golds score 1, and another number does not."""
    choice = Choice(name="reasoning_gym", dataset="gsm_symbolic", train_size=300, test_size=20)
    train, test = tasks.problems(choice, "train"), tasks.problems(choice, "test")
    asked = [one.info["entry"]["question"] for one in (*train, *test)]
    assert len(set(asked)) == 320
    reward = rewards.load(tasks.reward(choice))
    assert all(reward.gold_fault(one) is None for one in test)
    assert reward.score(task.worked_answer(test[0], "answer"), test[0]).correct
    assert reward.score("<answer>-12345</answer>", test[0]).status == "wrong"


@pytest.mark.usefixtures("package")
def test_real_questions_are_the_same_in_any_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """word_ladder walks over sets of words."""

    def asked(hash_seed: str) -> list[str]:
        task._questions.cache_clear()
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        return [str(one.prompt) for one in task.load("test", task.Params(dataset="word_ladder", test_size=3))]

    assert asked("1") == asked("2")


@pytest.mark.usefixtures("package")
def test_small_data_sets_repeat_themselves_over_seeds() -> None:
    """The same sums of one digit come under many seeds; none is both trained on and held out."""
    config = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    params = task.Params(dataset="chain_sum", config=config, train_size=40, test_size=20)
    train, test = (task.load(split, params) for split in ("train", "test"))
    assert not {one.prompt[0]["content"] for one in train} & {one.prompt[0]["content"] for one in test}
    assert tasks.overlap(train, test) is None


@pytest.mark.usefixtures("package")
def test_every_real_scorer_that_evaluates_answers_is_known() -> None:
    """So that a version with another one does not slip by the reading of answers."""
    folder = Path(find_spec("reasoning_gym").origin).parent
    evaluating = {
        path.stem
        for path in folder.rglob("*.py")
        if re.search(
            r"(?<![\w.])(eval|exec|parse_expr|sympify)\(\w*answer\w*",
            path.read_text("utf-8").replace("sympy.", "").replace("sp.", ""),
        )
    }
    assert evaluating == scorer._LITERALS | scorer._EXPRESSIONS
