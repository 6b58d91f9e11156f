r"""progrpo against TRL's GRPOTrainer: the same model, prompts, reward, lengths and optimiser, in one process.

    pip install -e '.[trl]'
    python benchmarks/vs_trl.py --workload a b c                  # fp32, CPU
    python benchmarks/vs_trl.py --workload b --precision bf16 --steps 5 --isolated
    python benchmarks/vs_trl.py --workload d --device cuda --precision bf16 --steps 2 [--peer paged]
    python benchmarks/vs_trl.py --workload b --set micro_rows=32 --trl cache_implementation=static \
        --progrpo engine.max_rows=64
    python benchmarks/vs_trl.py --vary G prompt completion P      # progrpo's cost alone, around work load c

Work loads: (a) the embedded model on countdown, G = 16; (b) 32M random parameters, prompts of 256 tokens, completions
long-tailed up to 256 (median about 80), half of the groups zero-std, G = 8; (c) prompts of 32, completions of exactly
256, no zero-std group; (d), (e) 0.5B and 1.5B parameters in Qwen2.5's sizes, prompts of 512, completions up to 2,048
(median about 600), half of the groups zero-std, for one GPU. vs_trl/workloads.py has the numbers; --set replaces some.

A step is a whole one: rollout, reward, update. The two sides take turns, A B A B ..., after one step of warm-up each. TRL's
steps are made by its own loop; progrpo's stand between them, outside its clock, in the same thread. Each side samples its
own tokens, so lengths differ: they are printed, and the ratio is given per token sampled, too. Ratios are taken pair by
pair. Where other work shares the machine, the ratio of processor time with --threads 1 says more than that of the clock.
TRL skips its old log-probs by itself at these settings; its micro-batch is the size that is fastest for it.

Memory: each side's weights and optimiser state stay where they are during the other's step, so what counts is the peak
above what was held as the step began; both free their gradients after each step. --isolated runs each side again in a
process of its own, where the peak is that of the process, Python and libraries included.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import yaml

from progrpo.files import to_json
from vs_trl import report, vary
from vs_trl.machine import PeakMemory, copy_bandwidth, matmul_peak
from vs_trl.steps import Sizes, Step
from vs_trl.workloads import WORKLOADS, Run, Workload, model_folder, read_config, tiny

SIDES = ("progrpo", "trl")
ALONE_STEPS = 1


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    args = _parser().parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    _quiet()
    print(" ".join(f"{key} {value}" for key, value in environment(args.device).items()), flush=True)
    if args.vary:
        vary.run(args.vary, _work("c", args), device=args.device, precision=args.precision, steps=args.steps)
        return
    machine = report.Machine(
        flops=matmul_peak(args.device, args.precision),
        bandwidth=copy_bandwidth(args.device),
        number_bytes=2 if args.precision == "bf16" else 4,
    )
    print(report.machine_line(machine, args.precision), flush=True)
    results: list[dict[str, Any]] = []
    lines: list[str] = []
    for name in args.workload:
        work = _work(name, args)
        result, line = measure(work, args, machine)
        if args.isolated:
            alone = {side: _alone(side, name, arguments) for side in args.sides}
            result["isolated"] = alone
            line += f"; {report.alone_line(alone)}"
        results.append(result)
        lines.append(line)
        if args.json:
            saved = {"environment": environment(args.device), "arguments": arguments, "work_loads": results}
            Path(args.json).write_text(to_json(saved, indent=1), "utf-8")
    print(f"\n{report.FORMULAS}\n")
    print("\n".join(lines))


def measure(work: Workload, args: argparse.Namespace, machine: report.Machine) -> tuple[dict[str, Any], str]:
    """Run one work load; what was measured, and its line in the table."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            work=work,
            path=model_folder(work, Path(folder) / "model", args.device),
            rollouts=args.warm_up + args.steps,
            precision=args.precision,
            device=args.device,
            checkpointing=args.checkpointing,
        )
        taken, loaded = take_turns(run, Path(folder), args)
        sizes = Sizes.of(read_config(run.path))
    for side, steps in taken.items():
        print("\n".join(report.side_lines(run, side, steps, sizes, machine)), flush=True)
    result = {
        "work_load": work.name,
        "precision": args.precision,
        "loaded_bytes": loaded,
        "machine": {"flops": machine.flops, "bandwidth": machine.bandwidth},
        **{side: [step.as_json(work.completion_tokens) for step in steps] for side, steps in taken.items()},
    }
    return result, report.summary(run, taken)


def take_turns(run: Run, folder: Path, args: argparse.Namespace) -> tuple[dict[str, list[Step]], int]:
    """The counted steps of the chosen sides, made in turn; and the bytes in use before any was made."""
    taken: dict[str, list[Step]] = {side: [] for side in args.sides}

    def keep(side: str, step: Step) -> None:
        taken[side].append(step)
        print(report.step_line(run, side, len(taken[side]) - 1, step), flush=True)

    with ExitStack() as stack:
        ours = peer = None
        if "progrpo" in args.sides:
            from vs_trl.ours import Ours

            ours = stack.enter_context(closing(Ours(run, folder / "ours", args.progrpo)))
        if "trl" in args.sides:
            from vs_trl.peer import Peer

            peer = Peer(run, folder / "peer", paged=args.peer == "paged", override=dict(args.trl))
        loaded = PeakMemory(run.device).now()
        if peer is None:
            for _ in range(run.rollouts):
                keep("progrpo", ours.step())
        else:
            peer.run(
                before=lambda: None if ours is None else keep("progrpo", ours.step()),
                after=lambda step: keep("trl", step),
            )
    return {side: steps[args.warm_up :] for side, steps in taken.items()}, loaded


def environment(device: str) -> dict[str, str]:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    installed = [package for package in ("torch", "transformers", "trl") if find_spec(package)]
    packages = {package: version(package) for package in installed}
    return {"device": name, "threads": str(torch.get_num_threads()), "python": platform.python_version(), **packages}


def _alone(side: str, work: str, arguments: Sequence[str]) -> dict[str, int]:
    """Peak and loaded bytes of one side in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "alone.json"
        last_wins = ["--no-isolated", "--workload", work, "--sides", side, "--json", str(file)]
        command = [sys.executable, __file__, *arguments, *last_wins, "--steps", str(ALONE_STEPS)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (found,) = json.loads(file.read_text("utf-8"))["work_loads"]
    return {"loaded_bytes": found["loaded_bytes"], "peak_bytes": max(step["peak_bytes"] for step in found[side])}


def _work(name: str, args: argparse.Namespace) -> Workload:
    work = WORKLOADS[name]
    return replace(tiny(work) if args.tiny else work, **dict(args.set))


def _quiet() -> None:
    import transformers

    warnings.filterwarnings("ignore", category=FutureWarning)  # TRL still says gradient_checkpointing
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, yaml.safe_load(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", nargs="+", choices=sorted(WORKLOADS), default=["a", "b", "c"])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=5, help="counted steps of each side")
    parser.add_argument("--warm-up", type=int, default=1, help="steps of each side before these")
    parser.add_argument("--threads", type=int, help="of torch; its own choice unless given")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--peer", choices=("hf", "paged"), default="hf", help="how TRL generates")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing on both sides")
    parser.add_argument("--isolated", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--set", nargs="+", type=_pair, default=[], metavar="KEY=VALUE", help="fields of Workload")
    parser.add_argument("--trl", nargs="+", type=_pair, default=[], metavar="KEY=VALUE", help="fields of GRPOConfig")
    parser.add_argument("--progrpo", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the run")
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes, to try the script")
    parser.add_argument("--vary", nargs="+", choices=sorted(vary.AXES))
    parser.add_argument("--json", metavar="PATH", help="write every step's numbers there")
    return parser


if __name__ == "__main__":
    main()
