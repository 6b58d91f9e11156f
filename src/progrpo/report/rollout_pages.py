"""A page for each rollout of a run: completions by problem, verdicts and why, advantages, tokens by their weight."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from progrpo import schema
from progrpo.errors import DataError
from progrpo.evaluate.score import ScoredCompletion, ScoredMethod, Scoring, least_certain
from progrpo.evaluate.spelling import Spelling
from progrpo.files import finite_or_none, is_number, make_folder, to_json, write_whole
from progrpo.report.read import Run
from progrpo.report.score.page import AboutRollout, make_score_page
from progrpo.report.wording import method as method_name
from progrpo.rollout.bundle import Bundle, bundle_paths
from progrpo.rollout.recorded import RolloutFile, read_rollouts, steps_per_rollout

ROLLOUT_PAGES = "report-rollouts"
"""The folder of a run's rollout pages, beside its report."""
PAGES = 64
"""Most rollouts that get a page: those kept with their tokens first, the latest of them; then others, evenly taken."""
_SPELLINGS: dict[str, Spelling] = {}
"""The tokenizer that was read last, by the settings of its model."""
_FACTS = (
    "rollout/reward",
    "rollout/correct",
    "rollout/entropy",
    "rollout/length",
    "policy/grad_norm",
    "policy/objective",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutPages:
    """Which rollouts have a page.

    Attributes:
        links: of each first step, the page's place relative to the report. left_out: sentences on files that cannot be used.
        steps_per_rollout: optimiser steps that share a rollout.
    """

    links: Mapping[int, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    steps_per_rollout: int = 1

    def link(self, step: int) -> str | None:
        """The page of the rollout that an optimiser step learnt from; None without one."""
        size = self.steps_per_rollout
        return self.links.get((step - 1) // size * size + 1)


def write_rollout_pages(run: Run, folder: Path) -> RolloutPages:
    """Write a page for each rollout (`PAGES` at most) into a folder, step-NNNNNN.html.

    Raises:
        StorageError: the disk refuses.
    """
    chosen = chosen_rollouts(run)
    if chosen:
        make_folder(folder)
    left_out, links = [], {}
    for step in chosen:
        try:
            page = make_rollout_page(run, step, chosen)
        except DataError as error:
            left_out.append(f"{error}; it has no page")
            continue
        write_whole(folder / page_name(step), page)
        links[step] = f"{folder.name}/{page_name(step)}"
    return RolloutPages(links=links, left_out=tuple(left_out), steps_per_rollout=steps_per_rollout(run.config))


def make_rollout_page(run: Run, step: int, chosen: Mapping[int, Path]) -> str:
    """The page of one rollout as text; the same files give the same page, byte for byte.

    Args:
        step: the first that it feeds. chosen: the rollouts that have a page (see `chosen_rollouts`), for links.

    Raises:
        DataError: its files cannot be used.
    """
    file = read_rollouts(chosen[step])
    steps = sorted(chosen)
    place = steps.index(step)
    about = _about(run, step, file.bundle, before=steps[:place][-1:], after=steps[place + 1 : place + 2])
    return make_score_page(recorded_scoring(run, file), _spelling(file), about)


def page_name(step: int) -> str:
    """The file of a rollout's page."""
    return f"step-{step:06d}.html"


def _spelling(file: RolloutFile) -> Spelling:
    """The run's tokenizer, read once for all of its pages."""
    if not file.tokens:
        return Spelling.of_run(file)
    key = to_json(file.section("model"))
    if key not in _SPELLINGS:
        _SPELLINGS.clear()
        _SPELLINGS[key] = Spelling.of_run(file)
    return _SPELLINGS[key]


def chosen_rollouts(run: Run) -> dict[int, Path]:
    """The rollouts that get a page, by the first step they feed, ascending; a file of rows before a bundle alone."""
    bundles = bundle_paths(run.path)
    kept = sorted(bundles)[-PAGES:]
    others = [step for step in run.rollouts if step not in bundles]
    left = PAGES - len(kept)
    evenly = others[:: max(1, -(-len(others) // left))] if left else []
    steps = sorted([*kept, *evenly])
    files = {**bundles, **run.rollouts}
    return {step: files[step] for step in steps}


def recorded_scoring(run: Run, file: RolloutFile) -> Scoring:
    """The rollout with the advantages and weights that it was trained with."""
    weights = None if file.bundle is None else file.bundle.columns("token_weights")
    confidence, low = least_certain(file.groups) if file.tokens else (None, None)
    lengths = torch.tensor([len(one.token_ids) for group in file.groups for one in group.completions])
    size = len(file.groups[0].completions)
    # In units of one over the tokens of the optimiser step, as `progrpo score` has them.
    units = torch.cat([part.sum().expand(len(part)) for part in lengths.split(file.step_groups * size)]).tolist()
    completions = []
    for p, group in enumerate(file.groups):
        for g, (completion, verdict) in enumerate(zip(group.completions, group.verdicts, strict=True)):
            n, length = p * size + g, len(completion.token_ids)
            recorded = file.recorded[p][g]
            if recorded["advantage"] is None:
                raise DataError(f"{file.path}: problem {group.problem.id!r}, completion {g}: no advantage was recorded")
            completions.append(
                ScoredCompletion(
                    group=p,
                    file=str(file.path),
                    index=g,
                    problem=group.problem,
                    completion=completion,
                    verdict=verdict,
                    advantages=(recorded["advantage"],),
                    weights=None if weights is None else (weights[n, :length] * units[n],),
                    entropy_changes=None,
                    confidence=recorded["confidence"] if confidence is None else finite_or_none(float(confidence[n])),
                    recorded=None,
                    low=None if low is None or weights is None else low[n, :length],
                )
            )
    name = method_name(run.config)
    method = ScoredMethod(label=name, name=name, settings={})
    return Scoring(methods=(method,), completions=tuple(completions), files=(str(file.path),))


def _about(run: Run, step: int, bundle: Bundle | None, *, before: list[int], after: list[int]) -> AboutRollout:
    size = steps_per_rollout(run.config)
    steps = f"step {step}" if size == 1 else f"steps {step} to {step + size - 1}"
    return AboutRollout(
        title=f"Rollout of {steps}",
        run=run.name,
        back="../report.html",
        before=page_name(before[0]) if before else "",
        after=page_name(after[0]) if after else "",
        kept_for=() if bundle is None else tuple(bundle.header["kept_for"]),
        facts=tuple(_facts(run, step)),
    )


def _facts(run: Run, step: int) -> Iterator[tuple[str, str, str]]:
    row: Mapping[str, Any] = next((row for row in run.metrics if row["step"] == step), {})
    for key in _FACTS:
        if is_number(row.get(key)):
            about = schema.metric(key)
            yield about.label, about.value(row[key]), about.unit
