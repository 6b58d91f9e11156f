"""Codeforces: which problem a row is, and the rating worked out by hand on standings made for it.

The made contest 9001 has 240 participants of rating 1500; number i (from 0) has 2400 - 10 i points and no penalty, so a
score of s points has rank r = the first i with 2400 - 10 i < s. With x = 10^((R - 1500) / 400) the rating is the largest
whole R with 1 + 240 / (1 + x) >= r, and at most 1500 + 99.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from progrpo import tasks
from progrpo.errors import DataError
from progrpo.rows import from_row, to_row
from progrpo.settings import Choice, parse
from progrpo.tasks._codeforces_problems import CONTESTS, PROBLEMS
from progrpo.tasks._codeforces_rating import Contest, percentile, rate, read_accounts, read_contest
from progrpo.tasks.codeforces import Params, check, summarise
from progrpo.types import Problem, ProblemResult, Sample

FIXTURES = Path(__file__).parent / "fixtures"
POINTS: dict[str, float | None] = {"A": 500.0, "B": 1000.0, "C": 1500.0}
COUNTED: dict[str, float | None] = {"A": None, "B": None}
ACCOUNTS = {"1000": 3, "1558": 2, "1559": 4, "2000": 1}

Rows = Sequence[tuple[float, float]]
LADDER: Rows = [(2400.0 - 10 * i, 0) for i in range(240)]


def write_table(
    folder: Path,
    contest: int = 9001,
    problems: Mapping[str, float | None] = POINTS,
    rows: Rows = LADDER,
    old: Mapping[int, int] | None = None,
    unrated: int = 0,
) -> Path:
    """A contest as the API gives it; `unrated` participants without a rating change stand at its head."""
    shown = [(f"guest{i}", 9999.0, 0.0) for i in range(unrated)]
    shown += [(f"user{i}", points, penalty) for i, (points, penalty) in enumerate(rows)]
    standings = {
        "problems": [
            {"contestId": contest, "index": index} | ({} if points is None else {"points": points})
            for index, points in problems.items()
        ],
        "rows": [
            {"party": {"members": [{"handle": handle}]}, "points": points, "penalty": penalty}
            for handle, points, penalty in shown
        ],
    }
    changes = [{"handle": f"user{i}", "oldRating": (old or {}).get(i, 1500)} for i in range(len(rows))]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{contest}.json"
    path.write_text(json.dumps({"standings": {"status": "OK", "result": standings}, "rating_changes": changes}))
    return path


def table(tmp_path: Path, **settings: Any) -> Contest:
    found = read_contest(write_table(tmp_path, **settings))
    assert found is not None
    return found


def rated(contest: Contest, attempts: int = 16, **solved: str) -> float:
    """`solved`: samples of each problem, "x" correct, "." not."""
    flags = {f"9001{index}": [mark == "x" for mark in marks] for index, marks in solved.items()}
    return rate({9001: flags}, {9001: contest}, attempts=attempts)["rating"]


def test_points_fall_by_50_for_each_failed_try(tmp_path: Path) -> None:
    # A at once: 500. B with the third sample: 1000 - 2 * 50 = 900. 1400 in all: 2400 - 10 i < 1400 first at i = 101.
    # 1 + 240 / (1 + x) >= 101: x <= 1.4, R <= 1500 + 400 log10(1.4) = 1558.45
    contest = table(tmp_path)
    assert contest.rank(1400, 0) == 101
    assert rated(contest, A="xx..", B="..x.", C="....") == 1558


def test_attempts_are_cut(tmp_path: Path) -> None:
    # With two attempts B is not solved: 500 points, i = 191. 240 / (1 + x) >= 190: R <= 1500 + 400 log10(5/19) = 1268.09
    assert rated(table(tmp_path), attempts=2, A="xx..", B="..x.", C="....") == 1268


def test_points_do_not_fall_below_0(tmp_path: Path) -> None:
    # Solved at the eleventh try A is worth max(0, 500 - 10 * 50) = 0, and at the sixteenth no less. C: 1500 - 14 * 50 = 800.
    contest = table(tmp_path)
    assert rated(contest, A="." * 10 + "x") == rated(contest, A="." * 15 + "x") == rated(contest)
    # 800 points: i = 161. 240 / (1 + x) >= 160: R <= 1500 + 400 log10(0.5) = 1379.59
    assert rated(contest, A="." * 15 + "x", C="." * 14 + "xx") == 1379


def test_a_division_caps_the_rating(tmp_path: Path) -> None:
    # 3000 points beat all: rank 0, which the formula cannot reach. 1500 + 99, or 2100 + 99 with one better participant.
    contest = table(tmp_path)
    assert contest.rank(3000, 0) == 0
    assert rated(contest, A="x", B="x", C="x") == 1599
    assert rated(table(tmp_path, old={0: 2100}), A="x", B="x", C="x") == 2199


def test_solving_nothing(tmp_path: Path) -> None:
    # Nobody has fewer than 0 points: rank 240. 240 / (1 + x) >= 239: R <= 1500 - 400 log10(239) = 548.64
    assert table(tmp_path).rank(0, 0) == 240
    assert rated(table(tmp_path), A="...", B="...") == 548
    # Three new accounts at 0 count for less than half each, whatever R: 1 + 237 + 1.5 < 240, so R = 0.
    assert rated(table(tmp_path, old={7: 0, 8: 0, 9: 0}), A="...", B="...") == 0
    assert rated(table(tmp_path, old={7: 0, 8: 0, 9: 0})) == 0  # nor a problem without samples


def test_penalties_where_problems_are_counted(tmp_path: Path) -> None:
    # Everybody solved 2; penalties 0,0,0,0,1,1,1,1,...: i // 4. A at once, B with the fourth sample: 2 problems, penalty 30.
    # i // 4 > 30 first at i = 124. 240 / (1 + x) >= 123: R <= 1500 + 400 log10(117/123) = 1491.31
    contest = table(tmp_path, problems=COUNTED, rows=[(2.0, i // 4) for i in range(240)])
    assert contest.rank(2, 30) == 124
    assert rated(contest, A="x...", B="...x") == 1491
    # One problem only is worse than all: rank 240. Two at once: penalty 0, i // 4 > 0 first at i = 4; capped.
    assert rated(contest, A="x...") == 548
    assert (contest.rank(2, 0), rated(contest, A="x", B="x")) == (4, 1599)


def test_every_rating_is_the_largest_that_reaches_its_rank(tmp_path: Path) -> None:
    assert table(tmp_path).rating(121) == 1500  # 1 + 240 / 2 is exactly 121
    contest = table(tmp_path, old={i: 800 + 7 * i for i in range(240)})

    def expected(rating: int) -> float:
        return 1 + sum(1 / (1 + 10 ** ((rating - (800 + 7 * i)) / 400)) for i in range(240))

    best = 800 + 7 * 239 + 99
    for rank in range(1, 241, 13):
        found = contest.rating(rank)
        assert found == 0 or expected(found) >= rank
        assert found == best or expected(found + 1) < rank
    ratings = [contest.rating(rank) for rank in range(241)]
    assert ratings == sorted(ratings, reverse=True)


def test_who_takes_part(tmp_path: Path) -> None:
    contest = table(tmp_path, unrated=5)
    assert contest.rank(2395, 0) == 1  # guests, who have no rating change, are not there
    assert read_contest(write_table(tmp_path, rows=LADDER[:201])) is not None
    assert read_contest(write_table(tmp_path, rows=LADDER[:200])) is None
    path = write_table(tmp_path)
    data = json.loads(path.read_text())
    data["rating_changes"].append(data["rating_changes"][0])
    path.write_text(json.dumps(data))
    assert read_contest(path) is None  # 241 changes of 240 participants


def test_the_mean_over_contests(tmp_path: Path) -> None:
    one, other = table(tmp_path), table(tmp_path, contest=9002)
    solved = {9001: {"9001A": [True], "9001B": [False, False, True]}, 9002: {f"9002{i}": [True] for i in "ABC"}}
    values = rate(solved, {9001: one, 9002: other}, attempts=16)
    assert values["rating"] == (1558 + 1599) / 2
    assert values["contests"] == 2
    assert rate(solved, {}, attempts=16) == {"contests": 0.0}


def test_the_range_is_over_orders_of_the_samples(tmp_path: Path) -> None:
    contest = table(tmp_path)
    sure = rate({9001: {"9001A": [True] * 16, "9001B": [False] * 16}}, {9001: contest}, attempts=16)
    assert sure["rating"] == sure["rating_low"] == sure["rating_high"]
    mixed = {
        9001: {"9001A": [True, False] * 8, "9001B": [False, False, False, True] * 4, "9001C": [True] + [False] * 15}
    }
    values = rate(mixed, {9001: contest}, attempts=2)
    assert values == rate(mixed, {9001: contest}, attempts=2)
    # As it is A and C are solved at once: 500 + 1500 points beat all, and no order can do better. Two tries reach the one
    # right sample of C in 2 of 16 orders; without it A and B give at most 1500 points, which do not beat all.
    assert values["rating_low"] < values["rating_mean"] < values["rating"] == values["rating_high"] == 1599
    # One attempt of 16 samples, half of them right: 500 points (1268) or none (548), each in half of the orders.
    values = rate({9001: {"9001A": [True, False] * 8}}, {9001: contest}, attempts=1)
    assert (values["rating"], values["rating_low"], values["rating_high"]) == (1268, 548, 1268)
    assert values["rating_mean"] == pytest.approx((1268 + 548) / 2, abs=30)  # 1,000 orders: 720 * 0.5 / sqrt(1000) = 11


def test_percentile_is_the_share_strictly_below() -> None:
    accounts = {float(rating): count for rating, count in ACCOUNTS.items()}
    # 3 of 10 accounts lie below 1558, 5 below 1558.5 and 1559, 9 below 1560, all below 2001
    found = [percentile(rating, accounts) for rating in (-5, 1000, 1000.5, 1558, 1558.5, 1559, 1560, 2001)]
    assert found == [0.0, 0.0, 30.0, 30.0, 50.0, 50.0, 90.0, 100.0]
    assert percentile(2, {1.0: 1, 2.0: 2}) == 33.3


def sample(mark: str) -> Sample:
    return Sample(text="", status={"x": "correct", ".": "wrong", "t": "timeout", "-": "no_answer"}[mark])  # type: ignore[arg-type]


def judged(contest: int | None, index: str, marks: str) -> ProblemResult:
    facts = {"contest": contest, "index": index, "points": None}
    made = ProblemResult(problem=f"{contest}{index}", facts=facts, samples=tuple(sample(mark) for mark in marks))
    return from_row(json.loads(json.dumps(to_row(made))))  # as an evaluation reads it back


def settings(**given: Any) -> Params:
    return parse(Params, given, where="task codeforces")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default place of the tables, with those of contest 9001."""
    monkeypatch.setenv("PROGRPO_DATA", str(tmp_path))
    write_table(tmp_path / "codeforces" / "contests")
    (tmp_path / "codeforces" / "ratings_2024.json").write_text(json.dumps(ACCOUNTS))
    return tmp_path / "codeforces"


def test_the_summary_of_an_evaluation(home: Path, tmp_path: Path) -> None:
    problems = [judged(9001, "A", "xx.."), judged(9001, "B", "t-x."), judged(9001, "C", "....")]
    values = summarise(problems, settings())
    assert list(values) == ["rating", "rating_mean", "rating_low", "rating_high", "contests", "percentile"]
    assert (values["rating"], values["percentile"], values["contests"]) == (1558, 30.0, 1)
    assert summarise(problems, settings(rating=False)) == {}
    assert summarise(problems, settings(attempts=2))["rating"] == 1268
    elsewhere = tmp_path / "elsewhere"
    write_table(elsewhere, old={0: 2100})
    (tmp_path / "all.json").write_text('{"0": 1}')
    problems[0] = judged(9001, "C", "x")
    values = summarise(problems, settings(contests=elsewhere, ratings=tmp_path / "all.json"))
    assert values["percentile"] == 100.0


def test_missing_tables_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [judged(9001, "A", "x"), judged(9002, "A", "x")]
    with pytest.raises(DataError, match=f"put 9002.json into {home}/contests/ .*FOLDER.; their format is at the head"):
        summarise(problems, settings())
    (home / "ratings_2024.json").unlink()
    with pytest.raises(DataError, match=f"put the distribution of accounts at {home}/ratings_2024.json"):
        summarise(problems[:1], settings())
    monkeypatch.delenv("PROGRPO_DATA")
    with pytest.raises(DataError, match=r"put 9001.json into \$PROGRPO_DATA/codeforces/contests/"):
        summarise(problems[:1], settings())


def test_damaged_tables_are_named(home: Path) -> None:
    path, problems = home / "contests" / "9001.json", [judged(9001, "A", "x")]
    data = json.loads(path.read_text())
    for damage, words in (
        (path.read_text()[:-9], "not JSON .damaged or cut short"),
        ("[]", "the key 'standings'"),
        (json.dumps({"standings": data["standings"]}), "the key 'rating_changes'"),
        (path.read_text().replace("oldRating", "rating_before"), "no key 'oldRating'"),
        (path.read_text().replace('"penalty"', '"fine"'), "no key 'penalty'"),
        (path.read_text().replace('"problems"', '"tasks"'), "no key 'problems'"),
        (json.dumps(data | {"rating_changes": None}), "not as the Codeforces API answers"),
    ):
        path.write_text(damage)
        with pytest.raises(DataError, match=f"9001.json: .*{words}"):
            summarise(problems, settings())
        path.write_text(json.dumps(data))
    for damage in ("[1]", "{}", '{"1500": "many"}', '{"1500": 0}', '{"1500": 2, "1600": -1}'):
        (home / "ratings_2024.json").write_text(damage)
        with pytest.raises(DataError, match=r"ratings_2024.json: expected a JSON object of ratings"):
            read_accounts(home / "ratings_2024.json")


def test_contests_that_do_not_count(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = [judged(9001, "A", "x")]
    part = [judged(1971, index, "x") for index in CONTESTS[1971][:-1]]
    values = summarise(whole + part, settings())  # no table of 1971 is asked for
    assert values["contests"] == 1
    assert "evaluated in part: 1971" in caplog.text
    with pytest.raises(DataError, match="1971.json"):
        summarise([*part, judged(1971, CONTESTS[1971][-1], ".")], settings())
    assert summarise(part, settings()) == {"contests": 0.0}
    write_table(home / "contests", rows=LADDER[:200])
    assert summarise(whole, settings()) == {"contests": 0.0}
    assert "too few participants with a rating: 9001" in caplog.text
    with pytest.raises(DataError, match="names no contest"):
        summarise([judged(None, "A", "x")], settings())


def load(name: str, **given: Any) -> Sequence[Problem]:
    choice = {"name": "codeforces", "expected": None, "path": str(FIXTURES / f"code_codeforces_{name}.jsonl"), **given}
    return tasks.problems(Choice(**choice), "test")


def test_rows_are_known_by_their_place_in_the_published_order(tmp_path: Path) -> None:
    rows = [json.dumps({"problem": f"Problem {i}.", "tests": '[{"input": "", "output": "1"}]'}) for i in range(408)]
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(rows))
    problems = load("", path=str(path), expected=408, rating=False)
    assert (problems[0].id, problems[10].id, problems[407].id) == ("1971A", "1972C", "2036G")
    assert problems[10].facts == {"contest": 1972, "index": "C", "points": None, "rating": None}
    path.write_text("\n".join(rows[:407]))
    with pytest.raises(DataError, match="expected 408 problems, got 407"):
        tasks.problems(Choice(name="codeforces", path=str(path)), "test")
    assert load("", path=str(path), rating=False)[0].facts["contest"] is None


def test_the_list_of_problems() -> None:
    assert (len(PROBLEMS), len(set(PROBLEMS)), len(CONTESTS)) == (408, 408, 57)
    assert list(CONTESTS) == sorted(CONTESTS)


def test_both_shapes_of_paper_mode() -> None:
    assert [problem.facts["contest"] for problem in load("deepcoder", rating=False)] == [None, None]
    first, last = load("codeelo", rating=False)
    assert (first.id, first.facts) == ("1971A", {"contest": 1971, "index": "A", "points": None, "rating": 800})
    assert last.info["tests"] == [{"input": "abc", "output": "3"}, {"input": "a", "output": "1"}]
    shown = first.prompt[-1]["content"]  # type: ignore[index]
    assert shown.startswith(
        "# Order\n\nEach of t lines has two digits. Print the smaller one first.\n\n## Input\nThe number"
    )
    assert "1 9" not in shown  # the samples are the tests


def test_strict_mode(caplog: pytest.LogCaptureFixture) -> None:
    divisor, total = load("strict", mode="strict", rating=False)
    assert "2 of 4 problems left out" in caplog.text  # one reads a file, one has no tests
    assert divisor.facts == {
        "contest": 2063,
        "index": "A",
        "points": None,
        "rating": 900,
        "complete_tests": True,
        "category": "800 to 1199",
    }
    assert divisor.info["cpu_s"] == 2  # of 1.5
    assert "print(1 if" in divisor.info["checker"]
    assert "checker" not in total.info
    assert "category" not in total.facts
    assert "## Example 1\nInput:\n```\n12\n```\nOutput:\n```\n6\n```" in divisor.prompt[-1]["content"]  # type: ignore[index]
    assert "Time limit: 1.5 s\nMemory limit: 256 MB" in divisor.prompt[-1]["content"]  # type: ignore[index]
    (only,) = load("strict", mode="strict", rating=False, complete_only=True, time_factor=3)
    assert (only.id, only.info["cpu_s"]) == ("2063A", 5)  # 4.5
    params = parse(Params, {"mode": "strict"}, where="task")
    assert params.expected is None
    assert parse(Params, {"mode": "strict", "expected": 5}, where="task").expected == 5
    assert parse(Params, {}, where="task").expected == 408


def test_the_two_modes_do_not_mix() -> None:
    with pytest.raises(DataError, match="no column 'official_tests'"):
        load("deepcoder", mode="strict")
    with pytest.raises(DataError, match="no column 'problem'"):
        load("strict")
    with pytest.raises(DataError, match="it has a test split and no train split"):
        tasks.problems(Choice(name="codeforces"), "train")


def test_missing_tables_are_said_before_the_evaluation(home: Path) -> None:
    with pytest.raises(DataError, match=r"put 1971\.json, .* into .*contests/"):
        check(settings(), load("codeelo"))
    check(settings(rating=False), load("codeelo"))
    (home / "ratings_2024.json").unlink()
    with pytest.raises(DataError, match="put the distribution of accounts at"):
        check(settings(), [])


def test_examples_and_ids_that_cannot_be_read(tmp_path: Path) -> None:
    row = json.loads((FIXTURES / "code_codeforces_codeelo.jsonl").read_text().split("\n")[0])
    for change, words in (({"examples": [["1"]]}, "'examples' must be pairs"), ({"problem_id": "A1"}, "such as 1971A"),
                          ({"examples": []}, "no tests"), ({"description": ""}, "'description' must be text")):  # fmt: skip
        path = tmp_path / "row.jsonl"
        path.write_text(json.dumps(row | change))
        with pytest.raises(DataError, match=f"row.jsonl, line 1: .*{words}"):
            load("", path=str(path))
