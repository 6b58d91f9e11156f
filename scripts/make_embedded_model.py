"""Make a small model for a game, out of the pre-training split only: countdown's, which ships in the package, or another.

    python scripts/make_embedded_model.py                       (about 6 minutes on 2 idle cores)
    python scripts/make_embedded_model.py --task grid_path      (about 2 minutes; writes runs/grid_model)

A Qwen2 architecture with a character tokenizer learns, by next-token prediction, random answers to the problems of a game
(see scripts/pretraining_texts.py). The result is a Hugging Face folder. The same seed gives the same folder on the same
machine and library versions.
"""

import argparse
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from pretraining_texts import GAMES, Game
from progrpo.algo.logprobs import token_logprobs

SPECIAL = ("<pad>", "<eos>", "<unk>")
PROMPT_WEIGHT = 0.1
"""Of a prompt token's log-prob in the loss: prompts are mostly irreducible noise, but c(q) should mean something."""


def make_tokenizer(characters: str) -> Qwen2Tokenizer:
    """One token per character.

    `AutoTokenizer` gives every Qwen2 folder a Qwen2Tokenizer, whatever class the folder names: byte-level BPE, which
    without merges is a character tokenizer. Its byte alphabet writes the space as U+0120.
    """
    tokens = (*SPECIAL, *characters.replace(" ", "\u0120"))
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


def draw_batch(
    game: Game, examples: Sequence[Any], tokenizer: Qwen2Tokenizer, rng: random.Random, rows: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and the weight of each token's log-prob, both [rows, S]."""
    texts = [game.draw(rng.choice(examples), rng) for _ in range(rows)]
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


def make_optimizers(model: PreTrainedModel, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and biases; both at the same learning rate."""
    inner = {name: p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    outer = [p for name, p in model.named_parameters() if name not in inner]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(inner.values(), lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    return optimizers


def pretrain(
    model: PreTrainedModel,
    draw: Callable[[], tuple[torch.Tensor, torch.Tensor]],
    *,
    steps: int,
    lr: float,
    optimizers: Sequence[torch.optim.Optimizer] = (),
) -> None:
    """Next-token prediction on `steps` batches, linear warm-up over a twentieth of them, then a cosine to 0.

    Args:
        optimizers: at the learning rate `lr`; none takes those of `make_optimizers`.
    """
    started = time.monotonic()
    optimizers = optimizers or make_optimizers(model, lr)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = lr
    warm = max(1, steps // 20)
    for step in range(steps):
        tokens, weights = draw()
        logits = model(input_ids=tokens).logits  # padding is on the right, where a causal model does not look
        loss = -(token_logprobs(logits, tokens) * weights).sum() / weights.sum()
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        factor = min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(GAMES), default="countdown")
    parser.add_argument("--out", type=Path, help="folder of the model; the default depends on the task")
    parser.add_argument("--steps", type=int, help="of pre-training; the default depends on the task")
    parser.add_argument("--rows", type=int, help="answers a step; the default depends on the task")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="settings of the task, for instance max_number=9"
    )
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    game = GAMES[args.task]
    tokenizer = make_tokenizer(game.characters)
    model = make_model(tokenizer, args.width, args.layers)
    pairs = (setting.split("=", 1) for setting in args.settings)
    examples = game.examples({key: yaml.safe_load(value) for key, value in pairs})
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(examples)} pre-training problems, {count} parameters", flush=True)
    pretrain(
        model,
        lambda: draw_batch(game, examples, tokenizer, rng, args.rows or game.rows),
        steps=args.steps or game.steps,
        lr=args.lr,
    )
    out = args.out or Path(game.out)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()
