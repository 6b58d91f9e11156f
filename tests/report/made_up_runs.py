"""Run directories made up on the spot: what train/record.py leaves behind, without training."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from progrpo.rows import to_row
from progrpo.types import ProblemResult, Sample, TokenStatistics

HOSTILE = "</script><script>alert(1)</script>\"'&amp;<!--\u2028\u2029 \N{GRINNING FACE} \x00"

MakeRun = Callable[..., Path]


def evaluation_row(problem: str, correct: int, *, n: int = 4, forms: int = 1, entropy: float = 0.5) -> dict[str, Any]:
    """One problem of which `correct` of `n` completions are right, in `forms` ways."""
    samples = [
        {"text": f"t{i}", "status": "correct" if i < correct else "wrong", "canonical": f"form{i % forms}"}
        for i in range(n)
    ]
    measures = {
        "pass@1": correct / n,
        "pass@2": 1.0 if correct > n // 2 else correct / n,
        f"pass@{n}": float(correct > 0),
    }
    measures |= {"distinct_correct": float(min(forms, correct)), "entropy": entropy}
    return {
        "problem": problem,
        "prompt": f"{problem}:",
        "n": n,
        "correct": correct,
        "measures": measures,
        "samples": samples,
    }


def rollout_row(problem: str, index: int, *, correct: bool, text: str = "1+2", **extra: Any) -> dict[str, Any]:
    return {
        "problem": problem,
        "index": index,
        "prompt": f"{problem}:",
        "completion": text,
        "answer": "3",
        "status": "correct" if correct else "wrong",
        "correct": correct,
        "reward": float(correct),
        "canonical": None,
        "detail": "",
        "finish": "stop",
        "confidence": 0.25,
        "advantage": 1.0 if correct else -1.0,
    } | extra


def metrics_row(step: int, **extra: Any) -> dict[str, Any]:
    row = {
        "step": step,
        "rollout/entropy": 0.7 - 0.1 * step,
        "rollout/reward": 0.1 * step,
        "rollout/distinct_correct": 1.0,
    }
    return row | {"time/generate_s": 1.0, "time/train_s": 2.0, "time/step_s": 3.5} | extra


ACCOUNTED = {
    "tokens/generated": 300.0,
    "tokens/trained": 200.0,
    "tokens/forwarded": 1000.0,
    "tokens/padding_share": 0.1,
    "tokens/repeated_prompt_share": 0.25,
    "tokens/logit_row_share": 0.5,
    "policy/zero_advantage_share": 0.25,
    "time/verify_s": 0.1,
    "time/verify_hidden_s": 0.3,
    "memory/peak_gib": 1.5,
}
"""What a step of 1,000 positions logs, which runs of older versions lack: 500 of them are scored, 200 of those trained."""


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_run(
    path: Path,
    *,
    method: Mapping[str, Any] | None = None,
    correct: Sequence[int] = (1, 2, 3),
    text: str = "1+2",
    shift: float | None = None,
    accounted: bool = False,
) -> Path:
    """Write a run of three steps, evaluated before and after on three problems.

    Args:
        accounted: with what its steps cost (`ACCOUNTED`).
    """
    path.mkdir(parents=True)
    config = {
        "seed": 3,
        "steps": 3,
        "out": str(path),
        "model": {"path": "some/model"},
        "task": {"name": "countdown"},
        "method": dict(method or {"name": "grpo"}),
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = {"versions": {"progrpo": "9.9"}, "python": "3.11", "device": "cpu", "threads": 2}
    environment |= {"command": ["/opt/bin/progrpo", "train", "recipe.yaml"], "git_commit": "0123456789abcdef"}
    (path / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    shifted = {} if shift is None else {"shift": shift, "prompt_confidence": 0.5}
    logged: dict[str, Any] = {"progrpo/prompt_confidence": 0.1, "progrpo/shift_abs": 0.2} if shifted else {}
    logged |= ACCOUNTED if accounted else {}
    last = {f"evaluate/pass@{k}": 0.5 for k in (1, 2, 4)} | {"evaluate/distinct_correct": 1.0}
    first = {"step": 0, **{f"evaluate/pass@{k}": 0.25 for k in (1, 2, 4)}, "time/step_s": 1.0}
    rows = [first, metrics_row(1, **logged), metrics_row(2, **logged), metrics_row(3, **logged, **last)]
    write_jsonl(path / "metrics.jsonl", rows)
    write_jsonl(path / "evaluations/step-000000.jsonl", [evaluation_row(f"q{i}", 1) for i in range(3)])
    write_jsonl(
        path / "evaluations/step-000003.jsonl", [evaluation_row(f"q{i}", c, forms=2) for i, c in enumerate(correct)]
    )
    for step in (1, 2, 3):
        group = [rollout_row("p0", g, correct=g == 0, text=text, **shifted) for g in range(4)]
        solved = [rollout_row("p1", g, correct=True, text=text, **shifted) for g in range(4)]
        write_jsonl(path / f"rollouts/step-{step:06d}.jsonl", solved + group)
    return path


def with_seed(path: Path, seed: int, *, alpha: bool = False) -> Path:
    """Set the seed of a run; `alpha` makes it one of ProGRPO."""
    config = yaml.safe_load((path / "config.yaml").read_text("utf-8")) | {"seed": seed}
    if alpha:
        config["method"] = {"name": "progrpo", "alpha": 0.3}
    (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def benchmark_sample(
    index: int, *, right: bool, entropy: float | None = 0.5, raw: bool = True, text: str = "so it is"
) -> Sample:
    """One completion; each has its own answer unless it is right, and its own length. `entropy` None: no token statistics."""
    known = [
        TokenStatistics(
            probability=0.9 - 0.01 * index,
            low_probability=0.5 - 0.01 * index,
            confidence=0.4,
            entropy=value + 0.01 * index,
        )
        for value in ([] if entropy is None else [entropy, 2 * entropy])
    ]
    return Sample(
        text=f"{text} {index}",
        status="correct" if right else "wrong",
        tokens=10 + index,
        seed=index,
        extracted="7" if right else f"no {index}",
        tempered=known[0] if known else None,
        raw=known[1] if known and raw else None,
    )


def write_benchmark(
    path: Path,
    task: str,
    correct: Sequence[int],
    *,
    preset: str | None = "paper",
    n: int = 4,
    measures: Mapping[str, float] | None = None,
    over_task: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    header: Mapping[str, Any] | None = None,
    prompt: Any = None,
    **sample: Any,
) -> Path:
    """Write the evaluation of a benchmark into a run directory, as `progrpo evaluate` does; returns its file of rows.

    Args:
        correct: of each problem, how many of its `n` completions are.
        measures: of every problem.
        settings: beside the preset's usual ones, or in their place. header: likewise, of the header.
        sample: see `benchmark_sample`.
    """
    rows = [
        ProblemResult(
            problem=f"{task}/{index}",
            prompt=prompt or f"Problem {index} of {task}",
            answer="7",
            samples=tuple(benchmark_sample(i, right=i < right, **sample) for i in range(n)),
            measures=measures or {},
        )
        for index, right in enumerate(correct)
    ]
    name = f"{task}-{preset}" if preset else task
    used = {"n": n, "temperature": 0.6, "top_p": 0.95, "top_k": 0, "max_new_tokens": 64, "seed": 0, "task": {}}
    head = {
        "task": task,
        "preset": preset,
        "settings": used | {"reward": {"name": "math"}} | dict(settings or {}),
        "problems": len(correct),
        "digest": f"problems of {task}",
        "complete": True,
        "over_task": dict(over_task or {}),
    }
    file = path / "evaluations" / f"{name}.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(to_row(row), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    file.with_suffix(".json").write_text(json.dumps(head | dict(header or {})), encoding="utf-8")
    return file


def write_model(path: Path, model: str = "some/model") -> Path:
    """Write the directory of a model that was only evaluated; benchmarks are added with `write_benchmark`."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({"model": {"path": model}}), encoding="utf-8")
    return path
