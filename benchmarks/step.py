"""ProGRPO's step against GRPO's: the same engine, the same tokens, the same update. Aim: at most 1.02.

    python benchmarks/step.py [--steps 40]

Two trainers start from the embedded model and go on in turn, one rollout each, A B A B ...; both use ProGRPO's clip
range and aggregation, and alpha is 0 so that both see the very same tokens at every step while ProGRPO computes all it
ever computes. The ratio is taken pair by pair; its median and quartiles are printed, in all and without sampling.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from progrpo.rollout.verify import Verifier
from progrpo.settings import parse
from progrpo.train.clock import Clock
from progrpo.train.loop import rollout_and_update
from progrpo.train.settings import RunSettings
from progrpo.train.setup import Trainer, prepare, resolve

SHARED = {"clip_high": 0.28, "aggregate": "group_token"}
METHODS = {"grpo": {"name": "grpo", **SHARED}, "progrpo": {"name": "progrpo", "alpha": 0.0}}


def make(method: dict[str, object], steps: int, out: Path, verifiers: list[Verifier]) -> Trainer:
    settings = parse(
        RunSettings,
        {
            "steps": steps,
            "out": str(out),
            "model": {"path": "embedded:countdown"},
            "task": {"name": "countdown", "numbers": 4, "max_number": 8, "max_target": 24, "min_used": 3}
            | {"min_solutions": 4, "train_size": 1000},
            "method": method,
            "sampling": {"max_new_tokens": 40},
            "batch": {"prompts": 16, "group": 16, "micro_tokens": 4096},
            "optim": {"lr": 1e-4},
            "checkpoint": {"every": 0},
        },
        where="benchmark",
    )
    settings = resolve(settings)
    assert settings.reward is not None
    verifiers.append(Verifier(settings.reward, settings.verify))
    return prepare(settings, verifiers[-1], resume=False, listen=lambda event, data: None)


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"median {middle:.4f}, quartiles {low:.4f} to {high:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    verifiers: list[Verifier] = []
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make(method, steps, Path(folder) / name, verifiers) for name, method in METHODS.items()}
        for step in range(steps):
            order = list(trainers) if step % 2 else list(trainers)[::-1]
            for name in order:
                started = time.perf_counter()
                rollout_and_update(trainers[name], step, Clock())
                seconds[name].append(time.perf_counter() - started)
        same = all(
            (Path(folder) / name / "rollouts" / f"step-{step + 1:06d}.jsonl").read_text().count('"completion"') == 256
            for name in METHODS
            for step in range(steps - 1)
        )
    for verifier in verifiers:
        verifier.close()
    ratios = [b / a for a, b in list(zip(seconds["grpo"], seconds["progrpo"], strict=True))[3:-1]]
    print(f"{len(ratios)} pairs of steps, 16 x 16 completions each: {'same counts' if same else 'UNEQUAL'}")
    print(f"grpo {statistics.median(seconds['grpo']):.3f} s, progrpo {statistics.median(seconds['progrpo']):.3f} s")
    print(f"progrpo / grpo, whole step: {quartiles(ratios)}")


if __name__ == "__main__":
    main()
