"""Rollouts read back into groups: from the rows that a run writes under `rollouts/`, and from bundles, which have tokens."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progrpo.errors import DataError
from progrpo.files import is_number, json_lines
from progrpo.rollout.bundle import FOLDER, SUFFIX, Bundle, bundle_path, sound_bundle
from progrpo.rollout.verify import FailedAs
from progrpo.settings import read_yaml
from progrpo.types import STATUSES, Completion, Group, Problem, Verdict

_REMEDY = "a rollouts file is RUN/rollouts/step-NNNNNN.jsonl, one row per completion"
_POSITIVE = 1e-3
"""A log-probability this far above 0 is no rounding error."""
_MICRO_TOKENS = 16_384
"""Tokens of a micro-batch where the settings of the run are not known; a test holds it to the default of training."""
_FORMERLY = {"logprobs": "sampler_logprobs", "entropy_slopes": "entropy_gradients"}
"""Columns under the names that older versions gave them, and today's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutFile:
    """One rollouts file, read.

    Attributes:
        groups: in the order in which their first completions stand in the file, completions by index.
        tokens: whether there are token ids, log-probs and entropies, in a bundle or (of older versions) in the rows.
        recorded: per group, the rows' own values that are not of the rollout: "advantage" and "confidence".
        config: the settings of the run, from the config.yaml beside the folder `rollouts`; empty where there is none.
        bundle: which the tokens were read from; None of a file of rows alone.
    """

    path: Path
    groups: tuple[Group, ...]
    tokens: bool
    recorded: tuple[tuple[Mapping[str, float | None], ...], ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    bundle: Bundle | None = None

    @property
    def prompt_logprobs(self) -> bool:
        """Whether every group has the log-probs of its prompt."""
        return all(group.prompt_logprobs is not None for group in self.groups)

    @property
    def step_groups(self) -> int:
        """Groups of one optimiser step: the run's mini-batch; all of them where the file is no whole rollout of a run."""
        batch = self.section("batch")
        complete = batch.get("prompts") == len(self.groups)
        return (batch.get("minibatch_prompts") or len(self.groups)) if complete else len(self.groups)

    @property
    def micro_tokens(self) -> int:
        """Tokens of the run's micro-batches; without its settings, the default of `batch.micro_tokens`."""
        tokens = self.section("batch").get("micro_tokens")
        return tokens if isinstance(tokens, int) and tokens > 0 else _MICRO_TOKENS

    @property
    def longest(self) -> int:
        """The run's completion limit in tokens; without its settings, the longest completion."""
        limit = self.section("sampling").get("max_new_tokens")
        longest = max(len(completion.token_ids) for group in self.groups for completion in group.completions)
        return limit if isinstance(limit, int) and limit > 0 else max(1, longest)

    @property
    def failed_as(self) -> FailedAs:
        """What the run takes a completion for that the verifier failed to judge."""
        return "wrong" if self.section("verify").get("failed") == "wrong" else "neutral"

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the run's settings; empty where there is none."""
        section = self.config.get(name)
        return section if isinstance(section, Mapping) else {}


def steps_per_rollout(config: Mapping[str, Any]) -> int:
    """Optimiser steps of a rollout by the settings of its run."""
    batch = config.get("batch") or {}
    prompts = batch.get("prompts") or 1
    return int(prompts // (batch.get("minibatch_prompts") or prompts))


def read_rollouts(path: Path) -> RolloutFile:
    """Read a file and the settings of its run.

    Raises:
        DataError: no such file, a damaged row (its line is named), or groups that are incomplete or of unequal size.
        ConfigError: the run's config.yaml cannot be read.
    """
    if path.suffix == SUFFIX:
        return _of_bundle(path, sound_bundle(path))
    rows = _read_rows(path)
    tokens = "token_ids" in rows[0][1]
    if not tokens and (beside := bundle_beside(path)) is not None:
        return _of_bundle(path, agreeing(sound_bundle(beside), rows, path))
    for place, row in rows:
        if ("token_ids" in row) is not tokens:
            raise DataError(f"{place}: rows with token ids and rows without stand in one file; score them apart")
    grouped = _grouped(rows, path)
    return RolloutFile(
        path=path,
        groups=tuple(_group(members, tokens) for members in grouped),
        tokens=tokens,
        recorded=tuple(tuple(_recorded(row) for _, row in members) for members in grouped),
        config=_config(path),
    )


def bundle_beside(path: Path) -> Path | None:
    """The bundle of a rollouts file of a run, RUN/rollouts/step-NNNNNN.jsonl; None where there is none."""
    step = path.stem.removeprefix("step-")
    if path.resolve().parent.name != "rollouts" or not step.isdecimal():
        return None
    beside = bundle_path(path.resolve().parent.parent, int(step))
    return beside if beside.is_file() else None


def has_tokens(path: Path) -> bool:
    """Whether a rollouts file, or the bundle beside it, or the bundle that it is, holds token ids."""
    if path.suffix == SUFFIX or bundle_beside(path) is not None:
        return True
    _, first = next(json_lines(path), ("", {}))
    return isinstance(first, dict) and "token_ids" in first


def _config(path: Path) -> dict[str, Any]:
    config = path.resolve().parent.parent / "config.yaml"
    return read_yaml(config) if path.resolve().parent.name in ("rollouts", FOLDER) and config.is_file() else {}


def _of_bundle(path: Path, bundle: Bundle) -> RolloutFile:
    advantages = bundle.tensors["advantages"]
    confidence = bundle.table.get("confidence", torch.full_like(advantages, math.nan))
    return RolloutFile(
        path=path,
        groups=bundle.groups,
        tokens=True,
        recorded=tuple(
            tuple(
                {"advantage": a, "confidence": None if math.isnan(c) else c}
                for a, c in zip(of_group, sure, strict=True)
            )
            for of_group, sure in zip(advantages.tolist(), confidence.tolist(), strict=True)
        ),
        config=_config(path),
        bundle=bundle,
    )


def agreeing(bundle: Bundle, rows: "Sequence[_Place]", path: Path) -> Bundle:
    """The bundle, if it holds the completions of the rows and their verdicts.

    Raises:
        DataError: it does not.
    """
    completions = zip(
        [group.problem.id for group in bundle.groups for _ in group.completions],
        bundle.header["completions"],
        strict=True,
    )
    kept = [(problem, one["text"], one["verdict"]["status"], one["verdict"]["reward"]) for problem, one in completions]
    if [(row["problem"], row["completion"], row["status"], row["reward"]) for _, row in rows] != kept:
        raise DataError(
            f"{path}: its completions or verdicts are not those of {bundle.path}, which has their tokens; move the file to "
            "another folder to use it without"
        )
    return bundle


_Place = tuple[str, dict[str, Any]]


def _read_rows(path: Path) -> list[_Place]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; {_REMEDY}")
    rows = [(place, _row(row, place)) for place, row in json_lines(path)]
    if not rows:
        raise DataError(f"{path}: the file has no rows; {_REMEDY}")
    return rows


def _row(parsed: Any, place: str) -> dict[str, Any]:
    if not isinstance(parsed, dict):
        raise DataError(f"{place}: expected a JSON object, got {type(parsed).__name__}")
    row: dict[str, Any] = {_FORMERLY.get(str(name), str(name)): value for name, value in parsed.items()}
    _require(row, place, "problem", lambda value: isinstance(value, str), "text")
    _require(row, place, "completion", lambda value: isinstance(value, str), "text")
    _require(row, place, "index", _is_count, "a whole number >= 0")
    _require(row, place, "length", _is_count, "a number of tokens")
    _require(row, place, "status", lambda value: value in STATUSES, f"one of {', '.join(STATUSES)}")
    _require(row, place, "finish", lambda value: value in ("stop", "length"), "stop or length")
    _require(row, place, "reward", is_number, "a finite number")
    for name in (
        "token_ids",
        "prompt_ids",
        "trained",
        "sampler_logprobs",
        "entropies",
        "entropy_gradients",
        "prompt_logprobs",
    ):
        if name in row:
            values = row[name]
            if name in ("sampler_logprobs", "prompt_logprobs") and isinstance(
                values, list
            ):  # JSON has no -inf: see `to_json`
                values = [-math.inf if value is None else value for value in values]
            row[name] = _tensor(values, f"{place}: {name!r}", ids=name == "trained" or name.endswith("_ids"))
    if "entropies" in row and not bool(torch.isfinite(row["entropies"]).all()):
        raise DataError(f"{place}: 'entropies' holds a number that is not finite")
    for name in ("sampler_logprobs", "prompt_logprobs"):
        if name in row and bool((row[name] > _POSITIVE).any()):
            raise DataError(f"{place}: {name!r} holds {float(row[name].max()):g}; a log-probability is at most 0")
    if "token_ids" in row:
        _require_aligned(row, place)
    return row


def _require(row: Mapping[str, Any], place: str, key: str, holds: Any, expected: str) -> None:
    if key not in row:
        raise DataError(f"{place}: no column {key!r}; the row has {', '.join(map(str, row))} ({_REMEDY})")
    if not holds(row[key]):
        raise DataError(f"{place}: {key!r} must be {expected}, got {row[key]!r:.80}")


def _require_aligned(row: Mapping[str, Any], place: str) -> None:
    """Raises DataError where a row with token ids lacks a column that belongs to them, or the columns differ in length."""
    pairs = [("sampler_logprobs", "token_ids"), ("entropies", "token_ids")]
    pairs += [(name, "token_ids") for name in ("entropy_gradients", "trained") if name in row]
    pairs += [("prompt_logprobs", "prompt_ids")] if "prompt_logprobs" in row else []
    for name, ids in pairs:
        for key in (name, ids):
            if key not in row:
                raise DataError(f"{place}: token ids but no column {key!r}; record.tokens=true writes them together")
        if len(row[name]) != len(row[ids]):
            raise DataError(f"{place}: {len(row[ids])} {ids!r} but {len(row[name])} {name!r}")
    if "prompt_ids" not in row:
        raise DataError(f"{place}: token ids but no column 'prompt_ids'; record.tokens=true writes them together")
    if row["length"] != len(row["token_ids"]):
        raise DataError(f"{place}: 'length' is {row['length']} but there are {len(row['token_ids'])} 'token_ids'")


def _tensor(values: Any, what: str, *, ids: bool) -> Tensor:
    """A column of a row as a tensor, made row by row: lists of numbers would take four times the memory."""
    good = isinstance(values, list) and all(_is_count(value) if ids else _is_logprob(value) for value in values)
    if not good:
        raise DataError(f"{what} must be a list of {'token ids' if ids else 'numbers'}, got {values!r:.80}")
    return torch.tensor(values, dtype=torch.long if ids else torch.float32)


def _grouped(rows: Sequence[_Place], path: Path) -> list[list[_Place]]:
    """Rows of each group, by index. The second row of the same problem and index opens the problem's next group."""
    groups: dict[tuple[str, int], list[_Place]] = {}
    met: dict[tuple[str, int], int] = {}
    for place, row in rows:
        key = (row["problem"], row["index"])
        met[key] = met.get(key, 0) + 1
        groups.setdefault((row["problem"], met[key]), []).append((place, row))
    size = max(len(members) for members in groups.values())
    for (problem, _), members in groups.items():
        members.sort(key=lambda member: member[1]["index"])
        indices = [row["index"] for _, row in members]
        if indices != list(range(size)):
            missing = sorted(set(range(size)) - set(indices))
            raise DataError(
                f"{path}: problem {problem!r:.80}: expected completions 0 to {size - 1}, as other groups have, got "
                f"{len(indices)} (the first missing is {missing[0] if missing else size}); groups of one file are of equal "
                "size. Was the file cut short, or does it hold a row twice?"
            )
    if size < 2:
        raise DataError(f"{path}: groups of one completion; an advantage compares at least 2 completions of a problem")
    return list(groups.values())


def _group(members: Sequence[_Place], tokens: bool) -> Group:
    first = members[0][1]
    prompt, answer = first.get("prompt", ""), first.get("answer")
    golds = () if answer is None else tuple(map(str, answer)) if isinstance(answer, list) else (str(answer),)
    return Group(
        problem=Problem(
            id=first["problem"],
            prompt=tuple(prompt) if isinstance(prompt, list) else str(prompt),
            answer=golds[0] if golds else None,
            accepted=golds[1:],
        ),
        prompt_ids=first["prompt_ids"] if tokens else torch.zeros(0, dtype=torch.long),
        prompt_logprobs=first.get("prompt_logprobs") if tokens else None,
        completions=tuple(_completion(row, tokens) for _, row in members),
        verdicts=tuple(
            Verdict(status=row["status"], reward=float(row["reward"]), detail=str(row.get("detail") or ""))
            for _, row in members
        ),
    )


def _completion(row: Mapping[str, Any], tokens: bool) -> Completion:
    nothing = torch.full((row["length"],), math.nan)
    return Completion(
        seed=row["seed"] if _is_count(row.get("seed")) else 0,
        text=row["completion"],
        finish=row["finish"],
        token_ids=row["token_ids"] if tokens else torch.zeros(row["length"], dtype=torch.long),
        sampler_logprobs=row["sampler_logprobs"] if tokens else nothing,
        entropies=row["entropies"] if tokens else nothing,
        entropy_gradients=row.get("entropy_gradients") if tokens else None,
        trained=row["trained"].bool() if tokens and "trained" in row else None,
    )


def _recorded(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: float(row[name]) if is_number(row.get(name)) else None for name in ("advantage", "confidence")}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_logprob(value: object) -> bool:
    """A number that a log-probability may be: -inf, too, but not nan."""
    return is_number(value) or value in (math.inf, -math.inf)
