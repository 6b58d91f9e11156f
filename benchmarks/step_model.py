"""How long a step takes: a model with three terms a phase, fitted to measured points, tried on others, and carried on.

    python benchmarks/step_model.py                                   # fits docs/step_points.jsonl and says what follows
    python benchmarks/step_model.py --measure NAME [--steps 2]        # measures this machine's CPU and adds it to the file

What the terms are stands in step_time/model.py; the points in step_time/points.py. For each machine and phase: what the fit
says, its error on the points it was fitted to, and on those it has not seen. A machine all of whose points are fitted is tried
by leaving out each in turn. Then, from the machine given by --carry-on, a step of the paper's settings (recipes/paper/) for
7B and 32B on 8, 64 and 512 devices: predicted, not measured; what is assumed is printed with it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from progrpo.files import to_json
from step_time.cluster import QWEN, Links, Prediction, Settings, predict
from step_time.model import Device, Fit, fit
from step_time.points import Point, measure, read

POINTS = Path(__file__).parent.parent / "docs" / "step_points.jsonl"
PHASES = ("sampling", "training")
LINKS = Links(node=300e9, between=40e9)
DEVICES = (8, 64, 512)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=Path, default=POINTS)
    parser.add_argument("--measure", metavar="NAME", help="what the machine is to be called")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument(
        "--carry-on", default="one H100", metavar="NAME", help="the machine that devices are taken to be"
    )
    parser.add_argument("--median", type=float, default=1000.0, help="of the lengths, in tokens")
    args = parser.parse_args(arguments)
    if args.measure:
        for point in measure(args.measure, args.steps):
            with args.points.open("a", encoding="utf-8") as file:
                file.write(to_json(point.as_json()) + "\n")
            print(f"{point.name}: sampling {point.sampling_s:.2f} s, training {point.training_s:.2f} s", flush=True)
    points = read(args.points)
    for machine in dict.fromkeys(point.machine for point in points):
        print(error_table([point for point in points if point.machine == machine]), end="\n\n")
    carried = [point for point in points if point.machine == args.carry_on]
    if not carried:
        parser.error(f"no machine {args.carry_on!r} in {args.points}")
    print(prediction_table(carried, Settings(median=args.median)))


def fits_of(points: Sequence[Point]) -> dict[str, Fit]:
    """Phase to its fit, over the points that are fitted."""
    fitted = {}
    for phase in PHASES:
        seen = [(point.terms(phase), point.seconds(phase)) for point in points if point.fitted]
        there = [(terms, seconds) for terms, seconds in seen if seconds is not None]
        fitted[phase] = fit([terms for terms, _ in there], [seconds for _, seconds in there])
    return fitted


def error_table(points: Sequence[Point]) -> str:
    """Measured and predicted seconds of each point of one machine."""
    fits = fits_of(points)
    apart = all(point.fitted for point in points)
    lines = [
        f"**{points[0].machine}.** " + " ".join(f"{phase.capitalize()}: {fits[phase]}." for phase in PHASES),
        "",
        "| point | " + " | ".join(f"{phase}: measured, s | by the model | error" for phase in PHASES) + " |",
        "|---" * 7 + "|",
    ]
    errors: dict[bool, list[float]] = {True: [], False: []}
    for point in points:
        others = fits_of([one for one in points if one is not point]) if apart else fits
        cells = []
        for phase in PHASES:
            measured, seconds = point.seconds(phase), others[phase].seconds(point.terms(phase))
            if measured is None:
                cells += ["", f"{seconds:.2f}", ""]
                continue
            error = seconds / measured - 1
            errors[point.fitted and not apart].append(abs(error))
            cells += [f"{measured:.2f}", f"{seconds:.2f}", f"{100 * error:+.0f} %"]
        mark = "" if point.fitted and not apart else ", left out" if apart else ", not fitted"
        lines.append(f"| {point.name}{mark} | " + " | ".join(cells) + " |")
    for fitted, text in ((True, "Mean error of the points it was fitted to"), (False, "of those it was not fitted to")):
        if errors[fitted]:
            found = errors[fitted]
            lines += [
                "",
                f"{text}: {100 * sum(found) / len(found):.0f} % ({len(found)} figures, {100 * max(found):.0f} % at most).",
            ]
    return "\n".join(lines)


def prediction_table(points: Sequence[Point], settings: Settings) -> str:
    """Steps of the published sizes on many devices."""
    fits, device = fits_of(points), _limits(points)
    head = (
        "model, devices",
        "a step, s",
        "sampling",
        "waiting",
        "tail",
        "training",
        "idle",
        "weights",
        "tokens/s a device",
    )
    lines = [
        f"Assumed: {settings.prompts} x {settings.group} completions of geometric length, median {settings.median:g}, at "
        f"most {settings.limit}; prompts of {settings.prompt}; {100 * settings.learns:.0f} % of the groups with a gradient; "
        f"mini-batches of {settings.minibatch} prompts; links of {LINKS.node / 1e9:g} GB/s in a node of 8 and "
        f"{LINKS.between / 1e9:g} GB/s between nodes, nothing hidden behind computing.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    for name, size in QWEN.items():
        for devices in DEVICES:
            made = predict(size, settings, devices, device, fits, LINKS)
            lines.append(f"| {name}, {devices} | " + " | ".join(_cells(made)) + " |")
    return "\n".join(lines)


def _cells(made: Prediction) -> list[str]:
    parts = (made.seconds, made.sampling, made.waiting, made.tail, made.training)
    rate = made.tokens / made.seconds / made.devices
    return [
        *(f"{part:,.0f}" for part in parts),
        f"{100 * made.idle_devices:.0f} %",
        f"{made.weights:,.0f}",
        f"{rate:,.0f}",
    ]


def _limits(points: Sequence[Point]) -> Device:
    """The best of what was measured beside the points."""
    return Device(
        flops=max(point.device.flops for point in points), bandwidth=max(point.device.bandwidth for point in points)
    )


if __name__ == "__main__":
    main()
