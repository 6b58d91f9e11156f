"""ProblemResult problems as rows of a file, and back: what evaluations write and measures, reports and comparisons read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from progrpo.errors import DataError
from progrpo.files import rows_at
from progrpo.types import ProblemResult, Sample, TokenStatistics

_STATISTICS = ("probability", "low_probability", "confidence", "entropy")


def to_row(judged: ProblemResult) -> dict[str, Any]:
    """One JSON object per problem; a sample's tempered token statistics stand beside its text, the raw ones under "raw"."""
    return {
        "problem": judged.problem,
        "prompt": judged.prompt,
        "answer": judged.answer,
        **({"facts": dict(judged.facts)} if judged.facts else {}),
        "n": judged.n,
        "correct": judged.correct,
        "measures": dict(judged.measures),
        "samples": [_sample_row(sample) for sample in judged.samples],
    }


def from_row(row: Mapping[str, Any]) -> ProblemResult:
    """The inverse of `to_row`; what rows of older versions lack is None or empty."""
    prompt = row.get("prompt", "")
    return ProblemResult(
        problem=row["problem"],
        prompt=prompt if isinstance(prompt, str) else tuple(prompt),
        answer=row.get("answer"),
        facts=row.get("facts") or {},
        samples=tuple(_sample(sample) for sample in row["samples"]),
        measures=row.get("measures") or {},
    )


def read_results(path: Path) -> Iterator[tuple[int, ProblemResult]]:
    """The problems of an evaluation's file, each with where its row begins, in bytes; see `rows_at`.

    Raises:
        DataError: a row is no JSON object, or no problem; file and row are named.
    """
    for number, (offset, row) in enumerate(rows_at(path), start=1):
        try:
            yield offset, from_row(row)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, row {number}: no row of an evaluation ({type(error).__name__}: {error}); move the file away, "
                "evaluate again"
            ) from None


def read_header(path: Path) -> dict[str, Any]:
    """The header of an evaluation.

    Raises:
        DataError: it is damaged.
    """
    try:
        header = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON (damaged?): {error}; move it and its rows away, evaluate again") from None
    if not isinstance(header, dict):
        raise DataError(
            f"{path}: expected a JSON object, got {type(header).__name__}; move it and its rows away, evaluate again"
        )
    return header


def _sample_row(sample: Sample) -> dict[str, Any]:
    row = {
        "text": sample.text,
        "seed": sample.seed,
        "finish": sample.finish,
        "tokens": sample.tokens,
        "status": sample.status,
        "extracted": sample.extracted,
        "canonical": sample.canonical,
        "detail": sample.detail,
    }
    if sample.tempered is not None:
        row |= asdict(sample.tempered)
    if sample.raw is not None:
        row["raw"] = asdict(sample.raw)
    return row


def _sample(row: Mapping[str, Any]) -> Sample:
    return Sample(
        text=row["text"],
        status=row["status"],
        finish=row.get("finish", "stop"),
        tokens=row.get("tokens", 0),
        seed=row.get("seed", 0),
        extracted=row.get("extracted"),
        canonical=row.get("canonical"),
        detail=row.get("detail") or "",
        tempered=_statistics(row),
        raw=_statistics(row.get("raw") or {}),
    )


def _statistics(row: Mapping[str, Any]) -> TokenStatistics | None:
    if any(row.get(name) is None for name in _STATISTICS):
        return None
    return TokenStatistics(**{name: row[name] for name in _STATISTICS})
