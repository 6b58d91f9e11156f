"""Tables and pictures of scripts/study.py and scripts/methods_study.py, from their results files alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from progrpo.statistics import holm
from study_runs import FAMILIES, SETUPS, Results

SHOWN = ("pass@1", "pass@32", "distinct_correct", "entropy", "length")
TESTED = ("pass@1", "pass@32", "distinct_correct")
KS = tuple(f"pass@{k}" for k in (1, 2, 4, 8, 16, 32))
NAMES = {
    "distinct_correct": "distinct correct",
    "different_pairs": "pairs that differ, %",
    "entropy": "entropy, nats",
    "length": "length, tokens",
    "correct": "correct, %",
    "duplicates": "repeated completions, %",
    "all_incorrect_groups": "groups without a correct one, %",
}
_SHARES = ("different_pairs", "correct", "duplicates", "all_incorrect_groups")
STYLES = {
    "grpo": ("0.5", "--"),
    "dapo": ("k", "-"),
    "paper": ("C1", "-"),
    "equilibrium": ("C0", "-"),
    "ucpo": ("C4", "-"),
    "unlikeliness": ("C5", "-"),
    "unlikeliness_mixed": ("C5", ":"),
    "entropy": ("C2", "-"),
    "log_c": ("C3", "-"),
    "log_prob": ("C6", "-"),
    "log_prob_no_trend": ("C6", ":"),
}


class Variant(NamedTuple):
    family: str
    strength: float | None


BASE = Variant("dapo", None)
"""What differences are taken to in scripts/study.py: the same clip range and aggregation without a shift."""


def label_of(results: Results, variant: Variant) -> str:
    family = results.plan.families[variant.family]
    return family.label if variant.strength is None else f"{family.label}, {family.unit} {variant.strength:g}"


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of Student's 95 % interval; nan of fewer than three values, which have none worth the name."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 2 else np.nan
    return float(values.mean()), float(half)


def chosen(
    results: Results, family: str, seeds: Iterable[int], step: int = 150, setup: str = "on_policy"
) -> float | None:
    """The strength with the highest mean of Pass@1, 2, 4 ... 32, on the problems that no table uses and over the seeds that
    every strength has.

    Raises:
        ValueError: a strength was not scanned.
    """
    levels = choosing_levels(results, family, seeds, step, setup)
    return max(levels, key=lambda strength: levels[strength])


def choosing_levels(
    results: Results, family: str, seeds: Iterable[int], step: int, setup: str
) -> dict[float | None, float]:
    """What strengths are chosen by, see `chosen`."""
    scanned = {
        strength: [results.values(setup, family, strength, seeds, step, name, "choose") for name in KS]
        for strength in results.plan.families[family].strengths
    }
    common = set[int].intersection(*(set(values) for measures in scanned.values() for values in measures))
    if not common:
        seen = ", ".join(f"{strength} on {len(measures[0])} seeds" for strength, measures in scanned.items())
        raise ValueError(f"{family}: no seed has reached step {step} with every strength ({seen}); run the scan first")
    return {
        strength: float(np.mean([values[seed] for values in measures for seed in sorted(common)]))
        for strength, measures in scanned.items()
    }


def level_table(
    results: Results,
    setup: str,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    step: int,
    names: Sequence[str] = SHOWN,
    part: str = "table",
) -> str:
    """What each variant ends with on a part of the problems: mean and interval over seeds."""
    lines = [
        "| variant | seeds | " + " | ".join(title_of(name) for name in names) + " |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    points = [point for variant in variants for curve in results.curves(setup, *variant, seeds) for point in curve]
    start = next((point[part] for point in points if point["step"] == 0 and part in point), None)
    if start is not None:
        lines.append("| before training | | " + " | ".join(_number(start[name], name) for name in names) + " |")
    for variant in variants:
        values = {name: results.values(setup, *variant, seeds, step, name, part) for name in names}
        if count := len(values[names[0]]):
            cells = [shown_interval(np.array(list(values[name].values())), name) for name in names]
            lines.append(f"| {label_of(results, variant)} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference_table(
    results: Results,
    setup: str,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    step: int,
    names: Sequence[str],
    base: Variant = BASE,
    part: str = "table",
) -> str:
    """Differences to `base`, paired by seed; in bold where the paired t-test keeps p < 0.05 after Holm's correction over
    all differences of the table."""
    pairs, clear = differences(results, setup, variants, seeds, step, names, base, part)
    title = label_of(results, base)
    lines = [f"| difference from {title} | seeds | " + " | ".join(title_of(name) for name in names) + " |"]
    lines.append("|---|" + "---|" * (len(names) + 1))
    for variant in variants:
        if variant.family == base.family or not len(pairs[variant, names[0]]):
            continue
        cells = []
        for name in names:
            text = shown_interval(pairs[variant, name], name, signed=True)
            cells.append(f"**{text}**" if (variant, name) in clear else text)
        lines.append(f"| {label_of(results, variant)} | {len(pairs[variant, names[0]])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(
    results: Results,
    setup: str,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    step: int,
    names: Sequence[str],
    base: Variant,
    part: str = "table",
) -> tuple[dict[tuple[Variant, str], np.ndarray], set[tuple[Variant, str]]]:
    """The differences of every variant but the base's family, and those of them that Holm's correction over all leaves."""
    pairs = {
        (variant, name): paired(results, setup, variant, seeds, step, name, base, part)
        for variant in variants
        for name in names
        if variant.family != base.family
    }
    tested = [key for key, values in pairs.items() if len(values) > 2]
    adjusted = holm([p_value(pairs[key]) for key in tested])
    return pairs, {key for key, after in zip(tested, adjusted, strict=True) if after < 0.05}


def paired(
    results: Results,
    setup: str,
    variant: Variant,
    seeds: Sequence[int],
    step: int,
    name: str,
    base: Variant = BASE,
    part: str = "table",
) -> np.ndarray:
    """Differences to `base` of the seeds that both have."""
    level = results.values(setup, *base, seeds, step, name, part)
    own = results.values(setup, *variant, seeds, step, name, part)
    return np.array([own[seed] - level[seed] for seed in sorted(own.keys() & level.keys())])


def signal_table(results: Results, setup: str, variants: Sequence[Variant], seeds: Sequence[int], step: int) -> str:
    """The shift's own numbers over the steps before `step`, mean over seeds."""
    names = {
        "shift_share": ("share of the advantage, %", 100),
        "shift_length_correlation": ("correlation with length", 1),
        "negative_correct": ("correct with A < 0, %", 100),
        "sign_flips": ("sign flips, %", 100),
    }
    lines = ["| variant | " + " | ".join(label for label, _ in names.values()) + " |", "|---|" + "---|" * len(names)]
    for variant in variants:
        points = [
            point["logged"]
            for curve in results.curves(setup, *variant, seeds)
            for point in curve
            if point["step"] == step and point["logged"]
        ]
        if points:
            cells = [f"{scale * np.mean([point[name] for point in points]):.2f}" for name, (_, scale) in names.items()]
            lines.append(f"| {label_of(results, variant)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_over_steps(results: Results, variants: Sequence[Variant], seeds: Sequence[int], out: Path) -> None:
    """Pass@1, Pass@32, distinct solutions and entropy over the steps of the long runs; bands are intervals over seeds.
    Of a variant only the seeds that went to the end, so that a line is of the same runs throughout."""
    names = ("pass@1", "pass@32", "distinct_correct", "entropy")
    figure = new_figure(11, 6.2)
    for axes, name in zip(figure.subplots(2, 2).flat, names, strict=True):
        for variant in variants:
            steps = sorted({p["step"] for curve in results.curves("on_policy", *variant, seeds) for p in curve})
            whole = list(results.values("on_policy", *variant, seeds, steps[-1], name))
            columns = [
                np.array(list(results.values("on_policy", *variant, whole, step, name).values())) for step in steps
            ]
            means, halves = np.array([interval(column) for column in columns]).T * scale_of(name)
            colour, line = STYLES[variant.family]
            alpha = _shade(variant)
            axes.plot(
                steps,
                means,
                line,
                color=colour,
                alpha=alpha,
                label=label_of(results, variant),
                linewidth=1.3,
                marker="o",
                markersize=3,
            )
            axes.fill_between(steps, means - halves, means + halves, color=colour, alpha=0.1 * alpha, linewidth=0)
        axes.set_title(title_of(name), fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    save(figure, out)


def draw_trade(results: Results, families: Sequence[str], seeds: Sequence[int], step: int, out: Path) -> None:
    """Pass@1 against Pass@32 and against distinct solutions: a curve for each family over its strengths."""
    figure = new_figure(11, 4.6)
    for axes, other in zip(figure.subplots(1, 2), ("pass@32", "distinct_correct"), strict=True):
        for family in families:
            points = []
            for strength in FAMILIES[family].strengths:
                pair = [
                    np.array(list(results.values("on_policy", family, strength, seeds, step, n).values()))
                    for n in ("pass@1", other)
                ]
                if len(pair[0]):
                    points.append((strength, *interval(100 * pair[0]), *interval(scale_of(other) * pair[1])))
            if not points:
                continue
            colour, line = STYLES[family]
            _, x, dx, y, dy = (np.array(column, dtype=float) for column in zip(*points, strict=True))
            axes.errorbar(x, y, xerr=dx, yerr=dy, fmt="none", color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(x, y, line, color=colour, marker="o", markersize=4, linewidth=1.2, label=FAMILIES[family].label)
            for strength, at_x, _, at_y, _ in points:
                if strength is not None:
                    axes.annotate(
                        f"{strength:g}",
                        (at_x, at_y),
                        xytext=(3, 3),
                        textcoords="offset points",
                        fontsize=7,
                        color=colour,
                    )
        axes.set_xlabel("Pass@1, %")
        axes.set_ylabel(title_of(other))
        axes.grid(alpha=0.25)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    save(figure, out)


def in_setup(results: Results, setup: str, step: int) -> list[Variant]:
    """The variants that have runs of `step` steps on a set-up, in the order of the families."""
    found = {
        Variant(f, s)
        for (where, f, s, _), row in results.rows.items()
        if where == setup and any(p["step"] == step for p in row["curve"])
    }
    order = list(results.plan.families)
    return sorted(found, key=lambda variant: (order.index(variant.family), variant.strength or 0.0))


def page(results: Results, seeds: Sequence[int]) -> str:
    """All tables of what there is."""
    parts = []
    for setup, title, step in (
        ("on_policy", "600 steps, on-policy", 600),
        ("on_policy", "150 steps, on-policy, each family at the strength that was chosen", 150),
        *((setup, setup, SETUPS[setup].unit) for setup in SETUPS if setup != "on_policy"),
    ):
        variants = in_setup(results, setup, step)
        if (setup, step) == ("on_policy", 150):
            variants = _at_their_best(results, variants, seeds)
        if not variants:
            continue
        parts += [f"### {title}", level_table(results, setup, variants, seeds, step)]
        parts.append(difference_table(results, setup, variants, seeds, step, TESTED))
        parts.append(difference_table(results, setup, variants, seeds, step, KS))
        parts.append(signal_table(results, setup, variants, seeds, step))
    every = in_setup(results, "on_policy", 150)
    parts += ["### 150 steps, on-policy, every strength", level_table(results, "on_policy", every, seeds, 150)]
    return "\n\n".join(parts)


def _at_their_best(results: Results, variants: Sequence[Variant], seeds: Sequence[int]) -> list[Variant]:
    """Of each family the strength that the scan chose; none of a family that was not scanned whole."""
    there = set(variants)
    best = []
    for family, about in FAMILIES.items():
        if all(Variant(family, strength) in there for strength in about.strengths):
            best.append(Variant(family, chosen(results, family, seeds)))
    return best


def _shade(variant: Variant) -> float:
    """Of several strengths of one family the smaller are drawn lighter."""
    long = [strength for strength in FAMILIES[variant.family].long if strength is not None]
    if len(long) < 2 or variant.strength not in long:
        return 1.0
    return 0.4 + 0.6 * long.index(variant.strength) / (len(long) - 1)


def p_value(values: np.ndarray) -> float:
    """Of a paired t-test; 1 where all differences are one number as the results file rounds them: it then says nothing."""
    return 1.0 if np.ptp(values) < 1e-5 else float(stats.ttest_1samp(values, 0.0).pvalue)


def scale_of(name: str) -> float:
    return 100.0 if name.startswith("pass@") or name in _SHARES else 1.0


def title_of(name: str) -> str:
    return f"{name.replace('pass', 'Pass')}, %" if name.startswith("pass@") else NAMES[name]


def _number(value: float, name: str, *, signed: bool = False) -> str:
    digits = {"entropy": 3, "distinct_correct": 2}.get(name, 1)
    return f"{value * scale_of(name):{'+' if signed else ''}.{digits}f}"


def shown_interval(values: np.ndarray, name: str, *, signed: bool = False) -> str:
    if not len(values):
        return ""
    mean, half = interval(values)
    if np.isnan(half):  # one or two seeds: what each of them gave
        return ", ".join(_number(value, name, signed=signed) for value in values)
    return f"{_number(mean, name, signed=signed)} ± {_number(half, name)}"


def draw_interval(axes: Any, x: np.ndarray, y: np.ndarray, *, colour: str, text: str) -> None:
    """A point (mean, half-width) on both axes, with its name."""
    style = {"color": colour, "linewidth": 0.8}
    axes.errorbar(x[0], y[0], xerr=x[1], yerr=y[1], fmt="none", alpha=0.3, **style)
    axes.plot(x[0], y[0], "o", markersize=4, **style)
    axes.annotate(text, (x[0], y[0]), xytext=(3, 3), textcoords="offset points", fontsize=6, color=colour)


def new_figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, out: Path) -> None:
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "progrpo"}):  # the same runs give the same file
        figure.savefig(out, metadata={"Date": None})
