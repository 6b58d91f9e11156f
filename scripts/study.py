"""Which shift keeps exploring, and at what cost? The study of docs/results.md.

    python scripts/study.py scan confirm long robust --seeds 3 --jobs 2
    python scripts/study.py                                                # tables and pictures of what there is

Stages, each of which trains only what the results file does not have, and goes on where it was stopped:
    scan     every family of scripts/study_runs.py at four strengths, 150 on-policy steps
    confirm  each at the strength that the scan chose, likewise; for more seeds than the scan
    long     600 on-policy steps: without a shift, the paper's default, equilibrium, the forms free of scale at three
             strengths, and the others at the strength that the scan chose
    robust   without a shift, the three families that the scan puts first, and the preset `balanced`: four steps a
             rollout, groups of 8, and a second game (recipes/study/grid_path.yaml)

Every run is recipes/demo/grpo.yaml with the family's method, 200 held-out problems x 32 samples and its own seed, on one
thread, `--jobs` side by side. Of the 200 problems 50 choose the strengths (by the mean of Pass@1, 2, 4, ... 32), and 150 are
the tables'. Intervals are Student's 95 % over seeds; differences are paired by seed and tested by paired t-tests with Holm's
correction.
On two cores that nothing else uses 150 steps take about 1.3 minutes a run and 600 about 5.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from study_pages import KS, Variant, chosen, draw_over_steps, draw_trade, in_setup, page
from study_runs import FAMILIES, ROOT, SETUPS, Job, Results, run_all

STAGES = ("scan", "confirm", "long", "robust")
BALANCED = Variant("log_c", 0.6)
"""The preset of that name."""
SCANNED = tuple(name for name, family in FAMILIES.items() if family.strengths != (None,))
PLAIN = tuple(name for name, family in FAMILIES.items() if family.strengths == (None,))


def jobs_of(stage: str, results: Results, seeds: Sequence[int]) -> list[Job]:
    """The runs of a stage, all of one seed before the next, so that what is there early is comparable."""
    if stage == "scan":
        variants = [Variant(f, s) for f in (*PLAIN, *SCANNED) for s in FAMILIES[f].strengths]
        return _jobs("on_policy", variants, seeds, 150)
    if stage == "confirm":
        variants = [Variant(f, chosen(results, f, range(3))) for f in SCANNED]
        return _jobs("on_policy", [*(Variant(f, None) for f in PLAIN), *variants], seeds, 150)
    if stage == "long":
        fixed = [Variant(f, s) for f, family in FAMILIES.items() for s in family.long]
        more = [
            Variant(f, chosen(results, f, range(3)))
            for f in ("ucpo", "unlikeliness", "entropy")
            if _scanned(results, f)
        ]
        return _jobs("on_policy", [*fixed, *more], seeds, 600)
    best = sorted(SCANNED, key=lambda family: -_level(results, family))[:3]
    variants = [Variant("dapo", None), *(Variant(family, chosen(results, family, range(3))) for family in best)]
    if BALANCED not in variants:
        variants.append(BALANCED)
    return [
        job for setup in SETUPS if setup != "on_policy" for job in _jobs(setup, variants, seeds, SETUPS[setup].unit)
    ]


def _jobs(setup: str, variants: Sequence[Variant], seeds: Sequence[int], steps: int) -> list[Job]:
    return [
        Job(setup=setup, family=family, strength=strength, seed=seed, steps=steps)
        for seed in seeds
        for family, strength in variants
    ]


def _scanned(results: Results, family: str) -> bool:
    return all(results.values("on_policy", family, s, range(3), 150, "pass@1") for s in FAMILIES[family].strengths)


def _level(results: Results, family: str) -> float:
    """By what strengths are chosen: the best strength's mean of Pass@k, on the problems that choose."""
    best = chosen(results, family, range(3))
    values = [results.values("on_policy", family, best, range(3), 150, name, "choose").values() for name in KS]
    return float(np.mean([list(part) for part in values]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="run directories")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "study.jsonl", help="what is kept of every run")
    parser.add_argument("--pages", type=Path, default=Path("runs/study"), help="folder for tables and pictures")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    if unknown := sorted(set(args.stages) - set(STAGES)):
        parser.error(f"unknown stage {unknown[0]!r}; expected some of {', '.join(STAGES)}")
    results, seeds = Results(args.results), range(args.seeds)
    for stage in args.stages:
        run_all(jobs_of(stage, results, seeds), results, args.out, args.jobs)
    every = sorted({seed for *_, seed in results.rows})
    args.pages.mkdir(parents=True, exist_ok=True)
    text = page(results, every)
    (args.pages / "study.md").write_text(text + "\n", encoding="utf-8")
    if long := in_setup(results, "on_policy", 600):
        draw_over_steps(results, long, every, args.pages / "study_steps.svg")
    draw_trade(results, [*PLAIN, *SCANNED], every, 150, args.pages / "study_strengths.svg")
    print(text)


if __name__ == "__main__":
    main()
