"""The equations against a plain loop over rows: one table of ratios.

    python benchmarks/equations.py

`sequence_confidence` on [512, 4096] ragged log-probs; `reweight_advantages` on the [64, 8] groups that 512 completions
make, and on [512, 4096]. Both sides run in turn in one process on the same tensors; the ratio of medians is what counts,
not the milliseconds.
"""

import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from progrpo.algo.confidence import sequence_confidence
from progrpo.algo.reweight import reweight_advantages

ROWS, COLUMNS, GROUP, REPEATS = 512, 4096, 8, 7


def confidence_by_rows(logprobs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Eq. 6, one row at a time."""
    values = []
    for row, kept in zip(logprobs, mask, strict=True):
        tokens = row[kept].sort().values
        count = max(1, math.ceil(round(0.2 * len(tokens), 9)))
        values.append(tokens[:count].mean().exp())
    return torch.stack(values)


def reweight_by_rows(
    advantages: torch.Tensor, correct: torch.Tensor, prompt: torch.Tensor, completion: torch.Tensor
) -> torch.Tensor:
    """Eq. 4 with Alg. 1's skip rule, one group at a time."""
    result = advantages.clone()
    for p in range(advantages.shape[0]):
        if correct[p].any() and not correct[p].all():
            result[p] = advantages[p] + 0.3 * (prompt[p] - completion[p])
    return result


def compare(name: str, fast: Callable[[], torch.Tensor], plain: Callable[[], torch.Tensor]) -> None:
    assert torch.allclose(fast(), plain(), atol=1e-5), name
    times: dict[str, list[float]] = {"fast": [], "plain": []}
    for _ in range(REPEATS):
        for label, call in (("fast", fast), ("plain", plain)):
            started = time.perf_counter()
            call()
            times[label].append(time.perf_counter() - started)
    median = {label: statistics.median(values) for label, values in times.items()}
    ratio = median["plain"] / median["fast"]
    print(
        f"{name:<34} {median['fast'] * 1e3:8.2f} ms   loop {median['plain'] * 1e3:8.2f} ms   loop / ours {ratio:6.1f}"
    )


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs = torch.log(torch.rand(ROWS, COLUMNS, generator=generator))
    lengths = torch.randint(1, COLUMNS + 1, (ROWS,), generator=generator)
    mask = torch.arange(COLUMNS)[None, :] < lengths[:, None]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    compare(
        f"sequence_confidence [{ROWS}, {COLUMNS}]",
        lambda: sequence_confidence(logprobs, mask),
        lambda: confidence_by_rows(logprobs, mask),
    )
    for problems, group in ((ROWS // GROUP, GROUP), (ROWS, COLUMNS)):
        shape = (problems, group)
        correct = torch.rand(shape, generator=generator) < 0.5
        advantages, completion = torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)
        prompt = torch.rand(problems, generator=generator)
        arguments = (advantages, correct, prompt, completion)
        compare(
            f"reweight_advantages [{problems}, {group}]",
            partial(reweight_advantages, *arguments, alpha=0.3),
            partial(reweight_by_rows, *arguments),
        )


if __name__ == "__main__":
    main()
