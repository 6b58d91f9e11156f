"""What gathering a rollout costs: pack, move and unpack, between processes of this machine over gloo. Aim: 2 % of a step.

    python benchmarks/gather.py                        # 4,096 completions of 2,000 tokens, 2 processes
    python benchmarks/gather.py --completions 512 --tokens 200 --processes 3

Each process holds its share of the groups (8 completions each, with token ids, log-probs and entropies, a text of four
letters a token, and verdicts) and gathers those of the others, as a rollout does. Printed: the bytes that a process sends,
and of each part the seconds of the slowest process by the clock and of the processor, medians of --repeats after one that
is not counted; and the share of a step of --step-s seconds.

A step of 128 s is what 8 GPUs would take with 1.5B parameters, each as fast as the one of docs/performance.md: 8.19 M tokens
sampled at 9,800 a second and GPU (104 s), half of them trained at 21,400 (24 s). The gathering stays what it is with more
GPUs, but for each process receiving from more others. A network slower than this machine's memory adds
(processes - 1) / processes of all bytes over its rate to each process: the last line says how much at 10 Gbit/s.
"""

import argparse
import os
import socket
import statistics
import time
from typing import Any

import torch

from progrpo.processes import Processes, join, leave
from progrpo.rollout.exchange import pack, size_of, unpack
from progrpo.types import Completion, Group, Problem, Verdict

GROUP = 8
PROMPT = 200
PARTS = ("pack", "move", "unpack")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--step-s", type=float, default=128.0)
    args = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (args, port), nprocs=args.processes)


def work(rank: int, args: argparse.Namespace, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(args.processes)}
    processes = join()
    problems = [Problem(id=str(n), prompt="x" * PROMPT, answer="1") for n in range(args.completions // GROUP)]
    own = make_groups(problems[processes.share(len(problems))], args.tokens)
    taken = [exchange(own, problems, processes) for _ in range(args.repeats + 1)][1:]
    everyone: list[Any] = processes.gather(taken)
    if processes.main:
        report(args, taken[0]["bytes"], everyone)
    leave()


def make_groups(problems: list[Problem], tokens: int) -> list[Group]:
    draw = torch.Generator().manual_seed(0)

    def completion(seed: int) -> Completion:
        logprobs = -torch.rand(tokens, generator=draw)
        return Completion(
            seed=seed,
            text="word" * tokens,
            finish="length",
            token_ids=torch.randint(0, 150_000, (tokens,), generator=draw),
            sampler_logprobs=logprobs,
            entropies=logprobs.abs(),
        )

    return [
        Group(
            problem=problem,
            prompt_ids=torch.randint(0, 150_000, (PROMPT,), generator=draw),
            prompt_logprobs=None,
            completions=tuple(completion(seed) for seed in range(GROUP)),
            verdicts=tuple(Verdict(status="correct", reward=1.0) for _ in range(GROUP)),
        )
        for problem in problems
    ]


def exchange(own: list[Group], problems: list[Problem], processes: Processes) -> dict[str, Any]:
    """`gather_groups`, part by part."""
    processes.wait()
    marks = [(time.perf_counter(), time.process_time())]

    def mark() -> None:
        marks.append((time.perf_counter(), time.process_time()))

    parcel = pack(own, problems)
    mark()
    parcels = processes.gather(parcel)
    mark()
    others = [unpack(one, problems) for rank, one in enumerate(parcels) if rank != processes.rank]
    mark()
    assert sum(map(len, others)) == len(problems) - len(own)
    spent = {
        part: (after[0] - before[0], after[1] - before[1])
        for part, before, after in zip(PARTS, marks, marks[1:], strict=False)
    }
    return {"bytes": size_of(parcel), **spent}


def report(args: argparse.Namespace, sent: int, everyone: list[list[dict[str, Any]]]) -> None:
    def median(part: str, which: int) -> float:
        return statistics.median(max(one[part][which] for one in repeat) for repeat in zip(*everyone, strict=True))

    load = os.getloadavg()[0]
    print(
        f"{args.completions:,} completions of {args.tokens:,} tokens, {args.processes} processes, {os.cpu_count()} cores, load "
        f"{load:.1f}; {sent / 1e6:.1f} MB from each"
    )
    for part in PARTS:
        print(f"{part:<7} {median(part, 0):6.2f} s by the clock, {median(part, 1):6.2f} s of the processor")
    clock, cpu = (sum(median(part, which) for part in PARTS) for which in (0, 1))
    print(
        f"all     {clock:6.2f} s by the clock, {cpu:6.2f} s of the processor: {100 * clock / args.step_s:.2f} % and "
        f"{100 * cpu / args.step_s:.2f} % of a step of {args.step_s:g} s"
    )
    wire = sent * (args.processes - 1) * 8 / 10e9
    print(f"a network of 10 Gbit/s would add {wire:.2f} s, {100 * wire / args.step_s:.2f} %")


if __name__ == "__main__":
    main()
