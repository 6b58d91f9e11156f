import json

import pytest
from made_up_runs import HOSTILE, MakeRun, evaluation_row, rollout_row, write_jsonl

from progrpo.report.read import load_runs
from progrpo.report.run_page.browsers import completions, disagreements
from progrpo.report.wording import shortened


def test_first_middle_and_last_shared_rollout(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b")]
    (paths[1] / "rollouts/step-000002.jsonl").unlink()
    data = completions(load_runs(paths))
    assert data["runs"] == ["a", "b"]
    assert [step["step"] for step in data["steps"]] == [1, 3]
    assert [step["step"] for step in completions(load_runs(paths[:1]))["steps"]] == [1, 2, 3]


def test_mixed_groups_come_first(make_run: MakeRun) -> None:
    # p1 stands first in the file and is all correct; p0 is mixed.
    data = completions(load_runs([make_run("a")]))
    assert [problem["id"] for problem in data["steps"][0]["problems"]] == ["p0", "p1"]


def test_a_completion_keeps_what_is_shown(make_run: MakeRun) -> None:
    data = completions(load_runs([make_run("a", shift=-0.2)]))
    problem = data["steps"][0]["problems"][0]
    assert (problem["prompt"], problem["answer"]) == ("p0:", "3")
    assert problem["groups"][0][0] == {
        "text": "1+2",
        "status": "correct",
        "canonical": None,
        "detail": "",
        "truncated": False,
        "confidence": 0.25,
        "shift": -0.2,
        "advantage": 1.0,
        "prompt_confidence": 0.5,
    }


def test_numbers_that_are_none_are_left_out(make_run: MakeRun) -> None:
    path = make_run("a")
    row = rollout_row("p", 0, correct=True, confidence=None, advantage=float("nan"), finish="length")
    write_jsonl(path / "rollouts/step-000001.jsonl", [row])
    found = completions(load_runs([path]))["steps"][0]["problems"][0]["groups"][0][0]
    assert found["truncated"] is True
    assert not {"confidence", "advantage"} & found.keys()


def test_a_run_that_did_not_meet_a_problem_has_no_group(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b")]
    write_jsonl(paths[1] / "rollouts/step-000001.jsonl", [rollout_row("p1", 0, correct=True)])
    problems = completions(load_runs(paths))["steps"][0]["problems"]
    assert [(one["id"], [group is None for group in one["groups"]]) for one in problems] == [
        ("p1", [False, False]),
        ("p0", [False, True]),
    ]


def test_no_rollouts_no_steps(make_run: MakeRun) -> None:
    path = make_run("a")
    for file in path.glob("rollouts/*"):
        file.unlink()
    assert completions(load_runs([path])) == {"runs": ["a"], "steps": []}


def test_long_texts_lose_their_middle() -> None:
    text = "a" * 1500 + "b" * 7 + "c" * 500
    assert shortened(text) == "a" * 1500 + "\n[… 7 characters left out …]\n" + "c" * 500
    assert shortened(HOSTILE) == HOSTILE


def test_disagreements_rank_by_spread(make_run: MakeRun) -> None:
    paths = [make_run("a", correct=(1, 2, 2)), make_run("b", correct=(1, 3, 0))]
    found = disagreements(load_runs(paths))
    assert found is not None
    assert (found.columns, found.steps, found.compared) == ((("a", 0), ("b", 1)), (3,), 3)
    # q2: 2/4 against 0/4; q1: 2/4 against 3/4; q0: none, so it is not shown.
    assert [(one.problem, one.share_spread, one.distinct_spread) for one in found.problems] == [
        ("q2", 0.5, 2.0),
        ("q1", 0.25, 0.0),
    ]
    assert found.problems[0].sides[0].forms == {"form0": 1, "form1": 1}
    assert found.problems[0].prompt == "q2:"


def test_a_single_run_is_compared_with_its_start(make_run: MakeRun) -> None:
    found = disagreements(load_runs([make_run("a", correct=(1, 1, 4))]))
    assert found is not None
    assert (found.columns, found.steps) == ((("step 0", 0), ("step 3", 0)), (0, 3))
    assert [one.problem for one in found.problems] == ["q2"]


def test_runs_without_an_evaluation_stand_aside(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("never"), make_run("b", correct=(3, 3, 3))]
    for file in paths[1].glob("evaluations/*"):
        file.unlink()
    found = disagreements(load_runs(paths))
    assert found is not None
    assert found.columns == (("a", 0), ("b", 2))
    assert disagreements(load_runs(paths[:2])) is None


def test_unknown_distinct_counts_as_no_spread(make_run: MakeRun) -> None:
    # 0 and 2 distinct solutions are known, the third is not: no spread is claimed.
    paths = [make_run("a", correct=(0, 0, 0)), make_run("b", correct=(4, 4, 4)), make_run("c")]
    row = evaluation_row("q0", 4)
    del row["measures"]["distinct_correct"]
    write_jsonl(paths[2] / "evaluations/step-000003.jsonl", [row])
    found = disagreements(load_runs(paths))
    assert found is not None
    assert found.compared == 1
    assert [side.measures.get("distinct_correct") for side in found.problems[0].sides] == [0.0, 2.0, None]
    assert found.problems[0].distinct_spread == 0.0


def test_samples_without_a_canonical_form_are_not_counted_as_one(make_run: MakeRun) -> None:
    path = make_run("a", correct=(4, 4, 4))
    file = path / "evaluations/step-000003.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for sample in rows[0]["samples"]:
        sample["canonical"] = None
    write_jsonl(file, rows)
    found = disagreements(load_runs([path]))
    assert found is not None
    forms = {one.problem: one.sides[1].forms for one in found.problems}
    assert forms["q0"] == {}
    assert forms["q1"] == {"form0": 2, "form1": 2}


@pytest.mark.parametrize("count", [1, 2])
def test_a_problem_is_listed_once(make_run: MakeRun, count: int) -> None:
    found = disagreements(load_runs([make_run(f"r{i}", correct=(i, 4, 4 - i)) for i in range(count)]))
    assert found is not None
    names = [one.problem for one in found.problems]
    assert len(names) == len(set(names))


def test_several_accepted_answers_are_shown_as_such(make_run: MakeRun) -> None:
    path = make_run("a")
    rows = [json.loads(line) for line in (path / "rollouts/step-000001.jsonl").read_text().splitlines()]
    write_jsonl(path / "rollouts/step-000001.jsonl", [{**row, "answer": ["3", "4"]} for row in rows])
    assert completions(load_runs([path]))["steps"][0]["problems"][0]["answer"] == "3 or 4"


def test_a_problem_that_differs_in_its_solutions_alone_is_listed(make_run: MakeRun) -> None:
    # Eleven problems with one form each differ in their share, more than are taken by that; the twelfth in its forms alone.
    paths = [make_run("a"), make_run("b")]
    for path, correct, forms in zip(paths, (1, 2), (1, 2), strict=True):
        rows = [evaluation_row(f"q{i}", correct) for i in range(11)] + [evaluation_row("forms", 2, forms=forms)]
        write_jsonl(path / "evaluations/step-000003.jsonl", rows)
    found = disagreements(load_runs(paths))
    assert found is not None
    assert [one.problem for one in found.problems if not one.share_spread] == ["forms"]


def test_runs_that_were_judged_otherwise_do_not_disagree(make_run: MakeRun) -> None:
    paths = [make_run("a", correct=(0, 2, 3)), make_run("b", correct=(4, 2, 3)), make_run("c", correct=(1, 1, 1))]
    (paths[1] / "config.yaml").open("a").write("reward: {name: other}\n")
    found = disagreements(load_runs(paths))
    assert [label for label, _ in found.columns] == ["a", "c"]
    assert disagreements(load_runs(paths[:2])) is None
