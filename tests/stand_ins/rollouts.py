"""Rollouts files made up on the spot: what `train/metrics.py: rollout_rows` writes, without training."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from progrpo.model import ModelSettings, load_tokenizer

TEXTS = ("1+2=3", "1*2=2", "2-1=1", "1+1=2")
PROBABILITIES = ((0.5, 0.9, 0.9, 0.9, 0.9, 0.9), (0.25, 0.9, 0.9, 0.9, 0.9, 0.9), (0.8,) * 6, (0.4,) * 6)
"""Of the tokens of each completion, the end token included: 20 % of 6 are 2 tokens, so c(o) is the geometric mean of the
two smallest: sqrt(0.45), sqrt(0.225), 0.8 and 0.4."""
PROMPT = (0.1, 0.4, 0.5, 0.9)
"""Of the prompt's tokens, the first of which counts for nothing: 20 % of 3 is 1 token, so c(q) is 0.4."""


@cache
def countdown_tokenizer() -> Any:
    return load_tokenizer(ModelSettings(path="embedded:countdown"))


def rollout_row(
    problem: str, index: int, *, status: str = "wrong", tokens: bool = True, **extra: Any
) -> dict[str, Any]:
    """One completion of four that a problem may have; `extra` replaces columns, or takes them away where it is None."""
    text = TEXTS[index % len(TEXTS)]
    row: dict[str, Any] = {
        "problem": problem,
        "index": index,
        "prompt": "1 2=3:",
        "completion": text,
        "answer": "3",
        "status": status,
        "correct": status == "correct",
        "reward": float(status == "correct"),
        "extracted": text,
        "canonical": None,
        "detail": "",
        "finish": "stop",
        "length": 6,
        "seed": 7,
        "confidence": 0.25,
        "advantage": 0.5,
    }
    if tokens:
        row |= {
            "prompt_ids": countdown_tokenizer()("1 2=").input_ids,
            "token_ids": [*countdown_tokenizer()(text).input_ids, countdown_tokenizer().eos_token_id],
            "sampler_logprobs": [math.log(p) for p in PROBABILITIES[index % len(PROBABILITIES)]],
            "entropies": [0.5] * 6,
            "prompt_logprobs": [math.log(p) for p in PROMPT],
        }
    return {key: value for key, value in (row | extra).items() if value is not None or key == "canonical"}


def group(
    problem: str, statuses: Sequence[str] = ("correct", "wrong", "wrong", "wrong"), **extra: Any
) -> list[dict[str, Any]]:
    return [rollout_row(problem, index, status=status, **extra) for index, status in enumerate(statuses)]


def write_rollouts(path: Path, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any] | None = None) -> Path:
    """Write RUN/rollouts/step-000001.jsonl, and the run's config.yaml where one is given."""
    file = path / "rollouts" / "step-000001.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if config is not None:
        (path / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    return file
