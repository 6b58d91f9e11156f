"""How long a user waits for the first line of each verb, and for `import progrpo`. Aim: 1.5 s; `--help` without torch.

    python benchmarks/startup.py [--repeats 5]

A tiny run is made first, for the verbs that read one. Each command is started anew; what counts is the first byte it prints,
on either stream, which says at least what it is doing.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

RECIPE = Path(__file__).parent.parent / "recipes" / "demo" / "grpo.yaml"
TINY = ("steps=1", "evaluate.every=0", "batch.prompts=2", "batch.group=4", "task.train_size=50", "task.test_size=10")
SHIFT = ("embedded:countdown", "--task", "countdown", "--problems", "2", "-n", "2")
EVALUATE = ("evaluate", "embedded:countdown", "--task", "countdown", "-n", "2", "evaluate.problems=2")
PLAIN = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import progrpo'": [sys.executable, "-c", "import progrpo"],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
}
"""Whole processes: they print nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    for name, command in PLAIN.items():
        show(name, [whole(command) for _ in range(repeats)])
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        subprocess.run(progrpo("train", str(RECIPE), f"out={run}", *TINY), check=True, capture_output=True)
        graded = Path(folder) / "completions.jsonl"
        graded.write_text('{"id": "1", "completion": "It is \\\\boxed{6}.", "answer": "6"}\n', "utf-8")
        for name in verbs(run, graded, Path(folder)):
            # Each time into a folder of its own; run to its end once, which shows that it works and brings its files to hand.
            commands = [verbs(run, graded, Path(folder) / str(index))[name] for index in range(repeats + 1)]
            subprocess.run(progrpo(*commands[0]), check=True, capture_output=True)
            show(f"progrpo {name}", [first_line(progrpo(*command)) for command in commands[1:]])


def verbs(run: Path, graded: Path, folder: Path) -> dict[str, Sequence[str]]:
    """A short command of each verb that needs no network and no server."""
    return {
        "--help": ["--help"],
        "train": ["train", str(RECIPE), f"out={folder / 'plan'}", "--dry-run"],
        "evaluate": [*EVALUATE, "--out", str(folder / "evaluation")],
        "verify": ["verify", str(graded), "--reward", "math"],
        "score": ["score", str(run)],
        "replay": ["replay", str(run)],
        "shift": ["shift", *SHIFT, "--out", str(folder / "shift")],
        "compare": ["compare", str(run), str(run), "--out", str(folder / "page.html")],
        "report": ["report", str(run)],
        "recipes": ["recipes"],
        "list": ["list", "methods"],
        "schema": ["schema"],
        "doctor": ["doctor"],
    }


def progrpo(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "progrpo", *arguments]


def whole(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def first_line(command: Sequence[str]) -> float:
    """Seconds until the command prints something; it is ended then."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        found = process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.kill()
    if not found:
        raise SystemExit(f"{' '.join(command)} printed nothing")
    return seconds


def show(name: str, seconds: Sequence[float]) -> None:
    print(
        f"{name:<28} median {statistics.median(seconds):.2f} s, min {min(seconds):.2f}, max {max(seconds):.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
