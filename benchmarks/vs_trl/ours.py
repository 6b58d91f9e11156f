"""progrpo's side: its own training loop, one rollout and update at a time."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from progrpo.methods import Advantages, Method
from progrpo.rollout.verify import Verifier
from progrpo.settings import apply_overrides, parse
from progrpo.train.clock import Clock
from progrpo.train.keeper import Keeper
from progrpo.train.loop import rollout_and_update
from progrpo.train.sampling import Rollouts
from progrpo.train.settings import RunSettings
from progrpo.train.setup import choose, prepare
from progrpo.types import RolloutBatch
from vs_trl.machine import PeakMemory, synchronize
from vs_trl.steps import PHASES, Step
from vs_trl.workloads import BETAS, CLIP, GRAD_CLIP, Run


class Ours:
    """A trainer of progrpo; `step` makes its next step. Close it, or leave its context."""

    def __init__(self, run: Run, out: Path, override: Sequence[str] = ()) -> None:
        """`out`: the run directory, not there yet. `override`: more settings as the command line takes them."""
        chosen = choose(parse(RunSettings, apply_overrides(settings_of(run, out), override), where="benchmark"))
        self._verifier = Verifier(chosen.reward, chosen.settings.verify)
        trainer = prepare(chosen, self._verifier, resume=False, listen=self._listen)
        self._method = _Recorder.of(trainer.method)
        self.trainer = dataclasses.replace(trainer, method=self._method)
        self._device = run.device
        self._memory = PeakMemory(run.device)
        self._done = 0
        self._row: Mapping[str, Any] = {}

    def step(self) -> Step:
        self._memory.start()
        started, cpu_started = time.perf_counter(), time.process_time()
        clock = Clock(self.trainer.model.device)
        self._done = rollout_and_update(
            self.trainer, self._done, clock, Keeper(self.trainer, clock), Rollouts(self.trainer)
        )
        synchronize(self._device)
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        # The loop measures its peak, too, and resets the mark when it has.
        peak = max(self._memory.stop(), int(2**30 * self._row.get("memory/peak_gib", 0.0)))
        # TRL frees its gradients at the end of a step. Kept, these would hide in what the next step finds in memory.
        self.trainer.model.model.zero_grad(set_to_none=True)
        phases = {name: float(self._row.get(f"time/{name}_s", 0.0)) for name in PHASES[:-1]}
        return Step(
            seconds=seconds,
            cpu_s=cpu_s,
            phases=phases | {"rest": seconds - sum(phases.values())},
            lengths=self._method.seen["lengths"],
            advantages=self._method.seen["values"],
            before=self._memory.before,
            peak=peak,
        )

    def close(self) -> None:
        self._verifier.close()
        self.trainer.run.close()

    def _listen(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "step":
            self._row = data


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Recorder(Method):
    """A method that remembers what its advantage hook saw and gave."""

    seen: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, method: Method) -> "_Recorder":
        return cls(**{field.name: getattr(method, field.name) for field in dataclasses.fields(method)})

    def advantages(self, batch: RolloutBatch) -> Advantages:
        result = super().advantages(batch)
        self.seen.update(lengths=batch.lengths, values=result.values)
        return result


def settings_of(run: Run, out: Path) -> dict[str, Any]:
    """GRPO as TRL's side computes it. Nothing is written but a row of metrics a step."""
    work = run.work
    return {
        "steps": run.rollouts + 1,  # one more than will be made: no checkpoint at the end
        "out": str(out),
        "model": {
            "path": run.path,
            "device": run.device,
            "precision": run.precision,
            "gradient_checkpointing": run.checkpointing,
        },
        "task": work.task(run.rollouts).model_dump(),
        "reward": work.reward().model_dump(),
        "method": {"name": "grpo", "clip_low": CLIP[0], "clip_high": CLIP[1]},
        "sampling": {"max_new_tokens": work.completion_tokens},
        "data": {"shuffle": False, "max_prompt_tokens": 4096},
        "batch": {"prompts": work.prompts, "group": work.group, "micro_tokens": work.micro_tokens},
        "optim": {"lr": work.lr, "betas": BETAS, "grad_clip": GRAD_CLIP},
        "checkpoint": {"every": 0},
        "record": {"rollouts_every": 0},
    }
