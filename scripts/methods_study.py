"""Train every method on countdown from the same start, over several seeds, and draw accuracy against diversity.

    python scripts/methods_study.py --out runs/methods --seeds 3 --jobs 2

writes OUT/table.md and OUT/methods.svg, which docs/results.md shows. Each run is recipes/demo/grpo.yaml with the method's
settings below: 50 rollouts of 16 problems x 16 completions, 4 optimiser steps on each, so that what acts only off-policy
(clipping, KL-Cov) has something to act on. No method was tuned; each has its file's defaults, or what the comment says. A
finished run is not made again. Intervals are Student's 95 % over seeds; methods stand in the order of the list, for a
ranking would say more than three seeds can.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from study import MEASURES, ROOT, interval, rows, run_directory, show

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
SHARED = (
    *("steps=200", "batch.minibatch_prompts=4", "optim.lr=1.5e-4", "task.test_size=100"),
    *("evaluate.every=200", "checkpoint.every=200", "record.rollouts_every=0"),
)
# Without an importance ratio only the first optimiser step of a rollout follows the gradient: with four REINFORCE
# breaks down. The same 50 rollouts, one step each.
ONE_STEP = ("steps=50", "batch.minibatch_prompts=null", "evaluate.every=50", "checkpoint.every=50")
OWN = {"reinforce": ONE_STEP, "rlsc": ONE_STEP}


def train(out: Path, variant: str, seed: int, extra: Sequence[str]) -> None:
    folder = run_directory(out, variant.replace(" ", "-"), seed)
    command = [sys.executable, "-m", "progrpo", "train", str(ROOT / "recipes" / "demo" / "grpo.yaml"), "--resume"]
    command += [f"out={folder}", f"seed={seed}", f"method={VARIANTS[variant]}", *SHARED, *OWN.get(variant, ()), *extra]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    print(f"done {variant} seed {seed}", flush=True)


def last(out: Path, variant: str, seeds: range) -> np.ndarray:
    """[seeds, measures] at the last evaluation."""
    found = [rows(out, variant.replace(" ", "-"), seed) for seed in seeds]
    ends = [[row for row in run if "evaluate/pass@1" in row][-1] for run in found]
    return np.array([[row[f"evaluate/{name}"] for name in MEASURES] for row in ends])


def start(out: Path, variant: str, seed: int) -> list[float]:
    first = next(row for row in rows(out, variant.replace(" ", "-"), seed) if row["step"] == 0)
    return [first[f"evaluate/{name}"] for name in MEASURES]


def table(out: Path, variants: Sequence[str], seeds: range) -> str:
    lines = ["| method | Pass@1, % | Pass@32, % | distinct correct | entropy, nats |", "|---|---|---|---|---|"]
    before = start(out, variants[0], seeds[0])
    values = [show(value, 0, name).split(" ")[0] for value, name in zip(before, MEASURES, strict=True)]
    lines.append("| before training | " + " | ".join(values) + " |")
    for variant in variants:
        found = last(out, variant, seeds)
        cells = [show(*interval(found[:, index]), name) for index, name in enumerate(MEASURES)]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(out: Path, variants: Sequence[str], seeds: range) -> Path:
    """Pass@1 against distinct solutions, one cross per method: mean and interval over seeds both ways."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    axes = figure.add_subplot()
    before = start(out, variants[0], seeds[0])
    axes.plot(100 * before[0], before[2], "k*", markersize=11)
    axes.annotate(
        "before training", (100 * before[0], before[2]), xytext=(6, 6), textcoords="offset points", fontsize=8
    )
    for index, variant in enumerate(variants):
        found = last(out, variant, seeds)
        (accuracy, across), (distinct, along) = interval(100 * found[:, 0]), interval(found[:, 2])
        ours = variant in ("progrpo", "equilibrium")
        colour = "C3" if ours else "0.35"
        axes.errorbar(accuracy, distinct, xerr=across, yerr=along, fmt="o", markersize=4, linewidth=0.8, color=colour)
        offset = (5, 4 if index % 2 else -9)
        style = {"color": colour, "fontsize": 8, "weight": "bold" if ours else "normal"}
        axes.annotate(variant, (accuracy, distinct), xytext=offset, textcoords="offset points", **style)
    axes.set_xlabel("Pass@1 on held-out problems, %")
    axes.set_ylabel("distinct correct solutions in 32 completions")
    axes.grid(alpha=0.3)
    path = out / "methods.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--set", nargs="*", default=[], help="more settings for all runs, e.g. optim.lr=1e-4")
    args = parser.parse_args()
    seeds = range(args.seeds)
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(train, args.out, name, seed, args.set) for seed in seeds for name in args.variants]
        for job in jobs:
            job.result()
    text = table(args.out, args.variants, seeds)
    (args.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    print(picture(args.out, args.variants, seeds))


if __name__ == "__main__":
    main()
