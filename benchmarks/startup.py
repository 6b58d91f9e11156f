"""`progrpo --help` against the bare interpreter: the whole process, in turn. Aim: under half a second, no torch.

python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time

REPEATS = 9
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "progrpo --help": [sys.executable, "-m", "progrpo", "--help"],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
}


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - started)
    for name, values in seconds.items():
        print(f"{name:<26} median {statistics.median(values):.3f} s, min {min(values):.3f}, max {max(values):.3f}")


if __name__ == "__main__":
    main()
