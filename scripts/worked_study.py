"""Do the paper's claims hold for a small language model that writes worked solutions? The study of docs/results.md.

    python scripts/make_worked_model.py                    # once
    python scripts/worked_study.py main --jobs 2           # trains what docs/worked_study.jsonl does not have
    python scripts/worked_study.py                         # the tables of what there is, and docs/worked_study.svg

Stages, each of which goes on where it was stopped, and takes `--seeds N` in place of its own number:
    main    GRPO, DAPO's loss, the paper's default, equilibrium, balanced, UCPO, unlikeliness; 5 seeds
    alpha   the paper's form at alpha 0.1, 0.7 and 1 (Table 6; 0 is DAPO's loss); 3 seeds
    forms   the shift with other baselines (Table 7, Fig. 5); 3 seeds
    parts   GRPO with the wider clip range alone, and with the token mean alone; 3 seeds
    steps   sixteen optimiser steps a rollout, as the paper makes; 3 seeds
    groups  groups of 16 in place of 8, as many completions a step; 3 seeds
    long    1,000 steps (Fig. 2); 2 seeds

Every run is recipes/study/worked.yaml with its own seed, on one thread, `--jobs` side by side, and ends with 100 held-out
questions x 32 samples; beside them the rollouts of the later half of its steps are averaged. Nothing is chosen by these:
strengths are the published ones, or what scripts/study.py found on countdown. Intervals are Student's 95 % over seeds,
differences are paired by seed; in bold what Holm's correction over a table's differences leaves of paired t-tests at 0.05.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from claims import Claim, table
from progrpo.files import write_whole
from progrpo.report.drawing import INK, doubling_axis, run_colour, run_marker, sheet, to_file, unit_axis
from study_pages import KS, Variant, difference_table, in_setup, label_of, level_table
from study_runs import FAMILIES as OTHERS
from study_runs import MEASURES, ROOT, Family, Job, Plan, Results, Setup, run_all

GRPO, PLAIN, PAPER = Variant("grpo", None), Variant("dapo", None), Variant("paper", 0.3)
STEPS = 100
LONG = 1000


def _form(label: str, settings: str) -> Family:
    return Family(f"{{name: progrpo, {settings}, alpha: {{strength}}}}", (0.3,), (), label)


FAMILIES = {
    "grpo": OTHERS["grpo"],
    "clip_higher": Family("{name: grpo, clip_high: 0.28}", (None,), (), "GRPO, clip 1.28"),
    "token_mean": Family("{name: grpo, aggregate: group_token}", (None,), (), "GRPO, token mean"),
    "dapo": OTHERS["dapo"],
    "paper": OTHERS["paper"]._replace(strengths=(0.1, 0.3, 0.7, 1.0)),
    "group_mean": _form("mean c(o) - c(o)", "preset: theory"),
    "minus": _form("-c(o)", "baseline: none"),
    "one_minus": _form("1 - c(o)", "baseline: one"),
    "one_minus_both": _form("1 - c(q) - c(o)", "baseline: one_minus_prompt"),
    "equilibrium": OTHERS["equilibrium"],
    "balanced": OTHERS["log_c"]._replace(label="balanced"),
    "ucpo": OTHERS["ucpo"],
    "unlikeliness": OTHERS["unlikeliness"],
}


def by_dataset(problems: Sequence[Mapping[str, Any]]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """All problems together, and those of each data set."""
    names = sorted({problem["facts"]["category"] for problem in problems})
    return {"table": problems} | {name: [one for one in problems if one["facts"]["category"] == name] for name in names}


_ALL = ("checkpoint.keep=1", "record.rollouts_every=0", "evaluate.problems=100")
SETUPS = {
    "one_step": _ALL,
    "sixteen_steps": (*_ALL, "batch.minibatch_prompts=1", "optim.lr=1.25e-5"),
    "group_16": (*_ALL, "batch.prompts=8", "batch.group=16"),
    "long": (*_ALL, "evaluate.problems=50"),
}
"""`one_step`: one optimiser step a rollout of 16 questions x 8 completions. `sixteen_steps`: sixteen, of one question each, at
a quarter of the learning rate. `group_16`: 8 questions x 16. `long`: as the first, for the entropy over 1,000 steps."""
UNITS = {"sixteen_steps": 16 * STEPS}
"""Optimiser steps to an evaluation where they are not `STEPS`."""
ROLLOUTS = ("correct", "distinct_correct", "entropy", "duplicates", "all_incorrect_groups")
PLAN = Plan(
    FAMILIES,
    {name: Setup("study/worked.yaml", settings, UNITS.get(name, STEPS)) for name, settings in SETUPS.items()},
    measured_at_start=frozenset({"grpo"}),
    parts=by_dataset,
    of_rollouts=ROLLOUTS,
    measures=(*MEASURES, "unique_correct", "different_pairs", "auc@32", "cover@0.5", "distinct_answers"),
)


class Stage(NamedTuple):
    setup: str
    variants: tuple[Variant, ...]
    seeds: int
    steps: int = STEPS


BALANCED = Variant("balanced", 0.6)
MAIN = (GRPO, PLAIN, PAPER, Variant("equilibrium", 1.0), BALANCED, Variant("ucpo", 0.5), Variant("unlikeliness", 0.5))
FORMS = tuple(Variant(name, 0.3) for name in ("group_mean", "minus", "one_minus", "one_minus_both"))
FEW = (GRPO, PLAIN, PAPER, BALANCED)
STAGES = {
    "main": Stage("one_step", MAIN, 5),
    "alpha": Stage("one_step", tuple(Variant("paper", alpha) for alpha in (0.1, 0.7, 1.0)), 3),
    "forms": Stage("one_step", FORMS, 3),
    "parts": Stage("one_step", (Variant("clip_higher", None), Variant("token_mean", None)), 3),
    "steps": Stage("sixteen_steps", FEW, 3, 16 * STEPS),
    "groups": Stage("group_16", FEW, 3),
    "long": Stage("long", FEW, 2, LONG),
}
SHOWN = ("pass@1", "pass@32", "distinct_correct", "different_pairs", "entropy", "length")
TESTED = ("pass@1", "pass@32", "distinct_correct")
DATASETS = ("countdown", "leg_counting")
TITLES = {
    "table": "both data sets",
    **{name: name for name in DATASETS},
    "rollouts": "the rollouts of training, later half of the steps",
}


def _above(text: str, one: Variant, other: Variant, setup: str = "one_step", **more: Any) -> list[Claim]:
    """That Pass@1 and Pass@32 of one are above those of the other."""
    step = PLAN.setups[setup].unit
    return [Claim(text, name, one, other, step, setup=setup, **more) for name in ("pass@1", "pass@32")]


CLAIMS = (
    Claim("Pass@1 above GRPO's: +5.7 for 7B (Sec. 4.3)", "pass@1", PAPER, GRPO, STEPS, number=5.7, setup="one_step"),
    Claim(
        "Pass@32 above GRPO's: +13.9 for 7B (abstract)", "pass@32", PAPER, GRPO, STEPS, number=13.9, setup="one_step"
    ),
    *_above("the same with sixteen steps a rollout, as in the paper", PAPER, GRPO, "sixteen_steps"),
    *_above("the same with groups of 16", PAPER, GRPO, "group_16"),
    Claim("more ways to right answers than GRPO (Table 5)", "distinct_correct", PAPER, GRPO, STEPS, setup="one_step"),
    *(
        Claim(
            f"more entropy than GRPO (Figs. 2, 4, 7), {where}",
            "entropy",
            PAPER,
            GRPO,
            STEPS,
            setup="one_step",
            part=part,
        )
        for where, part in (("held-out", "table"), ("in training", "rollouts"))
    ),
    *_above("alpha 0.3 better than 0: the shift is what helps (Table 6, Sec. 4.5)", PAPER, PLAIN),
    *_above("alpha 0.7 worse than 0.3 (Table 6)", Variant("paper", 0.7), PAPER, sign=-1),
    *_above("alpha 1 worse than 0.3 (Table 6)", Variant("paper", 1.0), PAPER, sign=-1),
    *_above("better than a penalty that does not compare: 1 - c(o) (Table 7)", PAPER, Variant("one_minus", 0.3)),
)


def jobs_of(stage: Stage, seeds: int) -> list[Job]:
    """All runs of one seed before the next, so that what is there early is comparable."""
    return [
        Job(setup=stage.setup, family=family, strength=strength, seed=seed, steps=stage.steps, plan=PLAN)
        for seed in range(seeds)
        for family, strength in stage.variants
    ]


def page(results: Results, seeds: Sequence[int]) -> str:
    """All tables of what there is."""
    parts = []
    for setup, about in PLAN.setups.items():
        step = LONG if setup == "long" else about.unit
        variants = in_setup(results, setup, step)
        if not variants:
            continue
        curves = [curve for variant in variants for curve in results.curves(setup, *variant, seeds)]
        there = set[str]().union(*(point for curve in curves for point in curve))
        for part, title in TITLES.items():
            if part not in there:
                continue
            shown, tested = (ROLLOUTS, ROLLOUTS) if part == "rollouts" else (SHOWN, TESTED)
            parts += [f"### {setup}, {title}", level_table(results, setup, variants, seeds, step, shown, part)]
            for base in (PLAIN, GRPO):
                if base in variants:
                    parts.append(difference_table(results, setup, variants, seeds, step, tested, base, part))
    return "\n\n".join([*parts, table(results, seeds, CLAIMS)])


def picture(results: Results, seeds: Sequence[int]) -> str:
    """Pass@k of the main comparison on each data set after training, in the mean over seeds; an SVG."""
    ks = [int(name.removeprefix("pass@")) for name in KS]
    with sheet(3.4, 9.6) as figure:
        for axes, part in zip(figure.subplots(1, len(DATASETS)), DATASETS, strict=True):
            rows = [(GRPO, 0), *((variant, STEPS) for variant in MAIN)]
            for index, (variant, step) in enumerate(rows, -1):
                values = [list(results.values("one_step", *variant, seeds, step, name, part).values()) for name in KS]
                if not all(values):
                    continue
                style = {"color": run_colour(index), "marker": run_marker(index), "markersize": 3}
                axes.plot(
                    ks,
                    [float(np.mean(column)) for column in values],
                    label=label_of(results, variant) if step else "before training",
                    linewidth=1.2,
                    **(style if step else {"color": INK, "linestyle": "--"}),
                )
            doubling_axis(axes, ks, "k, completions per problem")
            unit_axis(axes, f"% of {part} problems solved, Pass@k")
        axes.legend(loc="lower right", fontsize=7)
        return to_file(figure, "worked_study")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--seeds", type=int, help="in place of the stage's own number")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/worked_study"), help="directory of the runs")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "worked_study.jsonl")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "worked_study.svg")
    args = parser.parse_args()

    if unknown := sorted(set(args.stages) - set(STAGES)):
        parser.error(f"unknown stage {unknown[0]!r}; expected some of {', '.join(STAGES)}")
    results = Results(args.results, PLAN)
    for name in args.stages:
        run_all(jobs_of(STAGES[name], args.seeds or STAGES[name].seeds), results, args.out, args.jobs)
    seeds = sorted({seed for *_, seed in results.rows})
    print(page(results, seeds))
    if in_setup(results, "one_step", STEPS):
        write_whole(args.picture, picture(results, seeds))


if __name__ == "__main__":
    main()
