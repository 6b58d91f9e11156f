"""`progrpo.score`: the advantages and token weights that several methods give to the same recorded rollouts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from progrpo.api.run import TrainingRun
from progrpo.api.score_apply import apply_methods, load_methods
from progrpo.errors import ConfigError, DataError
from progrpo.evaluate.score import Scoring, prompt_text, statistics
from progrpo.files import write_whole
from progrpo.plural import counted
from progrpo.rollout.bundle import bundle_paths
from progrpo.rollout.recorded import RolloutFile, has_tokens, read_rollouts
from progrpo.settings import read_overrides


class ScoredRollouts:
    """What `progrpo.score` found.

    Attributes:
        statistics: a row per method: mean and spread of its advantages, share of zeros, how it orders completions against the
            first method (see `progrpo.evaluate.score.MethodStatistics`).
        completions: a row per completion: problem, completion, status, reward, confidence, and one column of advantages per
            method, by its label.
        notes: what a reader should know of how the methods were applied.
    """

    def __init__(self, scoring: Scoring, files: Sequence[RolloutFile]) -> None:
        self.scoring = scoring
        self._files = tuple(files)
        labels = [one.label for one in scoring.methods]
        self.statistics = pd.DataFrame(
            [asdict(one) for one in statistics(scoring)], index=pd.Index(labels, name="method")
        )
        self.completions = pd.DataFrame(
            [
                {
                    "file": one.file,
                    "problem": one.problem.id,
                    "index": one.index,
                    "prompt": prompt_text(one.problem),
                    "completion": one.completion.text,
                    "status": one.verdict.status,
                    "reward": one.verdict.reward,
                    "confidence": one.confidence,
                    **dict(zip(labels, one.advantages, strict=True)),
                }
                for one in scoring.completions
            ]
        )
        self.notes = (*scoring.notes, *(f"{one.label}: {note}" for one in scoring.methods for note in one.notes))

    def page(self, out: str | Path, *, model: str | None = None) -> Path:
        """Write an HTML page with every token's weight; needs rollouts that hold their tokens.

        Args:
            model: whose tokenizer spells the tokens; None takes the run's.
        """
        from progrpo.evaluate.spelling import Spelling
        from progrpo.report.score.page import make_score_page

        spelling = Spelling.of_model(model) if model is not None else Spelling.of_run(self._files[0])
        write_whole(Path(out), make_score_page(self.scoring, spelling))
        return Path(out)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(self.statistics.index)}: {counted(len(self.completions), 'completion')})"
        )


def score(
    rollouts: TrainingRun | str | Path | Iterable[str | Path],
    methods: Sequence[str] = ("grpo", "progrpo"),
    **settings: Mapping[str, Any],
) -> ScoredRollouts:
    """Show the advantages and token weights that several methods give to the same recorded rollouts.

        progrpo.score(run, ["grpo", "strong=progrpo"], strong={"alpha": 1.0}).completions

    Args:
        rollouts: a run (its last rollout that holds tokens, else its last), its directory, or files RUN/rollouts/step-*.jsonl.
        methods: each as NAME or LABEL=NAME; the others are compared with the first.
        **settings: of a method, by its label.

    Raises:
        ProgrpoError: a file, method or setting cannot be used.
    """
    files = [read_rollouts(path) for path in rollout_files(rollouts)]
    return ScoredRollouts(apply_methods(files, load_methods(methods, read_overrides(settings))), files)


def rollout_files(rollouts: TrainingRun | str | Path | Iterable[str | Path]) -> list[Path]:
    """The files that are meant; of a run the last that holds tokens.

    Raises:
        DataError: a run without any. ConfigError: nothing was named.
    """
    if isinstance(rollouts, TrainingRun) or (isinstance(rollouts, str | Path) and Path(rollouts).is_dir()):
        run = rollouts if isinstance(rollouts, TrainingRun) else TrainingRun(rollouts)
        known = {**bundle_paths(run.path), **run.rollouts}  # one that an alarm named may have no file of rows
        written = [known[step] for step in sorted(known)]
        if not written:
            raise DataError(f"{run.path}: no rollouts were written (record.rollouts_every=0)")
        return [next((path for path in reversed(written) if has_tokens(path)), written[-1])]
    paths = [Path(rollouts)] if isinstance(rollouts, str | Path) else [Path(one) for one in rollouts]
    if not paths:
        raise ConfigError("score: no rollouts file; give one or more, for instance RUN/rollouts/step-000001.jsonl")
    return paths
