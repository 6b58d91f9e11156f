"""One process against two on this machine, one thread each: samples a second, what is spent on exchange, balance of work.

    python benchmarks/scaling.py [--mode fsdp2] [--steps 8] [--processes 1 2] [--large]
    python benchmarks/scaling.py --rate 100mbit        # each process in a network namespace of its own, as two nodes (root)

The embedded model on countdown (--large: 12 M random parameters with its tokenizer), 16 problems x 16 completions a step. The
first two steps are not counted; the others are medians. Printed for each number of processes: seconds of a step and samples a
second; seconds of the processor, of all processes together, which other work on the machine disturbs less; the share of a
step in which the main process gathers the rollout (`time/gather_s`, waiting for the others included); likewise of all other
exchanges between processes but gradients; from the first byte of a gradient to its last (of DDP alone; some of it goes on
behind the backward pass); and the balance of what the processes forward: the mean of their tokens over the largest, 1 where
all are equal.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from progrpo.files import to_json
from progrpo.processes import Processes, join, leave
from progrpo.rollout.verify import Verifier
from progrpo.settings import parse
from progrpo.train import parallel
from progrpo.train.clock import Clock
from progrpo.train.keeper import Keeper
from progrpo.train.loop import rollout_and_update
from progrpo.train.passes import Passes
from progrpo.train.sampling import Rollouts
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose, prepare
from random_model import random_model

WARM_UP = 2
LARGE = {"hidden": 320, "layers": 8, "heads": 8, "intermediate": 1280, "vocabulary": 512}
KEYS = ("gather", "exchange", "gradient")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("ddp", "fsdp2"), default="ddp")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--rate", help="of the link between two processes, as tc spells it: 1gbit, 100mbit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        work(json.loads(args.one), args.steps)
        return
    print("| processes | step, s | samples a second | processor, s | gathering | other exchange | gradient | balance |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = random_model(Path(folder) / "model", **LARGE) if args.large else "embedded:countdown"
        for count in args.processes:
            print(row(count, launch(count, path, Path(folder) / f"run-{count}", args), args.mode), flush=True)
    print(f"{args.mode}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, link {args.rate or 'of this machine'}")


def launch(count: int, path: str, out: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run so many processes to their end; what the main one has gathered from all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"path": path, "out": str(out), "mode": args.mode if count > 1 else "none"}
    command = [sys.executable, __file__, "--steps", str(args.steps), "--one", to_json(given)]
    with nodes(args.rate if count > 1 else None) as (address, prefixes):
        started = [
            subprocess.Popen(
                [*prefixes[rank % len(prefixes)], *command],
                stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                text=True,
                env=os.environ
                | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": address, "MASTER_PORT": str(port)}
                | {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(count)}
                | ({"GLOO_SOCKET_IFNAME": f"progrpo{rank}"} if args.rate and count > 1 else {}),
            )
            for rank in range(count)
        ]
        said = started[0].communicate()[0]
        if any(process.wait() for process in started):
            raise SystemExit("a process failed; what it said stands above")
    found: list[dict[str, Any]] = json.loads(said.splitlines()[-1])
    return found


@contextmanager
def nodes(rate: str | None) -> Iterator[tuple[str, Sequence[Sequence[str]]]]:
    """Where the processes meet, and what starts each: two network namespaces joined by a link of this rate, or nothing."""
    if rate is None:
        yield "127.0.0.1", [()]
        return

    def call(line: str) -> None:
        subprocess.run(line.split(), check=True)

    names = ("progrpo0", "progrpo1")
    made = []
    try:
        for name in names:
            call(f"ip netns add {name}")
            made.append(name)
        call(f"ip link add {names[0]} netns {names[0]} type veth peer name {names[1]} netns {names[1]}")
        for number, name in enumerate(names):
            inside = f"ip netns exec {name}"
            call(f"{inside} ip addr add 10.213.7.{number + 1}/24 dev {name}")
            call(f"{inside} ip link set {name} up")
            call(f"{inside} ip link set lo up")
            call(f"{inside} tc qdisc add dev {name} root tbf rate {rate} burst 256kb latency 100ms")
        yield "10.213.7.1", [("ip", "netns", "exec", name) for name in names]
    finally:
        for name in made:
            call(f"ip netns del {name}")


def row(count: int, everyone: list[dict[str, Any]], mode: str) -> str:
    main_process = everyone[0]
    seconds = statistics.median(main_process["seconds"])
    cpu = statistics.median(sum(each) for each in zip(*(one["cpu"] for one in everyone), strict=True))
    tokens = list(zip(*(one["tokens"] for one in everyone), strict=True))
    balance = statistics.median(sum(each) / count / max(each) for each in tokens)
    shares = [
        f"{100 * statistics.median(a / b for a, b in zip(main_process[key], main_process['seconds'], strict=True)):.1f} %"
        for key in KEYS
    ]
    if count == 1 or mode == "fsdp2":
        shares[KEYS.index("gradient")] = ""
    return f"| {count} | {seconds:.2f} | {256 / seconds:.0f} | {cpu:.2f} | {' | '.join(shares)} | {balance:.3f} |"


def work(given: dict[str, str], steps: int) -> None:
    """One process of a run: make the steps, and print what all processes have measured, in the main one."""
    torch.set_num_threads(1)
    settings = parse(
        RunSettings,
        {
            "steps": steps + WARM_UP,
            "out": given["out"],
            "parallel": given["mode"],
            "model": {"path": given["path"]},
            "task": {"name": "countdown", "numbers": 4, "max_number": 8, "max_target": 24, "min_used": 3}
            | {"min_solutions": 4, "train_size": 1000},
            "method": {"name": "progrpo"},
            "sampling": {"max_new_tokens": 40},
            "batch": {"prompts": 16, "group": 16, "micro_tokens": 2048, "skip_zero_advantage": False},
            "optim": {"lr": 1e-6},
            "evaluate": {"every": 0},
            "checkpoint": {"every": 0},
            "record": {"rollouts_every": 0},
        },
        where="benchmark",
    )
    processes, chosen = join(), choose(settings)
    with Verifier(chosen.reward, settings.verify) as verifier:
        rows: list[Any] = []
        trainer = prepare(
            chosen,
            verifier,
            resume=False,
            listen=lambda event, data: rows.append(data) if event == "step" else None,
            processes=processes,
        )
        now = dict.fromkeys(("tokens", "exchange", "gradient"), 0.0)
        watch(now)
        found: dict[str, list[float]] = {key: [] for key in ("seconds", "cpu", "tokens", *KEYS)}
        clock = Clock(trainer.model.device)
        for step in range(steps + WARM_UP):
            now.update(dict.fromkeys(now, 0.0))
            processes.wait()
            started, cpu = time.perf_counter(), time.process_time()
            rollout_and_update(trainer, step, clock, Keeper(trainer, clock), Rollouts(trainer))
            if step < WARM_UP:
                continue
            found["seconds"].append(time.perf_counter() - started)
            found["cpu"].append(time.process_time() - cpu)
            gather = rows[-1]["time/gather_s"]
            values = now | {"gather": gather, "exchange": max(0.0, now["exchange"] - gather)}
            for key, value in values.items():
                found[key].append(value)
        everyone = processes.gather(found)
        trainer.run.close()
    if processes.main:
        print(to_json(everyone))
    leave()


def watch(now: dict[str, float]) -> None:
    """Count tokens that this process forwards, and seconds of its exchanges, into `now`."""

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                now["exchange"] += time.perf_counter() - started

        return call

    for name in ("gather", "sum"):
        setattr(Processes, name, timed(getattr(Processes, name)))
    forward, reduce = Passes.forward, parallel.dist.all_reduce

    def counted(self: Passes, micro: Any, *arguments: Any, **named: Any) -> Any:
        now["tokens"] += micro.tokens.numel()
        return forward(self, micro, *arguments, **named)

    def reduced(tensor: torch.Tensor, *arguments: Any, async_op: bool = False, **named: Any) -> Any:
        started = time.perf_counter()
        work = reduce(tensor, *arguments, async_op=async_op, **named)
        if async_op:  # DDP's buckets; a step waits for the last of them
            work.get_future().then(lambda _: now.update(gradient=now["gradient"] + time.perf_counter() - started))
        return work

    Passes.forward = counted  # type: ignore[method-assign]
    parallel.dist.all_reduce = reduced


if __name__ == "__main__":
    main()
