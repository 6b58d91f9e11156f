"""The study's bookkeeping: what is trained, what is kept of it, and what its tables say of made-up results."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def row(
    family: str, strength: float | None, seed: int, *, choose: float, table: float, steps: tuple[int, ...] = (0, 150)
) -> dict[str, Any]:
    from study_runs import MEASURES

    def point(step: int) -> dict[str, Any]:
        parts = {"choose": choose, "table": table}
        return {"step": step, "logged": {}} | {part: dict.fromkeys(MEASURES, value) for part, value in parts.items()}

    return {
        "setup": "on_policy",
        "family": family,
        "strength": strength,
        "seed": seed,
        "curve": [point(s) for s in steps],
    }


def results_of(path: Path, *rows: dict[str, Any]) -> Any:
    from study_runs import Results

    results = Results(path / "results.jsonl")
    for one in rows:
        results.add(one)
    return Results(path / "results.jsonl")  # as the next call reads them


def test_a_run_is_known_by_its_steps_and_a_longer_one_takes_its_place(tmp_path: Path) -> None:
    from study_runs import Job

    short = row("dapo", None, 0, choose=0.1, table=0.2)
    results = results_of(tmp_path, short)
    job = Job(setup="on_policy", family="dapo", strength=None, seed=0, steps=150)
    assert results.has(job)
    longer = Job(setup="on_policy", family="dapo", strength=None, seed=0, steps=600)
    assert not results.has(longer)
    results = results_of(tmp_path, row("dapo", None, 0, choose=0.1, table=0.3, steps=(0, 150, 600)), short)
    assert results.has(longer)
    assert results.has(job)
    assert len(results.rows) == 1
    assert results.values("on_policy", "dapo", None, [0, 1], 600, "pass@1") == {0: 0.3}


def test_strengths_are_chosen_on_problems_that_no_table_uses(tmp_path: Path) -> None:
    from study_pages import chosen
    from study_runs import FAMILIES

    strengths = FAMILIES["log_c"].strengths
    better = {strengths[0]: (0.1, 0.9), strengths[1]: (0.5, 0.1), strengths[2]: (0.4, 0.8), strengths[3]: (0.3, 0.7)}
    rows = [row("log_c", s, seed, choose=c, table=t) for s, (c, t) in better.items() for seed in range(3)]
    assert chosen(results_of(tmp_path, *rows), "log_c", range(3)) == strengths[1]
    # A seed that only one strength has, and it by far the best there, says nothing of the others.
    lucky = row("log_c", strengths[0], 3, choose=9.0, table=0.0)
    assert chosen(results_of(tmp_path / "lucky", *rows, lucky), "log_c", range(4)) == strengths[1]
    with pytest.raises(ValueError, match="run the scan first"):
        chosen(results_of(tmp_path / "other", *rows[:6]), "log_c", range(3))


def test_differences_are_paired_by_seed_and_bold_after_holm(tmp_path: Path) -> None:
    from study_pages import Variant, difference_table, paired

    base = [row("dapo", None, seed, choose=0, table=level) for seed, level in enumerate((0.2, 0.4, 0.6))]
    better = [row("log_c", 0.6, seed, choose=0, table=level) for seed, level in ((2, 0.702), (1, 0.5), (0, 0.299))]
    noisy = [row("paper", 0.3, seed, choose=0, table=level) for seed, level in enumerate((0.6, 0.3, 0.5))]
    lone = row("equilibrium", 1.0, 1, choose=0, table=0.5)
    results = results_of(tmp_path, *base, *better, *noisy, lone)
    found = paired(results, "on_policy", Variant("log_c", 0.6), range(3), 150, "pass@1")
    assert found.tolist() == pytest.approx([0.099, 0.1, 0.102])
    variants = [Variant("dapo", None), Variant("paper", 0.3), Variant("equilibrium", 1.0), Variant("log_c", 0.6)]
    lines = difference_table(results, "on_policy", variants, range(3), 150, ("pass@1",)).splitlines()
    # Student's t of two degrees of freedom: 4.303 * 0.0015275 / sqrt(3) = 0.0038
    assert lines[-1] == "| log c among the correct, alpha 0.6 | 3 | **+10.0 ± 0.4** |"
    assert lines[-2] == "| equilibrium, alpha 1 | 1 | +10.0 |"
    assert "**" not in lines[-3]


def test_every_stage_trains_each_variant_once_a_seed(tmp_path: Path) -> None:
    from study import jobs_of
    from study_runs import FAMILIES, SETUPS

    rows = [
        row(f, s, seed, choose=0.5, table=0.5)
        for f, family in FAMILIES.items()
        for s in family.strengths
        for seed in range(3)
    ]
    results = results_of(tmp_path, *rows)
    scan = jobs_of("scan", results, range(3))
    assert len(scan) == 3 * sum(len(family.strengths) for family in FAMILIES.values())
    assert all(results.has(job) for job in scan)
    long = jobs_of("long", results, range(2))
    assert {job.steps for job in long} == {600}
    assert {
        "grpo",
        "dapo",
        "paper",
        "equilibrium",
        "ucpo",
        "unlikeliness",
        "entropy",
        "log_c",
        "log_prob",
    } == {job.family for job in long}
    robust = jobs_of("robust", results, [0])
    assert {job.setup for job in robust} == set(SETUPS) - {"on_policy"}
    # Without a shift, the three families that come first among equals (paper, equilibrium, ucpo), and `balanced`.
    assert len(robust) == 5 * len({job.setup for job in robust})
    best = results_of(tmp_path, *rows, *(row("log_c", 0.6, seed, choose=0.9, table=0.5) for seed in range(3)))
    assert len(jobs_of("robust", best, [0])) == 4 * len({job.setup for job in robust})  # it is one of the three
    for jobs in (scan, long, robust):
        assert len({job.name for job in jobs}) == len(jobs)


def test_every_family_is_a_method(tmp_path: Path) -> None:
    from progrpo.train.settings import load_settings
    from progrpo.train.setup import resolve
    from study_runs import FAMILIES, SETUPS, Job

    for family, about in FAMILIES.items():
        for strength in about.strengths:
            job = Job(setup="on_policy", family=family, strength=strength, seed=3, steps=150)
            recipe = SCRIPTS.parent / "recipes" / SETUPS[job.setup].recipe
            settings = resolve(load_settings(recipe, job.settings(tmp_path)))
            assert settings.seed == 3
            others = {"entropy": "dapo", "unlikeliness_mixed": "unlikeliness"}
            name = others.get(family, family if family in ("grpo", "dapo", "ucpo", "unlikeliness") else "progrpo")
            assert settings.method.name == name


def test_differences_without_a_spread_are_not_tested() -> None:
    from study_pages import p_value

    assert p_value(np.array([-0.013333, -0.013334, -0.013333])) == 1.0  # two problems of 150 each time, rounded
    # mean 2, s 1: t = 2 sqrt(3) = 3.4641 with two degrees of freedom
    assert p_value(np.array([1.0, 2.0, 3.0])) == pytest.approx(0.07418, abs=1e-5)


def test_intervals_need_three_seeds() -> None:
    from study_pages import interval

    assert np.isnan(interval(np.array([1.0, 2.0]))[1])
    # 1 2 3: mean 2, std 1, 4.30265 / sqrt(3)
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2.0, 2.48414), abs=1e-5)


def test_a_claim_is_seen_contradicted_or_bounded() -> None:
    from claims import CLAIMS, verdict

    claim = next(one for one in CLAIMS if one.number == 5.7)  # Pass@1, in percent
    # mean 6, standard deviation 1: 4.303 * 1 / sqrt(3) = 2.48
    assert verdict(claim, np.array([0.05, 0.06, 0.07])) == "seen; the paper's +5.7 lies inside"
    assert verdict(claim, np.array([0.01, 0.011, 0.012])) == "seen; the paper's +5.7 lies outside"
    assert verdict(claim, np.array([-0.05, -0.06, -0.07])) == "contradicted; the paper's +5.7 lies outside"
    assert verdict(claim, np.array([-0.05, 0.06, 0.01])) == "not seen; the paper's +5.7 lies inside"
    assert verdict(claim, np.array([0.05, 0.06])) == "too few seeds"
    falls = claim._replace(sign=-1, number=None)
    assert verdict(falls, np.array([-0.05, -0.06, -0.07])) == "seen"


def test_the_table_of_claims_says_what_holm_leaves(tmp_path: Path) -> None:
    from claims import course, table

    jitter = (0.0, 0.001, -0.001)
    rows = [row("grpo", None, seed, choose=0, table=0.5, steps=(0, 600)) for seed in range(3)]
    rows += [row("paper", 0.3, seed, choose=0, table=0.7 + jitter[seed], steps=(0, 600)) for seed in range(3)]
    results = results_of(tmp_path, *rows)
    lines = table(results, range(3)).splitlines()
    # 20 points with a standard deviation of 0.1: 4.303 * 0.1 / sqrt(3) = 0.25; p = 8e-6, times six rows
    assert lines[2].endswith("| 600 | 3 | Pass@1, points: **+20.0 ± 0.2** | seen; the paper's +5.7 lies outside |")
    assert len(lines) == 2 + 6  # nothing is said of what was not run
    assert "| GRPO | 0.500 ± 0.000 |  |  |  | 0.500 ± 0.000 |" in course(results, range(3))


@pytest.mark.slow
def test_a_run_is_forked_trained_and_kept_and_one_that_fails_says_why(tmp_path: Path) -> None:
    from study_runs import FAMILIES, SETUPS, Job, Plan, Results, run_all

    small = ("task.test_size=52", "task.train_size=20", "batch.prompts=2", "batch.group=2", "evaluate.n=2")
    for more, fails in ((small, None), ((*small, "batch.group=1"), "paper-1-seed3 ended with")):
        setup = SETUPS["on_policy"]._replace(settings=more, unit=2)
        plan = Plan({"paper": FAMILIES["paper"]}, {"on_policy": setup}, measured_at_start=frozenset())
        job = Job(setup="on_policy", family="paper", strength=1.0, seed=3, steps=2, plan=plan)
        results = Results(tmp_path / f"{bool(fails)}.jsonl", plan)
        if fails is None:
            run_all([job], results, tmp_path / "runs", 1)
            (curve,) = results.curves("on_policy", "paper", 1.0, [3])
            assert [point["step"] for point in curve] == [2]
            assert 0 <= curve[0]["table"]["pass@1"] <= 1
        else:
            with pytest.raises(RuntimeError, match=fails):
                run_all([job], results, tmp_path / "failed", 1)
