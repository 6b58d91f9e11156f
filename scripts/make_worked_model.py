"""Make the small language model of recipes/study/worked.yaml, out of worked solutions of two reasoning-gym data sets.

    pip install 'progrpo[reasoning-gym]'
    python scripts/make_worked_model.py        # writes runs/worked_model

A Qwen2 architecture with a byte-level BPE tokenizer learns, by next-token prediction, random worked solutions
(scripts/worked_texts.py) of questions that are in neither split of the recipe: they come after its training questions in the
same draw, which holds every question once. The result is a Hugging Face folder. The same seed gives the same folder on the same
machine and library versions. It took 27 minutes on 2 cores.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import Qwen2Tokenizer

from make_embedded_model import PROMPT_WEIGHT, make_model, make_tokenizer, pretrain
from progrpo import tasks
from progrpo.train.settings import load_settings
from progrpo.types import Problem
from warm_up import Example, make_batch
from worked_texts import draw_solution, solvable

RECIPE = Path(__file__).parent.parent / "recipes/study/worked.yaml"


def pretraining_questions(count: int) -> Sequence[Problem]:
    """Questions that the recipe neither trains on nor holds out."""
    task = load_settings(RECIPE).task
    trained = tasks.load(task).params.train_size
    more = task.model_copy(update={"train_size": trained + count})
    return [problem for problem in tasks.problems(more, "train")[trained:] if solvable(problem)]


def learn_tokenizer(texts: Sequence[str], size: int) -> Qwen2Tokenizer:
    """Byte-level BPE of these texts, with Qwen2's rules for what is cut apart first: every digit is a token."""
    tokenizer: Qwen2Tokenizer = make_tokenizer("").train_new_from_iterator(texts, vocab_size=size)
    return tokenizer


def draw_examples(
    tokenizer: Qwen2Tokenizer, problems: Sequence[Problem], rows: int, rng: random.Random
) -> Sequence[Example]:
    chosen = rng.sample(problems, rows)
    prompts = tokenizer([str(problem.prompt) for problem in chosen]).input_ids
    replies = tokenizer([draw_solution(problem, rng) for problem in chosen]).input_ids
    return [(prompt, [*reply, tokenizer.eos_token_id]) for prompt, reply in zip(prompts, replies, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/worked_model"))
    parser.add_argument("--questions", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rows", type=int, default=64, help="worked solutions a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--vocabulary", type=int, default=1000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    problems = pretraining_questions(args.questions)
    texts = [f"{problem.prompt}{draw_solution(problem, rng)}" for problem in problems]
    tokenizer = learn_tokenizer(texts, args.vocabulary)
    model = make_model(tokenizer, args.width, args.layers)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(problems)} questions, {len(tokenizer)} tokens, {count} parameters", flush=True)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        return make_batch(draw_examples(tokenizer, problems, args.rows, rng), tokenizer.pad_token_id, PROMPT_WEIGHT)

    pretrain(model, draw, steps=args.steps, lr=args.lr)
    args.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
