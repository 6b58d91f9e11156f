"""What each method costs the trainer, against GRPO: seconds of a step and peak of memory, on the same rollout.

    python benchmarks/methods.py [--methods flowrl ppo] [--rounds 20] [--size 16]

The embedded model samples one rollout of countdown problems; from then on every trainer is given this one. A round is what
the training loop does with a rollout: scores, advantages, and two optimiser steps; a method and GRPO take turns, A B B A ...,
and the ratio of seconds is taken pair by pair; on a CPU they are seconds of this process, so that what else the machine does
plays no part. Sampling and verifying are not in it: the seconds that sampling took are printed beside. A method that samples
in its own way (cure, spear, r3, deepsearch, dler) learns here from the same rollout as all. The learning rate is too small to
move a weight, so that every round does the same work.

Memory is what torch allocates from loading the model on, at its peak over two rounds: weights, optimiser, a method's own net,
a reference model, and the passes. On CPU torch's profiler counts it, and the weights of the models are added: they stand
mapped from the file, which torch does not count as allocated.

GRPO leaves sequences with advantage 0 out of its passes, which many methods cannot; the row "grpo, all" trains on them, too.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from progrpo import plugins
from progrpo.plural import counted
from progrpo.rollout.generate import Rollout
from progrpo.rollout.verify import Verifier
from progrpo.settings import parse
from progrpo.train import loop, sampling
from progrpo.train.clock import Clock
from progrpo.train.keeper import Keeper
from progrpo.train.sampling import Rollouts
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose, prepare, resolve
from progrpo.train.trainer import Trainer
from progrpo.types import Group

STEPS = 2
"""Optimiser steps of a rollout."""
REQUIRED: dict[str, dict[str, Any]] = {
    "f_grpo": {"gamma": 1.0},
    "perplexity": {"alpha": 0.2},
    "uniqueness": {"alpha": 1.0},
    "aepo": {"low": 0.5, "high": 1.0},
    "r3": {"samples": 1},
    "spine": {"band_coef": 0.1, "anchor_coef": 0.01},
    "likelihood": {"after": "="},
}
"""Settings that have no default, or none that the embedded model can write; a step's cost does not depend on it."""
WARM_UP = 1
"""Rounds that are not counted."""
ENDLESS = 100_000
"""Rounds that GRPO's trainer is made for, which all methods are compared with."""
ALL = "grpo, all"
GRPO: dict[str, Any] = {"method": {"name": "grpo"}}
MIB = 2**20


def make_settings(changes: Mapping[str, Any], *, size: int, rounds: int, out: Path) -> RunSettings:
    """Of a run that would go on after the last round. `size`: problems of the rollout, and completions of each."""
    data = {
        "steps": STEPS * (rounds + WARM_UP + 1),
        "out": str(out),
        "model": {"path": "embedded:countdown"},
        "task": {"name": "countdown", "numbers": 4, "max_number": 8, "max_target": 24, "min_used": 3}
        | {"min_solutions": 4, "train_size": 1000},
        "sampling": {"max_new_tokens": 40},
        "batch": {"prompts": size, "group": size, "minibatch_prompts": size // STEPS, "micro_tokens": 4096}
        | changes.get("batch", {}),
        "optim": {"lr": 1e-15},
        "checkpoint": {"every": 0},
        "record": {"rollouts_every": 0},
        "method": changes["method"],
    }
    return resolve(parse(RunSettings, data, where="benchmark"))


class Side:
    """A trainer that is given the same rollout again and again."""

    def __init__(self, settings: RunSettings, verifier: Verifier) -> None:
        self._seconds = 0.0
        self._done = 0
        self.trainer: Trainer = prepare(choose(settings), verifier, resume=False, listen=self._listen)

    def round(self) -> float:
        """Learn from the rollout; the seconds that took."""
        self._seconds = 0.0
        clock, started = Clock(self.trainer.model.device), time.process_time()
        self._done = loop.rollout_and_update(
            self.trainer, self._done, clock, Keeper(self.trainer, clock), Rollouts(self.trainer)
        )
        return self._seconds if torch.cuda.is_available() else time.process_time() - started

    def close(self) -> None:
        self.trainer.run.close()

    def _listen(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "step":
            self._seconds += data["time/score_s"] + data["time/train_s"]


class Bench:
    """One rollout, and trainers made to learn from it."""

    def __init__(self, verifier: Verifier, folder: Path, *, size: int, rounds: int) -> None:
        self._verifier, self._folder, self._size, self._rounds = verifier, folder, size, rounds
        self._made = 0
        # progrpo asks for all that any method reads of a rollout.
        side = self._side({"method": {"name": "progrpo"}})
        self.rollout, _ = sampling.sample(side.trainer, 0)
        side.close()
        self._base: Side | None = None

    def seconds(self, changes: Mapping[str, Any]) -> list[tuple[float, float]]:
        """(GRPO's, the method's) seconds of each round."""
        self._base = self._base or self._side(GRPO, rounds=ENDLESS)
        sides = [self._base, self._side(changes)]
        pairs = []
        for number in range(self._rounds + WARM_UP):
            taken = {side: side.round() for side in (sides if number % 2 else sides[::-1])}
            pairs.append((taken[sides[0]], taken[sides[1]]))
        sides[1].close()
        return pairs[WARM_UP:]

    def close(self) -> None:
        if self._base is not None:
            self._base.close()

    def peak(self, changes: Mapping[str, Any]) -> float:
        """Bytes."""

        mapped = 0

        def work() -> None:
            nonlocal mapped
            side = self._side(changes)
            for _ in range(2):
                side.round()
            side.close()
            weights = sum(weight.nbytes for weight in side.trainer.model.model.parameters())
            mapped = weights * (1 if side.trainer.reference is None else 2)

        gc.collect()
        if torch.cuda.is_available():
            return _cuda_peak(work)
        return _cpu_peak(work, self._folder / "trace.json") + mapped

    def _side(self, changes: Mapping[str, Any], rounds: int | None = None) -> Side:
        self._made += 1
        out = self._folder / f"run-{self._made}"
        return Side(make_settings(changes, size=self._size, rounds=rounds or self._rounds, out=out), self._verifier)


def _cpu_peak(work: Callable[[], None], trace: Path) -> float:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
        # The profiler counts on from one recording to the next, and sees only what is freed while it records.
        gc.collect()
    recorded.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text("utf-8"))["traceEvents"]
    found = [event["args"] for event in sorted(events, key=_time) if event.get("name") == "[memory]"]
    before = found[0]["Total Allocated"] - found[0]["Bytes"]
    return float(max(event["Total Allocated"] for event in found) - before)


def _time(event: Mapping[str, Any]) -> float:
    return float(event.get("ts", 0.0))


def _cuda_peak(work: Callable[[], None]) -> float:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return float(torch.cuda.max_memory_allocated() - before)


@contextmanager
def always(rollout: Rollout) -> Iterator[None]:
    """The training loop is given this rollout in place of a new one."""
    own = sampling.sample
    sampling.sample = lambda trainer, done: (rollout, {})
    try:
        yield
    finally:
        sampling.sample = own


def _is_mixed(group: Group) -> bool:
    return len({verdict.correct for verdict in group.verdicts if not verdict.failed}) == 2


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def measure(names: Sequence[str], *, size: int, rounds: int, say: Callable[[str], None] = print) -> None:
    variants: dict[str, dict[str, Any]] = {name: {"method": {"name": name, **REQUIRED.get(name, {})}} for name in names}
    variants[ALL] = GRPO | {"batch": {"skip_zero_advantage": False}}
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(GRPO, size=size, rounds=rounds, out=Path(folder) / "run")
        assert settings.reward is not None
        with Verifier(settings.reward, settings.verify) as verifier:
            bench = Bench(verifier, Path(folder), size=size, rounds=rounds)
            say(describe(bench.rollout))
            threads = counted(torch.get_num_threads(), "thread")
            say(f"{counted(rounds, 'pair')} of rounds, {counted(STEPS, 'optimiser step')} each, {threads}")
            say(f"{'method':20}{'ms a step':>10}   / grpo: median, quartiles{'peak, MiB':>12}{'- grpo':>9}")
            with always(bench.rollout):
                base = bench.peak(GRPO)
                for name, changes in variants.items():
                    pairs = bench.seconds(changes)
                    peak = base if name == "grpo" else bench.peak(changes)
                    low, middle, high = quartiles([own / grpo for grpo, own in pairs])
                    own_ms = 1e3 * statistics.median(own for _, own in pairs) / STEPS
                    say(
                        f"{name:20}{own_ms:10.1f}   {middle:7.3f}  {low:6.3f} to {high:6.3f}"
                        f"{peak / MIB:14.1f}{(peak - base) / MIB:+9.1f}"
                    )
            bench.close()


def describe(rollout: Rollout) -> str:
    lengths = [len(completion.token_ids) for group in rollout.groups for completion in group.completions]
    mixed = sum(map(_is_mixed, rollout.groups)) / len(rollout.groups)
    return (
        f"one rollout, {len(rollout.groups)} x {len(rollout.groups[0].completions)} completions of {sum(lengths)} tokens, "
        f"{100 * mixed:.0f} % of the groups mixed; sampled in {rollout.generate_s:.2f} s"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = plugins.names("methods")
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=16, help="problems, and completions of each; even")
    parser.add_argument("--small", action="store_true", help="4 x 4 completions, 3 rounds: whether it runs")
    given = parser.parse_args(arguments)
    size, rounds = (4, 3) if given.small else (given.size, given.rounds)
    started = time.perf_counter()
    measure(given.methods, size=size, rounds=rounds)
    print(f"{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
