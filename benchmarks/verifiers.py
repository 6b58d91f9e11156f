"""Answers per second against Math-Verify called one by one, and sandboxed programs per second against plain ones.

    python benchmarks/verifiers.py [--answers 600] [--programs 40] [--mix training] [--cases FOLDER]

Three mixes of answers:
    training    as training meets them: long texts, groups of 8 to a problem, most golds whole numbers, a tenth symbolic
    unique      every answer has a problem of its own, 2 to 3 kB of text, 24 % symbolic: nothing can be remembered
    algebra     nothing but answers that the fast path leaves to algebra, three of four equal to their gold: the worst case

Math-Verify is called as trainers call it: parse the gold, parse the whole text, verify, one after the other in the main
thread. Both sides judge the same fresh answers; the ratio is what counts. Then the fast path and the pool by themselves, and
the pairs on which the judgements differ.

--cases: how many of Math-Verify's own test cases are judged as they expect. FOLDER holds its tests/ (a checkout of
github.com/huggingface/Math-Verify); they are read as data, nothing of them is run.
"""

import argparse
import ast
import logging
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from progrpo import rewards
from progrpo.errors import SandboxError
from progrpo.rewards.math.find import extract
from progrpo.rollout.verify import Item, Verifier, VerifySettings
from progrpo.settings import Choice
from progrpo.types import Problem

REPEATS = 3
MIXES = ("training", "unique", "algebra")
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


def by_algebra(n: int, kind: int) -> tuple[str, str]:
    """A gold answer and an equal one that no exact arithmetic sees."""
    return (
        (rf"\sin {2 * n}x", rf"2\sin({n}x)\cos({n}x)"),
        (rf"\ln {n * n}", rf"2\ln {n}"),
        (rf"2^{{x+{n % 9}}}", rf"{2 ** (n % 9)}\cdot 2^x"),
        (rf"\sqrt[3]{{{8 * n}}}", rf"2\sqrt[3]{{{n}}}"),
        (rf"\tan^2({n}x)+1", rf"\sec^2({n}x)"),
        (rf"e^{{x+\ln {n}}}", rf"{n}e^x"),
        (rf"\frac{{1-\cos {2 * n}x}}{{2}}", rf"\sin^2({n}x)"),
        (rf"\log_2 {4 * n}", rf"2+\log_2 {n}"),
    )[kind]


def plain(rng: random.Random, n: int) -> tuple[str, str, list[str]]:
    """A gold answer that is a number, another spelling, and wrong ones."""
    top, bottom = rng.randint(1, 999), rng.choice((2, 4, 5, 8))
    if rng.random() < 8 / 9:
        return str(top), f"{top}.0", [str(top + rng.randint(1, 50)) for _ in range(3)]
    fractions = [f"\\frac{{{top + k}}}{{{bottom}}}" for k in (1, 2, 3)]
    return f"\\frac{{{top}}}{{{bottom}}}", str(top / bottom), fractions


def make_answers(count: int, seed: int, mix: str = "training") -> list[Item]:
    """Completions of a mix. Of each, 8 % have no answer; 30 % (25 % of "algebra") a wrong one; half of the right ones are
    spelled as the gold is, but for "algebra", where none is."""
    rng = random.Random(f"{seed} {mix}")
    share, group = {"training": (0.1, 8), "unique": (0.24, 1), "algebra": (1.0, 1)}[mix]
    items: list[Item] = []
    while len(items) < count:
        n, form = rng.randint(2, 10_000), rng.randrange(8)
        make = by_algebra if mix == "algebra" else symbolic
        if rng.random() < share:
            gold, other = make(n, form)
            wrong = [make(n + k, form)[1] for k in (1, 2, 3)]
        else:
            gold, other, wrong = plain(rng, n)
        problem = Problem(id=str(len(items)), prompt="", answer=gold)
        for _ in range(group):
            filler = " ".join(
                rng.choice(WORDS) for _ in range(rng.randint(*((200, 1200) if group > 1 else (250, 370))))
            )
            draw = rng.random()
            right = other if mix == "algebra" else rng.choice((gold, other))
            answer = rng.choice(wrong) if draw < (0.25 if mix == "algebra" else 0.3) else right
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


def compare_answers(count: int, mix: str) -> None:
    parts = [make_answers(count, seed, mix) for seed in range(REPEATS)]
    starting = make_answers(count, -1)  # for imports, and for the workers to start on
    math_verify_one_by_one(starting[:8])
    print(f"\nmix: {mix}")
    one_by_one, expected = rate("Math-Verify, one by one", parts, math_verify_one_by_one)
    with Verifier(Choice(name="math"), VerifySettings(workers=2)) as verifier:
        verifier.judge([*starting, *make_answers(8, -1, "algebra")])
        ours, verdicts = rate("ours, everything", parts, verifier.judge)
    print(f"ours / Math-Verify one by one: {ours / one_by_one:.1f}")
    compare_paths(count, mix)
    items = [item for part in parts for item in part]
    differing = [
        (item[1].answer, verdict.extracted)
        for item, before, verdict in zip(items, expected, verdicts, strict=True)
        if before is not verdict.correct
    ]
    print(f"judged otherwise than by Math-Verify: {len(differing)} of {len(items)} {differing[:5] or ''}")


def compare_paths(count: int, mix: str) -> None:
    """The fast path and the pool by themselves, on answers of their own."""
    reward = rewards.load(Choice(name="math"))
    others = [make_answers(count, 100 + seed, mix) for seed in range(REPEATS)]
    decided = [[reward.fast_verdict(*item) is not None for item in part] for part in others]
    print(f"the fast path decides {100 * sum(map(sum, decided)) / (REPEATS * count):.1f} %")
    for at_once, name in ((True, "what it decides"), (False, "the rest")):
        own = [
            [item for item, known in zip(*pair, strict=True) if known is at_once]
            for pair in zip(others, decided, strict=True)
        ]
        if not all(own):
            continue
        rate(f"  Math-Verify, one by one, on {name}", own, math_verify_one_by_one)
        if at_once:
            rate("  ours, the fast path", own, lambda part: [reward.fast_verdict(*item) for item in part])
            continue
        with Verifier(Choice(name="math"), VerifySettings(workers=2)) as verifier:
            verifier.judge(make_answers(8, -1, "algebra"))
            rate("  ours, the pool (2 workers) on the rest", own, verifier.judge)


# --- Math-Verify's own cases ---

EVERYWHERE = ("boxed", "answer_line", "gsm8k", "last_expression")


def read_cases(folder: Path) -> list[tuple[str, str, str, bool]]:
    """(where, gold, text, whether they should be equal) of each parametrised case with a gold and a prediction."""
    cases = []
    for path in sorted(folder.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (
                isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "parametrize" and len(node.args) == 2
            ):
                continue
            names = [name.strip() for name in ast.literal_eval(node.args[0]).split(",")]
            for row in getattr(node.args[1], "elts", []):
                try:
                    values = dict(zip(names, ast.literal_eval(row), strict=False))
                except ValueError:  # a value that is computed
                    continue
                expected = values.get("expected", values.get("result"))
                if isinstance(values.get("gold"), str) and isinstance(values.get("pred"), str) and expected is not None:
                    cases.append((f"{path.name}:{row.lineno}", values["gold"], values["pred"], bool(expected)))
    return cases


def compare_cases(folder: Path) -> None:
    cases = read_cases(folder)
    for name, find in (("boxed, answer_line", ("boxed", "answer_line")), (", ".join(EVERYWHERE), EVERYWHERE)):
        reward = rewards.load(Choice(name="math", find=find))
        differing: Counter[str] = Counter()
        for where, gold, text, expected in cases:
            own = extract(gold, ("boxed",)) or (extract(gold, EVERYWHERE) if len(gold) > 200 else None) or gold
            if reward.score(text, Problem(id=where, prompt="", answer=own)).correct is not expected:
                differing[KINDS.get(where, "no place of `find`" if find != EVERYWHERE else f"not sorted: {where}")] += 1
        print(f"find={name}: {len(cases) - sum(differing.values())} of {len(cases)} as Math-Verify's tests expect")
        for kind, times in sorted(differing.items(), key=lambda one: -one[1]):
            print(f"  {times:3} {kind}")


_SORTED = {
    "several boxes in one text are one answer": "all:868 all:873 boxed:8 numina_cases:69 numina_cases:74 open_thoughts:9 "
    "open_thoughts:69 open_thoughts:74 open_thoughts:79 open_thoughts:89 open_thoughts:99 open_thoughts:104 "
    "open_thoughts:129 open_thoughts:134 open_thoughts:139 open_thoughts:144 open_thoughts:149",
    "a decimal comma": "all:70 all:71 all:72",
    "a percent sign that may be missing": "all:701",
    "two decimal places are enough": "all:586 all:605",
    "an element named twice counts once": "numina_cases:9 numina_cases:96",
    "a formula on three lines is none": "all:132 all:133",
    "a sum is an answer": "all:130",
    "f(x) is f(y), where the caller asks for it": "strict:8",
    "an inequality is no set, where the caller asks for it": "all:907",
    "two different values are equal": "yujianll:28",
    "a gold that is no answer": "all:452 numina_cases:121",
    "an earlier answer of the same text": "all:734 all:810",
}
KINDS = {f"test_{where.replace(':', '.py:')}": kind for kind, places in _SORTED.items() for where in places.split()}
"""Why a case (file and line, at commit 5d148cf) is judged otherwise."""


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
    parser.add_argument("--mix", choices=MIXES, help="one mix instead of all three")
    parser.add_argument("--cases", type=Path, metavar="FOLDER", help="Math-Verify's tests/, and nothing else")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.cases is not None:
        compare_cases(arguments.cases)
        return
    for mix in [arguments.mix] if arguments.mix else MIXES:
        compare_answers(arguments.answers, mix)
    if arguments.programs:
        compare_programs(arguments.programs)


if __name__ == "__main__":
    main()
