"""The study of all methods: what is trained, what is chosen, and what its tables say of a made-up results file."""

from pathlib import Path
from typing import Any

import pytest

from progrpo import methods, plugins
from progrpo.files import to_json
from progrpo.settings import Choice, read_overrides
from progrpo.train.settings import load_settings
from progrpo.train.setup import resolve

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def row(
    setup: str, family: str, strength: float, seed: int, *, choose: float, table: float, **more: Any
) -> dict[str, Any]:
    from study_runs import MEASURES

    def point(step: int, level: float) -> dict[str, Any]:
        parts = {"choose": choose if step else 0.15, "table": level}
        return {"step": step, "logged": {}} | {part: dict.fromkeys(MEASURES, value) for part, value in parts.items()}

    of_run = {"setup": setup, "family": family, "strength": strength, "seed": seed, "rollout_s": 2.0}
    return of_run | {"curve": [point(0, 0.3), point(200, table)]} | more


def results_of(path: Path, rows: list[dict[str, Any]]) -> Any:
    from methods_study_plan import PLAN
    from study_runs import Results

    results = Results(path / "results.jsonl", PLAN)
    for one in rows:
        results.add(one)
    return Results(path / "results.jsonl", PLAN)


def tuning(family: str, levels: tuple[float, float, float], setup: str = "countdown") -> list[dict[str, Any]]:
    """Both tuning seeds at the three values; what the table's problems say there is the opposite."""
    from methods_study_plan import FAMILIES

    pairs = zip(FAMILIES[family].strengths, levels, strict=True)
    return [
        row(setup, family, value, seed, choose=level, table=1 - level) for value, level in pairs for seed in (100, 101)
    ]


def test_every_method_is_in_the_study_or_left_out_with_a_reason() -> None:
    from methods_study_plan import COLOURS, FAMILIES, LEFT_OUT

    named = {read_overrides([f"method={family.method}"])[0].value["name"] for family in FAMILIES.values()}
    assert named.isdisjoint(LEFT_OUT)
    assert named | LEFT_OUT.keys() == set(plugins.names("methods"))
    assert all(len(set(family.strengths)) == 3 for family in FAMILIES.values())
    assert {family.kind for family in FAMILIES.values()} == COLOURS.keys()
    assert len({family.label for family in FAMILIES.values()}) == len(FAMILIES)


def test_every_value_of_every_method_can_be_trained_on_both_games(tmp_path: Path) -> None:
    from methods_study_plan import FAMILIES, PLAN, SETUPS
    from study_runs import Job

    for family, about in FAMILIES.items():
        for value in about.strengths:
            job = Job(setup="countdown", family=family, strength=value, seed=3, steps=200, plan=PLAN)
            chosen = read_overrides([f"method={job.method}"])[0].value
            methods.load(Choice(**chosen)).check(16, 4)  # raises where a value cannot be used with groups of 16
    for setup, place in SETUPS.items():
        for family, rate, steps in (("grpo", 0.5, 200), ("reinforce", 2.0, 50), ("ucpo", 0.5, 200)):
            job = Job(setup=setup, family=family, strength=rate, seed=3, steps=200, plan=PLAN, extra=("evaluate.n=8",))
            settings = load_settings(SCRIPTS.parent / "recipes" / place.recipe, job.settings(tmp_path))
            settings = settings if setup == "grid_path" else resolve(settings)  # whose model is made first
            assert (settings.steps, settings.evaluate.every, settings.seed, settings.evaluate.n) == (steps, steps, 3, 8)
            assert settings.batch.steps_per_rollout == (1 if family == "reinforce" else 4)
            assert settings.optim.lr == pytest.approx(place.lr * (1.0 if family == "ucpo" else rate))


def test_values_are_chosen_on_each_game_with_seeds_and_problems_of_their_own(tmp_path: Path) -> None:
    from methods_study import jobs_of
    from methods_study_plan import PLAN
    from study_runs import Job

    rows = [*tuning("ucpo", (0.1, 0.5, 0.3)), *tuning("ucpo", (0.6, 0.5, 0.3), "grid_path")]
    # A run of the table's, however good, chooses nothing.
    rows.append(row("countdown", "ucpo", 1.0, 0, choose=9.0, table=0.2))
    results = results_of(tmp_path, rows)
    jobs = jobs_of("table", results, ["countdown", "grid_path"], ["ucpo"], range(5), steps=200, extra=())
    assert {(job.setup, job.strength) for job in jobs} == {("countdown", 0.5), ("grid_path", 0.2)}
    assert sorted(job.seed for job in jobs if job.setup == "countdown") == [0, 1, 2, 3, 4]
    # GRPO is trained at all three of its learning rates.
    with_base = results_of(tmp_path / "base", [*rows, *tuning("grpo", (0.3, 0.2, 0.1))])
    of_both = jobs_of("table", with_base, ["countdown"], ["grpo", "ucpo"], range(1), steps=200, extra=())
    assert [(job.family, job.strength) for job in of_both] == [
        ("grpo", 0.5),
        ("grpo", 1.0),
        ("grpo", 2.0),
        ("ucpo", 0.5),
    ]
    tune = jobs_of("tune", results, ["countdown"], ["ucpo", "grpo"], range(5), steps=200, extra=())
    assert {job.seed for job in tune} == {100, 101}
    assert len(tune) == 2 * 3 * 2
    assert len({job.name for job in tune}) == len(tune)
    assert [results.has(job) for job in tune] == [job.family == "ucpo" for job in tune]
    # What only chooses is evaluated on the 50 problems for that; of the table's runs GRPO's alone measure the start.
    assert all("evaluate.problems=50" in job.settings(tmp_path) for job in tune)
    assert not any("evaluate.problems=50" in job.settings(tmp_path) for job in jobs)
    assert all("evaluate.at_start=false" in job.settings(tmp_path) for job in [*tune, *jobs])
    base = Job(setup="countdown", family="grpo", strength=1.0, seed=0, steps=200, plan=PLAN)
    assert "evaluate.at_start=false" not in base.settings(tmp_path)
    with pytest.raises(ValueError, match="grpo: no seed has reached step 200 with every strength"):
        jobs_of("table", results, ["countdown"], ["grpo"], range(5), steps=200, extra=())


def made_up(path: Path) -> Any:
    """GRPO at 0.50 to 0.54 and three others: clearly above it, below it, and within noise of it."""
    rows = [*tuning("grpo", (0.1, 0.2, 0.1)), *tuning("ucpo", (0.1, 0.5, 0.3)), *tuning("nsr", (0.3, 0.2, 0.1))]
    rows += tuning("passk", (0.1, 0.2, 0.3))
    for seed in range(5):
        level = 0.5 + seed / 100
        jitter = (0.001, -0.001, 0.002, -0.002, 0.0)[seed]
        noise = (0.05, -0.05, 0.06, -0.04, 0.0)[seed]
        rows.append(row("countdown", "grpo", 1.0, seed, choose=0, table=level))
        rows.append(row("countdown", "ucpo", 0.5, seed, choose=0, table=level + 0.1 + jitter, rollout_s=3.0))
        rows.append(row("countdown", "nsr", 0.5, seed, choose=0, table=level - 0.1 + jitter, rollout_s=1.0))
        rows.append(row("countdown", "passk", 8, seed, choose=0, table=level + noise))
    return results_of(path, rows)


def test_the_tables_say_what_was_chosen_what_it_cost_and_what_holm_leaves(tmp_path: Path) -> None:
    from methods_study import page

    text = page(made_up(tmp_path), ["countdown", "grid_path"], ["grpo", "ucpo", "nsr", "passk", "dapo"], range(5), 200)
    lines = text.splitlines()
    assert "| before training | 15.0 | | 30.0 ± 0.0 | 30.0 ± 0.0 | 0.30 ± 0.00 | 0.300 ± 0.000 | |" in lines
    # Student's t of four degrees of freedom: 2.776 * 0.015811 / sqrt(5) = 0.0196
    grpo = next(line for line in lines if line.startswith("| grpo |"))
    assert "times lr 0.5: 10.0, **1**: 20.0, 2: 10.0 | 5 | 52.0 ± 2.0 |" in grpo
    assert grpo.endswith("| 1.00 |")
    assert next(line for line in lines if line.startswith("| ucpo |")).endswith("| 1.50 |")
    assert next(line for line in lines if line.startswith("| nsr |")).endswith("| 0.50 |")
    assert "* Pass@1, 3 methods compared: above GRPO: ucpo; below GRPO: nsr." in lines
    assert not [line for line in lines if line.startswith("| dapo")]  # was not tuned
    assert lines[-1] == "GRPO is not tuned here yet."  # on the other game
    bold = [line.split(" | ")[0].strip("| ") for line in lines if "**+" in line or "**-" in line]
    assert bold == ["ucpo, tau 0.5", "nsr, times lr 0.5"]


def test_methods_at_a_fixed_rate_are_compared_with_grpo_at_that_rate_too(tmp_path: Path) -> None:
    from methods_study import page

    # GRPO is best at half the rate, where it reaches 0.6; at the rate that ucpo has, 0.4.
    rows = [*tuning("grpo", (0.9, 0.2, 0.1)), *tuning("ucpo", (0.1, 0.5, 0.3)), *tuning("nsr", (0.3, 0.2, 0.1))]
    for seed in range(3):
        rows.append(row("countdown", "grpo", 0.5, seed, choose=0, table=0.6))
        rows.append(row("countdown", "grpo", 1.0, seed, choose=0, table=0.4))
        rows.append(row("countdown", "ucpo", 0.5, seed, choose=0, table=0.5 + seed / 100))
        rows.append(row("countdown", "nsr", 0.5, seed, choose=0, table=0.6))
    text = page(results_of(tmp_path, rows), ["countdown"], ["grpo", "ucpo", "nsr"], range(3), 200)
    tuned, same = text.split("Methods with a number of their own against GRPO at the learning rate that they have:")
    # Mean of -0.10, -0.09, -0.08 and of 0.10, 0.11, 0.12; Student's t of two degrees: 4.303 * 0.01 / sqrt(3) = 0.025
    assert "| difference from grpo, times lr 0.5 |" in tuned
    assert "| ucpo, tau 0.5 | 3 | **-9.0 ± 2.5** |" in tuned
    assert "| nsr, times lr 0.5 | 3 | +0.0 ± 0.0 |" in tuned
    assert "| difference from grpo, times lr 1 |" in same
    assert "| ucpo, tau 0.5 | 3 | **+11.0 ± 2.5** |" in same
    assert "nsr" not in same  # its rate was tuned


def test_the_picture_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    from methods_study import picture

    results = made_up(tmp_path)
    for name in ("one.svg", "two.svg"):
        picture(results, ["countdown"], ["grpo", "ucpo", "nsr", "passk"], range(5), 200, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_point_far_from_all_others_is_said_and_not_drawn() -> None:
    """Quartiles of 40 ... 44 are 41 and 43: fences at 35 and 49, on both axes."""
    from matplotlib.figure import Figure

    from methods_study import leave_out

    points = {str(n): (40.0 + n, 40.0 + n) for n in range(5)}
    axes = Figure().subplots()
    leave_out(axes, points)
    assert (axes.get_xlim(), len(axes.texts)) == ((0.0, 1.0), 0)
    many = points | {f"{n}+": (40.0 + n, 40.0 + n) for n in range(5)}
    leave_out(axes, many | {"lost": (44.0, 0.0)})
    assert axes.get_xlim() == pytest.approx((39.2, 44.8))
    assert axes.get_ylim() == pytest.approx((39.2, 44.8))
    assert [text.get_text() for text in axes.texts] == ["outside: lost (44.0, 0.0)"]


def test_a_run_s_cost_leaves_out_what_is_no_training() -> None:
    from study_runs import _seconds_a_rollout

    # two rollouts of two steps; the row of the start, evaluations and files cost nothing
    rows = [{"step": 0, "time/generate_s": 9.0, "time/evaluate_s": 9.0}]
    for step, generate in ((1, 1.0), (2, 0.0), (3, 2.0), (4, 0.0)):
        seconds = {"generate": generate, "verify": 0.25, "score": 0.0, "train": 0.5, "sync": 0.0, "evaluate": 50.0}
        rows.append({"step": step} | {f"time/{name}_s": value for name, value in seconds.items()})
    assert _seconds_a_rollout(rows) == pytest.approx((1.0 + 2.0 + 4 * 0.75) / 2)


def test_a_run_that_chooses_keeps_nothing_of_the_tables_problems(tmp_path: Path) -> None:
    from methods_study_plan import PLAN
    from study_runs import Job, summary

    for chooses, parts in ((True, {"choose"}), (False, {"choose", "table"})):
        job = Job(setup="countdown", family="grpo", strength=1.0, seed=0, steps=200, plan=PLAN, chooses=chooses)
        folder = tmp_path / str(chooses)
        (folder / "evaluations").mkdir(parents=True)
        measures = [{"measures": {"pass@1": index / 100}} for index in range(50 if chooses else 60)]
        (folder / "evaluations" / "step-000200.jsonl").write_text(
            "".join(to_json(one) + "\n" for one in measures), "utf-8"
        )
        (folder / "metrics.jsonl").write_text("", "utf-8")
        (folder / "environment.json").write_text('{"versions": {"torch": "2"}}', "utf-8")
        (point,) = summary(job, folder)["curve"]
        assert parts == point.keys() - {"step", "logged"}
        assert point["choose"]["pass@1"] == 0.245  # (0 + 49) / 2 in hundredths
        assert chooses or point["table"]["pass@1"] == 0.545  # (50 + 59) / 2
