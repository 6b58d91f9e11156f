"""An environment of verifiers as its authors write them: sums, a reward, and a bonus for being brief."""

from collections.abc import Iterable

import verifiers.v1 as vf

__all__ = ["SumsTaskset"]


class SumsData(vf.TaskData):
    answer: str


class SumsConfig(vf.TasksetConfig):
    largest: int = 9
    tools: bool = False


class SumsTask(vf.Task[SumsData]):
    @vf.reward
    async def right(self, task: SumsData, trace: vf.Trace) -> float:
        return float(trace.last_reply == task.answer)

    @vf.reward(weight=0.5)
    async def brief(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply) < 4)


class SumsTaskset(vf.Taskset[SumsTask, SumsConfig]):
    def load(self) -> Iterable[SumsTask]:
        for number in range(1, self.config.largest + 1):
            yield SumsTask(SumsData(prompt=f"{number}+{number}=", answer=str(2 * number)), self.config.task)
