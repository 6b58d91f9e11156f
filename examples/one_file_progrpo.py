"""ProGRPO (arXiv:2602.05281) in one file: nothing here is imported from the package.

    python examples/one_file_progrpo.py MODEL_FOLDER PROBLEMS.jsonl [--steps 20]

MODEL_FOLDER is any Hugging Face causal model that writes countdown steps ("6-2=4,4*5=20"), for instance
src/progrpo/embedded/countdown; PROBLEMS.jsonl holds rows like
{"prompt": "2 5 6=20:", "answer": "20", "numbers": [2, 5, 6], "min_used": 2}.
A test trains with this file and with the package from the same start and compares the rewards, the advantages and the
weights. Plain where the package is fast: no cache, no micro-batches, one forward pass per sampled token.
"""

import argparse
import hashlib
import json
import math
import re
from collections import Counter

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

GROUP, PROMPTS = 8, 4  # G completions of each of P problems per rollout; one optimiser step per rollout
ALPHA, FRACTION = 0.3, 0.2  # strength of the shift; share of tokens that count as least certain
CLIP_LOW, CLIP_HIGH, EPS = 0.2, 0.28, 1e-6
LR, GRAD_CLIP, MAX_NEW_TOKENS, SEED = 1e-4, 1.0, 40, 0


# ---------------------------------------------------------------- the verifier: parse, never eval
def reward_of(text: str, problem: dict) -> float:
    """1 if the steps are right, use given numbers at most once and reach the target; else 0."""
    available = [(value, 1) for value in problem["numbers"]]  # (value, how many given numbers it is made of)
    for step in text.strip().split(","):
        match = re.fullmatch(r" *([0-9]+) *([+\-*/]) *([0-9]+) *= *([0-9]+) *", step)
        if match is None:
            return 0.0
        parts = []
        for wanted in (int(match[1]), int(match[3])):
            places = [place for place, (value, _) in enumerate(available) if value == wanted]
            if not places:
                return 0.0
            parts.append(available.pop(places[-1]))
        (a, used_a), (b, used_b) = parts
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if a % b == 0 else 0}[match[2]]
        if result <= 0 or result != int(match[4]):
            return 0.0
        available.append((result, used_a + used_b))
    value, used = available[-1]
    return float(value == int(problem["answer"]) and used >= problem.get("min_used", len(problem["numbers"])))


# ---------------------------------------------------------------- sampling: a seed per completion
def seed_of(*parts: int | str) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = f"{type(part).__name__}:{part}".encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return int.from_bytes(digest.digest(), "little") >> 1


@torch.no_grad()
def sample_group(model, prompt: torch.Tensor, stop: int, seeds: list[int]) -> list[torch.Tensor]:
    """G completions of one prompt [Q], each by inverting the cumulative distribution at its own uniform numbers."""
    streams = [np.random.Generator(np.random.Philox(key=seed)).random(MAX_NEW_TOKENS) for seed in seeds]
    tokens = prompt.repeat(len(seeds), 1)  # [G, Q]
    for position in range(MAX_NEW_TOKENS):
        probabilities = model(tokens).logits[:, -1].float().softmax(dim=-1).double()
        cumulative = probabilities.cumsum(dim=-1)
        uniform = torch.tensor([[stream[position]] for stream in streams], dtype=torch.float64)
        drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        tokens = torch.cat([tokens, drawn], dim=1)
    completions = []
    for row in tokens[:, len(prompt) :]:
        ends = (row == stop).nonzero()[:, 0]
        completions.append(row[: int(ends[0]) + 1] if len(ends) else row)
    return completions


def token_logprobs(model, tokens: torch.Tensor) -> torch.Tensor:
    """log p of each token of one sequence [L] given those before it; the first has no condition and holds 0."""
    logprobs = model(tokens[None]).logits[0, :-1].float().log_softmax(dim=-1)
    values = logprobs.gather(1, tokens[1:, None])[:, 0]
    return torch.cat([values.new_zeros(1), values])


# ---------------------------------------------------------------- the equations
def confidence(logprobs: torch.Tensor) -> float:
    """Eq. 5 and 6: exp of the mean log p over the 20 % least likely tokens (at least one)."""
    count = max(1, math.ceil(round(FRACTION * len(logprobs), 9)))
    return float(logprobs.sort().values[:count].mean().exp())


def grpo_advantages(rewards: list[float]) -> list[float]:
    """Alg. 1, line 12; a group of equal rewards has no advantage."""
    if len(set(rewards)) == 1:
        return [0.0] * len(rewards)
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    return [(r - mean) / (std + EPS) for r in rewards]


def progrpo_advantages(rewards: list[float], prompt: float, completions: list[float]) -> list[float]:
    """Eq. 4 with the skip rule of Alg. 1, lines 14-27: groups all correct or all incorrect are left alone."""
    advantages = grpo_advantages(rewards)
    if len(set(rewards)) == 1:
        return advantages
    return [a + ALPHA * (prompt - c) for a, c in zip(advantages, completions, strict=True)]


def objective(model, groups: list[dict]) -> torch.Tensor:
    """Eq. 7: the clipped surrogate, averaged over the tokens of each group, then over the groups."""
    total = torch.zeros(())
    for group in groups:
        tokens_of_group = sum(len(completion) for completion in group["completions"])
        for completion, old, advantage in zip(group["completions"], group["old"], group["advantages"], strict=True):
            now = token_logprobs(model, torch.cat([group["prompt"], completion]))[len(group["prompt"]) :]
            ratio = torch.exp(now - old)
            clipped = ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH)
            surrogate = torch.minimum(ratio * advantage, clipped * advantage)
            total = total + surrogate.sum() / tokens_of_group / len(groups)
    return total


# ---------------------------------------------------------------- Algorithm 1
def rollout(model, tokenizer, problems: list[dict], step: int, start: int) -> list[dict]:
    groups = []
    for place in range(start, start + PROMPTS):
        epoch, row = divmod(place, len(problems))
        problem = problems[row]
        prompt = torch.tensor(tokenizer(problem["prompt"]).input_ids)
        seeds = [seed_of(SEED, "train", step, epoch, str(row), index) for index in range(GROUP)]
        completions = sample_group(model, prompt, tokenizer.eos_token_id, seeds)
        texts = [tokenizer.decode(completion.tolist(), skip_special_tokens=True) for completion in completions]
        with torch.no_grad():
            scored = [token_logprobs(model, torch.cat([prompt, completion])) for completion in completions]
        old = [values[len(prompt) :] for values in scored]
        rewards = [reward_of(text, problem) for text in texts]
        c_prompt = confidence(scored[0][1 : len(prompt)])  # the first token has no probability
        advantages = progrpo_advantages(rewards, c_prompt, [confidence(values) for values in old])
        groups.append(
            {"prompt": prompt, "completions": completions, "texts": texts, "old": old, "rewards": rewards}
            | {"advantages": advantages, "prompt_confidence": c_prompt}
        )
    return groups


def train(model_folder: str, problems: list[dict], steps: int, on_step=None):
    """Train and return the model; `on_step(step, groups, objective)` sees each rollout."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    for step in range(steps):
        model.eval()
        groups = rollout(model, tokenizer, problems, step, step * PROMPTS)
        model.train()
        value = objective(model, groups)
        optimizer.zero_grad()
        (-value).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        if on_step:
            on_step(step, groups, float(value.detach()))
    return model


def report(step: int, groups: list[dict], value: float) -> None:
    rewards = [reward for group in groups for reward in group["rewards"]]
    texts = Counter(text for group in groups for text in group["texts"])
    correct = sum(rewards) / len(rewards)
    print(f"step {step + 1:4d}  reward {correct:.3f}  objective {value:+.5f}  distinct completions {len(texts)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("problems")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    with open(args.problems, encoding="utf-8") as file:
        problems = [json.loads(line) for line in file if line.strip()]
    train(args.model, problems, args.steps, report)


if __name__ == "__main__":
    main()
