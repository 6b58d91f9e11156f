"""ProGRPO's variants on a policy small enough to be exact: a softmax over eight answers, four of them correct.

    python scripts/tabular.py --out docs/method.svg

Every group of G answers that the policy can draw is put before the method (`methods.load(...).advantages`), weighted with its
probability, so that the gradient of each of the 1,000 steps is the expected one and nothing is left to chance. Draws how the
share of the correct answers' probability spreads among them and prints the table of docs/method.md.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progrpo import methods
from progrpo.methods import Method
from progrpo.settings import Choice
from progrpo.types import RolloutBatch

START = (0.20, 0.12, 0.06, 0.02, 0.30, 0.15, 0.10, 0.05)
"""Probabilities of the answers before training; the first four are correct."""
CORRECT = 4
PROMPT_CONFIDENCE = 0.1
VARIANTS = {
    "GRPO": {"name": "grpo"},
    "ProGRPO, paper's default": {"name": "progrpo"},
    "equilibrium": {"name": "progrpo", "preset": "equilibrium"},
    "UCPO": {"name": "ucpo"},
    "entropy bonus 0.1": {
        "name": "progrpo",
        "score": "log_prob",
        "baseline": "group_mean",
        "skip": "never",
        "alpha": 0.1,
    },
    "balanced": {"name": "progrpo", "preset": "balanced"},
}
"""On-policy, an entropy bonus is a shift by the log-probability against the group's mean: see docs/method.md."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Groups:
    """All M multisets of G answers out of K: `answers` [M, G], and how many sequences of draws give each, [M]."""

    answers: Tensor
    orders: Tensor


def all_groups(answers: int, group: int) -> Groups:
    drawn = list(combinations_with_replacement(range(answers), group))
    orders = [factorial(group) / prod(factorial(one.count(k)) for k in set(one)) for one in drawn]
    return Groups(answers=torch.tensor(drawn), orders=torch.tensor(orders, dtype=torch.float64))


def expected_gradient(method: Method, logits: Tensor, correct: Tensor, groups: Groups) -> Tensor:
    """[K] d/dlogits of the on-policy objective E[1/G sum_g Ã_g log p(o_g)], over all groups that can be drawn.

    Args:
        logits: [K] float64. correct: [K].
    """
    logprobs = logits.log_softmax(dim=0)
    drawn = logprobs[groups.answers]  # [M, G]
    weights = groups.orders * drawn.sum(dim=1).exp()  # [M]
    acting = method.advantages(rollout(drawn, correct[groups.answers])).values.double()
    share = (weights[:, None] * acting / acting.shape[1]).flatten()
    by_answer = torch.zeros_like(logits).index_add(0, groups.answers.flatten(), share)
    return by_answer - logprobs.exp() * share.sum()


def rollout(logprobs: Tensor, correct: Tensor) -> RolloutBatch:
    """Answers of one token each, so that c(o) is the probability of the answer."""
    problems, group = correct.shape
    count = problems * group
    return RolloutBatch(
        rewards=correct.float(),
        correct=correct,
        truncated=torch.zeros_like(correct),
        lengths=torch.ones(problems, group, dtype=torch.long),
        mask=torch.ones(count, 1, dtype=torch.bool),
        old_logprobs=logprobs.float().view(count, 1),
        prompt_logprobs=torch.full((problems, 2), PROMPT_CONFIDENCE).log(),
        prompt_mask=torch.tensor([[False, True]]).expand(problems, 2),
    )


def train(
    choice: dict[str, Any], *, group: int = 4, steps: int = 1000, lr: float = 0.5, start: Sequence[float] = START
) -> Tensor:
    """[steps + 1, K] probabilities of the answers under plain gradient ascent."""
    method, groups = methods.load(Choice(**choice)), all_groups(len(start), group)
    correct = torch.arange(len(start)) < CORRECT
    logits = torch.tensor(start, dtype=torch.float64).log()
    path = [logits.softmax(dim=0)]
    for _ in range(steps):
        logits = logits + lr * expected_gradient(method, logits, correct, groups)
        path.append(logits.softmax(dim=0))
    return torch.stack(path)


def effective_answers(path: Tensor) -> Tensor:
    """[steps + 1] exp of the entropy of the correct answers' shares: how many of the four are alive."""
    share = path[:, :CORRECT] / path[:, :CORRECT].sum(dim=1, keepdim=True)
    return torch.special.entr(share).sum(dim=1).exp()


def table(paths: dict[str, Tensor]) -> str:
    shown = (100, 300, 1000)
    lines = [
        "| variant | "
        + " | ".join(f"alive after {step}" for step in shown)
        + " | Pass@1 at the end | shares of the correct at the end |",
        "|---|" + "---|" * (len(shown) + 2),
    ]
    for name, path in paths.items():
        alive, end = effective_answers(path), path[-1, :CORRECT]
        cells = [f"{float(alive[step]):.2f}" for step in shown]
        shares = " ".join(f"{float(share):.2f}" for share in end / end.sum())
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {float(end.sum()):.3f} | {shares} |")
    return "\n".join(lines)


def picture(paths: dict[str, Tensor], out: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    alive, accuracy = figure.subplots(1, 2)
    styles = {
        "GRPO": ("k", "-"),
        "ProGRPO, paper's default": ("C1", "--"),
        "UCPO": ("C4", ":"),
        "balanced": ("C3", "-"),
    }
    for name, path in paths.items():
        colour, line = styles.get(name, (None, "-"))
        alive.plot(effective_answers(path), color=colour, linestyle=line, label=name, linewidth=1.4)
        accuracy.plot(path[:, :CORRECT].sum(dim=1), color=colour, linestyle=line, linewidth=1.4)
    alive.set_title("correct answers alive, of four", fontsize=10)
    accuracy.set_title("Pass@1", fontsize=10)
    alive.set_ylim(0.9, 4.1)
    for axes in (alive, accuracy):
        axes.set_xlabel("gradient step")
        axes.grid(alpha=0.25)
    figure.legend(*alive.get_legend_handles_labels(), loc="outside right upper", fontsize=9, frameon=False)
    with rc_context({"svg.hashsalt": "progrpo"}):  # the same numbers give the same file
        figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/method.svg"))
    parser.add_argument("--group", type=int, default=4)
    args = parser.parse_args()
    paths = {name: train(choice, group=args.group) for name, choice in VARIANTS.items()}
    picture(paths, args.out)
    print(table(paths))


if __name__ == "__main__":
    main()
