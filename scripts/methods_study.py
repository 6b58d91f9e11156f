"""All methods on two games from the same start and rollout budget, each with the same tuning budget.

    python scripts/make_embedded_model.py --task grid_path               # once: the second game's model
    python scripts/methods_study.py tune table --jobs 2
    python scripts/methods_study.py                                      # tables and picture of what there is

Stages, each of which trains only what the results file does not have, and goes on where it was stopped:
    tune     every method of scripts/methods_study_plan.py at three values of its number, seeds 100 and 101
    table    each at the value that was chosen on its game, seeds 0 to 4: none of those it was chosen with; GRPO at all three
             of its learning rates, for how far a policy goes in so many steps is what a learning rate changes, too

Of 200 held-out problems x 32 samples 50 choose the values (by the mean of Pass@1, 2, 4, ... 32), and 150 are the table's.
Intervals are Student's 95 % over seeds; differences to GRPO are paired by seed and tested by paired t-tests with Holm's
correction over all differences of a game. Cost is seconds a rollout with the optimiser steps made of it, as a multiple of
GRPO's, as it came out beside what else the machine did; benchmarks/methods.py measures it. A run takes one to two minutes on
an idle core: some 320 runs of tuning and 270 of the table on each game.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from methods_study_plan import BASE, COLOURS, FAMILIES, PLAN, RATE, SAME_RATE, SETUPS
from study_pages import (
    KS,
    TESTED,
    Variant,
    choosing_levels,
    chosen,
    difference_table,
    differences,
    draw_interval,
    interval,
    label_of,
    new_figure,
    save,
    scale_of,
    shown_interval,
    title_of,
)
from study_runs import ROOT, Job, Results, run_all

STAGES = ("tune", "table")
TUNED_ON = (100, 101)
ROLLOUTS, STEPS_A_ROLLOUT = 50, 4
LEVELS = ("pass@1", "pass@32", "distinct_correct", "entropy")


def jobs_of(
    stage: str, results: Results, setups: Sequence[str], families: Sequence[str], seeds: Sequence[int], **more: Any
) -> list[Job]:
    """The runs of a stage, all of one seed before the next, so that what is there early is comparable.

    Args:
        more: `steps` and `extra` of the jobs.

    Raises:
        ValueError: a value is to be chosen among some that were not tuned.
    """
    jobs = []
    for seed in TUNED_ON if stage == "tune" else seeds:
        for setup in setups:
            for family in families:
                at = FAMILIES[family].strengths
                if stage == "table":
                    best = chosen(results, family, TUNED_ON, more["steps"], setup)
                    at = at if family == BASE else (best,)
                about = {"setup": setup, "family": family, "seed": seed, "plan": PLAN, "chooses": stage == "tune"}
                jobs += [Job(**about, strength=strength, **more) for strength in at]
    return jobs


def tuned(results: Results, setup: str, families: Sequence[str], step: int) -> list[Variant]:
    """Each method at the value that was chosen on this game, of those that were tuned whole; GRPO at all three."""
    variants = []
    for family in families:
        try:
            best = chosen(results, family, TUNED_ON, step, setup)
        except ValueError:
            continue
        others = [strength for strength in FAMILIES[family].strengths if family == BASE and strength != best]
        variants += [Variant(family, strength) for strength in (best, *others)]
    return variants


def method_table(results: Results, setup: str, variants: Sequence[Variant], seeds: Sequence[int], step: int) -> str:
    """What each method ends with, the value that was chosen for it and what it was chosen by, and what a rollout costs."""
    head = ["method", "value, and mean Pass@k of the three, %", "seeds", *(title_of(name) for name in LEVELS), "cost"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    there = {v: results.values(setup, *v, seeds, step, "pass@1") for v in variants}
    base = next((variant for variant in variants if variant.family == BASE), None)
    if base is not None and there[base]:
        start = [np.array(list(results.values(setup, *base, seeds, 0, name).values())) for name in LEVELS]
        cells = [shown_interval(values, name) for values, name in zip(start, LEVELS, strict=True)]
        means = [np.mean(list(results.values(setup, *base, seeds, 0, name, "choose").values())) for name in KS]
        lines.append(f"| before training | {100 * np.mean(means):.1f} | | " + " | ".join(cells) + " | |")
    for variant in variants:
        if not there[variant]:
            continue
        levels = choosing_levels(results, variant.family, TUNED_ON, step, setup)
        curve = ", ".join(
            f"**{value:g}**: {100 * level:.1f}" if value == variant.strength else f"{value:g}: {100 * level:.1f}"
            for value, level in levels.items()
        )
        cells = [
            shown_interval(np.array(list(results.values(setup, *variant, seeds, step, name).values())), name)
            for name in LEVELS
        ]
        family = FAMILIES[variant.family]
        cost = costs(results, setup, variant, seeds)
        # The value in bold is the row's own.
        lines.append(
            f"| {family.label} | {family.unit} {curve} | {len(there[variant])} | "
            + " | ".join(cells)
            + f" | {'' if cost is None else f'{cost:.2f}'} |"
        )
    return "\n".join(lines)


def costs(results: Results, setup: str, variant: Variant, seeds: Sequence[int]) -> float | None:
    """Seconds a rollout over GRPO's, the median over the seeds that both have; None without one."""
    ratios = []
    for seed in seeds:
        own = results.rows.get((setup, *variant, seed))
        base = next((row for (s, f, _, n), row in results.rows.items() if (s, f, n) == (setup, BASE, seed)), None)
        if own is not None and base is not None:
            ratios.append(own["rollout_s"] / base["rollout_s"])
    return float(np.median(ratios)) if ratios else None


def what_can_be_said(
    results: Results, setup: str, variants: Sequence[Variant], seeds: Sequence[int], step: int, base: Variant
) -> str:
    """Which differences to GRPO Holm's correction leaves, a line for each measure."""
    pairs, clear = differences(results, setup, variants, seeds, step, TESTED, base)
    lines = []
    for name in TESTED:
        tested = [key for key, values in pairs.items() if key[1] == name and len(values) > 2]
        if not tested:
            return "No method has three seeds beside GRPO's yet."
        parts = []
        for word, above in (("above", True), ("below", False)):
            found = [key[0] for key in tested if key in clear and bool(pairs[key].mean() > 0) is above]
            labels = ", ".join(FAMILIES[variant.family].label for variant in found)
            parts.append(f"{word} GRPO: {labels or 'none'}")
        lines.append(f"* {title_of(name).removesuffix(', %')}, {len(tested)} methods compared: {'; '.join(parts)}.")
    return "\n".join(lines)


def page(results: Results, setups: Sequence[str], families: Sequence[str], seeds: Sequence[int], step: int) -> str:
    """All tables of what there is."""
    parts = []
    for setup in setups:
        variants = tuned(results, setup, families, step)
        base = next((variant for variant in variants if variant.family == BASE), None)
        parts.append(f"### {setup}")
        if base is None:
            parts.append("GRPO is not tuned here yet.")
            continue
        parts.append(method_table(results, setup, variants, seeds, step))
        parts.append(what_can_be_said(results, setup, variants, seeds, step, base))
        parts.append(difference_table(results, setup, variants, seeds, step, TESTED, base))
        same = [variant for variant in variants if FAMILIES[variant.family].unit != RATE]
        if same and base.strength != SAME_RATE:
            at_one = Variant(BASE, SAME_RATE)
            parts.append("Methods with a number of their own against GRPO at the learning rate that they have:")
            parts.append(what_can_be_said(results, setup, same, seeds, step, at_one))
            parts.append(difference_table(results, setup, same, seeds, step, TESTED, at_one))
    return "\n\n".join(parts)


def leave_out(axes: Any, points: Mapping[str, Sequence[float]]) -> None:
    """End the axes at the points within Tukey's outer fences (three interquartile ranges beyond the quartiles) on both, and
    say where the others would be."""
    if not points:
        return
    at = np.array(list(points.values()))
    low, high = np.percentile(at, (25, 75), axis=0)
    near = (np.abs(at - (low + high) / 2) <= 3.5 * (high - low) + 1e-9).all(axis=1)
    if near.all():
        return
    margin = 0.2 * np.ptp(at[near], axis=0) + 1e-9
    (left, bottom), (right, top) = at[near].min(axis=0) - margin, at[near].max(axis=0) + margin
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    far = [
        f"{name} ({x:.1f}, {y:.1f})" for (name, (x, y)), inside in zip(points.items(), near, strict=True) if not inside
    ]
    text = "outside: " + ", ".join(far)
    axes.text(0.02, 0.02, text, transform=axes.transAxes, fontsize=7, wrap=True)


def picture(
    results: Results, setups: Sequence[str], families: Sequence[str], seeds: Sequence[int], step: int, out: Path
) -> None:
    """Pass@1 against Pass@32 and against distinct solutions on each game: a numbered point a method, a colour a kind of it. A
    method far from all others is named in words, so that the others can be told apart."""
    from matplotlib.lines import Line2D

    def name_of(variant: Variant) -> str:
        return label_of(results, variant) if variant.family == BASE else FAMILIES[variant.family].label

    shown = {setup: tuned(results, setup, families, step) for setup in setups}
    named = {name_of(variant): variant for variants in shown.values() for variant in variants}
    numbers = {name: number for number, name in enumerate(named, start=1)}
    figure = new_figure(13, max(5.4 * len(setups), 0.15 * len(named) + 0.5))  # the names are one column
    axes = figure.subplots(len(setups), 2, squeeze=False)
    for row, setup in zip(axes, setups, strict=True):
        for cell, other in zip(row, ("pass@32", "distinct_correct"), strict=True):
            points = {}
            for variant in shown[setup]:
                values = [
                    np.array(list(results.values(setup, *variant, seeds, step, name).values()))
                    for name in ("pass@1", other)
                ]
                if len(values[0]):
                    point = [
                        scale * np.array(interval(part))
                        for scale, part in zip((100, scale_of(other)), values, strict=True)
                    ]
                    text = str(numbers[name_of(variant)])
                    draw_interval(cell, *point, colour=COLOURS[FAMILIES[variant.family].kind], text=text)
                    points[name_of(variant)] = [part[0] for part in point]
            cell.set_title(setup, fontsize=10)
            cell.set_xlabel(title_of("pass@1"))
            cell.set_ylabel(title_of(other))
            leave_out(cell, points)
            if other == "pass@32":
                cell.set_ylim(top=100.5)
            cell.grid(alpha=0.25)
    marks = [
        Line2D([], [], marker="o", linestyle="", markersize=4, color=COLOURS[kind], label=f"{numbers[name]}  {name}")
        for name, kind in sorted(
            ((name, FAMILIES[variant.family].kind) for name, variant in named.items()),
            key=lambda one: (list(COLOURS).index(one[1]), numbers[one[0]]),
        )
    ]
    figure.legend(handles=marks, loc="outside right upper", fontsize=7, frameon=False)
    save(figure, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--out", type=Path, default=Path("runs/methods"), help="run directories, tables and picture")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "methods_study.jsonl", help="kept of every run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--setups", nargs="+", choices=SETUPS, default=list(SETUPS))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--rollouts", type=int, default=ROLLOUTS, help="of a run; fewer to see whether it runs")
    parser.add_argument("--set", nargs="*", default=[], help="more settings for all runs, for instance evaluate.n=8")
    args = parser.parse_args()
    if unknown := sorted(set(args.stages) - set(STAGES)):
        parser.error(f"unknown stage {unknown[0]!r}; expected some of {', '.join(STAGES)}")
    results, seeds, step = Results(args.results, PLAN), range(args.seeds), args.rollouts * STEPS_A_ROLLOUT
    for stage in args.stages:
        jobs = jobs_of(stage, results, args.setups, args.families, seeds, steps=step, extra=tuple(args.set))
        run_all(jobs, results, args.out, args.jobs)
    args.out.mkdir(parents=True, exist_ok=True)
    text = page(results, args.setups, args.families, seeds, step)
    (args.out / "methods.md").write_text(text + "\n", encoding="utf-8")
    picture(results, args.setups, args.families, seeds, step, args.out / "methods.svg")
    print(text)


if __name__ == "__main__":
    main()
