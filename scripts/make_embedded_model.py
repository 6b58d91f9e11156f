"""Make the small countdown model that ships in the package, out of the pre-training split only.

    python scripts/make_embedded_model.py            (about 6 minutes on 2 idle cores)

A Qwen2 architecture with a character tokenizer learns, by next-token prediction, random solutions of countdown
problems, each written as the steps of its canonical form: how many numbers it uses, then which solution, both uniformly.
The result is a Hugging Face folder. The same seed gives the same folder on the same machine and library versions.
"""

import argparse
import ast
import math
import random
import re
import time
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from progrpo.algo.logprobs import token_logprobs
from progrpo.rewards.expression import apply
from progrpo.tasks import countdown

CHARACTERS = "0123456789+-*/=,: "
SPECIAL = ("<pad>", "<eos>", "<unk>")
PROMPT_WEIGHT = 0.1
"""Of a prompt token's log-prob in the loss: prompts are mostly irreducible noise, but c(q) should mean something."""


def make_tokenizer() -> Qwen2Tokenizer:
    """One token per character.

    `AutoTokenizer` gives every Qwen2 folder a Qwen2Tokenizer, whatever class the folder names: byte-level BPE, which
    without merges is a character tokenizer. Its byte alphabet writes the space as U+0120.
    """
    tokens = (*SPECIAL, *CHARACTERS.replace(" ", "\u0120"))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return Qwen2Tokenizer(vocab=vocabulary, merges=[], pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def make_model(tokenizer: Qwen2Tokenizer, width: int, layers: int) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


Example = tuple[list[int], int, list[list[str]]]


def make_examples(params: countdown.Params) -> list[Example]:
    """Numbers, target and solutions, by how many numbers they use, of every problem of the pre-training split."""
    examples = []
    for problem in countdown.enumerate_split("pretrain", params):
        numbers, target = problem.info["numbers"], int(problem.answer)
        by_count: dict[int, list[str]] = {}
        for form in sorted(countdown.solutions(numbers, params)[target]):
            by_count.setdefault(len(re.findall(r"[0-9]+", form)), []).append(form)
        examples.append((list(numbers), target, list(by_count.values())))
    return examples


def draw_text(example: Example, rng: random.Random) -> tuple[str, str]:
    numbers, target, by_count = example
    prompt = countdown.compact_prompt(numbers, target)
    return prompt, write_steps(rng.choice(rng.choice(by_count)))


def write_steps(expression: str) -> str:
    """The steps of a canonical solution, from the inside out: "(6-2)*5+3" gives "6-2=4,4*5=20,20+3=23"."""
    steps: list[str] = []
    _add_steps(ast.parse(expression, mode="eval").body, steps)
    return ",".join(steps)


def _add_steps(tree: ast.expr, steps: list[str]) -> int:
    if isinstance(tree, ast.Constant):
        return int(tree.value)
    assert isinstance(tree, ast.BinOp)
    operator = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}[type(tree.op)]
    left, right = _add_steps(tree.left, steps), _add_steps(tree.right, steps)
    result = apply(operator, left, right)
    assert result is not None
    steps.append(f"{left}{operator}{right}={result}")
    return result


def draw_batch(
    examples: list[Example], tokenizer: Qwen2Tokenizer, rng: random.Random, rows: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and the weight of each token's log-prob, both [rows, S]."""
    texts = [draw_text(rng.choice(examples), rng) for _ in range(rows)]
    prompts = tokenizer([prompt for prompt, _ in texts]).input_ids
    answers = [[*ids, tokenizer.eos_token_id] for ids in tokenizer([text for _, text in texts]).input_ids]
    longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
    tokens = torch.full((rows, longest), tokenizer.pad_token_id)
    weights = torch.zeros(rows, longest)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        both = len(prompt) + len(answer)
        tokens[row, :both] = torch.tensor(prompt + answer)
        weights[row, 1 : len(prompt)] = PROMPT_WEIGHT
        weights[row, len(prompt) : both] = 1.0
    return tokens, weights


def make_optimizers(model: Qwen2ForCausalLM, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and biases; both at the same learning rate."""
    inner = {name: p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    outer = [p for name, p in model.named_parameters() if name not in inner]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(inner.values(), lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = lr
    return optimizers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/progrpo/embedded/countdown"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--numbers", type=int, default=4)
    parser.add_argument("--max-number", type=int, default=8)
    parser.add_argument("--max-target", type=int, default=24)
    parser.add_argument("--min-used", type=int, default=3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, args.width, args.layers)
    params = countdown.Params(
        numbers=args.numbers,
        max_number=args.max_number,
        max_target=args.max_target,
        min_used=args.min_used,
        min_solutions=1,
    )
    started = time.monotonic()
    examples = make_examples(params)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(examples)} pre-training problems, {count} parameters, {time.monotonic() - started:.0f} s")

    optimizers = make_optimizers(model, args.lr)
    warm = max(1, args.steps // 20)
    for step in range(args.steps):
        tokens, weights = draw_batch(examples, tokenizer, rng, args.rows)
        logits = model(input_ids=tokens).logits  # padding is on the right, where a causal model does not look
        loss = -(token_logprobs(logits, tokens) * weights).sum() / weights.sum()
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        factor = min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()
        if step % 100 == 0 or step == args.steps - 1:
            print(f"step {step:5d}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
