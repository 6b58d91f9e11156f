"""What the adapter for TRL adds to a step of GRPOTrainer: CPU seconds of both on the same tokens.

    python benchmarks/trl_adapter.py --steps 4 --repeats 3

A rollout function gives both the same completions at once, so that a step is scoring and training alone: with generation in it
every ratio would be nearer to 1. CPU seconds of the process, not wall-clock time: they bear a machine that others use.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, PrinterCallback, Qwen2Config, Qwen2ForCausalLM, set_seed
from trl import GRPOConfig, GRPOTrainer

from progrpo.adapters.trl import ProGRPOConfig, ProGRPOTrainer
from progrpo.model.files import resolve_path

VOCABULARY, GROUP = 8192, 8
PROGRPO = {"method": "progrpo"}
CASES: dict[str, dict[str, Any]] = {
    "two iterations: TRL makes the scoring pass": {"num_iterations": 2},
    "one iteration: the adapter makes it": {},
}
SIDES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "GRPOTrainer": (GRPOTrainer, GRPOConfig, {}),
    "adapter, method grpo": (ProGRPOTrainer, ProGRPOConfig, {"method": "grpo"}),
    "adapter, TRL's loss": (ProGRPOTrainer, ProGRPOConfig, PROGRPO | {"loss_from": "trl"}),
    "adapter, its own loss": (ProGRPOTrainer, ProGRPOConfig, PROGRPO),
}


def train(side: str, case: str, arguments: argparse.Namespace) -> float:
    """CPU seconds of a training, from its first step to its last."""
    trainer_class, config_class, settings = SIDES[side]
    tokenizer = AutoTokenizer.from_pretrained(resolve_path("embedded:countdown"))
    set_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, num_key_value_heads=2, **shape))

    def rollouts(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        draw = torch.Generator().manual_seed(0)

        def ids(width: int) -> list[int]:
            return torch.randint(10, VOCABULARY, (width,), generator=draw).tolist()

        first = [ids(arguments.prompt_tokens) for _ in prompts[::GROUP]]
        completions = [ids(arguments.completion_tokens) for _ in prompts]
        return {
            "prompt_ids": [first[index // GROUP] for index in range(len(prompts))],
            "completion_ids": completions,
            "logprobs": [[-9.0] * len(one) for one in completions],
        }

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trainer_class(
            model=model,
            reward_funcs=lambda completion_ids, **_: [float(one[0] % 2) for one in completion_ids],
            args=config_class(
                output_dir=folder,
                use_cpu=True,
                bf16=False,
                num_generations=GROUP,
                per_device_train_batch_size=GROUP,
                gradient_accumulation_steps=2,
                gradient_checkpointing=False,
                max_completion_length=arguments.completion_tokens,
                max_steps=arguments.steps,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                **CASES[case],
                **settings,
            ),
            train_dataset=Dataset.from_list([{"prompt": "1 2=3:"}] * 64),
            processing_class=tokenizer,
            rollout_func=rollouts,
        )
        trainer.remove_callback(PrinterCallback)
        started = time.process_time()
        trainer.train()
        return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4, help="optimiser steps of a training, an even number")
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each side, in turns; medians count")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--completion-tokens", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train("GRPOTrainer", next(iter(CASES)), arguments)  # warm-up
    for case in CASES:
        print(case)
        rounds = [{side: train(side, case, arguments) for side in SIDES} for _ in range(arguments.repeats)]
        for side in SIDES:
            ratio = statistics.median(one[side] / one["GRPOTrainer"] for one in rounds)
            seconds = statistics.median(one[side] for one in rounds) / arguments.steps
            print(f"  {side:24} {seconds:.3f} CPU s a step, {ratio:.3f} times GRPOTrainer's", flush=True)


if __name__ == "__main__":
    main()
