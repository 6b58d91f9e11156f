"""Peak memory of one training step as sequences get longer, and of an adapter against full training.

    python benchmarks/long_context.py                  # 1, 4 and 16 thousand tokens a sequence
    python benchmarks/long_context.py --lora           # the same model trained whole, by an adapter, and by one on 4 bits
    python benchmarks/long_context.py --no-checkpointing

A step is one of a group: a prompt of 64 tokens, a completion of all the others and a short one, with gradient checkpointing,
the head in chunks of 4,096 rows, and AdamW. Every size runs in a process of its own, on one thread of the CPU, in float32.
"Held" is what the process has more after a short first step than before the model was read, "step" the peak of a second one
above it. Aim: "step" grows linearly, so that bytes a token stay or fall.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from progrpo import methods
from progrpo.files import to_json
from progrpo.methods import Advantages
from progrpo.model import ModelSettings, load_model
from progrpo.model.lora import LoraSettings
from progrpo.settings import Choice
from progrpo.train.minibatch import make_minibatch
from progrpo.train.policy import Policy
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.train.rows import make_rows
from progrpo.train.settings import OptimSettings
from progrpo.train.update import update
from progrpo.types import Completion, Group, Problem, Verdict
from random_model import random_model
from vs_trl.machine import PeakMemory

TINY = {"hidden": 64, "layers": 2, "heads": 2, "intermediate": 256, "vocabulary": 4096}
SMALL = {"hidden": 512, "layers": 8, "heads": 8, "intermediate": 1408, "vocabulary": 8192}
PROMPT = 64
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", help="of a sequence, prompt included")
    parser.add_argument(
        "--lora", action="store_true", help="32 M parameters: all, an adapter of rank 16, one on 4 bits"
    )
    parser.add_argument("--no-checkpointing", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(to_json(measure(**json.loads(args.one))))
        return
    shape, sizes = (SMALL, args.tokens or [1024]) if args.lora else (TINY, args.tokens or [1024, 4096, 16_384])
    print("| tokens | trained | held, MiB | step, MiB | step, KiB a token | seconds |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = random_model(Path(folder) / "model", **shape)
        for tokens in sizes:
            for adapter in ("no", "lora", "qlora") if args.lora else ("no",):
                given = {"path": path, "tokens": tokens, "adapter": adapter, "checkpointing": not args.no_checkpointing}
                command = [sys.executable, __file__, "--one", to_json(given)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(done.stderr)
                one = json.loads(done.stdout.splitlines()[-1])
                step = one["step"]
                print(
                    f"| {tokens:,} | {one['trained'] / 1e6:.2f} M of {one['parameters'] / 1e6:.2f} M | {one['held'] / MIB:.0f} "
                    f"| {step / MIB:.0f} | {step / tokens / 1024:.1f} | {one['seconds']:.1f} |",
                    flush=True,
                )


def measure(path: str, tokens: int, adapter: str, checkpointing: bool) -> dict[str, Any]:
    """Two steps in this process; bytes."""
    torch.set_num_threads(1)
    memory = PeakMemory("cpu")
    memory.start()
    before = memory.before
    lora = None if adapter == "no" else LoraSettings(r=16)
    held_in = {"lora": lora, "load_in_4bit": adapter == "qlora", "gradient_checkpointing": checkpointing}
    model = load_model(ModelSettings(path=path, device="cpu", **held_in))
    policy = Policy(model, OptimSettings(lr=1e-6), steps=2, temperature=1.0)
    method = methods.load(Choice(name="grpo"))
    one_step(policy, method, 2 * PROMPT)
    memory.start()
    held, started = memory.before - before, time.perf_counter()
    one_step(policy, method, tokens)
    seconds = time.perf_counter() - started
    peak = memory.stop()
    return {
        "held": held,
        "step": peak - memory.before,
        "seconds": seconds,
        "trained": sum(parameter.numel() for parameter in policy.parameters),
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
    }


def one_step(policy: Policy, method: methods.Method, tokens: int) -> None:
    """One group of two completions, a long one that is right and one of a token that is wrong."""
    length = tokens - PROMPT
    draw = torch.Generator().manual_seed(0)
    completions = tuple(
        Completion(
            seed=seed,
            text="",
            finish="length",
            token_ids=torch.randint(1, TINY["vocabulary"], (one,), generator=draw),
            sampler_logprobs=-torch.ones(one),
        )
        for seed, one in enumerate((length, 1))
    )
    group = Group(
        problem=Problem(id="0", prompt="", answer=""),
        prompt_ids=torch.randint(1, TINY["vocabulary"], (PROMPT,), generator=draw),
        prompt_logprobs=None,
        completions=completions,
        verdicts=(Verdict(status="correct", reward=1.0), Verdict(status="wrong", reward=0.0)),
    )
    batch = make_rollout_batch([group], frozenset())
    advantages = Advantages(values=torch.tensor([[1.0, -1.0]]))
    minibatch = make_minibatch(make_rows([group]), batch, advantages, slice(0, 1), seed=0)
    update(policy, method, minibatch, longest=length, budget=tokens, skip_zero=True, dump=lambda tensors: "")


if __name__ == "__main__":
    main()
