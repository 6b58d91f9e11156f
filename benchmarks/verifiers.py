"""Answers per second against Math-Verify called one by one, and sandboxed programs per second against plain ones.

    python benchmarks/verifiers.py [--answers 600] [--programs 40]

The answers are a mix as training meets it: long texts, groups of 8 to a problem, most golds whole numbers, a few symbolic;
a worker parses a gold once and remembers what it judged. Math-Verify is called as trainers call it: parse the gold, parse
the whole text, verify, one after the other in the main thread. Both sides judge the same fresh answers in one process; the
ratio is what counts. Then the fast path and the pool by themselves, and the pairs on which the judgements differ.
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
    """Groups of 8 completions of one problem. Golds: 80 % whole numbers, 10 % fractions, 10 % symbolic; of the completions
    8 % have no answer, 30 % a wrong one; half of the right ones are spelled as the gold is."""
    rng = random.Random(seed)
    items: list[Item] = []
    while len(items) < count:
        kind = rng.random()
        top, bottom, n = rng.randint(1, 999), rng.choice((2, 4, 5, 8)), rng.randint(2, 10_000)
        if kind < 0.8:
            gold, other, wrong = str(top), f"{top}.0", [str(top + rng.randint(1, 50)) for _ in range(3)]
        elif kind < 0.9:
            gold, other = f"\\frac{{{top}}}{{{bottom}}}", str(top / bottom)
            wrong = [f"\\frac{{{top + k}}}{{{bottom}}}" for k in (1, 2, 3)]
        else:
            form = rng.randrange(8)
            gold, other = symbolic(n, form)
            wrong = [symbolic(n + k, form)[1] for k in (1, 2, 3)]
        problem = Problem(id=str(len(items)), prompt="", answer=gold)
        for _ in range(8):
            filler = " ".join(rng.choice(WORDS) for _ in range(rng.randint(200, 1200)))
            draw = rng.random()
            answer = rng.choice(wrong) if draw < 0.3 else rng.choice((gold, other))
            ending = "" if draw > 0.92 else f" so the answer is $\\boxed{{{answer}}}$."
            items.append((filler + ending, problem))
    return items[:count]


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
    starting = make_answers(count, -1)  # for imports, and for the workers to start on
    math_verify_one_by_one(starting[:8])
    plain, expected = rate("Math-Verify, one by one", parts, math_verify_one_by_one)
    with Verifier(Choice(name="math"), VerifySettings(workers=2)) as verifier:
        verifier.judge(starting)
        ours, verdicts = rate("ours, everything", parts, verifier.judge)
    print(f"ours / Math-Verify one by one: {ours / plain:.1f}")
    compare_paths(count, starting)
    items = [item for part in parts for item in part]
    differing = [
        (item[1].answer, verdict.extracted)
        for item, before, verdict in zip(items, expected, verdicts, strict=True)
        if before is not verdict.correct
    ]
    print(f"judged otherwise than by Math-Verify: {len(differing)} of {len(items)} {differing[:5] or ''}")


def compare_paths(count: int, starting: Sequence[Item]) -> None:
    """The fast path and the pool by themselves, on answers of their own."""
    reward = rewards.load(Choice(name="math"))
    others = [make_answers(count, 100 + seed) for seed in range(REPEATS)]
    decided = [[reward.fast_verdict(*item) is not None for item in part] for part in others]
    fast = [
        [item for item, at_once in zip(*pair, strict=True) if at_once] for pair in zip(others, decided, strict=True)
    ]
    slow = [
        [item for item, at_once in zip(*pair, strict=True) if not at_once] for pair in zip(others, decided, strict=True)
    ]
    print(f"the fast path decides {100 * sum(map(sum, decided)) / (REPEATS * count):.0f} %")
    rate("  Math-Verify, one by one, on what it decides", fast, math_verify_one_by_one)
    rate("  ours, the fast path", fast, lambda part: [reward.fast_verdict(*item) for item in part])
    rate("  Math-Verify, one by one, on the rest", slow, math_verify_one_by_one)
    with Verifier(Choice(name="math"), VerifySettings(workers=2)) as verifier:
        verifier.judge(starting)
        rate("  ours, the pool (2 workers) on the rest", slow, verifier.judge)


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
