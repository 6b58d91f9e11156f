import json
from pathlib import Path

import pytest
from made_up_runs import MakeRun, evaluation_row, with_seed, write_benchmark, write_jsonl, write_model

from progrpo.report.comparison.benchmarks import compare_benchmarks
from progrpo.report.comparison.headlines import headlines, lead
from progrpo.report.comparison.results import summarise
from progrpo.report.read import load_runs
from progrpo.report.seeds import pool_seeds


def sentences(*paths: Path) -> list[str]:
    runs = pool_seeds(load_runs(paths))
    return [one.text for one in headlines(runs, summarise(runs), compare_benchmarks(runs))]


def test_the_first_run_says_its_levels_and_the_others_their_differences(make_run: MakeRun) -> None:
    # of 4 samples 1 2 3 correct against 2 3 4: Pass@1 50 and 75 %, one in four more on every problem; Pass@4 100 % both;
    # distinct (1 + 2 + 2)/3 and 2, of which two problems in three are ties
    first, second = sentences(make_run("a", correct=(1, 2, 3)), make_run("b", correct=(2, 3, 4)))
    assert first == (
        "after 3 steps: 1.67 distinct correct solutions a problem, Pass@1 50.0 %, Pass@4 100.0 %; "
        "before training: 1.00 distinct correct solutions a problem, Pass@1 25.0 %, Pass@4 100.0 %."
    )
    assert second == (
        "against a after 3 steps: +0.33 distinct correct solutions a problem [0.00, +1.00], not distinguishable; "
        "Pass@1 +25.0 points [+25.0, +25.0], better; Pass@4 0.0 points [0.0, 0.0], not distinguishable "
        "(one seed; intervals over problems)."
    )


def test_a_loss_is_worse(make_run: MakeRun) -> None:
    _, second = sentences(make_run("a", correct=(2, 3, 4)), make_run("b", correct=(1, 2, 3)))
    assert "Pass@1 −25.0 points [−25.0, −25.0], worse" in second


def test_a_run_alone_is_set_against_its_start(make_run: MakeRun) -> None:
    # Pass@1 of 25 % on every problem before, 50 75 100 % after
    (sentence,) = sentences(make_run("a", correct=(2, 3, 4)))
    assert "Training changed: " in sentence
    assert "Pass@1 +50.0 points [+25.0, +75.0], better" in sentence
    assert sentence.endswith("(one seed; intervals over problems).")


def test_a_first_evaluation_after_some_steps_is_not_called_the_start(make_run: MakeRun) -> None:
    """As `evaluate.at_start=false` leaves a run."""
    path = make_run("a", correct=(2, 3, 4))
    folder = path / "evaluations"
    (folder / "step-000000.jsonl").rename(folder / "step-000001.jsonl")
    (sentence,) = sentences(path)
    assert "before training" not in sentence
    assert "; after 1: 1.00 distinct correct solutions a problem, Pass@1 25.0 %" in sentence
    assert "From step 1 on, training changed: " in sentence


def test_seeds_judge_by_their_own_interval(make_run: MakeRun) -> None:
    # Pass@1 of the seeds: 50 and 50 % against 75 and 100 %: +25 and +50, mean 37.5, s/sqrt(2) = 12.5, t = 12.706
    paths = [make_run(f"{name}-{seed}", correct=correct) for name, seed, correct in RUNS]
    paths = [with_seed(path, seed, alpha=name == "b") for path, (name, seed, _) in zip(paths, RUNS, strict=True)]
    first, second = sentences(*paths)
    assert first.startswith("after 3 steps")
    assert "Pass@1 +37.5 points [−121.3, +196.3], not distinguishable" in second
    # Pass@4 is 100 % of all seeds, and the distinct solutions are 0.33 more of each: how seeds differ is not known
    assert second.endswith("(2 seeds each; intervals over seeds, of Distinct correct, Pass@4 over problems).")


RUNS = (("a", 0, (1, 2, 3)), ("a", 1, (1, 2, 3)), ("b", 0, (2, 3, 4)), ("b", 1, (4, 4, 4)))


def test_runs_that_cannot_be_compared_say_why(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("other"), make_run("never"), make_run("cut")]
    for file in paths[1].glob("evaluations/*"):
        file.write_text(file.read_text().replace('"problem": "', '"problem": "x'))
    for file in paths[2].glob("evaluations/*"):
        file.unlink()
    (paths[3] / "evaluations/step-000000.jsonl").unlink()
    (paths[3] / "evaluations/step-000003.jsonl").rename(paths[3] / "evaluations/step-000002.jsonl")
    _, other, never, cut = sentences(*paths)
    assert other.endswith("Not compared with a: other problems.")
    assert never == "nothing evaluated yet (3 of 3 steps)."
    assert cut.endswith("Not compared with a: no evaluation at the same step.")


@pytest.mark.parametrize(
    ("setting", "a", "b", "why"),
    [
        ("evaluate: {temperature: %s}", 1.0, 0.6, "temperature 0.6, not 1"),
        ("reward: {name: expression, tag: %s}", "null", "answer", "reward.tag answer, not null"),
    ],
)
def test_what_was_sampled_or_judged_otherwise_is_not_compared(
    make_run: MakeRun, setting: str, a: object, b: object, why: str
) -> None:
    paths = [make_run("a"), make_run("b", correct=(2, 3, 4))]
    for path, value in zip(paths, (a, b), strict=True):
        (path / "config.yaml").open("a").write(setting % value + "\n")
    second = sentences(*paths)[1]
    assert second.endswith(f"Not compared with a: {why}.")
    assert "better" not in second


def test_an_own_reward_of_another_text_is_another_reward(make_run: MakeRun) -> None:
    paths = [make_run("a"), make_run("b", correct=(2, 3, 4)), make_run("older", correct=(2, 3, 4))]

    def judged_by(path: Path, digest: str | None) -> None:
        (path / "config.yaml").open("a").write("reward: {name: ./mine.py}\n")
        file = path / "environment.json"
        known = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps(known | ({} if digest is None else {"sources": {"reward ./mine.py": digest}})))

    for path, digest in zip(paths, ("1a", "2b", None), strict=True):
        judged_by(path, digest)
    _, second, older = sentences(*paths)
    assert second.endswith("Not compared with a: text of ./mine.py 2b, not 1a.")
    assert "against a after 3 steps" in older  # it did not write that down


def test_another_number_of_completions_leaves_what_does_not_depend_on_it(make_run: MakeRun) -> None:
    # Pass@1 25 50 75 % against 75 % everywhere of 8 completions; Pass@4 of 1 2 3 in 4 is 100 %, of 6 in 8 too
    paths = [make_run("a", correct=(1, 2, 3)), make_run("b")]
    for file in paths[1].glob("evaluations/*"):
        write_jsonl(file, [evaluation_row(f"q{i}", 6, n=8) for i in range(3)])
    second = sentences(*paths)[1]
    assert "against a after 3 steps, but evaluated otherwise (n 8, not 4; not compared in what depends on n: " in second
    assert "Pass@1 +25.0 points [0.0, +50.0]" in second
    assert "distinct correct solutions a problem" not in second


def test_benchmarks_alone_have_sentences_too(tmp_path: Path) -> None:
    paths = [write_model(tmp_path / name) for name in "ab"]
    for path, correct in zip(paths, ((0, 1, 2), (1, 2, 3)), strict=True):
        for task in ("aime24", "aime25", "amc23", "minerva"):
            write_benchmark(path, task, correct)
    first, second = sentences(*paths)
    assert first.startswith("aime24-paper: Pass@1 25.0 %; ")
    assert first.endswith("; and 1 more below.")
    assert second.startswith("against a: aime24-paper: Pass@1 50.0 %, +25.0 points [+25.0, +25.0], better; ")


def test_the_lead_names_task_and_model(make_run: MakeRun) -> None:
    assert lead(load_runs([make_run("a"), make_run("b")])) == (
        "2 runs from the model some/model. "
        "Task countdown: reach a target from a few numbers with + - * /; many right answers per problem."
    )
