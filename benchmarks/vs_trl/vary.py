"""progrpo's cost alone as one of G, prompt length, completion length and P doubles."""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vs_trl.workloads import Run, Workload, model_folder

AXES = {"G": "group", "P": "prompts", "prompt": "prompt_tokens", "completion": "completion_tokens"}
DOUBLINGS = 3


def run(axes: Sequence[str], base: Workload, *, device: str, precision: str, steps: int) -> None:
    """Print a table: each axis goes from a quarter of the base to twice it, the other three stay."""
    print("axis        value  s/step  generate  train  (medians; in brackets: times the row above)")
    for axis in axes:
        field = AXES[axis]
        start = max(2, getattr(base, field) // 4)
        above = None
        for value in (start * 2**power for power in range(DOUBLINGS + 1)):
            seconds = _seconds(replace(base, **{field: value}), device, precision, steps)
            growth = "" if above is None else " ".join(f"({b / a:.2f})" for a, b in zip(above, seconds, strict=True))
            print(
                f"{axis:10} {value:6}  " + "  ".join(f"{second:.3f}" for second in seconds) + f"  {growth}", flush=True
            )
            above = seconds


def _seconds(work: Workload, device: str, precision: str, steps: int) -> tuple[float, float, float]:
    """Median seconds of a step, its generation and its training, after one step of warm-up."""
    from vs_trl.ours import Ours

    with tempfile.TemporaryDirectory() as folder:
        path = model_folder(work, Path(folder) / "model", device)
        ours = Ours(
            Run(work=work, path=path, rollouts=steps + 1, device=device, precision=precision), Path(folder) / "ours"
        )
        taken = [ours.step() for _ in range(steps + 1)][1:]
        ours.close()
    return (
        statistics.median(step.seconds for step in taken),
        statistics.median(step.phases["generate"] for step in taken),
        statistics.median(step.phases["train"] for step in taken),
    )
