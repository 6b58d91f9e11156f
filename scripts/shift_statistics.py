"""How sure a model is of prompts and completions on data sets of reasoning-gym, and what the paper's shift comes to there.

    python scripts/shift_statistics.py MODEL [--datasets gsm_symbolic simple_equations chain_sum] [--temperatures 0.6 1.0]
        [-n 8] [--problems 32] [--out runs/shift_statistics] [KEY=VALUE ...]

Runs `progrpo shift` once for each data set and temperature, into a folder of its own; what is there already is not made again.
KEY=VALUE goes to each of them: max_new_tokens=160, task.chat=false, task.shots=2, seed=1. Then it prints one table: c(q) and
c(o) (Eqs. 5 and 6) in the mean over problems and completions, the mean distance of c(o) from its group's mean, the same over
the mixed groups alone, the mean distance of log c(o) among the correct, and the share of the advantage that the paper's
default shift (alpha 0.3) is within groups.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATASETS = ("gsm_symbolic", "simple_equations", "chain_sum")
HEADINGS = (
    *("data set", "temperature", "problems x n", "correct", "mixed groups", "c(q)", "c(o), correct", "c(o), incorrect"),
    *("distance of c(o)", "in mixed groups", "distance of log c(o), correct", "shift / advantage, paper"),
)


def command(model: str, dataset: str, temperature: float, args: argparse.Namespace) -> list[str]:
    """`progrpo shift` for one data set and temperature."""
    return [
        *(sys.executable, "-m", "progrpo", "shift", model, "--task", "reasoning_gym", f"task.dataset={dataset}"),
        *(f"temperature={temperature}", "-n", str(args.n), "--problems", str(args.problems)),
        *("--out", str(folder_of(args.out, dataset, temperature)), *args.settings),
    ]


def folder_of(out: Path, dataset: str, temperature: float) -> Path:
    return out / f"{dataset}-{temperature:g}"


def row(dataset: str, temperature: float, found: Mapping[str, Any]) -> list[str]:
    """A row of the table, from a shift.json; a dash where there was nothing to take a mean of."""
    facts = found["facts"]
    paper = next(one for one in found["variants"] if one["label"] == "progrpo paper")
    numbers = (
        *(facts[name] for name in ("c_prompt", "c_correct", "c_incorrect", "spread", "spread_mixed", "log_spread")),
        paper["default"]["share"],
    )
    share = f"{facts['correct'] / facts['judged']:.1%}" if facts["judged"] else "–"
    counts = (f"{facts['problems']} x {facts['group']}", share, str(facts["mixed"]))
    return [dataset, f"{temperature:g}", *counts, *map(_shown, numbers)]


def _shown(number: float | None) -> str:
    """Four decimals, or two digits of what would be 0 by them: the c(q) of a prompt without examples."""
    if number is None:
        return "–"
    return f"{number:.1e}" if 0 < abs(number) < 5e-5 else f"{number:.4f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    lines = [HEADINGS, ["---"] * len(HEADINGS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.6, 1.0])
    parser.add_argument("-n", type=int, default=8, help="completions per problem")
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("runs/shift_statistics"))
    args = parser.parse_intermixed_args(arguments)
    rows = []
    for dataset in args.datasets:
        for temperature in args.temperatures:
            file = folder_of(args.out, dataset, temperature) / "shift.json"
            if not file.is_file():
                subprocess.run(command(args.model, dataset, temperature, args), check=True)
            rows.append(row(dataset, temperature, json.loads(file.read_text("utf-8"))))
    print(table(rows))


if __name__ == "__main__":
    main()
