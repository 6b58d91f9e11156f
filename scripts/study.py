"""Train several readings of ProGRPO over several seeds and write the table of docs/results.md.

    python scripts/study.py --out runs/study --seeds 5 --jobs 2 --variants grpo progrpo equilibrium-1

Each run is `progrpo train recipes/demo/grpo.yaml` with the variant's method, a larger held-out set and its own seed, on
one thread, `--jobs` side by side. A finished run is not made again. Intervals are Student's 95 % over seeds; differences
to grpo are paired by seed. The same command goes on where it was stopped.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy.stats import t

ROOT = Path(__file__).parent.parent
GRPO = "{name: grpo, clip_high: 0.28, aggregate: group_token}"
VARIANTS = {
    "grpo": GRPO,
    "progrpo": "{name: progrpo}",
    "equilibrium-1": "{name: progrpo, preset: equilibrium, alpha: 1.0}",
    "equilibrium-2": "{name: progrpo, preset: equilibrium, alpha: 2.0}",
    "equilibrium-4": "{name: progrpo, preset: equilibrium, alpha: 4.0}",
    "progrpo-1": "{name: progrpo, alpha: 1.0}",
    "progrpo-all-wrong": "{name: progrpo, skip: all_wrong}",
    "one-minus-prompt": "{name: progrpo, baseline: one_minus_prompt}",
    "none": "{name: progrpo, baseline: none}",
    "group-mean": "{name: progrpo, baseline: group_mean}",
    "group-mean-2": "{name: progrpo, baseline: group_mean, alpha: 2.0}",
    "group-mean-correct-2": "{name: progrpo, baseline: group_mean, alpha: 2.0, apply_to: correct}",
}
MEASURES = ("pass@1", "pass@32", "distinct_correct", "entropy")


def train(out: Path, variant: str, seed: int, extra: Sequence[str]) -> None:
    command = [sys.executable, "-m", "progrpo", "train", str(ROOT / "recipes" / "demo" / "grpo.yaml"), "--resume"]
    command += [f"out={run_directory(out, variant, seed)}", f"seed={seed}", f"method={VARIANTS[variant]}"]
    command += ["task.test_size=200", "evaluate.every=75", "record.rollouts_every=0", "checkpoint.every=75", *extra]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    print(f"done {variant} seed {seed}", flush=True)


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


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of Student's 95 % interval."""
    return float(values.mean()), float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1)) / len(values) ** 0.5


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
            f"| less {base}, paired by seed | Pass@1 | Pass@32 | distinct correct | entropy |",
            "|---|---|---|---|---|",
        ]
        for variant in [name for name in variants if name != base]:
            found = last(out, variant, seeds) - level
            cells = [show(*interval(found[:, i]), name, signed=True) for i, name in enumerate(MEASURES)]
            lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def signal_table(out: Path, variants: Sequence[str], seeds: range) -> str:
    """The method's own numbers, mean over all steps and seeds."""
    names = ("prompt_confidence", "completion_confidence", "shift", "shift_abs", "sign_flips")
    lines = ["| variant | c(q) | c(o) | shift | abs. shift | sign flips, % |", "|---|---|---|---|---|---|"]
    for variant in variants:
        found = [row for seed in seeds for row in rows(out, variant, seed) if row.get("progrpo/shift") is not None]
        if found:
            means = [float(np.mean([row[f"progrpo/{name}"] for row in found])) for name in names]
            lines.append(f"| {variant} | " + " | ".join(f"{m:.3f}" for m in means[:4]) + f" | {100 * means[4]:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["grpo", "progrpo", "equilibrium-1"])
    parser.add_argument("--set", nargs="*", default=[], help="more settings for all runs, e.g. optim.lr=1e-4")
    args = parser.parse_args()
    seeds = range(args.seeds)
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(train, args.out, name, seed, args.set) for seed in seeds for name in args.variants]
        for job in jobs:
            job.result()
    text = "\n\n".join((table(args.out, args.variants, seeds), signal_table(args.out, args.variants, seeds)))
    (args.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
