"""Answers per second against Math-Verify called one by one, and sandboxed programs per second against plain ones.

    python benchmarks/verifiers.py [--answers 600] [--programs 40]

The answers are a mix as training meets it: long texts, most golds whole numbers, a few symbolic. Math-Verify is called as
trainers call it: parse the gold, parse the whole text, verify, one after the other in the main thread. Ours is shown in
three parts: what the fast path decides, the pool on what is left, and everything together through `Verifier`. All sides
judge the same fresh answers in one process; the ratio is what counts. Where the judgements differ is printed too.
"""

import argparse
import logging
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from progrpo import rewards
from progrpo.errors import SandboxError
from progrpo.rollout.verify import Item, Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem

REPEATS = 3
WORDS = ("we", "then", "let", "the sum of", "all such values", "and so", "it follows that", "for each case", "$x = 3$,")


def symbolic(n: int, kind: int) -> tuple[str, str]:
    """A gold answer and an answer that need algebra, equal or not."""
    return (
        (rf"\frac{{\sqrt{{{n}}}}}{{2}}", rf"\frac{{{n}}}{{2\sqrt{{{n}}}}}"),
        (rf"{n}\sqrt{{2}}", rf"\sqrt{{{2 * n * n}}}"),
        (rf"\frac{{{n}\pi}}{{4}}", rf"{n}\arctan 1"),
        (rf"x^2+{2 * n}x+{n * n}", rf"(x+{n})^2"),
        (rf"\sqrt{{{n}}}-1", rf"\sqrt{{{n}}}+1"),
        (rf"\frac{{1}}{{x+{n}}}", rf"\frac{{x-{n}}}{{x^2-{n * n}}}"),
        (rf"({n},\sqrt{{2}})", rf"({n},2^{{1/2}})"),
        (rf"e^{{{n}}}", rf"{n}^{{e}}"),
    )[kind]


def make_answers(count: int, seed: int) -> list[Item]:
    """Whole-number golds: 55 % right, 20 % wrong; 8 % no answer; 7 % fractions and decimals; 10 % symbolic."""
    rng = random.Random(seed)
    items = []
    for index in range(count):
        filler = " ".join(rng.choice(WORDS) for _ in range(rng.randint(200, 1200)))
        gold = str(rng.randint(0, 999))
        kind = rng.random()
        if kind < 0.55:
            answer = gold
        elif kind < 0.75:
            answer = str(int(gold) + rng.randint(1, 50))
        elif kind < 0.83:
            items.append((filler, Problem(id=str(index), prompt="", answer=gold)))
            continue
        elif kind < 0.90:
            top, bottom = rng.randint(1, 20), rng.choice((2, 4, 5, 8))
            gold, answer = f"\\frac{{{top}}}{{{bottom}}}", str(top / bottom)
        else:
            gold, answer = symbolic(rng.randint(2, 10_000), rng.randrange(8))
        items.append(
            (f"{filler} so the answer is $\\boxed{{{answer}}}$.", Problem(id=str(index), prompt="", answer=gold))
        )
    return items


def math_verify_one_by_one(items: Sequence[Item]) -> list[bool]:
    from math_verify import parse, verify

    return [verify(parse(f"\\boxed{{{problem.answer}}}"), parse(text)) for text, problem in items]


def rate(name: str, parts: Sequence[Sequence[Item]], call: Callable[[Sequence[Item]], Any]) -> tuple[float, list[Any]]:
    """Items per second (median over the parts, which no side has seen before), and the results of all parts."""
    speeds, results = [], []
    for part in parts:
        started = time.perf_counter()
        results += call(part)
        speeds.append(len(part) / (time.perf_counter() - started))
    print(f"{name:<52} {statistics.median(speeds):12,.1f} / s")
    return statistics.median(speeds), results


def compare_answers(count: int) -> None:
    parts = [make_answers(count, seed) for seed in range(REPEATS)]
    reward = rewards.load(Choice(name="math"))
    slow = [[item for item in part if reward.screen(*item) is None] for part in parts]
    fast = [[item for item in part if reward.screen(*item) is not None] for part in parts]
    left = sum(map(len, slow)) / (count * REPEATS)
    print(f"{REPEATS} x {count} answers; the fast path decides {100 * (1 - left):.0f} %")
    math_verify_one_by_one(make_answers(5, -1))  # imports
    plain, expected = rate("Math-Verify, one by one", parts, math_verify_one_by_one)
    rate("  on what our fast path decides", fast, math_verify_one_by_one)
    rate("  on the rest", slow, math_verify_one_by_one)
    rate("ours, the fast path alone", fast, lambda part: [reward.screen(*item) for item in part])
    with Verifier(Choice(name="math"), VerifySettings(workers=2)) as verifier:
        verifier.judge([item for item in make_answers(count, -1) if reward.screen(*item) is None])  # starts the workers
        rate("ours, the pool on the rest (2 workers)", slow, verifier.judge)
    with Verifier(Choice(name="math"), VerifySettings(workers=2)) as verifier:
        verifier.judge([item for item in make_answers(count, -1) if reward.screen(*item) is None])
        ours, verdicts = rate("ours, everything", parts, verifier.judge)
    print(f"ours / Math-Verify one by one: {ours / plain:.1f}")
    items = [item for part in parts for item in part]
    differing = [
        (item[1].answer, verdict.extracted)
        for item, before, verdict in zip(items, expected, verdicts, strict=True)
        if before is not verdict.correct
    ]
    print(f"judged otherwise than by Math-Verify: {len(differing)} of {len(items)} {differing[:5] or ''}")


def compare_programs(count: int) -> None:
    program = "```python\nn = int(input())\nprint(sum(range(n + 1)))\n```"
    tests = {"inputs": ["10\n"], "outputs": ["55\n"]}
    items = [(program, Problem(id=str(index), prompt="", info={"tests": tests})) for index in range(count)]
    speeds = {}
    for name, settings in (("plain subprocesses (unsafe=true)", {"unsafe": True}), ("sandboxed", {})):
        try:
            with Verifier(Choice(name="code", **settings), VerifySettings(workers=2)) as verifier:
                assert all(verdict.correct for verdict in verifier.judge(items[:4]))
                speeds[name], _ = rate(f"programs with one test, {name}", [items] * REPEATS, verifier.judge)
        except SandboxError as error:
            print(f"programs, {name}: {error}")
            return
    plain, sandboxed = speeds.values()
    print(f"sandboxed / plain: {sandboxed / plain:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=600)
    parser.add_argument("--programs", type=int, default=40)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    compare_answers(arguments.answers)
    compare_programs(arguments.programs)


if __name__ == "__main__":
    main()
