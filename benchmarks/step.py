"""ProGRPO's step against GRPO's: the same engine, the same tokens, the same update. Aim: at most 1.02.

    python benchmarks/step.py [--steps 40]

Two trainers start from the embedded model and go on in turn, one rollout each, A B A B ...; both use ProGRPO's clip
range and aggregation, and alpha is 0 so that both see the very same tokens at every step (checked) while ProGRPO computes
all it ever computes. The ratio is taken pair by pair; its median and quartiles are printed. Beside it stands the time that
ProGRPO's advantage hook takes by itself, as a share of its step: GRPO's steps log c(o) too (rollout/confidence), so the
ratio leaves one such computation out.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from progrpo.methods import Advantages, progrpo
from progrpo.rollout.verify import Verifier
from progrpo.settings import parse
from progrpo.train.clock import Clock
from progrpo.train.keeper import Keeper
from progrpo.train.loop import rollout_and_update
from progrpo.train.sampling import Rollouts
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose, prepare
from progrpo.train.trainer import Trainer
from progrpo.types import RolloutBatch

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
    chosen = choose(settings)
    verifiers.append(Verifier(chosen.reward, settings.verify))
    return prepare(chosen, verifiers[-1], resume=False, listen=lambda event, data: None)


def time_hook(seconds: list[float]) -> None:
    """Append what each call of ProGRPO's advantage hook takes."""
    hook = progrpo.advantages

    def timed(batch: RolloutBatch, params: progrpo.Params) -> Advantages:
        started = time.perf_counter()
        result = hook(batch, params)
        seconds.append(time.perf_counter() - started)
        return result

    progrpo.advantages = timed


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"median {middle:.4f}, quartiles {low:.4f} to {high:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    verifiers: list[Verifier] = []
    hooks: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make(method, steps, Path(folder) / name, verifiers) for name, method in METHODS.items()}
        time_hook(hooks)
        for step in range(steps):
            order = list(trainers) if step % 2 else list(trainers)[::-1]
            for name in order:
                started = time.perf_counter()
                clock = Clock(trainers[name].model.device)
                rollout_and_update(trainers[name], step, clock, Keeper(trainers[name], clock), Rollouts(trainers[name]))
                seconds[name].append(time.perf_counter() - started)
        tokens = {name: sampled_text(Path(folder) / name) for name in METHODS}
    for verifier in verifiers:
        verifier.close()
    ratios = [b / a for a, b in list(zip(seconds["grpo"], seconds["progrpo"], strict=True))[3:-1]]
    same = tokens["grpo"] == tokens["progrpo"]
    print(
        f"{len(ratios)} pairs of steps, 16 x 16 completions each; the same tokens on both sides: {'yes' if same else 'NO'}"
    )
    print(f"grpo {statistics.median(seconds['grpo']):.3f} s, progrpo {statistics.median(seconds['progrpo']):.3f} s")
    print(f"progrpo / grpo, whole step: {quartiles(ratios)}")
    share = statistics.median(hooks) / statistics.median(seconds["progrpo"])
    print(f"progrpo's advantage hook: {statistics.median(hooks) * 1e3:.2f} ms, {100 * share:.2f} % of its step")


def sampled_text(run: Path) -> list[str]:
    """Every completion of a run, in order."""
    files = sorted((run / "rollouts").iterdir())
    return [json.loads(line)["completion"] for file in files for line in file.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    main()
