"""The model card of a run's checkpoint: what it is, how it was trained, how it did with intervals, and with what.

Folders of this machine are left out: of an absolute path the last name stays.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from progrpo.measures.pass_at_k import doublings
from progrpo.plural import counted
from progrpo.report.comparison.results import measures_of
from progrpo.report.evaluations import Evaluation, held_out
from progrpo.report.read import Run, load_runs
from progrpo.schema.quantity import Quantity

_SHOWN = (
    "seed",
    "steps",
    "model",
    "task",
    "reward",
    "method",
    "sampling",
    "batch",
    "optim",
    "off_policy",
    "rollout",
    "data",
)
"""Sections of the settings that a reader needs to train the like."""
_FOLDERS = re.compile(r"(?<![\w:/.~])(?:~|[A-Za-z]:)?/(?:[^/\s\"',=]+/)+")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def make_card(path: Path, step: int, *, repo: str, adapter: bool, chosen_by: str = "") -> str:
    """The card in Markdown, with the hub's metadata before it.

    Args:
        path: the run directory. step: of the checkpoint. repo: its name on the hub. adapter: whether it is a LoRA adapter.
        chosen_by: the metric that the checkpoint was chosen by as the best; "" where it is the latest.

    Raises:
        RunDirectoryError, DataError: see `progrpo.report.read.load_runs`.
    """
    (run,) = load_runs([path])
    lines = [f"# {repo.partition('/')[2] or repo}", "", _summary(run, step, adapter), ""]
    lines += _results(run, step, chosen_by)
    lines += ["## How it was trained", "", "```yaml", _settings(run.config), "```", ""]
    command = run.environment.get("command")
    if command:
        lines += ["```", without_folders(shlex.join(map(str, command))), "```", ""]
    lines += ["## With what", "", *_versions(run.environment), ""]
    return _metadata(run.config, adapter) + "\n" + "\n".join(lines)


def without_folders(text: str) -> str:
    """A text without the folders of its absolute paths: /home/me/runs/a becomes a."""
    return _FOLDERS.sub("", text)


def _metadata(config: Mapping[str, Any], adapter: bool) -> str:
    from huggingface_hub import ModelCardData

    base = str((config.get("model") or {}).get("path", ""))
    method = str((config.get("method") or {}).get("name", ""))
    data = ModelCardData(
        base_model=base if _HUB_ID.fullmatch(base) and not Path(base).exists() else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["progrpo", "reinforcement-learning", "rlvr", *([method] if method.isidentifier() else [])],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _summary(run: Run, step: int, adapter: bool) -> str:
    config = run.config
    base, task, method = ((config.get(key) or {}) for key in ("model", "task", "method"))
    what = "A LoRA adapter of" if adapter else "Made from"
    reached = f"{step} of " if run.steps_planned else ""
    steps = reached + counted(run.steps_planned or step, "optimiser step")
    return (
        f"{what} `{without_folders(str(base.get('path')))}` by reinforcement learning with verifiable rewards: method "
        f"`{method.get('name')}`, task `{without_folders(str(task.get('name')))}`, {steps}, by "
        "progrpo ([arXiv:2602.05281](https://arxiv.org/abs/2602.05281))."
    )


def _results(run: Run, step: int, chosen_by: str) -> list[str]:
    """Tables of what the checkpoint was evaluated on; a sentence where it was on nothing."""
    lines = ["## Results", ""]
    tables = list(_evaluated(run, step))
    if not tables:
        return [*lines, "It was not evaluated.", ""]
    lines += ["Means over problems with 95 % bootstrap intervals over problems.", ""]
    if chosen_by:
        lines += [f"The checkpoint was chosen as the best by `{chosen_by}`: what is chosen by is too good by luck.", ""]
    for title, now, before in tables:
        lines += [f"### {title}", "", *_table(now, before), ""]
    return lines


def _evaluated(run: Run, step: int) -> Iterator[tuple[str, Evaluation, Evaluation | None]]:
    """Each evaluation of the checkpoint with a title, and the one before training where there is one."""
    root = run.path / "evaluations"
    folders = [root, *sorted(folder for folder in root.glob("*") if folder.is_dir())]
    for folder in folders:
        steps = sorted(int(file.stem.removeprefix("step-")) for file in folder.glob("step-*.jsonl"))
        reached = [one for one in steps if one <= step]
        if not reached:
            continue
        now, first = (held_out(folder / f"step-{one:06d}.jsonl", one, run.config) for one in (reached[-1], reached[0]))
        name = f"{now.task}, held-out problems" if folder == root else folder.name
        late = "" if reached[-1] == step else f", at step {reached[-1]}"
        title = f"{without_folders(name)}: {counted(len(now.problems), 'problem')} x {now.n}{late}"
        yield title, now, first if reached[0] == 0 < reached[-1] else None
    for one in run.benchmarks.values():
        if one.step == step:
            title = f"{one.task}" + (f", preset {one.preset}" if one.preset else "")
            yield f"{title}: {counted(len(one.problems), 'problem')} x {one.n}, {one.sampling}", one, None


def _table(now: Evaluation, before: Evaluation | None) -> list[str]:
    measures = measures_of(("held-out",), [now], k=doublings(now.n)[-1], always=())
    head = ["measure", "after", *(["before"] if before else [])]
    rows = [[_named(one), _cell(one, now), *([_cell(one, before)] if before else [])] for one in measures]
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _named(measure: Quantity) -> str:
    return f"{measure.label}, {measure.unit}".rstrip(", ")


def _cell(measure: Quantity, evaluation: Evaluation) -> str:
    interval = evaluation.interval(measure.key)
    return "–" if interval is None else f"{measure.value(interval.mean)} {measure.range(interval)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _settings(config: Mapping[str, Any]) -> str:
    shown = {key: config[key] for key in _SHOWN if config.get(key) is not None}
    return without_folders(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)).rstrip()


def _versions(environment: Mapping[str, Any]) -> list[str]:
    versions = environment.get("versions") or {}
    lines = [f"- {name} {version}" for name, version in versions.items()]
    lines += [
        f"- {name}: {environment[key]}"
        for name, key in (("Python", "python"), ("device", "device"), ("processes", "processes"))
        if key in environment
    ]
    commit = environment.get("git_commit")
    return [*lines, *([f"- commit of progrpo: {commit}"] if commit else [])]
