"""Memory that it takes each of several processes to come to its shards and a copy that samples: by way of the whole model in
float32, and straight from the files.

    python benchmarks/reading.py                       # 156 M parameters stored in bf16, 2 processes
    python benchmarks/reading.py --processes 4 --precision fp32

"Own" is the memory that a process has for itself, the most it took above what it had before and what it holds once the model
is ready (Linux's RssAnon, looked at every millisecond). Pages of the mapped files are the page cache's: all processes of a
machine share them, and the system takes them back when memory is short.
"""

import argparse
import copy
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch

from progrpo.model import ModelSettings, load_model
from progrpo.model.shards import load_to_shard
from progrpo.processes import join, leave
from progrpo.settings import parse
from progrpo.train.parallel import Parallel, ParallelSettings
from progrpo.train.scorer import Scorer
from random_model import random_model

SHAPE = {"hidden": 1024, "layers": 8, "heads": 16, "intermediate": 2816, "vocabulary": 32_000}
STATUS = Path("/proc/self/status")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = random_model(Path(folder) / "model", **SHAPE, stored_as=torch.bfloat16)
        settings = {"path": str(path), "device": "cpu", "precision": args.precision}
        print("| | process | own memory at most, MiB | held, MiB |\n|---|---|---|---|", flush=True)
        torch.multiprocessing.spawn(work, (args.processes, settings, "whole"), nprocs=args.processes)
        torch.multiprocessing.spawn(work, (args.processes, settings, "shards"), nprocs=args.processes)


def work(rank: int, count: int, settings: dict[str, Any], way: str) -> None:
    """Read the model in one process, and print a row."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"}
    processes = join()
    model = parse(ModelSettings, settings, where="benchmark")
    load_model(parse(ModelSettings, {"path": "embedded:countdown", "device": "cpu"}, where="benchmark"))  # imports
    before, peak = own_mib(), Peak()
    with peak:
        if way == "whole":
            trained = load_model(model)
            sampler = copy.deepcopy(trained.model)
            for part in sampler.modules():
                if isinstance(part, torch.nn.Linear) and model.precision == "bf16":
                    part.to(torch.bfloat16)
        else:
            trained, copied = load_to_shard(model)
            sampler = copied.model
        parallel = Parallel(ParallelSettings.model_validate("fsdp2"), processes)
        kept = parallel.wrap(Scorer(trained, 1.0), trained.device), sampler
    held = own_mib() - before
    for turn in range(count):
        processes.wait()
        if turn == rank:
            print(f"| {way} | {rank} | {peak.mib - before:.0f} | {held:.0f} |", flush=True)
    assert kept
    leave()


def own_mib() -> float:
    """Memory of this process that no file stands behind."""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", STATUS.read_text(), flags=re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


class Peak:
    """The largest `own_mib` while the context lasts."""

    def __init__(self) -> None:
        self.mib = own_mib()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._ended.wait(0.001):
            self.mib = max(self.mib, own_mib())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.mib = max(self.mib, own_mib())


if __name__ == "__main__":
    main()
