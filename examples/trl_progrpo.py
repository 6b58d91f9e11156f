"""Train the embedded countdown model inside TRL, once with its GRPO and once with a method of progrpo, and compare.

    pip install 'progrpo[trl]'
    python examples/trl_progrpo.py --steps 100 --seed 0

Both trainings start from the same weights and see the same prompts; the settings are those of recipes/demo. At the end each
model answers the test problems, and the script prints per training the accuracy, Pass@k and how many different solutions were
found per problem. Everything runs on a CPU.
"""

import argparse
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import GRPOTrainer

from progrpo import rewards, tasks
from progrpo.adapters.trl import ProGRPOConfig, ProGRPOTrainer
from progrpo.measures.pass_at_k import estimate
from progrpo.model.files import resolve_path
from progrpo.settings import Choice
from progrpo.types import Problem

MODEL = resolve_path("embedded:countdown")
TASK, REWARD = Choice(name="countdown"), rewards.load(Choice(name="expression"))
METHODS: dict[str, dict[str, Any]] = {
    "grpo": {
        "method": "grpo",
        "epsilon_high": 0.28,
        "loss_type": "group_token",
    },  # equilibrium's, so that one thing differs
    "equilibrium": {"method": "progrpo", "method_params": {"preset": "equilibrium"}},
}


def reward(completions: list[str], number: list[int], **_: Any) -> list[float]:
    """1 for a solution and 0 for none, as TRL calls a reward function; `number` is a column of the dataset."""
    problems = tasks.problems(TASK, "train")
    return [REWARD.score(text, problems[index]).reward for text, index in zip(completions, number, strict=True)]


def train(name: str, arguments: argparse.Namespace) -> Any:
    """The six lines of TRL's quickstart, and the name of the method."""
    prompts, group = arguments.prompts, arguments.group
    problems = tasks.problems(TASK, "train")
    dataset = Dataset.from_list([{"prompt": p.prompt, "number": index} for index, p in enumerate(problems)])
    with tempfile.TemporaryDirectory() as folder:
        config = ProGRPOConfig(
            output_dir=folder,
            **METHODS[name],
            num_generations=group,
            per_device_train_batch_size=prompts * group,
            max_completion_length=40,
            max_steps=arguments.steps,
            learning_rate=arguments.lr,
            lr_scheduler_type="constant",
            seed=arguments.seed,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=max(1, arguments.steps // 5),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer: GRPOTrainer = ProGRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32),
            reward_funcs=reward,
            args=config,
            train_dataset=dataset,
            processing_class=AutoTokenizer.from_pretrained(MODEL),
        )
        trainer.train()
    return trainer.model


@torch.no_grad()
def evaluate(model: Any, problems: Sequence[Problem], samples: int) -> tuple[float, float, float]:
    """Accuracy and Pass@k in percent, and different solutions per problem; k = `samples`."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL, padding_side="left")
    model.eval()
    set_seed(0)
    accuracy = solved = different = 0.0
    for problem in problems:
        inputs = tokenizer(str(problem.prompt), return_tensors="pt")
        ids = model.generate(**inputs, do_sample=True, top_k=0, max_new_tokens=40, num_return_sequences=samples)
        texts = tokenizer.batch_decode(ids[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        verdicts = [verdict for verdict in (REWARD.score(text, problem) for text in texts) if verdict.correct]
        accuracy += len(verdicts) / samples
        solved += estimate(samples, len(verdicts), samples)
        different += len({verdict.canonical for verdict in verdicts})
    count = len(problems)
    return 100 * accuracy / count, 100 * solved / count, different / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="optimiser steps of each training")
    parser.add_argument("--prompts", type=int, default=16, help="prompts of a step")
    parser.add_argument("--group", type=int, default=16, help="completions of each prompt")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--problems", type=int, default=100, help="test problems")
    parser.add_argument("--samples", type=int, default=64, help="completions of each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    problems = tasks.problems(TASK, "test")[: arguments.problems]
    for name in ("start", *METHODS):
        model = (
            train(name, arguments)
            if name in METHODS
            else AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
        )
        accuracy, solved, different = evaluate(model, problems, arguments.samples)
        print(
            f"{name:12} accuracy {accuracy:5.1f} %   Pass@{arguments.samples} {solved:5.1f} %   "
            f"different solutions per problem {different:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
