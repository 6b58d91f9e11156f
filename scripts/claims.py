"""The paper's claims against this repository's own runs: one table, from docs/study.jsonl.

    python scripts/claims.py

Each claim is a difference with a sign, on countdown with the embedded model: mean and Student's 95 % interval over seeds,
paired by seed. By each interval alone, uncorrected, a claim is "seen" where the interval lies on the claimed side of 0,
"contradicted" where it lies on the other side, and "not seen" where it holds 0, which bounds the difference. In bold what a
paired t-test keeps at p < 0.05 after Holm's correction over all rows. Where the paper gives a number, it is said whether the
interval holds it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from progrpo.statistics import holm
from study_pages import Variant, interval, p_value, paired, scale_of, shown_interval, title_of
from study_runs import ROOT, Results

PAPER, GRPO, PLAIN = Variant("paper", 0.3), Variant("grpo", None), Variant("dapo", None)
SETUP = "on_policy"


class Claim(NamedTuple):
    """That `measure` of `one` is above (`sign` 1) or below (-1) that of `other` after `step` steps.

    Attributes:
        text: as the paper says it, and where. number: what the paper reports, in the unit of the table; None without one.
        setup, part: where it is measured, and on which of its problems.
    """

    text: str
    measure: str
    one: Variant
    other: Variant
    step: int
    sign: int = 1
    number: float | None = None
    setup: str = SETUP
    part: str = "table"


CLAIMS = (
    Claim("Pass@1 above GRPO's: +5.7 for 7B (Sec. 4.3)", "pass@1", PAPER, GRPO, 600, number=5.7),
    Claim("Pass@32 above GRPO's: +13.9 for 7B (abstract)", "pass@32", PAPER, GRPO, 600, number=13.9),
    *(Claim(f"Pass@{k} above GRPO's (Fig. 1)", f"pass@{k}", PAPER, GRPO, 600) for k in (4, 16)),
    Claim("more diverse correct solutions than GRPO (Table 5)", "distinct_correct", PAPER, GRPO, 600),
    Claim("more entropy than GRPO (Figs. 2, 4, 7)", "entropy", PAPER, GRPO, 600),
    *(Claim("alpha 0.3 better than 0 (Table 6)", name, PAPER, PLAIN, 150) for name in ("pass@1", "pass@32")),
    *(
        Claim("alpha 1 worse than 0.3 (Table 6)", name, Variant("paper", 1.0), PAPER, 150, sign=-1)
        for name in ("pass@1", "pass@32")
    ),
    *(
        Claim("the shift is what helps: above the same loss without it (Sec. 4.5)", name, PAPER, PLAIN, 600)
        for name in ("pass@1", "pass@32")
    ),
)


def verdict(claim: Claim, differences: np.ndarray) -> str:
    """What the runs say of a claim; nothing of fewer than three seeds."""
    mean, half = interval(differences)
    if np.isnan(half):
        return "too few seeds"
    scale = scale_of(claim.measure)
    low, high = scale * (mean - half), scale * (mean + half)
    said = "not seen"
    if low > 0 or high < 0:
        said = "seen" if (low > 0) == (claim.sign > 0) else "contradicted"
    if claim.number is not None:
        said += f"; the paper's {claim.number:+g} lies {'inside' if low <= claim.number <= high else 'outside'}"
    return said


def table(results: Results, seeds: Sequence[int], claims: Sequence[Claim] = CLAIMS) -> str:
    """A row for each claim that there are runs of."""
    found = {
        claim: paired(results, claim.setup, claim.one, seeds, claim.step, claim.measure, claim.other, claim.part)
        for claim in claims
    }
    tested = [claim for claim, differences in found.items() if len(differences) > 2]
    adjusted = dict(zip(tested, holm([p_value(found[claim]) for claim in tested]), strict=True))
    lines = ["| the paper | after steps | seeds | measured here | |", "|---|---|---|---|---|"]
    for claim, differences in found.items():
        if len(differences):
            shown = shown_interval(differences, claim.measure, signed=True)
            shown = f"**{shown}**" if adjusted.get(claim, 1.0) < 0.05 else shown
            what = title_of(claim.measure).replace(", %", ", points:").replace(", nats", ", nats:")
            said = verdict(claim, differences)
            lines.append(f"| {claim.text} | {claim.step} | {len(differences)} | {what} {shown} | {said} |")
    return "\n".join(lines)


def course(results: Results, seeds: Sequence[int]) -> str:
    """The held-out entropy over the steps, of Fig. 2: falls, rises, settles?"""
    steps = (0, 150, 300, 450, 600)
    lines = [f"| entropy after | {' | '.join(str(step) for step in steps)} |", "|---" * (len(steps) + 1) + "|"]
    for variant in (GRPO, PLAIN, PAPER):
        values = [np.array(list(results.values(SETUP, *variant, seeds, step, "entropy").values())) for step in steps]
        cells = [shown_interval(one, "entropy") if len(one) else "" for one in values]
        lines.append(f"| {results.plan.families[variant.family].label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "study.jsonl")
    results = Results(parser.parse_args().results)
    seeds = sorted({seed for *_, seed in results.rows})
    print(f"{table(results, seeds)}\n\n{course(results, seeds)}")


if __name__ == "__main__":
    main()
