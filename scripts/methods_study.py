"""Train every method on countdown from the same start, over several seeds, and draw accuracy against diversity.

    python scripts/methods_study.py --out runs/methods --seeds 5 --jobs 2

writes OUT/table.md and OUT/methods.svg, which docs/results.md shows. Each run is recipes/demo/grpo.yaml with the method's
settings below: 50 rollouts of 16 problems x 16 completions, 4 optimiser steps on each, so that what acts only off-policy
(clipping, KL-Cov) has something to act on. No method was tuned; each has its file's defaults, or what the comment says. A
finished run is not made again. Intervals are Student's 95 % over seeds; methods stand in the order of the list, for a
ranking would say more than a few seeds can.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from study_pages import interval
from study_runs import ROOT

VARIANTS = {
    "grpo": "{name: grpo}",
    "dapo": "{name: dapo}",  # its loss; dynamic sampling would take more rollouts
    "progrpo": "{name: progrpo}",
    "equilibrium": "{name: progrpo, preset: equilibrium}",
    "dr_grpo": "{name: dr_grpo}",
    "reinforce": "{name: reinforce, baseline: mean}",  # without a baseline nothing is ever pushed down
    "ppo": "{name: ppo}",
    "flowrl": "{name: flowrl}",
    "kl_cov": "{name: kl_cov, preset: 7b}",
    "clip_cov": "{name: clip_cov}",
    "high_entropy": "{name: high_entropy}",
    "entropy_advantage": "{name: entropy_advantage}",
    "nsr": "{name: nsr}",
    "psr": "{name: psr}",
    "w_reinforce": "{name: w_reinforce}",
    "gspo": "{name: gspo}",
    "cispo": "{name: cispo}",
    "dcpo": "{name: dcpo}",
    "entropy bonus": "{name: dapo, entropy_coef: 0.001}",
    "KL penalty": "{name: dapo, kl_coef: 0.04}",  # GRPO's own weight, arXiv:2402.03300
    "rlsc": "{name: rlsc}",
    "rent": "{name: rent}",
}
MEASURES = ("pass@1", "pass@32", "distinct_correct", "entropy")
SHARED = (
    *("steps=200", "batch.minibatch_prompts=4", "optim.lr=1.5e-4", "task.test_size=100"),
    *("evaluate.every=200", "checkpoint.every=200", "record.rollouts_every=0"),
)
# Without an importance ratio only the first optimiser step of a rollout follows the gradient: with four REINFORCE
# breaks down. The same 50 rollouts, one step each.
ONE_STEP = ("steps=50", "batch.minibatch_prompts=null", "evaluate.every=50", "checkpoint.every=50")
OWN = {"reinforce": ONE_STEP, "rlsc": ONE_STEP}


def train(out: Path, variant: str, seed: int, extra: Sequence[str]) -> None:
    folder = run_directory(out, variant, seed)
    command = [sys.executable, "-m", "progrpo", "train", str(ROOT / "recipes" / "demo" / "grpo.yaml"), "--resume"]
    command += [f"out={folder}", f"seed={seed}", f"method={VARIANTS[variant]}", *SHARED, *OWN.get(variant, ()), *extra]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    print(f"done {variant} seed {seed}", flush=True)


def picture(out: Path, variants: Sequence[str], seeds: range) -> Path:
    """Pass@1 against distinct solutions: all methods on the left, on the right those that end above the start."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.2), layout="constrained")
    whole, close = figure.subplots(1, 2, width_ratios=(1, 2))
    first = start(out, variants[0], seeds[0])
    before = (100 * first[0], first[2])
    points = {}
    for variant in variants:
        found = last(out, variant, seeds)
        points[variant] = Point(*interval(100 * found[:, 0]), *interval(found[:, 2]))
    near = {variant: point for variant, point in points.items() if point.accuracy > before[0]}
    for variant, point in points.items():
        whole.plot(point.accuracy, point.distinct, "o", markersize=4, color=colour(variant))
        if variant not in near:
            name(whole, variant, (point.accuracy, point.distinct))
    for axes in (whole, close):
        axes.plot(*before, "k*", markersize=11)
        name(axes, "before training", before)
        axes.set_xlabel("Pass@1 on held-out problems, %")
        axes.grid(alpha=0.25)
    whole.set_ylabel("distinct correct solutions in 32 completions")
    whole.set_title("all", fontsize=10)
    close.set_title("those above the start, with intervals over seeds", fontsize=10)
    for variant, point in near.items():
        style = {"color": colour(variant), "linewidth": 0.8}
        close.errorbar(
            point.accuracy, point.distinct, xerr=point.across, yerr=point.along, fmt="none", alpha=0.35, **style
        )
        close.plot(point.accuracy, point.distinct, "o", markersize=5, **style)
    # The points lie too close for names beside them: these stand in a column, in the order of height.
    order = sorted(near, key=lambda variant: near[variant].distinct)
    for variant, height in zip(order, np.linspace(0.03, 0.97, len(order)), strict=True):
        point = near[variant]
        close.annotate(
            variant,
            (point.accuracy, point.distinct),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour(variant),
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.4,
                "color": colour(variant),
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 3,
            },
        )
    path = out / "methods.svg"
    with rc_context({"svg.hashsalt": "progrpo"}):  # the same runs give the same file
        figure.savefig(path, metadata={"Date": None})
    return path


def run_directory(out: Path, variant: str, seed: int) -> Path:
    return out / f"{variant.replace(' ', '-')}-seed{seed}"


def rows(out: Path, variant: str, seed: int) -> list[dict[str, float]]:
    text = (run_directory(out, variant, seed) / "metrics.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def last(out: Path, variant: str, seeds: range) -> np.ndarray:
    """[seeds, measures] at the last evaluation."""
    ends = [[row for row in rows(out, variant, seed) if "evaluate/pass@1" in row][-1] for seed in seeds]
    return np.array([[row[f"evaluate/{name}"] for name in MEASURES] for row in ends])


def start(out: Path, variant: str, seed: int) -> list[float]:
    """Measures before the first step."""
    first = next(row for row in rows(out, variant, seed) if row["step"] == 0)
    return [first[f"evaluate/{name}"] for name in MEASURES]


def show(mean: float, half: float, name: str, *, signed: bool = False) -> str:
    scale, digits = (100, 1) if name.startswith("pass") else (1, 2 if name == "distinct_correct" else 3)
    sign = "+" if signed else ""
    return f"{mean * scale:{sign}.{digits}f} ± {half * scale:.{digits}f}"


def table(out: Path, variants: Sequence[str], seeds: range, base: str = "grpo") -> str:
    """What each variant ends with, and its differences to `base` where that is one of them."""
    lines = ["| variant | Pass@1, % | Pass@32, % | distinct correct | entropy, nats |", "|---|---|---|---|---|"]
    before = start(out, variants[0], seeds[0])
    values = [show(value, 0, name).split(" ")[0] for value, name in zip(before, MEASURES, strict=True)]
    lines.append("| before training | " + " | ".join(values) + " |")
    for variant in variants:
        found = last(out, variant, seeds)
        cells = [show(*interval(found[:, i]), name) for i, name in enumerate(MEASURES)]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    if base in variants:
        level = last(out, base, seeds)
        lines += [
            "",
            f"| difference from {base}, paired by seed | Pass@1 | Pass@32 | distinct correct | entropy |",
            "|---|---|---|---|---|",
        ]
        for variant in [name for name in variants if name != base]:
            found = last(out, variant, seeds) - level
            cells = [show(*interval(found[:, i]), name, signed=True) for i, name in enumerate(MEASURES)]
            lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


class Point(NamedTuple):
    """Means, and half-widths of their intervals, of Pass@1 in % and of distinct solutions."""

    accuracy: float
    across: float
    distinct: float
    along: float


def colour(variant: str) -> str:
    return "C3" if variant in ("progrpo", "equilibrium") else "k" if variant == "grpo" else "0.45"


def name(axes: Any, text: str, at: tuple[float, float]) -> None:
    axes.annotate(text, at, xytext=(6, 6), textcoords="offset points", fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--base", choices=VARIANTS, default="grpo", help="what differences are taken to")
    parser.add_argument("--set", nargs="*", default=[], help="more settings for all runs, e.g. optim.lr=1e-4")
    args = parser.parse_args()
    seeds = range(args.seeds)
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(train, args.out, name, seed, args.set) for seed in seeds for name in args.variants]
        for job in jobs:
            job.result()
    text = table(args.out, args.variants, seeds, args.base)
    (args.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(picture(args.out, args.variants, seeds))


if __name__ == "__main__":
    main()
