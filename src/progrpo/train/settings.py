"""The settings of a training run: each knob once, beside its default, range and meaning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from progrpo import recipes
from progrpo.engines import Sampling
from progrpo.evaluate import EvaluateSettings
from progrpo.model import ModelSettings
from progrpo.plural import near_multiples
from progrpo.rollout.verify import VerifySettings
from progrpo.settings import (
    SHORT,
    Choice,
    NamedChoice,
    Settings,
    apply_overrides,
    parse,
    read_overrides,
    read_yaml,
)
from progrpo.train.alarms.settings import AlarmSettings
from progrpo.train.off_policy import OffPolicySettings
from progrpo.train.parallel import ParallelSettings


class DataSettings(Settings):
    max_prompt_tokens: int = Field(1024, gt=0)
    """Longer prompts are refused before the run starts, or left out."""
    long_prompts: Literal["refuse", "drop"] = "refuse"
    """What is done with a prompt above `max_prompt_tokens`: an error before the run, or the problem is left out."""
    shuffle: bool = True
    """A new order each epoch, from the seed; false keeps the order of the file."""
    pass_rate: tuple[float, float] | None = None
    """Train on the problems whose pass rate before training lies in this range, for instance [0.1, 0.9]. It is measured once,
    and shown; None takes all problems."""
    pass_rate_samples: int = Field(8, ge=1)
    """Completions per problem that pass rates are measured by."""
    curriculum: bool = False
    """Go through each epoch from the highest pass rate before training to the lowest, equal ones in the order they had."""

    @property
    def by_pass_rate(self) -> bool:
        """Whether pass rates are to be known."""
        return self.pass_rate is not None or self.curriculum

    @model_validator(mode="after")
    def _is_range(self) -> "DataSettings":
        if self.pass_rate is not None and not 0 <= self.pass_rate[0] <= self.pass_rate[1] <= 1:
            raise ValueError(
                f"pass_rate: expected a range within [0, 1], for instance [0.1, 0.9], got {[*self.pass_rate]}"
            )
        return self


class BatchSettings(Settings):
    prompts: int = Field(32, gt=0)
    """P, problems per rollout. A rollout is P * group completions."""
    group: int = Field(8, ge=2)
    """G, completions per problem."""
    minibatch_prompts: int | None = Field(None, gt=0)
    """Problems per optimiser step; None takes all of the rollout (on-policy). 512 and 32 in the paper: 16 steps each."""
    micro_tokens: int = Field(16_384, gt=0)
    """Tokens (padding included) of one forward and backward pass; changes memory and speed, not the gradient."""
    skip_zero_advantage: bool = True
    """Leave sequences whose advantage is exactly 0 out of the passes; denominators stay, so the gradient does too."""

    @property
    def steps_per_rollout(self) -> int:
        return self.prompts // (self.minibatch_prompts or self.prompts)

    @model_validator(mode="after")
    def _divides(self) -> "BatchSettings":
        if self.minibatch_prompts is not None and self.prompts % self.minibatch_prompts:
            raise ValueError(
                f"minibatch_prompts={self.minibatch_prompts} does not divide prompts={self.prompts} (both count problems, "
                f"not completions); use minibatch_prompts={_near_divisors(self.minibatch_prompts, self.prompts)}"
            )
        return self


def _near_divisors(value: int, of: int) -> str:
    """The divisors of a whole number next below and above another that is none: "2 or 4" for 3 of 8."""
    divisors = [one for one in range(1, of + 1) if of % one == 0]
    below = [one for one in divisors if one < value][-1:]
    return " or ".join(map(str, [*below, *[one for one in divisors if one > value][:1]]))


_Share = Annotated[float, Field(ge=0, lt=1)]


class OptimSettings(Settings):
    name: Literal["adamw", "adamw_8bit", "sgd", "adafactor", "muon"] = "adamw"
    """adamw_8bit keeps AdamW's two means in 8 bits (bitsandbytes). sgd: momentum alone. adafactor keeps next to nothing;
    its steps are relative to the size of the weights. muon: the matrices within the layers by Muon, all else by AdamW. With
    parallel=fsdp2: adamw and sgd."""
    lr: float = Field(1e-6, gt=0)
    """The learning rate after warm-up."""
    betas: tuple[_Share, _Share] = (0.9, 0.999)
    """AdamW's decay of the running means of the gradient and of its square."""
    eps: float = Field(1e-8, gt=0)
    """AdamW's addend to the root of the second mean."""
    momentum: float | None = Field(None, ge=0, lt=1)
    """Decay of the running mean of the gradient in sgd (null: 0, none is kept) and muon (null: 0.95)."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled decay, per step a share lr * weight_decay of each weight; sgd adds it to the gradient."""
    grad_clip: float = Field(1.0, gt=0)
    """Largest norm of the whole gradient."""
    warmup_steps: int = Field(0, ge=0)
    """Optimiser steps of linear warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After warm-up: constant, or down to 0 at the last step."""

    @property
    def state_bytes(self) -> float:
        """What is kept per trained parameter, at most: Muon has one mean of a matrix, and AdamW two of the rest."""
        kept = {"adamw": 8, "adamw_8bit": 2.1, "sgd": 4 if self.momentum else 0, "adafactor": 0.1, "muon": 8}
        return kept[self.name]

    @model_validator(mode="after")
    def _are_read(self) -> "OptimSettings":
        for key, readers in _READ_BY.items():
            default = OptimSettings.model_fields[key].default
            if getattr(self, key) != default and self.name not in readers:
                raise ValueError(f"{key}: {self.name} does not read it ({', '.join(readers)} do); leave it out")
        return self


_READ_BY = {
    "betas": ("adamw", "adamw_8bit", "muon"),
    "eps": ("adamw", "adamw_8bit", "muon"),
    "momentum": ("sgd", "muon"),
}
"""Settings of the optimiser that not all of them have."""


class PeriodicEvaluation(EvaluateSettings):
    every: int = Field(0, ge=0)
    """Optimiser steps between evaluations on the test split; 0 evaluates never. The last step always counts."""
    at_start: bool = True
    """Evaluate before the first step, too. Without it nothing says where the run began."""
    tasks: tuple[NamedChoice, ...] = ()
    """Benchmarks that are evaluated at these steps, too, as `progrpo evaluate` would: each by its name (also math, code, ood),
    or {name: ..., key: value} with settings of its own; metrics are called benchmark/NAME/MEASURE."""
    max_new_tokens: int | None = Field(None, gt=0)
    """Longest completion of an evaluation; None takes that of `sampling`. (`progrpo evaluate` takes the benchmark's own.)"""


class CheckpointSettings(Settings):
    every: int = Field(100, ge=0)
    """Optimiser steps between checkpoints; the last step always has one. 0 writes only that one."""
    keep: int = Field(2, ge=1)
    """Latest checkpoints kept."""
    merged: bool = False
    """With `model.lora`, also write the model with the adapter added to its weights, as folder `merged` of a checkpoint."""
    best: str | None = None
    """Also keep the checkpoint that is best by a measure of the evaluations: "pass@1" of the held-out problems, or
    "benchmark/NAME/pass@1"; `progrpo evaluate RUN --checkpoint best` takes it. It is written at the step of the evaluation."""
    mode: Literal["auto", "max", "min"] = "auto"
    """Which values of `best` are better: the larger, the smaller, or as the measure says."""


class EarlyStopping(Settings):
    measure: str | None = None
    """End the run when this measure of the evaluations no longer gets better, named as for `checkpoint.best`; None: never."""
    patience: int = Field(3, ge=1)
    """So many evaluations in a row without a better value than the first one's, or any since, end the run."""
    mode: Literal["auto", "max", "min"] = "auto"
    """Which values are better: the larger, the smaller, or as the measure says."""
    min_delta: float = Field(0.0, ge=0)
    """What a value must be better by, in the unit of the measure."""


class RecordSettings(Settings):
    rollouts_every: int = Field(1, ge=0)
    """Write the completions of one rollout in so many; 0 writes none."""
    tokens: bool | Literal["checkpoints"] = "checkpoints"
    """Keep a rollout with its tokens as a bundle (about 28 bytes a token), which `progrpo replay` computes again and
    `progrpo score` reads. "checkpoints": of the rollouts that a checkpoint leads to or that lead to one, the first and the last
    among them, and of those that an alarm names; true: of all that are written; false: of none."""
    tokens_mib: float = Field(512, gt=0)
    """Most that the bundles of a run take together, in MiB; the oldest go first. A rollout that takes more alone is written
    without its tokens."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Also log to these; each needs its own package (progrpo[tensorboard], ...). With several processes the main one does."""
    project: str = "progrpo"
    """Project name for the trackers."""
    group: str | None = None
    """Group of the run in wandb and trackio; None: the run directory's name without its seed, so that seeds are together."""
    samples_every: int = Field(10, ge=0)
    """Rollouts from one table of sample completions in the trackers to the next, from the first on; 0 sends none."""
    profile_rollouts: tuple[PositiveInt, ...] = (2, 3)
    """Rollouts that `--profile` traces, each with its optimiser steps, counted from 1 at the start of the process. The
    first is slower than the others: memory, kernels and worker processes are set up in it."""


class RolloutSettings(Settings):
    ahead: Literal[0, 1] = 0
    """1: the next rollout is sampled while this one is trained, by the policy as it was before: one rollout off-policy, which
    `off_policy.level=token`, then the default, makes up for. It takes an engine that runs beside the trainer (vllm,
    mode=server). 0: each rollout is sampled by the policy that learns from it."""


class EngineChoice(Choice):
    name: str = "hf"


class RunSettings(Settings):
    seed: int = Field(0, ge=0)
    """Everything random follows from it: the order of problems, samples, what a method initialises."""
    steps: int = Field(0, ge=0)
    """Optimiser steps of the whole run; 0 where `epochs` say how long it is: one of the two."""
    epochs: float | None = Field(None, gt=0)
    """How often each training problem is met, rounded up to whole rollouts; instead of `steps`. Not for problems that are
    made up, nor for a mixture with weights."""
    out: str | None = None
    """Run directory; None takes runs/NAME-OF-THE-RECIPE."""
    model: ModelSettings = Field(examples=["Qwen/Qwen2.5-0.5B-Instruct"])
    """The policy."""
    task: Choice = Field(examples=[{"name": "file", "train": "problems.jsonl"}])
    """The problems: `name`, and the settings of that task."""
    reward: Choice | None = None
    """None takes the task's own."""
    method: Choice = Field(examples=["progrpo"])
    """The method: `name`, `preset` where it has some, `add` for what is added to its advantages, and its settings."""
    engine: EngineChoice = EngineChoice()
    """What generates: `name`, and the settings of that engine."""
    sampling: Sampling = Field(examples=[{"max_new_tokens": 1024}])
    """How completions are drawn in training."""
    old_logprobs: Literal["auto", "engine", "trainer"] = "auto"
    """Where log-probs of the sampling policy come from: the engine, or one more forward pass of the trainer. "auto"
    takes the engine's where it samples from the very weights that are trained, unless the method tells apart what bf16 merely
    rounds (gspo's clip range, kl_cov's penalty)."""
    off_policy: OffPolicySettings = OffPolicySettings()
    """What is made of the difference between the engine's log-probs and the trainer's."""
    rollout: RolloutSettings = RolloutSettings()
    """How far sampling runs ahead of training."""
    data: DataSettings = DataSettings()
    """Which problems, in which order."""
    batch: BatchSettings = BatchSettings()
    """How much at a time."""
    optim: OptimSettings = OptimSettings()
    """The optimiser."""
    parallel: ParallelSettings = ParallelSettings()
    """Several processes."""
    verify: VerifySettings = VerifySettings()
    """How verdicts are made."""
    evaluate: PeriodicEvaluation = PeriodicEvaluation()
    """Evaluations during training."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    """What is kept to go on from."""
    early_stopping: EarlyStopping = EarlyStopping()
    """When a run ends before its last step."""
    alarms: AlarmSettings = AlarmSettings()
    """What is said aloud of a run that looks as those do that fail: docs/alarms.md."""
    record: RecordSettings = RecordSettings()
    """What is written down beside the metrics."""

    @model_validator(mode="before")
    @classmethod
    def _corrects_what_is_ahead(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not _ahead(data.get("rollout")):
            return data
        chosen = data.get("off_policy") or {}
        return {**data, "off_policy": {"level": "token", **chosen}} if isinstance(chosen, Mapping) else data

    @model_validator(mode="before")
    @classmethod
    def _null_steps(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or data.get("steps", 0) is not None:
            return data
        return {key: value for key, value in data.items() if key != "steps"}

    def as_given(self) -> dict[str, Any]:
        """Every setting, with `epochs` rather than the steps that were made of them: what is written down and read again."""
        return self.model_dump(mode="json") | ({} if self.epochs is None else {"steps": 0})

    @model_validator(mode="after")
    def _agrees(self) -> "RunSettings":
        if not self.steps and self.epochs is None:
            raise ValueError(
                "how long? Give steps (optimiser steps), or epochs (how often each training problem is met)"
            )
        if self.steps and self.epochs is not None:
            raise ValueError(
                f"steps={self.steps} and epochs={self.epochs:g}: give one of the two; null takes the other back"
            )
        per_rollout = self.batch.steps_per_rollout
        for name, value in (
            ("steps", self.steps),
            ("evaluate.every", self.evaluate.every),
            ("checkpoint.every", self.checkpoint.every),
        ):
            if value % per_rollout:
                raise ValueError(
                    f"{name}={value} is no multiple of the {per_rollout} optimiser steps of a rollout "
                    f"(batch.prompts={self.batch.prompts} / batch.minibatch_prompts={self.batch.minibatch_prompts}); "
                    f"use {near_multiples(value, per_rollout)}"
                )
        followed = {"checkpoint.best": self.checkpoint.best, "early_stopping.measure": self.early_stopping.measure}
        for name, measure in followed.items():
            if measure is not None and not self.evaluate.every:
                raise ValueError(f"{name}={measure}: nothing is evaluated; set evaluate.every to a number of steps")
        if self.parallel.mixed_precision and (self.model.precision != "bf16" or self.parallel.mode != "fsdp2"):
            raise ValueError("parallel.mixed_precision belongs to parallel.mode=fsdp2 and model.precision=bf16")
        if self.parallel.mode == "fsdp2" and self.model.load_in_4bit:
            raise ValueError("model.load_in_4bit: weights in 4 bits are not sharded; leave out parallel=fsdp2")
        if self.parallel.mode == "fsdp2" and self.optim.name not in ("adamw", "sgd"):
            raise ValueError(
                f"optim.name={self.optim.name}: it steps whole matrices or blocks, which parallel=fsdp2 cuts; choose adamw or "
                "sgd, or parallel=ddp"
            )
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature: 0 samples nothing new; training needs a value above 0")
        return self


def _ahead(rollout: Any) -> bool:
    return bool(rollout.get("ahead")) if isinstance(rollout, Mapping) else getattr(rollout, "ahead", 0) > 0


def load_settings(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] | Mapping[str, Any] = ()
) -> RunSettings:
    """Read the settings of a run.

    Args:
        recipe: the path of a recipe, the name of one that ships with the package (`progrpo recipes`), or the settings as a
            mapping.
        overrides: `["optim.lr=3e-6"]` or `{"optim.lr": 3e-6, "method": "grpo"}`, applied in order.

    Raises:
        ConfigError: see `progrpo.settings`.
    """
    if isinstance(recipe, Mapping):
        data, where, stem = recipe, "settings", "run"
    else:
        path = recipes.find(recipe)
        data, where, stem = read_yaml(path), str(path), path.stem
    changes = read_overrides(overrides)
    asked = {one.key: one.value for one in changes if one.value is not None}
    if len(lengths := asked.keys() & {"steps", "epochs"}) == 1:  # it takes the place of what the recipe says
        data = {key: value for key, value in data.items() if key not in {"steps", "epochs"} - lengths}
    merged: dict[str, Any] = apply_overrides(data, changes, short=SHORT)
    if merged.get("out") is None:
        merged["out"] = str(Path("runs") / stem)
    return parse(RunSettings, merged, where=where, overrides=changes)
