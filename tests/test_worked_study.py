"""The study on worked solutions: what the model learns from, what is trained and kept, and what the tables say of it."""

import random
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from progrpo.files import to_json
from progrpo.settings import read_overrides
from progrpo.train.settings import load_settings
from progrpo.train.setup import resolve
from progrpo.types import Problem

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def posed(dataset: str, **metadata: Any) -> Problem:
    return Problem(id="p", prompt="", info={"dataset": dataset, "entry": {"metadata": metadata}})


def test_worked_solutions_of_countdown_are_all_those_that_use_every_number() -> None:
    """From 1, 2 and 3 to 6 there are three: 1+2+3, 1*2*3 and 2*3/1."""
    from worked_texts import draw_solution, solvable

    problem, rng = posed("countdown", numbers=[3, 1, 2], target=6), random.Random(0)
    drawn = {draw_solution(problem, rng) for _ in range(50)}
    answers = {text.rpartition("\n")[2] for text in drawn}
    assert answers == {f"<answer>{one}</answer>" for one in ("1+2+3", "1*2*3", "2*3/1")}
    assert "1+2=3\n3+3=6\n<answer>1+2+3</answer>" in drawn
    assert solvable(problem)
    assert not solvable(posed("countdown", numbers=[7, 7], target=13))


def test_worked_solutions_of_leg_counting_come_in_every_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from worked_texts import draw_solution, solvable

    package = ModuleType("reasoning_gym.arithmetic.leg_counting")
    package.ANIMALS = {"cow": 4, "ant": 6}  # type: ignore[attr-defined]
    for name in ("reasoning_gym", "reasoning_gym.arithmetic"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, package.__name__, package)
    problem, rng = posed("leg_counting", animals={"cow": 2, "ant": 3}), random.Random(0)
    assert solvable(problem)
    assert {draw_solution(problem, rng) for _ in range(20)} == {
        "cow 2*4=8\nant 3*6=18, 8+18=26\n<answer>26</answer>",
        "ant 3*6=18\ncow 2*4=8, 18+8=26\n<answer>26</answer>",
    }


def test_the_tokenizer_cuts_numbers_into_digits_and_gives_texts_back() -> None:
    from make_worked_model import learn_tokenizer

    texts = ["how many legs have 12 ants?\nant 12*6=72\n<answer>72</answer>"] * 4
    tokenizer = learn_tokenizer(texts, 300)
    ids = tokenizer(texts[0]).input_ids
    assert tokenizer.decode(ids) == texts[0]
    assert [tokenizer.decode([one]) for one in ids].count("2") == 4  # of 12, 12, 72 and 72
    assert tokenizer.convert_tokens_to_ids(["<pad>", "<eos>"]) == [tokenizer.pad_token_id, tokenizer.eos_token_id]


def test_every_run_has_settings_that_resolve() -> None:
    from worked_study import PLAN, STAGES, jobs_of

    for stage in STAGES.values():
        for job in jobs_of(stage, 1):
            recipe = SCRIPTS.parent / "recipes" / PLAN.setups[job.setup].recipe
            settings = resolve(load_settings(recipe, job.settings(Path("runs"))))
            assert settings.method.name == read_overrides([f"method={job.method}"])[0].value["name"]
            assert settings.batch.prompts * settings.batch.group == 128  # as many completions a step in all
            rollouts = settings.steps / settings.batch.steps_per_rollout
            assert rollouts == (1000 if job.setup == "long" else 100)
    sixteen = load_settings(recipe, jobs_of(STAGES["steps"], 1)[0].settings(Path("runs")))
    assert sixteen.batch.steps_per_rollout == 16


def test_strengths_are_of_the_families() -> None:
    from worked_study import CLAIMS, PLAN, STAGES

    known = {(name, strength) for name, family in PLAN.families.items() for strength in family.strengths}
    named = {variant for stage in STAGES.values() for variant in stage.variants}
    assert named <= known
    trained = {(stage.setup, variant) for stage in STAGES.values() for variant in stage.variants}
    assert {(claim.setup, one) for claim in CLAIMS for one in (claim.one, claim.other)} <= trained


def test_problems_are_averaged_by_data_set() -> None:
    from worked_study import PLAN

    rows = [{"facts": {"category": name}, "measures": {"pass@1": value}} for name, value in (("b", 1.0), ("a", 0.0))]
    parts = PLAN.parts(rows)
    assert {name: len(part) for name, part in parts.items()} == {"table": 2, "a": 1, "b": 1}
    assert parts["a"] == [rows[1]]


def test_tables_and_claims_of_made_up_runs(tmp_path: Path) -> None:
    """The paper's form 10 points of Pass@1 above GRPO and DAPO's loss on countdown, level with them on the other data set."""
    from study_runs import Results
    from worked_study import DATASETS, GRPO, PAPER, PLAIN, PLAN, STEPS, page, picture

    results = Results(tmp_path / "worked.jsonl", PLAN)
    for seed in range(5):
        for variant, level in ((GRPO, 0.4), (PLAIN, 0.4), (PAPER, 0.5)):
            noise = 0.001 * seed if variant == PAPER else 0.0  # 0.2 points in the mean
            levels = {"table": level + noise, "countdown": 2 * level - 0.4 + noise, "leg_counting": 0.4 + noise}
            point = {"step": STEPS, "logged": {}} | {p: dict.fromkeys(PLAN.measures, v) for p, v in levels.items()}
            results.add(
                {"setup": "one_step", "family": variant.family, "strength": variant.strength, "seed": seed}
                | {"curve": [point | {"step": 0}, point]}
            )
    text = page(Results(tmp_path / "worked.jsonl", PLAN), range(5))
    assert "### one_step, both data sets" in text
    assert [f"### one_step, {name}" in text for name in DATASETS] == [True, True]
    of_all, countdown, legs = (part for part in text.split("### ")[1:])
    assert "**+10.2" in of_all
    assert "**+20.2" in countdown
    assert "+0.2 ± 0.2" in legs
    assert "| Pass@1 above GRPO's: +5.7 for 7B (Sec. 4.3) | 100 | 5 | Pass@1, points: **+10.2" in text
    assert "seen; the paper's +5.7 lies outside" in text
    assert "Table 7" not in text  # no runs of that form
    words = set(re.findall("<!-- (.+?) -->", picture(results, range(5))))
    assert {"before training", "GRPO", "% of countdown problems solved, Pass@k"} <= words
    assert "UCPO, tau 0.5" not in words  # no runs of it


def test_rollouts_of_the_later_half_are_averaged(tmp_path: Path) -> None:
    """Of 100 steps those from 51 on, null where an optimiser step had no rollout of its own: (0.2 + 0.4) / 2."""
    from study_runs import Job, Results, summary
    from worked_study import PLAN, ROLLOUTS, STEPS, TITLES, page

    job = Job(setup="one_step", family="grpo", strength=None, seed=0, steps=STEPS, plan=PLAN)
    (tmp_path / "evaluations").mkdir()
    for step in (0, STEPS):
        problem = {"facts": {"category": "countdown"}, "measures": dict.fromkeys(PLAN.measures, 0.5)}
        (tmp_path / "evaluations" / f"step-{step:06d}.jsonl").write_text(to_json(problem) + "\n")
    levels = {0: None, 1: 0.9, 50: 0.9, 51: 0.2, 52: None, 100: 0.4}
    seconds = dict.fromkeys([f"time/{phase}_s" for phase in ("generate", "verify", "score", "train", "sync")], 1.0)
    rows = [
        {"step": step} | seconds | {f"rollout/{name}": level for name in ROLLOUTS} for step, level in levels.items()
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(to_json(row) + "\n" for row in rows))
    (tmp_path / "environment.json").write_text(to_json({"versions": {"torch": "2"}}))
    row = summary(job, tmp_path)
    start, end = row["curve"]
    assert "rollouts" not in start
    assert end["rollouts"] == pytest.approx(dict.fromkeys(ROLLOUTS, 0.3))
    results = Results(tmp_path / "worked.jsonl", PLAN)
    results.add(row)
    _, _, shown = page(results, [0]).partition(TITLES["rollouts"])
    assert "| GRPO | 1 | 30.0 | 0.30 | 0.300 | 30.0 | 30.0 |" in shown
    assert "before training" not in shown


def test_a_start_that_was_not_measured_and_a_mean_over_nothing_are_no_figures(tmp_path: Path) -> None:
    from study_pages import level_table
    from study_runs import Results
    from worked_study import PAPER, PLAN, SHOWN, STEPS

    results = Results(tmp_path / "worked.jsonl", PLAN)
    for seed in range(3):
        measures = dict.fromkeys(PLAN.measures, 0.5) | {"different_pairs": float("nan")}
        point = {"step": STEPS, "logged": {}, "table": measures}
        about = {"setup": "one_step", "family": PAPER.family, "strength": PAPER.strength, "seed": seed}
        results.add(about | {"curve": [point]})
    kept = Results(tmp_path / "worked.jsonl", PLAN)  # as the next call reads it, null for no number
    (_, _, row) = level_table(kept, "one_step", [PAPER], range(3), STEPS, SHOWN).splitlines()
    assert "before training" not in row
    assert [cell.strip() for cell in row.split("|")[3:7]] == ["50.0 ± 0.0", "50.0 ± 0.0", "0.50 ± 0.00", ""]
