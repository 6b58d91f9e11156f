"""Train a model for a moment on the worked answers of reasoning-gym's questions, so that it answers in their form.

    python scripts/warm_up.py MODEL OUT task.dataset=gsm_symbolic [task.KEY=VALUE ...] [--steps 60] [--rows 2] [--lr 1e-5]

MODEL is a folder, a hub id or a GGUF file, OUT the Hugging Face folder that is written. Supervised: the mean log-prob of the
reply's tokens, the end token among them, over random batches of the task's training questions; prompts are not learned.
AdamW, linear warm-up over a twentieth of the steps, then a cosine to 0. It teaches the form of an answer, not the
arithmetic: measure before and after with `progrpo evaluate`. The questions are those that training with the same task
settings will use; the held-out ones are not touched.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from make_embedded_model import pretrain
from progrpo import tasks
from progrpo.model import LanguageModel, ModelSettings, load_model
from progrpo.settings import Choice, apply_overrides
from progrpo.tasks.reasoning_gym import worked_answer

Example = tuple[list[int], list[int]]
"""Token ids of a prompt, and of the reply with its end token."""


def examples_of(model: LanguageModel, settings: dict[str, Any]) -> list[Example]:
    """The training questions of the task with their worked answers."""
    task = tasks.load(Choice(**{**settings, "name": "reasoning_gym"}))
    examples = []
    for problem in task.problems("train"):
        reply = model.tokenizer(worked_answer(problem, task.params.tag), add_special_tokens=False).input_ids
        examples.append((model.encode_prompt(problem.prompt).tolist(), [*reply, model.tokenizer.eos_token_id]))
    return examples


def make_batch(
    examples: Sequence[Example], pad_id: int, prompt_weight: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, padded on the right, and the weight of each token's log-prob, both [rows, S]: 1 on replies, `prompt_weight` on
    prompts but for their first token, which nothing predicts."""
    longest = max(len(prompt) + len(reply) for prompt, reply in examples)
    tokens, weights = torch.full((len(examples), longest), pad_id), torch.zeros(len(examples), longest)
    for row, (prompt, reply) in enumerate(examples):
        both = len(prompt) + len(reply)
        tokens[row, :both] = torch.tensor([*prompt, *reply])
        weights[row, 1 : len(prompt)] = prompt_weight
        weights[row, len(prompt) : both] = 1.0
    return tokens, weights


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "settings", nargs="+", metavar="task.KEY=VALUE", help="task.dataset=NAME, and what else it takes"
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows", type=int, default=2, help="worked answers a step")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_intermixed_args(arguments)

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    model = load_model(ModelSettings(path=args.model))
    settings = {"chat": bool(model.tokenizer.chat_template), **apply_overrides({}, args.settings)["task"]}
    examples = examples_of(model, settings)
    print(
        f"{len(examples)} worked answers, {sum(len(reply) for _, reply in examples) / len(examples):.0f} tokens in the mean"
    )

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        tokens, weights = make_batch(rng.sample(examples, min(args.rows, len(examples))), model.pad_id)
        return tokens.to(model.device), weights.to(model.device)

    optimizer = torch.optim.AdamW(model.model.parameters(), lr=args.lr, weight_decay=0.0)
    pretrain(model.model.train(), draw, steps=args.steps, lr=args.lr, optimizers=[optimizer])
    args.out.mkdir(parents=True, exist_ok=True)
    model.model.save_pretrained(args.out)
    model.tokenizer.save_pretrained(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
