"""Train the demo: GRPO, ProGRPO and its scale-free form from the same start, several seeds of each, and compare them.

    python scripts/demo.py runs/demo --seeds 2 --workers 3

Each run is `progrpo train RECIPE seed=S out=RUNS/NAME-S --resume`, in a process of its own with one thread: so small a model
gains nothing from a second. What is done already is not done again.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RECIPES = Path(__file__).parent.parent / "recipes" / "demo"
NAMES = ("grpo", "progrpo", "balanced")
PROGRPO = (sys.executable, "-m", "progrpo")


def train(name: str, seed: int, runs: Path) -> tuple[str, int]:
    """Run one training, and pass on the lines of its evaluations; returns the end of what it said, and its status."""
    out = runs / f"{name}-{seed}"
    command = [*PROGRPO, "train", str(RECIPES / f"{name}.yaml"), f"seed={seed}", f"out={out}", "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    said = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stderr or ():
            said = line
            if "held-out" in line:
                print(f"{out.name:<11} {' '.join(line.split())}", flush=True)
    return said.strip(), process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo and compare its runs.")
    parser.add_argument("runs", type=Path, help="the folder of their directories")
    parser.add_argument("--seeds", type=int, default=2, help="of each method")
    parser.add_argument("--workers", type=int, default=3, help="trainings at a time")
    asked = parser.parse_args()
    jobs = [(name, seed) for seed in range(asked.seeds) for name in NAMES]
    print(
        f"{len(jobs)} trainings, {asked.workers} at a time; the model that ships in the package, on countdown",
        flush=True,
    )
    start = time.monotonic()
    with ThreadPoolExecutor(asked.workers) as pool:
        results = dict(zip(jobs, pool.map(lambda job: train(*job, asked.runs), jobs), strict=True))
    failed = {job: said for job, (said, status) in results.items() if status}
    for (name, seed), said in failed.items():
        print(f"{name}-{seed} failed: {said}", file=sys.stderr)
    if failed:
        sys.exit(1)
    print(f"trained in {(time.monotonic() - start) / 60:.1f} minutes", flush=True)
    runs = [str(asked.runs / f"{name}-{seed}") for name in NAMES for seed in range(asked.seeds)]
    page = asked.runs / "comparison.html"
    sys.exit(subprocess.run([*PROGRPO, "compare", *runs, "--out", str(page)], check=False).returncode)


if __name__ == "__main__":
    main()
