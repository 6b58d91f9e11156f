"""The verb `evaluate`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from progrpo import engines, tasks
from progrpo.evaluate import EvaluateSettings, Evaluation, run_evaluation
from progrpo.files import require_new_file, write_whole
from progrpo.model import ModelSettings, load_model
from progrpo.rollout.gold import bad_gold_rows, without
from progrpo.rollout.verify import Verifier, VerifySettings
from progrpo.settings import Choice, Settings, apply_overrides, parse
from progrpo.train.settings import EngineChoice


class Request(Settings):
    """What `key=value` may set."""

    seed: int = 0
    precision: str = "fp32"
    device: str = "auto"
    max_new_tokens: int = Field(1024, gt=0)
    task: dict[str, Any] = Field(default_factory=dict)
    """Settings of the task(s)."""
    reward: Choice | None = None
    engine: EngineChoice = EngineChoice()
    evaluate: EvaluateSettings = EvaluateSettings()
    verify: VerifySettings = VerifySettings()


def run_evaluate(path: str, names: Sequence[str], n: int, overrides: Sequence[str], out: Path | None) -> None:
    require_new_file(out)
    data = apply_overrides({"evaluate": {"n": n}}, overrides)
    request = parse(Request, data, where="evaluate")
    source = {"path": path, "precision": request.precision, "device": request.device}
    problems = {name: tasks.problems(Choice(name=name, **request.task), "test") for name in names}
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model = load_model(parse(ModelSettings, source, where="evaluate"))
    engine = engines.load(request.engine, model)
    console = Console(stderr=True)
    lines = []
    for name in names:
        reward = request.reward or Choice(name=tasks.load(Choice(name=name, **request.task))[0].REWARD)
        with Verifier(reward, request.verify) as verifier, console.status(f"{name}: checking golds") as status:
            bad = bad_gold_rows(problems[name], verifier, split="test") if request.verify.check_gold else []
            result = run_evaluation(
                without(problems[name], bad, split="test"),
                model=model,
                engine=engine,
                verifier=verifier,
                settings=request.evaluate,
                max_new_tokens=request.max_new_tokens,
                seed=request.seed,
                on_progress=lambda done, of, name=name: status.update(f"{name}: {done} of {of} problems"),  # type: ignore[misc]
            )
        _print(name, result, request.evaluate)
        lines += [json.dumps({"task": name, **row}, ensure_ascii=False) + "\n" for row in result.rows]
    if out is not None:
        write_whole(out, "".join(lines))


def _print(name: str, result: Evaluation, settings: EvaluateSettings) -> None:
    table = Table(
        title=f"{name}: {len(result.rows)} problems x {settings.n}, T {settings.temperature}, top-p {settings.top_p}",
        title_justify="left",
    )
    table.add_column("measure")
    table.add_column("mean over problems", justify="right")
    for measure, value in result.means.items():
        table.add_row(measure, f"{value:.4f}")
    total = sum(result.statuses.values())
    for status, count in sorted(result.statuses.items()):
        table.add_row(f"verdict {status}", f"{count / total:.4f}")
    table.add_row("seconds", f"{result.seconds:.1f}")
    Console().print(table)
