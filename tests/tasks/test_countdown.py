import itertools
from dataclasses import replace

import pytest

from progrpo.errors import ConfigError
from progrpo.rewards import expression
from progrpo.settings import Choice, parse
from progrpo.tasks import _procedural, countdown, problems

SMALL = countdown.Params(
    numbers=3, max_number=6, max_target=20, min_used=2, min_solutions=1, train_size=60, test_size=15
)


def test_problems_are_a_function_of_the_settings() -> None:
    assert countdown.load("train", SMALL) == countdown.load("train", SMALL)
    assert countdown.load("train", SMALL) != countdown.load("train", SMALL.model_copy(update={"seed": 1}))


def test_more_problems_begin_with_the_same() -> None:
    longer = SMALL.model_copy(update={"train_size": 80})
    assert countdown.load("train", longer)[:60] == countdown.load("train", SMALL)


def test_splits_are_disjoint_across_seeds() -> None:
    keys = {
        (split, problem.id)
        for split, seed in itertools.product(("pretrain", "train", "test"), range(3))
        for problem in countdown.load(split, SMALL.model_copy(update={"seed": seed, "test_size": 15}))
    }
    by_id: dict[str, set[str]] = {}
    for split, identity in keys:
        by_id.setdefault(identity, set()).add(split)
    assert all(len(splits) == 1 for splits in by_id.values())
    assert {split for split, _ in keys} == {"pretrain", "train", "test"}


def test_shares_of_the_splits() -> None:
    counts = dict.fromkeys(_procedural.SPLIT_SHARES, 0)
    for numbers in itertools.combinations_with_replacement(range(1, 11), 3):
        for target in range(1, 31):
            counts[countdown.split_of(numbers, target)] += 1
    total = sum(counts.values())
    for split, share in _procedural.SPLIT_SHARES.items():
        assert counts[split] / total == pytest.approx(share, abs=0.02)


def test_neighbouring_seeds_share_no_more_than_chance() -> None:
    wide = countdown.Params(numbers=4, max_number=30, max_target=500, min_used=2, min_solutions=1, train_size=40)
    one, two = ({p.id for p in countdown.load("train", wide.model_copy(update={"seed": s}))} for s in (0, 1))
    assert len(one & two) <= 1


def test_solutions_against_brute_force() -> None:
    """Every expression tree over every ordered choice of numbers, judged by the verifier, written independently."""

    def trees(numbers: tuple[int, ...]) -> list[str]:
        if len(numbers) == 1:
            return [str(numbers[0])]
        return [
            f"({left}{operator}{right})"
            for cut in range(1, len(numbers))
            for left in trees(numbers[:cut])
            for right in trees(numbers[cut:])
            for operator in "+-*/"
        ]

    params = countdown.Params(numbers=3, max_number=9, max_target=30, min_used=2)
    numbers = (2, 4, 6)
    found: dict[int, set[str]] = {}
    for used in (2, 3):
        for order in itertools.permutations(numbers, used):
            for text in trees(order):
                try:
                    form = expression.read_expression(text)
                except expression.RuleError:
                    continue
                if form.value <= 30:
                    found.setdefault(form.value, set()).add(form.text)
    assert countdown.solutions(numbers, params) == {target: frozenset(forms) for target, forms in found.items()}


def test_every_listed_solution_verifies() -> None:
    params = countdown.Params(numbers=4, max_number=8, max_target=24, min_used=3, min_solutions=4, test_size=20)
    for problem in countdown.load("test", params):
        forms = countdown.solutions(problem.info["numbers"], params)[int(problem.answer)]
        assert len(forms) >= 4
        for form in forms:
            written = replace(problem, info={**problem.info, "grammar": "expression"})
            verdict = expression.score(form, written, expression.Params())
            assert verdict.correct
            assert verdict.canonical == form


def test_enumeration_covers_the_draw() -> None:
    listed = {problem.id for problem in countdown.enumerate_split("test", SMALL)}
    assert {problem.id for problem in countdown.load("test", SMALL)} <= listed


def test_words_style_names_the_rules() -> None:
    problem = countdown.load("train", SMALL.model_copy(update={"style": "words", "train_size": 1}))[0]
    assert "at least 2 of the numbers" in problem.prompt
    assert f"equals {problem.answer}" in problem.prompt


def test_compact_style() -> None:
    assert countdown.compact_prompt([3, 5, 7, 8], 24) == "3 5 7 8=24:"


def test_too_many_problems_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"only [0-9]+ problems of split 'test' exist"):
        countdown.load("test", countdown.Params(numbers=3, max_number=3, max_target=5, test_size=500))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numbers": 7}, "numbers: input should be less than or equal to 5, got 7"),
        ({"numbers": 3, "min_used": 4}, "min_used 4 exceeds numbers 3"),
        ({"min_solutions": 5, "max_solutions": 2}, "max_solutions 2 is below min_solutions 5"),
        ({"max_nubmer": 5}, "unknown key 'max_nubmer'; did you mean 'max_number'"),
    ],
)
def test_bad_settings(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        problems(Choice(name="countdown", **settings), "train")


def test_unknown_split() -> None:
    with pytest.raises(ConfigError, match="unknown split 'dev'"):
        countdown.load("dev", SMALL)


def test_parse_gives_defaults() -> None:
    assert parse(countdown.Params, {}, where="test").numbers == 4


def test_the_style_sets_the_grammar() -> None:
    assert countdown.load("train", SMALL)[0].info["grammar"] == "steps"
    words = SMALL.model_copy(update={"style": "words", "train_size": 1})
    assert countdown.load("train", words)[0].info["grammar"] == "expression"
