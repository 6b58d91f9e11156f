"""Draw the demo's result as docs/demo.svg: Pass@k before and after training, and entropy over steps, a line for each method.

python scripts/demo_picture.py runs/demo docs/demo.svg
"""

import argparse
from pathlib import Path

from progrpo.files import write_whole
from progrpo.report.drawing import INK, doubling_axis, run_colour, run_marker, sheet, step_axis, to_file, unit_axis
from progrpo.report.evaluations import Evaluation
from progrpo.report.read import Run, load_runs, series
from progrpo.report.seeds import pool_seeds
from progrpo.statistics import smooth, smoothing_width

ORDER = ("grpo", "progrpo", "balanced")
LABELS = {"grpo": "GRPO", "progrpo": "ProGRPO, the paper's", "balanced": "ProGRPO, balanced"}


def over_k(evaluation: Evaluation) -> tuple[list[int], list[float]]:
    ks = [2**power for power in range(evaluation.n.bit_length())]
    means = [list(evaluation.values(f"pass@{k}").values()) for k in ks]
    return ks, [sum(values) / len(values) for values in means]


def method(run: Run) -> str:
    return run.name.split("-")[0]


def draw(folder: Path) -> str:
    paths = sorted(path.parent for path in folder.glob("*/config.yaml"))
    runs = sorted(pool_seeds(load_runs(paths)), key=lambda run: ORDER.index(method(run)))
    with sheet(3.2, 9.6) as figure:
        left, right = figure.subplots(1, 2)
        for index, run in enumerate(runs):
            first, last = run.evaluations[min(run.evaluations)], run.evaluations[max(run.evaluations)]
            if not index:
                ks, shares = over_k(first)
                left.plot(ks, shares, color=INK, linestyle="--", linewidth=1.2, label="before training")
            for one in last.seeds.values():
                left.plot(*over_k(one), color=run_colour(index), linewidth=0.8, alpha=0.35)
            left.plot(*over_k(last), color=run_colour(index), marker=run_marker(index), label=LABELS[method(run)])
            for member in run.members:
                values = series(member, "rollout/entropy")
                width = smoothing_width(len(values))
                right.plot(
                    values.index, smooth(values.to_numpy(), width), color=run_colour(index), linewidth=0.8, alpha=0.35
                )
            values = series(run, "rollout/entropy")
            right.plot(values.index, smooth(values.to_numpy(), smoothing_width(len(values))), color=run_colour(index))
        doubling_axis(left, ks, "k, completions per problem")
        unit_axis(left, "% of held-out problems solved, Pass@k")
        left.legend(loc="lower right")
        step_axis(right)
        unit_axis(right, "entropy in training, nats per token")
        return to_file(figure, "demo")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the demo's result.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    write_whole(asked.out, draw(asked.runs))


if __name__ == "__main__":
    main()
