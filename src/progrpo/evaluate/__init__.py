"""Evaluate a model on problems: n completions of each, verified, kept with what their tokens say, and measured."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from progrpo import measures
from progrpo.algo.confidence import sequence_confidence
from progrpo.callable_package import make_callable
from progrpo.engines import Engine, Sampling, Stops
from progrpo.errors import ConfigError
from progrpo.measures import Measure
from progrpo.model import LanguageModel
from progrpo.processes import ALONE, Processes
from progrpo.rollout.generate import completion_seeds, run_rollout
from progrpo.rollout.verify import Verifier
from progrpo.rows import to_row
from progrpo.settings import Choice, NamedChoice, Settings
from progrpo.types import Completion, Group, Problem, ProblemResult, Sample, TokenStatistics, Verdict

make_callable(__name__, "progrpo.api.evaluate:evaluate")

logger = logging.getLogger(__name__)


class EvaluateSettings(Settings):
    n: int = Field(32, ge=1)
    """Completions per problem; Pass@k is known for k up to n. Pass@n from n completions is 0 or 1 for each problem, the
    noisiest estimate there is: give 2k or more where Pass@k matters."""
    problems: int | None = Field(None, ge=1)
    """Use the first so many problems of the test split; None uses all."""
    temperature: float = Field(0.6, ge=0)
    """The paper evaluates at 0.6 and top-p 0.95 (arXiv:2602.05281, Sec. 4.2)."""
    top_p: float = Field(0.95, gt=0, le=1)
    """As in `sampling`: the likeliest tokens whose probabilities first reach this sum; 1 keeps all."""
    top_k: int = Field(0, ge=0)
    """As in `sampling`: so many likeliest tokens; 0 keeps all."""
    stop: Stops | None = None
    """As `sampling.stop`; None takes that of the run, where a run or its checkpoint is evaluated."""
    raw: bool = False
    """Also keep each completion's token statistics at temperature 1: those of the policy itself, not of the sampler."""
    at_a_time: int = Field(32, ge=1)
    """Problems sampled together. `progrpo evaluate` writes what is done after each such part, so a killed evaluation loses
    one part; a larger one keeps a GPU busier."""
    measures: tuple[NamedChoice, ...] = (
        Choice(name="pass_at_k"),
        Choice(name="distinct_solutions"),
        Choice(name="tokens"),
    )
    """Each by its name, or {name: ..., key: value} with settings of its own."""

    def sampling(self, max_new_tokens: int) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_new_tokens=max_new_tokens,
            stop=self.stop or (),
            raw=self.raw,
        )

    def load_measures(self, verifier: Verifier) -> list[Measure]:
        """The chosen measures that this verifier's verdicts allow, ready for work.

        Raises:
            ProgrpoError: unknown name or setting, or a measure cannot work here (a missing extra).
        """
        allowed = [
            one
            for one in measures.load(self.measures)
            if (verifier.canonical or not one.needs_canonical) and (verifier.answers or not one.needs_answers)
        ]
        for one in allowed:
            one.prepare()
        return allowed


def require_entropies(chosen: Sequence[Measure], engine: Engine, name: str) -> None:
    """Hold the chosen measures against what the engine can give, before anything is sampled.

    Args:
        name: of the engine, for the message.

    Raises:
        ConfigError: a measure needs the entropies that this engine does not give.
    """
    if engine.capabilities.entropies:
        return
    for one in chosen:
        if one.needs_entropies is True:
            raise ConfigError(
                f"measure {one.name!r} needs entropies, which engine {name!r} does not give; leave it out of "
                "evaluate.measures, or evaluate with another engine (engine.name=hf)"
            )
        if one.needs_entropies:
            logger.warning(
                "measure %s: engine %s gives no entropies; %s left out", one.name, name, ", ".join(one.needs_entropies)
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """The result: the judged problems, their measures' means, and every verdict."""

    problems: tuple[ProblemResult, ...]
    means: Mapping[str, float]
    verdicts: tuple[Verdict, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per problem as written to disk."""
        return [to_row(problem) for problem in self.problems]

    @property
    def failed(self) -> float:
        """Share of completions that the verifier failed to judge; measures count them as not correct."""
        return sum(verdict.failed for verdict in self.verdicts) / max(1, len(self.verdicts))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedPart:
    """Some problems, judged and measured."""

    problems: tuple[ProblemResult, ...]
    verdicts: tuple[Verdict, ...]
    seconds: float


def run_evaluation(
    problems: Sequence[Problem],
    *,
    model: LanguageModel,
    engine: Engine,
    verifier: Verifier,
    settings: EvaluateSettings,
    max_new_tokens: int,
    seed: int,
    processes: Processes = ALONE,
    on_sampled: Callable[[int, int], None] = lambda done, of: None,
) -> EvaluationResult:
    """Sample, verify and measure (see `evaluate_parts`).

    Args:
        on_sampled: called with the number of problems whose completions are all there, and of how many.
    """
    problems = problems[: settings.problems] if settings.problems else problems
    chosen = settings.load_measures(verifier)
    results: list[ProblemResult] = []
    verdicts: list[Verdict] = []

    def sampled(count: int) -> None:
        on_sampled(len(results) + count, len(problems))

    for part in evaluate_parts(
        problems,
        model=model,
        engine=engine,
        verifier=verifier,
        chosen=chosen,
        settings=settings,
        max_new_tokens=max_new_tokens,
        seed=seed,
        processes=processes,
        on_sampled=sampled,
    ):
        results += part.problems
        verdicts += part.verdicts
    return EvaluationResult(problems=tuple(results), means=mean_over_problems(results), verdicts=tuple(verdicts))


def evaluate_parts(
    problems: Sequence[Problem],
    *,
    model: LanguageModel,
    engine: Engine,
    verifier: Verifier,
    chosen: Sequence[Measure],
    settings: EvaluateSettings,
    max_new_tokens: int,
    seed: int,
    processes: Processes = ALONE,
    on_sampled: Callable[[int], None] | None = None,
) -> Iterator[EvaluatedPart]:
    """Sample, verify and measure `at_a_time` problems after the other.

    The seeds depend on (seed, problem, index) alone, not on the step or the part: two evaluations with one seed differ by
    the model and not by the draw.

    Args:
        processes: among which the problems of a part are divided; each has all of the result.
        on_sampled: called with the number of problems of the current part whose completions are all there.
    """
    for start in range(0, len(problems), settings.at_a_time):
        part = problems[start : start + settings.at_a_time]
        rollout = run_rollout(
            part,
            model=model,
            engine=engine,
            verifier=verifier,
            sampling=settings.sampling(max_new_tokens),
            seeds=[completion_seeds(seed, "evaluate", problem=problem, group=settings.n) for problem in part],
            processes=processes,
            on_sampled=on_sampled,
        )
        yield EvaluatedPart(
            problems=tuple(measured(judged(group), chosen) for group in rollout.groups),
            verdicts=tuple(verdict for group in rollout.groups for verdict in group.verdicts),
            seconds=rollout.generate_s + rollout.verify_s,
        )


def warn_of_cut(problems: Sequence[ProblemResult], max_new_tokens: int, positions: int | None, *, name: str) -> None:
    """Say how many completions ended where the model's positions do, before `max_new_tokens`."""
    cut = [s for one in problems for s in one.samples if s.finish == "length" and s.tokens < max_new_tokens]
    if cut:
        logger.warning(
            "%s: %d of %d completions were cut where the model's %s positions end, before max_new_tokens=%d",
            name,
            len(cut),
            sum(one.n for one in problems),
            positions,
            max_new_tokens,
        )


def mean_over_problems(problems: Sequence[ProblemResult]) -> dict[str, float]:
    """The mean of each measure over the problems that have it, in the order the measures first appear."""
    return {name: sum(values) / len(values) for name, values in values_of(problems).items()}


def values_of(problems: Sequence[ProblemResult]) -> dict[str, list[float]]:
    """The values of each measure, of the problems that have it."""
    by_measure: dict[str, list[float]] = {}
    for problem in problems:
        for name, value in problem.measures.items():
            by_measure.setdefault(name, []).append(value)
    return by_measure


def judged(group: Group) -> ProblemResult:
    """A group as an evaluation keeps it."""
    return ProblemResult(
        problem=group.problem.id,
        prompt=group.problem.prompt,
        answer=group.problem.answer_text,
        facts=group.problem.facts,
        samples=tuple(_sample(*pair) for pair in zip(group.completions, group.verdicts, strict=True)),
    )


def _sample(completion: Completion, verdict: Verdict) -> Sample:
    return Sample(
        text=completion.text,
        status=verdict.status,
        finish=completion.finish,
        tokens=len(completion.token_ids),
        seed=completion.seed,
        extracted=verdict.extracted,
        canonical=verdict.canonical,
        detail=verdict.detail,
        tempered=(
            _statistics(completion.sampler_logprobs, completion.entropies)
            if completion.logprobs_of == "tempered"
            else None
        ),
        raw=_statistics(completion.raw_logprobs, completion.raw_entropies),
    )


def _statistics(logprobs: Tensor | None, entropies: Tensor | None) -> TokenStatistics | None:
    if logprobs is None or not len(logprobs):
        return None
    row, mask = logprobs[None], torch.ones(1, len(logprobs), dtype=torch.bool)
    return TokenStatistics(
        probability=float(logprobs.double().exp().mean()),
        low_probability=float(sequence_confidence(row, mask, mean="arithmetic")),
        confidence=float(sequence_confidence(row, mask)),
        entropy=None if entropies is None else float(entropies.double().mean()),
    )


def measured(problem: ProblemResult, chosen: Sequence[Measure]) -> ProblemResult:
    """The problem with the values of these measures, and of no others."""
    return replace(problem, measures={name: value for one in chosen for name, value in one.measure(problem).items()})
