"""Take ProGRPO's shift apart, from the rollouts of a run: the push on whole groups, and the differences within them.

    python scripts/shift.py runs/demo/progrpo [runs/demo/equilibrium ...]

In a group with mean confidence m the shift is  b - c(o) = (b - m) + (m - c(o)).  The first part is the same for all
completions of a group: it raises or lowers the probability of everything that was sampled. Only the second tells
confident completions from rare ones. With the group-mean baseline the first part is 0.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np


def groups_of(run: Path) -> list[list[dict[str, float]]]:
    """The mixed groups of all recorded rollouts: rows with confidence, shift and correct."""
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for path in sorted((run / "rollouts").glob("step-*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            found[path.name, row["problem"]].append(row)
    return [rows for rows in found.values() if 0 < sum(row["correct"] for row in rows) < len(rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    print(
        "| run | c(q) | c(o), right | c(o), wrong | shift of the group, mean | abs. difference within the group, mean |"
    )
    print("|---|---|---|---|---|---|")
    for run in parser.parse_args().runs:
        groups = groups_of(run)
        shifts = [np.array([row["shift"] for row in rows]) for rows in groups]
        flat = [row for rows in groups for row in rows]
        right = np.mean([row["confidence"] for row in flat if row["correct"]])
        wrong = np.mean([row["confidence"] for row in flat if not row["correct"]])
        whole = np.mean([shift.mean() for shift in shifts])
        within = np.mean([np.abs(shift - shift.mean()).mean() for shift in shifts])
        prompt = np.mean([row["prompt_confidence"] for row in flat])
        print(f"| {run.name} | {prompt:.3f} | {right:.3f} | {wrong:.3f} | {whole:+.3f} | {within:.3f} |")


if __name__ == "__main__":
    main()
