"""Self-BLEU of a whole evaluation against nltk called text by text.

    python benchmarks/diversity.py [--problems 30] [--completions 32] [--tokens 1000] [--sample 2] [--small]

Both sides start from the same texts, tokenizer (wordpunct) and smoothing, and every BLEU must be equal to the last bit. nltk
counts all n-grams of the other completions anew for each completion, so it is timed on a sample of the problems and scaled
up; ours measures all of them. Then ours once more over all completions of all problems together, as `self_bleu_4/pooled`
does. The texts are made up: a completion of a problem is pieces of the problem's eight lines of thought, with words of its
own in between.
"""

import argparse
import random
import time
from collections.abc import Sequence

from nltk.tokenize import wordpunct_tokenize
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from progrpo.measures._ngrams import encode
from progrpo.measures._self_bleu import bleu_against_others

N = 4
REPEATS = 3
WORDS = 5_000
LINES = 8


def make_texts(problems: int, completions: int, tokens: int, seed: int) -> list[list[str]]:
    """Texts by problem and completion; words as rare as Zipf's law has them, pieces of 1 to 30 words."""
    rng = random.Random(seed)
    words = [f"w{index}" for index in range(WORDS)]
    weights = [1 / (index + 1) for index in range(WORDS)]

    def completion(lines: Sequence[Sequence[str]]) -> str:
        text: list[str] = []
        while len(text) < tokens:
            line, start = rng.choice(lines), rng.randrange(tokens)
            text += line[start : start + rng.randint(1, 30)] + rng.choices(words, weights, k=rng.randint(1, 10))
        return " ".join(text[:tokens])

    made = []
    for _ in range(problems):
        lines = [rng.choices(words, weights, k=tokens) for _ in range(LINES)]
        made.append([completion(lines) for _ in range(completions)])
    return made


def of_nltk(texts: Sequence[str]) -> list[float]:
    method1 = SmoothingFunction().method1
    tokens = [wordpunct_tokenize(text) for text in texts]
    return [
        sentence_bleu(tokens[:index] + tokens[index + 1 :], text, (1 / N,) * N, method1)
        for index, text in enumerate(tokens)
    ]


def compare(problems: int, completions: int, tokens: int, sample: int) -> float:
    """Print seconds of both sides; returns how many times as fast ours is.

    Raises:
        AssertionError: a BLEU differs.
    """
    texts = make_texts(problems, completions, tokens, seed=0)
    sample = min(sample, problems)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        found = [bleu_against_others(encode(part), N) for part in texts]
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    expected = [of_nltk(part) for part in texts[:sample]]
    nltk_seconds = time.perf_counter() - started
    for ours, theirs in zip(found, expected, strict=False):
        assert ours == theirs, f"BLEU differs: {ours} {theirs}"
    started = time.perf_counter()
    bleu_against_others(encode([text for part in texts for text in part]), N)
    pooled = time.perf_counter() - started
    fastest, scaled = min(seconds), nltk_seconds * problems / sample
    print(f"Self-BLEU-{N}, {problems} problems x {completions} completions x {tokens} tokens, one thread")
    print(f"ours, all problems (best of {REPEATS})  {fastest:10.3f} s")
    print(f"nltk, {sample} of {problems} problems          {nltk_seconds:10.3f} s, scaled to all: {scaled:.1f} s")
    print(
        f"nltk / ours                    {scaled / fastest:10.1f}; {sample * completions} BLEUs equal to the last bit"
    )
    print(f"ours, all texts in one pool    {pooled:10.3f} s")
    return scaled / fastest


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=30)
    parser.add_argument("--completions", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=2, help="problems nltk is timed on")
    parser.add_argument("--small", action="store_true", help="3 problems, 6 completions, 80 tokens: whether it runs")
    given = parser.parse_args(arguments)
    if given.small:
        compare(3, 6, 80, 1)
    else:
        compare(given.problems, given.completions, given.tokens, given.sample)


if __name__ == "__main__":
    main()
