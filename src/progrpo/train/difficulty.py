"""How hard each training problem is for the policy before training: its pass rate, measured once and kept.

Measured are `data.pass_rate_samples` completions of each problem, drawn as in training but from seeds of their own, so that
all runs that begin with the same model measure the same. What is measured is kept in $PROGRPO_CACHE (or ~/.cache/progrpo), a
file for each model, reward and way of sampling and in it a row for each problem: a measurement that was stopped goes on, and
the runs of a comparison share it. Each run writes down what it took (`pass_rates.jsonl`), and resumes by that.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from progrpo import rewards
from progrpo.engines import Engine, sampling_precision
from progrpo.environment import digest
from progrpo.errors import ConfigError, StorageError
from progrpo.files import append, make_folder, to_json
from progrpo.model import LanguageModel, config_of
from progrpo.model.files import fingerprint
from progrpo.plural import counted
from progrpo.processes import Processes
from progrpo.rollout.generate import completion_seeds, run_rollout
from progrpo.rollout.verify import Verifier
from progrpo.train.settings import DataSettings, RunSettings
from progrpo.types import Problem, Verdict

logger = logging.getLogger(__name__)

CACHE = "PROGRPO_CACHE"
_BOUNDS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the bars of the histogram; 0 and 1 are bars by themselves."""
_BAR = 40


class PassRate(NamedTuple):
    """The completions of a problem: how many were judged, and how many of these correct."""

    correct: int
    judged: int

    @property
    def value(self) -> float | None:
        """In [0, 1]; None where no completion was judged."""
        return self.correct / self.judged if self.judged else None


PassRates = Mapping[str, PassRate]
"""By the problem's id."""


def measure(
    problems: Sequence[Problem],
    settings: RunSettings,
    *,
    model: LanguageModel,
    engine: Engine,
    verifier: Verifier,
    processes: Processes,
    on_progress: Callable[[int, int], None],
) -> PassRates:
    """The pass rate of each problem under the policy that `engine` samples; what the cache holds is not sampled again.

    Args:
        processes: each samples its share of the problems, and has all pass rates in the end; all have to call this.
        on_progress: called with how many problems are done, and of how many.

    Raises:
        VerifierError: too many verdicts failed.
    """
    path = cache_file(settings)
    known = processes.same(lambda: _read(path))
    keys = [_key(problem) for problem in problems]
    left = [index for index, key in enumerate(keys) if key not in known]
    size, at_once = settings.data.pass_rate_samples, settings.evaluate.at_a_time
    verdicts: list[Verdict] = []
    for start in range(0, len(left), at_once):
        part = left[start : start + at_once]

        def sampled(count: int, before: int = start) -> None:
            on_progress(before + count, len(left))

        rollout = run_rollout(
            [problems[index] for index in part],
            model=model,
            engine=engine,
            verifier=verifier,
            sampling=settings.sampling,
            seeds=[completion_seeds("pass rate", problem=problems[index], group=size) for index in part],
            processes=processes,
            on_sampled=sampled,
        )
        verdicts += [verdict for group in rollout.groups for verdict in group.verdicts]
        verifier.require_trustworthy(verdicts)
        fresh = {keys[index]: _rate(group.verdicts) for index, group in zip(part, rollout.groups, strict=True)}
        known |= fresh
        if processes.main:
            _keep(path, {key: rate for key, rate in fresh.items() if rate.judged == size})
    return {problem.id: known[key] for problem, key in zip(problems, keys, strict=True)}


def cached(problems: Sequence[Problem], settings: RunSettings) -> PassRates | None:
    """The pass rates of all problems where they are measured already; None where some are not."""
    known = _read(cache_file(settings))
    keys = [_key(problem) for problem in problems]
    if any(key not in known for key in keys):
        return None
    return {problem.id: known[key] for problem, key in zip(problems, keys, strict=True)}


def select(problems: Sequence[Problem], rates: PassRates, data: DataSettings) -> Sequence[Problem]:
    """The problems whose pass rate lies in `data.pass_rate`, ends included; all where that is None. One whose completions
    could not be judged has none.

    Raises:
        ConfigError: none does.
    """
    if data.pass_rate is None:
        return problems
    low, high = data.pass_rate
    kept = [one for one in problems if (value := rates[one.id].value) is not None and low <= value <= high]
    if not kept:
        raise ConfigError(f"data.pass_rate leaves no problem: {_counts(problems, rates, data.pass_rate)}; widen it")
    return kept


def describe(problems: Sequence[Problem], rates: PassRates, data: DataSettings) -> Iterator[str]:
    """Lines for the terminal: how many problems there are of each pass rate, and how many are kept."""
    values = [value for one in problems if (value := rates[one.id].value) is not None]
    each = counted(data.pass_rate_samples, "completion")
    yield f"pass rates of {counted(len(problems), 'training problem')} before training, {each} each:"
    bars: list[tuple[str, int]] = [("0", values.count(0.0))]
    for low, high in pairwise(_BOUNDS):
        label = f"up to {high:g}" if high < 1 else "below 1"
        bars.append((label, sum(low < value <= high and value < 1 for value in values)))
    bars.append(("1", values.count(1.0)))
    most = max(count for _, count in bars) or 1
    for label, count in bars:
        yield f"  {label:<10} {count:>9,}  {'#' * -(-count * _BAR // most)}".rstrip()
    if data.pass_rate is not None:
        yield f"kept {len(select(problems, rates, data)):,}: {_counts(problems, rates, data.pass_rate)}"


def to_rows(problems: Sequence[Problem], rates: PassRates, data: DataSettings) -> list[dict[str, Any]]:
    """A row per problem for the run directory."""
    kept = {one.id for one in select(problems, rates, data)}
    return [
        {
            "problem": one.id,
            "place": one.place,
            "pass_rate": rates[one.id].value,
            "correct": rates[one.id].correct,
            "judged": rates[one.id].judged,
            "kept": one.id in kept,
        }
        for one in problems
    ]


def from_rows(rows: Sequence[Mapping[str, Any]]) -> PassRates:
    """The inverse of `to_rows`."""
    return {row["problem"]: PassRate(row["correct"], row["judged"]) for row in rows}


def cache_file(settings: RunSettings) -> Path:
    """Where pass rates of this model, reward and way of sampling are kept."""
    path = settings.model.path
    commit = getattr(config_of(path), "_commit_hash", None)
    told = {
        "weights": fingerprint(path) or [path, commit],
        "precision": sampling_precision(settings.engine, settings.model.precision),
        "load_in_4bit": settings.model.load_in_4bit,
        "system_prompt": settings.model.system_prompt,
        "chat_template_kwargs": settings.model.chat_template_kwargs,
        "engine": settings.engine.name,
        "sampling": settings.sampling.model_dump(mode="json"),
        "reward": None if settings.reward is None else settings.reward.model_dump(mode="json"),
        **({"reward_sources": own} if settings.reward and (own := rewards.own_sources(settings.reward)) else {}),
        "samples": settings.data.pass_rate_samples,
    }
    root = os.environ.get(CACHE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progrpo"
    return Path(root) / "pass_rates" / f"{hashlib.sha256(to_json(told).encode()).hexdigest()[:32]}.jsonl"


def _counts(problems: Sequence[Problem], rates: PassRates, bounds: tuple[float, float]) -> str:
    low, high = bounds
    values = [rates[one.id].value for one in problems]
    hard = sum(value is not None and value < low for value in values)
    easy = sum(value is not None and value > high for value in values)
    unknown = values.count(None)
    return (
        f"of {counted(len(values), 'problem')} {hard:,} {'is' if hard == 1 else 'are'} too hard (pass rate below {low:g}), "
        f"{easy:,} too easy (above {high:g})" + (f", {unknown:,} could not be judged" if unknown else "")
    )


def _key(problem: Problem) -> str:
    return digest([problem])[:32]


def _rate(verdicts: Sequence[Verdict]) -> PassRate:
    return PassRate(sum(one.correct for one in verdicts), sum(not one.failed for one in verdicts))


def _read(path: Path) -> dict[str, PassRate]:
    """What a file of the cache holds. A line that a kill cut short is passed over: its problem is measured again."""
    known: dict[str, PassRate] = {}
    for line in path.read_text("utf-8", "replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            known[row["key"]] = PassRate(int(row["correct"]), int(row["judged"]))
        except (ValueError, TypeError, KeyError):
            continue
    return known


def _keep(path: Path, rates: Mapping[str, PassRate]) -> None:
    """Add to a file of the cache. Lines begin with a break, so that one cut short spoils no other."""
    try:
        make_folder(path.parent)
        append(path, "".join("\n" + to_json({"key": key, **rate._asdict()}) for key, rate in rates.items()))
    except StorageError as error:
        logger.warning("pass rates are not kept for other runs: %s; name another folder in $%s", error, CACHE)
