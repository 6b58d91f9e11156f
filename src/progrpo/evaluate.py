"""Evaluate a model on a task: n completions per problem, verified, measured per problem and averaged."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from progrpo import measures
from progrpo.engines import Engine, Sampling
from progrpo.model import LanguageModel
from progrpo.rollout.generate import completion_seeds, run_rollout
from progrpo.rollout.verify import Verifier
from progrpo.settings import Settings
from progrpo.types import Group, Problem, Verdict

_PROBLEMS_AT_A_TIME = 32


class EvaluateSettings(Settings):
    n: int = Field(32, ge=1)
    """Completions per problem; Pass@k is known for k up to n."""
    problems: int | None = Field(None, ge=1)
    """Use the first so many problems of the test split; None uses all."""
    temperature: float = Field(0.6, ge=0)
    """The paper evaluates at 0.6 and top-p 0.95 (arXiv:2602.05281, Sec. 4.2)."""
    top_p: float = Field(0.95, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    measures: tuple[str, ...] = ("pass_at_k", "distinct_solutions", "tokens")

    def sampling(self, max_new_tokens: int) -> Sampling:
        return Sampling(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, max_new_tokens=max_new_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The result: one row per problem as written to disk, the means over problems, and every verdict."""

    rows: tuple[Mapping[str, Any], ...]
    means: Mapping[str, float]
    verdicts: tuple[Verdict, ...]
    seconds: float

    @property
    def statuses(self) -> Counter[str]:
        return Counter(verdict.status for verdict in self.verdicts)

    @property
    def failed(self) -> float:
        """Share of completions that the verifier failed to judge; measures count them as not correct."""
        return sum(verdict.failed for verdict in self.verdicts) / max(1, len(self.verdicts))


def run_evaluation(
    problems: Sequence[Problem],
    *,
    model: LanguageModel,
    engine: Engine,
    verifier: Verifier,
    settings: EvaluateSettings,
    max_new_tokens: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Sample, verify and measure.

    The seeds depend on (seed, problem, index) alone, not on the step: two evaluations with one seed differ by the
    model and not by the draw.

    Args:
        on_progress: called with problems done and problems in all.
    """
    problems = problems[: settings.problems] if settings.problems else problems
    modules = [
        module
        for module in measures.load(settings.measures)
        if verifier.canonical or not getattr(module, "NEEDS_CANONICAL", False)
    ]
    rows: list[Mapping[str, Any]] = []
    verdicts: list[Verdict] = []
    seconds = 0.0
    for start in range(0, len(problems), _PROBLEMS_AT_A_TIME):
        part = problems[start : start + _PROBLEMS_AT_A_TIME]
        rollout = run_rollout(
            part,
            model=model,
            engine=engine,
            verifier=verifier,
            sampling=settings.sampling(max_new_tokens),
            seeds=[completion_seeds(seed, "evaluate", problem=problem, group=settings.n) for problem in part],
        )
        seconds += rollout.generate_s + rollout.verify_s
        for group in rollout.groups:
            verdicts += group.verdicts
            values = [module.measure(group.completions, group.verdicts) for module in modules]
            rows.append(_row(group, {name: value for part in values for name, value in part.items()}))
        if on_progress:
            on_progress(len(rows), len(problems))
    return Evaluation(rows=tuple(rows), means=mean_over_problems(rows), verdicts=tuple(verdicts), seconds=seconds)


def mean_over_problems(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of each measure over the problems that have it, in the order the measures first appear."""
    names = list(dict.fromkeys(name for row in rows for name in row["measures"]))
    known = {name: [row["measures"][name] for row in rows if name in row["measures"]] for name in names}
    return {name: sum(values) / len(values) for name, values in known.items()}


def _row(group: Group, values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "problem": group.problem.id,
        "prompt": group.problem.prompt,
        "n": len(group.verdicts),
        "correct": sum(verdict.correct for verdict in group.verdicts),
        "measures": dict(values),
        "samples": [
            {
                "text": completion.text,
                "seed": completion.seed,
                "finish": completion.finish,
                "tokens": len(completion.token_ids),
                "status": verdict.status,
                "canonical": verdict.canonical,
                "detail": verdict.detail,
            }
            for completion, verdict in zip(group.completions, group.verdicts, strict=True)
        ],
    }
