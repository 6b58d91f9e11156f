"""The runs of scripts/study.py and scripts/methods_study.py: what is trained, on which set-up, and the file that keeps what
every run ended with.

A run is one method at one strength from one seed on one set-up, in a directory of its own. What is kept of it is one JSON
object in the results file: its settings, and at every evaluation the measures over the problems that strengths are chosen on
("choose") and over those that the tables show ("table"). A run found in the file is not made again; one found in its
directory goes on from its last checkpoint, so that 600 steps cost 450 where 150 were made before.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from progrpo.files import to_json

ROOT = Path(__file__).parent.parent
CHOOSE_PROBLEMS = 50
"""Of the 200 held-out problems the first so many choose a strength; the others are the tables'."""
MEASURES = ("pass@1", "pass@2", "pass@4", "pass@8", "pass@16", "pass@32", "distinct_correct", "entropy", "length")
LOGGED = ("shift_share", "shift_length_correlation", "negative_correct", "sign_flips", "shift_abs")


class Family(NamedTuple):
    """A method whose strength is one number.

    Attributes:
        method: its settings, with {strength} where the number goes.
        strengths: those that are scanned; (None,) for a method without one.
        long: those of the long comparison; () leaves that to the strength that was chosen.
        label: for tables and pictures. unit: what the number is called.
        more: settings of the run beside the method's, with {strength}, or with {lr}: the set-up's learning rate times it.
        kind: methods of one kind are drawn in one colour.
        steps_share: optimiser steps that it makes of the set-up's, where it makes one of each rollout and others make more.
    """

    method: str
    strengths: tuple[float | None, ...]
    long: tuple[float | None, ...]
    label: str
    unit: str = "alpha"
    more: tuple[str, ...] = ()
    kind: str = ""
    steps_share: float = 1.0


_AMONG_CORRECT = "spread: group_std, baseline: correct_mean, apply_to: correct, skip: all_wrong, alpha: {strength}"
FAMILIES = {
    "grpo": Family("{name: grpo}", (None,), (None,), "GRPO"),
    "dapo": Family("{name: dapo}", (None,), (None,), "DAPO's loss (alpha 0)"),
    "paper": Family("{name: progrpo, alpha: {strength}}", (0.1, 0.3, 1.0, 3.0), (0.3,), "ProGRPO, paper's form"),
    "equilibrium": Family(
        "{name: progrpo, preset: equilibrium, alpha: {strength}}", (0.5, 1.0, 2.0, 3.0), (1.0,), "equilibrium"
    ),
    "ucpo": Family(
        "{name: ucpo, clip_high: 0.28, aggregate: group_token, tau: {strength}}", (0.2, 0.5, 0.8, 1.0), (), "UCPO", "tau"
    ),
    "unlikeliness": Family(
        "{name: unlikeliness, clip_high: 0.28, aggregate: group_token, beta: {strength}}",
        (0.25, 0.5, 0.75, 1.0),
        (),
        "unlikeliness",
        "beta",
    ),
    "unlikeliness_mixed": Family(
        "{name: unlikeliness, skip: degenerate, clip_high: 0.28, aggregate: group_token, beta: {strength}}",
        (1.0,),
        (),
        "unlikeliness, mixed groups alone",
        "beta",
    ),
    "entropy": Family(
        "{name: dapo, entropy_coef: {strength}}", (0.003, 0.01, 0.03, 0.1), (), "entropy bonus", "coefficient"
    ),
    "log_c": Family(
        "{name: progrpo, score: log_c, " + _AMONG_CORRECT + "}",
        (0.3, 0.6, 1.0, 1.5),
        (0.3, 0.6, 1.0),
        "log c among the correct",
    ),
    "log_prob": Family(
        "{name: progrpo, score: log_prob, " + _AMONG_CORRECT + "}",
        (0.3, 0.6, 1.0, 1.5),
        (0.3, 0.6, 1.0),
        "log p among the correct",
    ),
    "log_prob_no_trend": Family(
        "{name: progrpo, score: log_prob, length_trend: remove, " + _AMONG_CORRECT + "}",
        (0.3, 0.6, 1.0, 1.5),
        (),
        "log p less its trend in the length",
    ),
}  # fmt: skip
"""All but GRPO have ProGRPO's clip range and aggregation, so that they differ from `dapo` by the advantages (or the bonus)."""


class Setup(NamedTuple):
    """Where methods are compared: `recipe` with `settings`, `unit` steps to an evaluation; `lr` where families scale it."""

    recipe: str
    settings: tuple[str, ...]
    unit: int = 150
    lr: float = 0.0


_COUNTDOWN = ("task.test_size=200", "record.rollouts_every=0", "checkpoint.keep=1")
SETUPS = {
    "on_policy": Setup("demo/grpo.yaml", _COUNTDOWN),
    "four_steps": Setup("demo/grpo.yaml", (*_COUNTDOWN, "batch.minibatch_prompts=4", "optim.lr=1.5e-4"), 600),
    "group_8": Setup("demo/grpo.yaml", (*_COUNTDOWN, "batch.group=8")),
    "grid_path": Setup("study/grid_path.yaml", _COUNTDOWN),
}
"""`on_policy`: recipes/demo/grpo.yaml, one step a rollout of 16 problems x 16 completions. `four_steps`: the same rollouts,
four steps of 4 problems on each. `group_8`: 16 problems x 8 completions. `grid_path`: the second game, with the
model that `python scripts/make_embedded_model.py --task grid_path` makes in runs/grid_model."""


def chosen_apart(problems: Sequence[Mapping[str, Any]]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The problems that choose a strength, and the tables' if there are more."""
    parts = {"choose": problems[:CHOOSE_PROBLEMS], "table": problems[CHOOSE_PROBLEMS:]}
    return {name: part for name, part in parts.items() if part}


class Plan(NamedTuple):
    """What a study compares: its families and set-ups by name.

    Attributes:
        measured_at_start: the families whose runs also evaluate before training, which is the same for all; None: every one.
        parts: parts(evaluated problems) -> those that are averaged together, by name.
        measures: what is kept of an evaluation.
        of_rollouts: what is kept of training's own rollouts (`rollout/NAME`), each in the mean over the later half of the
            steps to an evaluation. Variants with one seed meet the same problems there, far more of them than are held out.
    """

    families: Mapping[str, Family]
    setups: Mapping[str, Setup]
    measured_at_start: frozenset[str] | None = None
    parts: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Sequence[Mapping[str, Any]]]] = chosen_apart
    measures: tuple[str, ...] = MEASURES
    of_rollouts: tuple[str, ...] = ()


STUDY = Plan(FAMILIES, SETUPS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run of a study, to be trained for `steps` of its set-up; `extra` settings come last.

    Attributes:
        chooses: it only helps to choose a strength, so that it is evaluated on the problems for that alone.
    """

    setup: str
    family: str
    strength: float | None
    seed: int
    steps: int
    plan: Plan = STUDY
    extra: tuple[str, ...] = ()
    chooses: bool = False

    @property
    def name(self) -> str:
        strength = "" if self.strength is None else f"-{self.strength:g}"
        return f"{self.setup}-{self.family}{strength}-seed{self.seed}"

    @property
    def key(self) -> tuple[str, str, float | None, int]:
        return self.setup, self.family, self.strength, self.seed

    @property
    def method(self) -> str:
        """Its settings."""
        return self._filled(self.plan.families[self.family].method)

    @property
    def more(self) -> list[str]:
        """Settings of its family beside the method's, and those that were given for all runs."""
        return [*(self._filled(setting) for setting in self.plan.families[self.family].more), *self.extra]

    def settings(self, out: Path) -> list[str]:
        setup, family = self.plan.setups[self.setup], self.plan.families[self.family]
        unit = round(min(setup.unit, self.steps) * family.steps_share)
        steps = round(self.steps * family.steps_share)
        return [
            *(f"out={out / self.name}", f"seed={self.seed}", f"steps={steps}", f"method={self.method}"),
            *(f"evaluate.every={unit}", f"checkpoint.every={unit}", *setup.settings),
            *([] if self._measures_the_start else ["evaluate.at_start=false"]),
            *([f"evaluate.problems={CHOOSE_PROBLEMS}"] if self.chooses else []),
            *self.more,
        ]

    @property
    def _measures_the_start(self) -> bool:
        families = self.plan.measured_at_start
        return families is None or (self.family in families and not self.chooses)

    def _filled(self, text: str) -> str:
        rate = self.plan.setups[self.setup].lr * (self.strength or 1.0)
        return text.replace("{strength}", str(self.strength)).replace("{lr}", f"{rate:g}")


@dataclass
class Results:
    """The results file: one object a run, the longest of each; written whole after every run."""

    path: Path
    plan: Plan = STUDY
    rows: dict[tuple[str, str, float | None, int], dict[str, Any]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        if self.path.exists():
            for line in self.path.read_text("utf-8").splitlines():
                self._take(json.loads(line))

    def add(self, row: dict[str, Any]) -> None:
        with self._lock:
            self._take(row)
            order = sorted(
                self.rows.values(), key=lambda one: [str(one[k]) for k in ("setup", "family", "strength", "seed")]
            )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(to_json(one) + "\n" for one in order), encoding="utf-8")

    def has(self, job: Job) -> bool:
        row = self.rows.get(job.key)
        return row is not None and any(point["step"] == job.steps for point in row["curve"])

    def curves(
        self, setup: str, family: str, strength: float | None, seeds: Iterable[int]
    ) -> list[list[dict[str, Any]]]:
        """The evaluations of the runs that are there."""
        found = [self.rows.get((setup, family, strength, seed)) for seed in seeds]
        return [row["curve"] for row in found if row is not None]

    def values(
        self,
        setup: str,
        family: str,
        strength: float | None,
        seeds: Iterable[int],
        step: int,
        measure: str,
        part: str = "table",
    ) -> dict[int, float]:
        """Seed to value at one evaluation, of the runs that reached it and have one: None stands for a mean over nothing."""
        found: dict[int, float] = {}
        for seed in seeds:
            for curve in self.curves(setup, family, strength, [seed]):
                points = [point[part] for point in curve if point["step"] == step and part in point]
                found.update((seed, point[measure]) for point in points if point[measure] is not None)
        return found

    def _take(self, row: dict[str, Any]) -> None:
        key = (row["setup"], row["family"], row["strength"], row["seed"])
        if key not in self.rows or self.rows[key]["curve"][-1]["step"] <= row["curve"][-1]["step"]:
            self.rows[key] = row


def run_all(jobs: Sequence[Job], results: Results, out: Path, at_once: int) -> None:
    """Train what the results file does not have, `at_once` side by side, in the order given."""
    wanted = [job for job in jobs if not results.has(job)]
    print(f"{len(jobs)} runs, {len(jobs) - len(wanted)} of them in {results.path}", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    # Runs are forked from one process that has loaded torch and Transformers, which saves a few seconds a run.
    _STARTER.set_forkserver_preload(["progrpo.train.loop", "transformers.models.qwen2.modeling_qwen2"])
    with ThreadPoolExecutor(at_once) as pool:
        for job in [pool.submit(run, job, results, out) for job in wanted]:
            job.result()


def run(job: Job, results: Results, out: Path) -> None:
    """Train one and keep what it ended with.

    Raises:
        RuntimeError: the run failed; with what it printed.
    """
    (out / "printed").mkdir(parents=True, exist_ok=True)
    printed = out / "printed" / f"{job.name}.txt"
    printed.touch()
    process = _STARTER.Process(target=_train, args=(job, out, printed))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{job.name} ended with {process.exitcode}: {printed.read_text('utf-8')[-2000:]}")
    results.add(summary(job, out / job.name))
    print(f"done {job.name} to step {job.steps}", flush=True)


_STARTER = multiprocessing.get_context("forkserver")


def _train(job: Job, out: Path, printed: Path) -> None:
    from progrpo.train.loop import train
    from progrpo.train.settings import load_settings

    recipe = ROOT / "recipes" / job.plan.setups[job.setup].recipe
    with printed.open("w", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    train(load_settings(recipe, job.settings(out)), resume=True)


def summary(job: Job, folder: Path) -> dict[str, Any]:
    """What the results file keeps of a finished run."""
    curve = []
    for path in sorted((folder / "evaluations").glob("step-*.jsonl")):
        problems = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        parts = {name: _means(rows, job.plan.measures) for name, rows in job.plan.parts(problems).items()}
        curve.append({"step": int(path.stem.removeprefix("step-"))} | parts)
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    share = job.plan.families[job.family].steps_share
    unit = job.plan.setups[job.setup].unit * share
    for point in curve:
        window = [row for row in metrics if point["step"] - unit < row["step"] <= point["step"]]
        point["logged"] = {name: _mean(values) for name in LOGGED if (values := _known(window, f"progrpo/{name}"))}
        later = [row for row in window if row["step"] > max(0, point["step"] - unit / 2)]
        if job.plan.of_rollouts and later:
            point["rollouts"] = {name: _mean(_known(later, f"rollout/{name}")) for name in job.plan.of_rollouts}
        point["step"] = round(point["step"] / share)  # of the set-up, whatever the family makes of it
    environment = json.loads((folder / "environment.json").read_text("utf-8"))
    return {
        "setup": job.setup,
        "family": job.family,
        "strength": job.strength,
        "seed": job.seed,
        "method": job.method,
        "more": job.more,
        "rollout_s": _seconds_a_rollout(metrics),
        "torch": environment["versions"]["torch"],
        "commit": _commit(),
        "curve": curve,
    }


def _seconds_a_rollout(metrics: Sequence[Mapping[str, Any]]) -> float:
    """What a rollout costs, with the optimiser steps made of it; without evaluations, checkpoints and files."""
    phases = [f"time/{name}_s" for name in ("generate", "verify", "score", "train", "sync")]
    made = [row for row in metrics if row["step"] > 0]
    rollouts = sum(row["time/generate_s"] > 0 for row in made)
    return round(sum(row[phase] or 0.0 for row in made for phase in phases) / max(1, rollouts), 4)


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _means(problems: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    measures = [problem["measures"] for problem in problems]
    return {name: _mean(_known(measures, name)) for name in names}


def _known(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 6) if values else float("nan")
