"""Steps of both sides as text: one line as each comes, and the table at the end."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vs_trl.steps import PHASES, Sizes, Step, generate_bytes, generate_flops, train_flops
from vs_trl.workloads import Run

GIB = 2**30
FORMULAS = """\
share of the machine, from the least work that the step's lengths ask for (padding, repeated prompts and groups without
gradient are waste, whoever does them), L layers, D = heads * head width, N parameters without embedding and head:
  generate FLOPs = 2 N (P Q + tokens) + 2 V hidden tokens + 4 L D (sum of contexts)   Q prompt tokens, once per group
  train FLOPs    = 3 * the same over the groups with a gradient
  generate bytes = longest completion * weights + sum over tokens of the cache a row reads
over seconds of the phase * the matmul peak, or the copy bandwidth (read + written), measured in this run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """FLOP/s of a matrix product, bytes/s of a copy, and what a number takes in the format of the run."""

    flops: float
    bandwidth: float
    number_bytes: int


def machine_line(machine: Machine, precision: str) -> str:
    return (
        f"measured limits: {machine.flops / 1e9:.0f} GFLOP/s in a {precision} matrix product, "
        f"{machine.bandwidth / 1e9:.1f} GB/s in a copy"
    )


def step_line(run: Run, name: str, index: int, step: Step) -> str:
    phases = ", ".join(f"{phase} {step.phases[phase]:.2f}" for phase in PHASES)
    lengths = step.as_json(run.work.completion_tokens)
    return (
        f"{run.work.name} {run.precision} step {index} {name:8} {step.seconds:7.2f} s ({phases}); {step.tokens} tokens, "
        f"mean {lengths['mean_length']:.1f}, median {lengths['median_length']:.0f}, cut {lengths['cut_share']:.2f}, "
        f"zero-std {lengths['zero_std_share']:.2f}; peak {step.peak / GIB:.2f} GiB, "
        f"+{(step.peak - step.before) / GIB:.2f}"
    )


def side_lines(run: Run, name: str, steps: Sequence[Step], sizes: Sizes, machine: Machine) -> list[str]:
    """Speed, phases, lengths and shares of the machine of one side, as medians over its steps."""
    work, prompt = run.work, run.work.prompt_tokens
    generate = [step.phases["generate"] for step in steps]
    train = [step.phases["train"] for step in steps]
    trained = [int(step.lengths[step.learning].sum()) for step in steps]
    lengths = [step.as_json(work.completion_tokens) for step in steps]
    flops = [generate_flops(step, prompt, sizes) / s for step, s in zip(steps, generate, strict=True)]
    bytes_ = [
        generate_bytes(step, prompt, sizes, machine.number_bytes) / s for step, s in zip(steps, generate, strict=True)
    ]
    train_rates = [train_flops(step, prompt, sizes) / s for step, s in zip(steps, train, strict=True)]
    return [
        f"{name}: {median(steps, samples_per_s):.2f} samples/s, {median(steps, tokens_per_s):.0f} tokens/s end to end; "
        f"generate {_rate([s.tokens for s in steps], generate)} tokens/s, train {_rate(trained, train)} tokens with a "
        "gradient/s",
        f"  seconds: {', '.join(f'{p} {statistics.median(s.phases[p] for s in steps):.3f}' for p in PHASES)}",
        f"  lengths: mean {_mean(lengths, 'mean_length'):.1f}, median {_mean(lengths, 'median_length'):.0f}, "
        f"cut {_mean(lengths, 'cut_share'):.3f}; zero-std groups {_mean(lengths, 'zero_std_share'):.3f}",
        f"  of the machine: generate {_share(flops, machine.flops)} of its FLOP/s and {_share(bytes_, machine.bandwidth)} "
        f"of its bandwidth, train {_share(train_rates, machine.flops)} of its FLOP/s",
        f"  memory: peak {_peak(steps) / GIB:.2f} GiB of the process, {_above(steps) / GIB:.2f} above what it held before",
    ]


def summary(run: Run, taken: Mapping[str, Sequence[Step]]) -> str:
    """The line of the table; ratios pair by pair where there are two sides."""
    head = f"{run.work.name} {run.precision}: "
    if len(taken) < 2:
        return head + "; ".join(f"{side} {median(steps, samples_per_s):.2f} samples/s" for side, steps in taken.items())
    ours, peer = taken["progrpo"], taken["trl"]
    samples = [samples_per_s(a) / samples_per_s(b) for a, b in zip(ours, peer, strict=True)]
    tokens = [tokens_per_s(a) / tokens_per_s(b) for a, b in zip(ours, peer, strict=True)]
    cpu = [b.cpu_s / a.cpu_s for a, b in zip(ours, peer, strict=True)]
    phases = ", ".join(f"{name} {_phase(ours, name):.2f} s vs {_phase(peer, name):.2f}" for name in PHASES)
    return (
        f"{head}progrpo {median(ours, samples_per_s):.2f} samples/s, TRL {median(peer, samples_per_s):.2f}; "
        f"ratio {quartiles(samples)}; per token sampled {quartiles(tokens)}; in "
        f"processor time {quartiles(cpu)}; {phases}; memory above what was held "
        f"{_above(ours) / GIB:.2f} vs {_above(peer) / GIB:.2f} GiB ({_above(ours) / max(1, _above(peer)):.2f})"
    )


def alone_line(alone: Mapping[str, Mapping[str, int]]) -> str:
    """Memory of each side in a process of its own."""
    peaks = [found["peak_bytes"] for found in alone.values()]
    above = [found["peak_bytes"] - found["loaded_bytes"] for found in alone.values()]
    return f"alone in a process, {' vs '.join(alone)}: peak {_versus(peaks)}, above the loaded model {_versus(above)}"


def quartiles(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f} (one pair)"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"median {middle:.2f} (quartiles {low:.2f} to {high:.2f})"


def median(steps: Sequence[Step], value: Callable[[Step], float]) -> float:
    return statistics.median(value(step) for step in steps)


def samples_per_s(step: Step) -> float:
    return step.completions / step.seconds


def tokens_per_s(step: Step) -> float:
    return step.tokens / step.seconds


def _rate(amounts: Sequence[int], seconds: Sequence[float]) -> str:
    return f"{statistics.median(a / s for a, s in zip(amounts, seconds, strict=True)):.0f}"


def _share(rates: Sequence[float], limit: float) -> str:
    return f"{statistics.median(rates) / limit:.3f}"


def _mean(rows: Sequence[dict[str, float]], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def _phase(steps: Sequence[Step], name: str) -> float:
    return statistics.median(step.phases[name] for step in steps)


def _versus(sizes: Sequence[int]) -> str:
    text = " vs ".join(f"{size / GIB:.2f}" for size in sizes) + " GiB"
    return text if len(sizes) < 2 else f"{text} ({sizes[0] / sizes[1]:.2f})"


def _peak(steps: Sequence[Step]) -> int:
    return max(step.peak for step in steps)


def _above(steps: Sequence[Step]) -> int:
    return max(step.peak - step.before for step in steps)
