r"""Tokens a second of sampling and of training on this machine, and how much of the machine that is.

    python benchmarks/throughput.py MODEL [--prompts 8] [--group 8] [--prompt-tokens 128] [--completion-tokens 128] [--steps 2]
        [--json FILE] [KEY=VALUE ...]

MODEL is a folder, a hub id, a GGUF file, or a size of random weights: random:32m, random:0.5b, random:1.5b.
KEY=VALUE are settings of the run: method=grpo, model.precision=bf16, engine.precision=bf16, model.device=cuda,
batch.micro_tokens=16384, engine.name=vllm.

Whole training steps of progrpo (method=progrpo unless set) on prompts of random words, after one step that is not counted. The
reward is a hash of the completion, so that every group has a gradient. Completions end where the model ends them, at
--completion-tokens at the latest; their lengths are printed. Printed as Markdown, medians over steps:

    tokens/s    sampling: tokens sampled over its seconds; training: completion tokens with a gradient over its seconds, the
                optimiser among them; whole step: tokens sampled over all seconds, verdicts and weight sync among them
    FLOP share  the least FLOPs these lengths ask for (vs_trl/steps.py: no padding, each prompt once a group, training three
                times a forward pass) over the seconds and the FLOP/s of a large matrix product measured in the same run: the
                model FLOP utilisation, against what the machine does and not against a data sheet
    bandwidth   sampling: all weights once per token of the longest completion and each row's cache per token, over the
                seconds and the bytes/s of a large copy (read and written) measured in the same run
    memory      the most held in the phase: on CUDA of what torch allocated, on a CPU of this process
"""

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from progrpo.engines import sampling_precision
from progrpo.files import read_jsonl, to_json
from progrpo.model import ModelSettings, config_of, count_parameters, load_tokenizer, pick_device
from progrpo.train.loop import train
from progrpo.train.memory import PeakMemory
from progrpo.train.settings import RunSettings, load_settings
from vs_trl.machine import copy_bandwidth, matmul_peak
from vs_trl.steps import Sizes, Step, generate_bytes, generate_flops, train_flops
from vs_trl.workloads import HALF_B, ONE_AND_A_HALF_B, SMALL, WORKLOADS, model_folder

RANDOM = {"random:32m": SMALL, "random:0.5b": HALF_B, "random:1.5b": ONE_AND_A_HALF_B}
"""Their completions all have the full length."""
HEAD = ("phase", "seconds", "tokens/s", "FLOP share", "bandwidth share", "memory, GiB")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--completion-tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, help="of torch; its own choice unless given")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_intermixed_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = args.model
        if shape := RANDOM.get(model):
            work = replace(WORKLOADS["c"], shape=shape, completion_tokens=args.completion_tokens)
            model = model_folder(work, Path(folder) / "model", "cpu")
        elif model.startswith("random:"):
            parser.error(f"unknown size {model!r}; expected one of {', '.join(RANDOM)}")
        measured = measure(model, args, Path(folder))
    measured["model"] = args.model
    print(as_markdown(measured))
    if args.json:
        args.json.write_text(to_json(measured, indent=1), "utf-8")


def measure(model: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train for `args.steps` rollouts and one before them; everything that the table says."""
    prompts = made_up_prompts(model, args.prompts * (args.steps + 1), args.prompt_tokens)
    problems = folder / "problems.jsonl"
    problems.write_text("".join(to_json({"prompt": text, "answer": "-"}) + "\n" for text, _ in prompts), "utf-8")
    settings = settings_of(model, args, problems, folder / "run")
    if settings.batch.steps_per_rollout > 1 or settings.model.lora is not None:
        raise SystemExit("throughput: one optimiser step a rollout, and all weights trained, is what is measured here")
    device = pick_device(settings.model.device)
    sampled_in = sampling_precision(settings.engine, settings.model.precision)
    precision = {"sampling": sampled_in, "training": settings.model.precision}
    flops = {name: matmul_peak(device.type, precision[name]) for name in precision}
    bandwidth = copy_bandwidth(device.type)
    watch = _Phases(device)
    run = train(settings, listen=watch)
    prompt = round(statistics.mean(length for _, length in prompts))
    sizes = sizes_of(model)
    steps = [_step(run.path, row, watch) for row in watch.rows[1:]]
    made = {
        "sampling": [step.phases["generate"] for step in steps],
        "training": [step.phases["train"] for step in steps],
        "whole step": [step.seconds for step in steps],
    }
    tokens = {
        "sampling": [step.tokens for step in steps],
        "training": [int(step.lengths[step.learning].sum()) for step in steps],
        "whole step": [step.tokens for step in steps],
    }
    work = {
        "sampling": [generate_flops(step, prompt, sizes) for step in steps],
        "training": [train_flops(step, prompt, sizes) for step in steps],
    }
    number_bytes = 2 if precision["sampling"] == "bf16" else 4
    read = [generate_bytes(step, prompt, sizes, number_bytes) for step in steps]
    return {
        "environment": environment(device),
        "settings": {"method": settings.method.name, "engine": settings.engine.name, **precision},
        "parameters": sizes.body + sizes.head,
        "load": {"prompts": args.prompts, "group": args.group, "prompt_tokens": prompt},
        "lengths": [step.as_json(args.completion_tokens) for step in steps],
        "limits": {"flops": flops, "bandwidth": bandwidth},
        "phases": {
            name: {
                "seconds": statistics.median(seconds),
                "tokens_per_s": _rate(tokens[name], seconds),
                "flop_share": _rate(work[name], seconds) / flops[name] if name in work else None,
                "bandwidth_share": _rate(read, seconds) / bandwidth if name == "sampling" else None,
                "memory_gib": watch.memory.get(name),
            }
            for name, seconds in made.items()
        },
    }


def settings_of(model: str, args: argparse.Namespace, problems: Path, out: Path) -> RunSettings:
    data = {
        "steps": args.steps + 1,
        "out": str(out),
        "model": {"path": model},
        "task": {"name": "file", "train": str(problems), "chat": False},
        "reward": {"name": str(Path(__file__).with_name("hashed_reward.py"))},
        "method": {"name": "progrpo"},
        "sampling": {"max_new_tokens": args.completion_tokens},
        "data": {"shuffle": False, "max_prompt_tokens": 2 * args.prompt_tokens + 16},
        "batch": {"prompts": args.prompts, "group": args.group},
        "optim": {"lr": 1e-6},
        "verify": {"check_gold": False},
        "checkpoint": {"every": 0},
        "alarms": {"watch": False},
    }
    return load_settings(data, args.settings)


def made_up_prompts(model: str, count: int, tokens: int) -> list[tuple[str, int]]:
    """Texts of random tokens, about `tokens` of them each, and how many it came to as the tokenizer reads them."""
    tokenizer = load_tokenizer(ModelSettings(path=model))
    words = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    rng, texts = random.Random(0), []
    for _ in range(count):
        longer = tokenizer.decode(rng.choices(words, k=2 * tokens))  # read again, it may be fewer tokens
        text = tokenizer.decode(tokenizer(longer).input_ids[:tokens], skip_special_tokens=True)
        texts.append((text, len(tokenizer(text).input_ids)))
    return texts


def sizes_of(model: str) -> Sizes:
    """What the formulas need, from the configuration.

    Raises:
        SystemExit: experts: the parameters are not what a token costs.
    """
    config, counted = config_of(model).get_text_config(), count_parameters(model)
    if any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise SystemExit(f"{model}: a mixture of experts, of whose parameters a token uses a part; not measured here")
    head = counted["vocabulary"] * counted["width"]
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Sizes(
        body=counted["parameters"] - head * (1 if config.tie_word_embeddings else 2),
        head=head,
        attention=config.num_hidden_layers * config.num_attention_heads * width,
        cache=counted["cache_per_token"],
    )


class _Phases:
    """Hears a run: its metrics, and the peak of memory in each phase."""

    def __init__(self, device: torch.device) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self.seconds: dict[int, float] = {}
        self.memory: dict[str, float | None] = {}
        self._peak = PeakMemory(device)
        self._started = time.perf_counter()

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "phase" and data["name"] == "generate":
            self._peak.reset()
            self._started = time.perf_counter()
        elif event == "phase" and data["name"] == "train":
            self._keep("sampling", self._peak.gib())
            self._peak.reset()
        elif event == "step":
            self.seconds[int(data["step"])] = time.perf_counter() - self._started
            self._keep("training", data["memory/peak_gib"])  # since the phase began, when the peak was reset
            self._keep("whole step", max((one for one in self.memory.values() if one is not None), default=None))
            self.rows.append(data)

    def _keep(self, phase: str, gib: float | None) -> None:
        if gib is not None:
            self.memory[phase] = max(self.memory.get(phase) or 0.0, gib)


def _step(run: Path, row: Mapping[str, Any], watch: _Phases) -> Step:
    completions = read_jsonl(run / "rollouts" / f"step-{int(row['step']):06d}.jsonl")
    problems: dict[str, list[Mapping[str, Any]]] = {}
    for one in completions:
        problems.setdefault(one["problem"], []).append(one)
    lengths, advantages = (
        torch.tensor([[one[name] for one in group] for group in problems.values()]) for name in ("length", "advantage")
    )
    seconds = watch.seconds[int(row["step"])]
    phases = {name: float(row[f"time/{name}_s"]) for name in ("generate", "verify", "score", "train")}
    return Step(
        seconds=seconds,
        cpu_s=0.0,
        phases=phases | {"rest": seconds - sum(phases.values())},
        lengths=lengths,
        advantages=advantages,
        before=0,
        peak=0,
    )


def as_markdown(measured: Mapping[str, Any]) -> str:
    load, limits, settings = measured["load"], measured["limits"], measured["settings"]
    mean = statistics.mean(one["mean_length"] for one in measured["lengths"])
    rates = " and ".join(
        f"{limits['flops'][name] / 1e9:.0f} GFLOP/s ({settings[name]}, {name})" for name in ("sampling", "training")
    )
    lines = [
        f"{measured['model']}, {measured['parameters'] / 1e6:,.0f} M parameters in products; {settings['method']}, engine "
        f"{settings['engine']}; {load['prompts']} prompts of {load['prompt_tokens']} tokens x {load['group']} completions, "
        f"{mean:.0f} tokens in the mean; {', '.join(f'{name} {value}' for name, value in measured['environment'].items())}.",
        f"Measured limits: {rates}; {limits['bandwidth'] / 1e9:.0f} GB/s in a copy.",
        "",
        f"| {' | '.join(HEAD)} |",
        "|---" * len(HEAD) + "|",
    ]
    for name, phase in measured["phases"].items():
        cells = (
            f"{phase['seconds']:.2f}",
            f"{phase['tokens_per_s']:,.0f}",
            *("" if phase[share] is None else f"{phase[share]:.2f}" for share in ("flop_share", "bandwidth_share")),
            "" if phase["memory_gib"] is None else f"{phase['memory_gib']:.2f}",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def environment(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    threads = {} if device.type == "cuda" else {"threads": str(torch.get_num_threads())}
    return {"device": name, **threads, "torch": torch.__version__, "transformers": version("transformers")}


def _rate(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    return statistics.median(amount / s for amount, s in zip(amounts, seconds, strict=True))


if __name__ == "__main__":
    main()
