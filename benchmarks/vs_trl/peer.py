"""TRL's side: GRPOTrainer and the loop of transformers' Trainer as they are, watched through a callback.

Settings: what makes it equal to progrpo's GRPO, its own optimiser kernel (fused AdamW), and no logging, checkpoints,
progress bars or completion tables. Generation, reward and batch are timed by wrapping its methods.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOConfig, GRPOTrainer

from progrpo import rewards, tasks
from vs_trl.machine import PeakMemory, synchronize
from vs_trl.steps import Step
from vs_trl.workloads import BETAS, CLIP, GRAD_CLIP, Run

LONG_S = 10.0
"""A phase that takes longer is told as it ends, for the case that the step is cut."""


class Peer:
    """A GRPOTrainer; `run` makes its steps.

    Args:
        run: what both sides are given. out: a folder for what TRL may write.
        paged: generate by transformers' continuous batching instead of `generate`.
        override: more fields of GRPOConfig.
    """

    def __init__(self, run: Run, out: Path, *, paged: bool, override: Mapping[str, Any]) -> None:
        self._run = run
        self._problems = tasks.problems(run.work.task(run.rollouts), "train")
        self._reward = rewards.load(run.work.reward())
        tokenizer = AutoTokenizer.from_pretrained(run.path)
        rows = [{"prompt": problem.prompt, "number": index} for index, problem in enumerate(self._problems)]
        self.trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(run.path, dtype=torch.float32),
            reward_funcs=self.score,
            args=GRPOConfig(**settings_of(run, out, paged=paged) | dict(override)),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        self.trainer.remove_callback(PrinterCallback)

    def score(self, prompts: list[str], completions: list[str], number: list[int], **_: Any) -> list[float]:
        """The reward of progrpo's side as TRL calls one."""
        return [
            self._reward.score(text, self._problems[index]).reward
            for text, index in zip(completions, number, strict=True)
        ]

    def run(self, *, before: Callable[[], None], after: Callable[[Step], None]) -> None:
        """Make all steps; `before` is called ahead of each, outside its time, and `after` with what it took."""
        watch = _Watch(self.trainer, self._run, before, after)
        self.trainer.add_callback(watch)
        self.trainer.train()


class _Watch(TrainerCallback):
    """The clock of TRL's steps: from `on_step_begin`, before it generates, to `on_step_end`, after it stepped."""

    def __init__(
        self, trainer: GRPOTrainer, run: Run, before: Callable[[], None], after: Callable[[Step], None]
    ) -> None:
        self._before, self._after = before, after
        self._work, self._device = run.work, run.device
        self._memory = PeakMemory(run.device)
        self._seconds: dict[str, float] = {}
        self._batch: Mapping[str, torch.Tensor] = {}
        self._started = self._updated = self._cpu_started = 0.0
        for method, phase in (("_generate", "generate"), ("_calculate_rewards", "verify"), ("_prepare_inputs", "all")):
            setattr(trainer, method, self._timed(getattr(trainer, method), phase))
        trainer._generate_and_score_completions = self._kept(trainer._generate_and_score_completions)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._before()
        self._seconds = dict.fromkeys(("generate", "verify", "all"), 0.0)
        self._memory.start()
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        synchronize(self._device)
        self._updated = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        synchronize(self._device)
        ended, cpu_s = time.perf_counter(), time.process_time() - self._cpu_started
        peak = self._memory.stop()
        seconds = self._seconds
        group = self._work.group
        self._after(
            Step(
                seconds=ended - self._started,
                cpu_s=cpu_s,
                phases={
                    "generate": seconds["generate"],
                    "verify": seconds["verify"],
                    "score": seconds["all"] - seconds["generate"] - seconds["verify"],
                    "train": self._updated - self._started - seconds["all"],
                    "rest": ended - self._updated,
                },
                lengths=self._batch["completion_mask"].sum(dim=1).view(-1, group).cpu(),
                advantages=self._batch["advantages"].view(-1, group).cpu(),
                before=self._memory.before,
                peak=peak,
            )
        )

    def _timed(self, method: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = method(*args, **kwargs)
            synchronize(self._device)
            seconds = time.perf_counter() - started
            self._seconds[phase] += seconds
            if seconds > LONG_S and phase != "all":
                print(f"trl: {phase} {seconds:.1f} s, of a step that goes on", flush=True)
            return result

        return timed

    def _kept(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Keep the batch of a rollout: after this TRL shuffles its rows and cuts it into micro-batches."""

        def kept(*args: Any, **kwargs: Any) -> Any:
            self._batch = method(*args, **kwargs)
            return self._batch

        return kept


def settings_of(run: Run, out: Path, *, paged: bool) -> dict[str, Any]:
    """GRPO as progrpo's side computes it; one rollout per optimiser step, in micro-batches of `micro_rows`."""
    work = run.work
    rows = work.prompts * work.group
    micro = min(work.micro_rows, rows)
    return {
        "output_dir": str(out),
        "max_steps": run.rollouts,
        "num_generations": work.group,
        "max_completion_length": work.completion_tokens,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": rows // micro,
        "shuffle_dataset": False,
        "temperature": 1.0,
        "beta": 0.0,
        "num_iterations": 1,
        "loss_type": "grpo",
        "scale_rewards": "group",
        "epsilon": CLIP[0],
        "epsilon_high": CLIP[1],
        "learning_rate": work.lr,
        "adam_beta1": BETAS[0],
        "adam_beta2": BETAS[1],
        "weight_decay": 0.0,
        "max_grad_norm": GRAD_CLIP,
        "lr_scheduler_type": "constant",
        "bf16": run.precision == "bf16",
        "use_cpu": run.device == "cpu",
        "gradient_checkpointing": run.checkpointing,
        "use_transformers_continuous_batching": paged,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
