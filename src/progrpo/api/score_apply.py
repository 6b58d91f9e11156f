"""Methods applied to recorded rollouts as training would apply them: the work of the verb `score`."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from progrpo import methods, plugins
from progrpo.errors import ConfigError, DataError, PluginError
from progrpo.evaluate.score import ScoredCompletion, ScoredMethod, Scoring, least_certain
from progrpo.evaluate.spelling import Spelling
from progrpo.files import finite_or_none
from progrpo.methods import Method
from progrpo.model.tokenizer import each_spelled
from progrpo.plural import counted
from progrpo.rollout.recorded import RolloutFile, has_tokens
from progrpo.settings import Choice, Override, apply_overrides
from progrpo.train.offline import entropy_changes, require_no_model, token_gradients
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.train.rows import make_rows
from progrpo.types import RolloutBatch


def _remedy(path: Path) -> str:
    """How log-probs and entropies come into a file of rollouts, and which of its run have them."""
    names = [other.name for other in sorted(path.parent.glob("step-*.jsonl")) if other != path and has_tokens(other)]
    beside = f"; beside it {', '.join(names[-3:])} of this run has them" if names else ""
    return f"a run records them with record.tokens=true{beside}"


def label_and_name(word: str) -> tuple[str, str]:
    """Of a `--method` word: what stands before the "=", else the last part of the name; and the name."""
    label, equals, name = word.partition("=")
    return (label, name) if equals else (plugins.label(word), word)


def load_methods(named: Sequence[str], overrides: Sequence[str] | Sequence[Override]) -> dict[str, Method]:
    """Methods by label.

    Raises:
        ConfigError: a label stands twice, or a setting belongs to none of them. PluginError: an unknown method.
    """
    pairs = [label_and_name(word) for word in named]
    labels = [label for label, _ in pairs]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(
                f"--method: {label!r} stands {counted(labels.count(label), 'time')}; label each use of a method, for instance "
                "--method strong=progrpo --method weak=progrpo strong.alpha=0.5 weak.alpha=0.1"
            )
        if not label or "." in label:
            raise ConfigError(f"--method: expected NAME or LABEL=NAME with a label without dots, got label {label!r}")
    settings = apply_overrides({}, overrides)
    for key, value in settings.items():
        if key not in labels or not isinstance(value, Mapping):
            near = get_close_matches(key, labels, n=1, cutoff=0.5)
            raise ConfigError(
                f"score: {key!r} is no method given here{f'; did you mean {near[0]!r}?' if near else '.'} Settings go by "
                f"the label of their method ({', '.join(labels)}), for instance {labels[0]}.scale=none"
            )
        if "name" in value:
            raise ConfigError(f"score: {key}.name: a method is named by --method {key}=NAME")
    return {label: methods.load(Choice(name=name, **settings.get(label, {}))) for label, name in pairs}


def apply_methods(files: Sequence[RolloutFile], chosen: Mapping[str, Method], model: str | None = None) -> Scoring:
    """What each method makes of each file: advantages as in training, and the weight of their tokens in the loss.

    Args:
        model: whose tokenizer says what tokens spell, for methods that read that; None takes that of the run.

    Raises:
        DataError: a method reads something that a file does not hold. PluginError: a method gives no finite number.
    """
    completions: list[ScoredCompletion] = []
    for file in files:
        completions += _score(file, chosen, model, first=completions[-1].group + 1 if completions else 0)
    return Scoring(
        methods=tuple(
            ScoredMethod(
                label=label,
                name=method.name,
                settings=method.params.model_dump(mode="json"),
                notes=_method_notes(method, files),
            )
            for label, method in chosen.items()
        ),
        completions=tuple(completions),
        files=tuple(str(file.path) for file in files),
        steps=sum(-(-len(file.groups) // file.step_groups) for file in files),
        notes=tuple(note for file in files for note in _file_notes(file)),
    )


def _score(file: RolloutFile, chosen: Mapping[str, Method], model: str | None, *, first: int) -> list[ScoredCompletion]:
    """The completions of a file; its groups are numbered from `first`."""
    applied = [_apply(file, label, method, model) for label, method in chosen.items()]
    confidence, low = least_certain(file.groups) if file.tokens else (None, None)
    changes = [_entropy_changes(file, gradients) for _, gradients, _ in applied]
    completions = []
    for p, group in enumerate(file.groups):
        for g, (completion, verdict) in enumerate(zip(group.completions, group.verdicts, strict=True)):
            n, length = p * len(group.completions) + g, len(completion.token_ids)
            completions.append(
                ScoredCompletion(
                    group=first + p,
                    file=str(file.path),
                    index=g,
                    problem=group.problem,
                    completion=completion,
                    verdict=verdict,
                    advantages=tuple(float(values[p, g]) for values, _, _ in applied),
                    weights=_rows_of([weights for _, _, weights in applied], n, length),
                    entropy_changes=None if None in changes else tuple(one[n] for one in changes if one is not None),
                    confidence=file.recorded[p][g]["confidence"]
                    if confidence is None
                    else finite_or_none(float(confidence[n])),
                    recorded=file.recorded[p][g]["advantage"],
                    low=None if low is None else low[n, :length],
                )
            )
    return completions


def _rows_of(weights: Sequence[Tensor | None], n: int, length: int) -> tuple[Tensor, ...] | None:
    known = [one[n, :length] for one in weights if one is not None]
    return tuple(known) if len(known) == len(weights) else None


def _entropy_changes(file: RolloutFile, gradients: Tensor | None) -> Sequence[float] | None:
    of_entropy = make_rollout_batch(file.groups, frozenset()).entropy_gradients
    return None if gradients is None or of_entropy is None else entropy_changes(gradients, of_entropy)


def _apply(
    file: RolloutFile, label: str, method: Method, model: str | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Advantages [P, G]; dJ/dlog-prob [N, S] of each token; the same in units of one over the tokens of its optimiser step."""
    require_no_model(method)
    batch = _batch(file, label, method, model)
    advantages = method.advantages(batch)
    values = advantages.values
    wrong = values[~values.isfinite()]
    if wrong.numel():
        raise PluginError(f"method {label!r} gives an advantage of {float(wrong[0])} on {file.path}; expected a number")
    if not file.tokens:
        return values, None, None
    gradients = token_gradients(
        method,
        batch,
        advantages,
        make_rows(file.groups),
        step_groups=file.step_groups,
        longest=file.longest,
        micro_tokens=file.micro_tokens,
        share=True,
    )
    # A run cuts a rollout into the mini-batches of its optimiser steps in the order of the file.
    counts = [step.sum().expand(step.numel()) for step in torch.split(batch.lengths, file.step_groups)]
    return values, gradients, gradients * torch.cat(counts)[:, None]


def _batch(file: RolloutFile, label: str, method: Method, model: str | None) -> RolloutBatch:
    """The rollout as training hands it to the method.

    Raises:
        DataError: the method needs what the file does not hold.
    """
    if "prompt_logprobs" in method.needs and not file.prompt_logprobs:
        engine = (
            ", where the engine's log-probs serve as the sampling policy's (engine.name=hf, or old_logprobs=engine)"
        )
        raise DataError(
            f"method {label!r} reads the log-probs of prompts, but {file.path} holds none; {_remedy(file.path)}"
            f"{engine if file.tokens else ''}"
        )
    if "entropies" in method.needs and not file.tokens:
        raise DataError(f"method {label!r} reads token entropies, but {file.path} holds none; {_remedy(file.path)}")
    batch = make_rollout_batch(file.groups, method.needs, file.failed_as)
    if "entropy_gradients" in method.needs and batch.entropy_gradients is None:
        raise DataError(
            f"method {label!r} reads the gradients of entropies, but {file.path} holds none; {_remedy(file.path)}"
        )
    if "token_texts" in method.needs:
        batch = replace(batch, token_texts=_token_texts(file, label, model))
    if file.tokens:
        return batch
    return _refuse_tokens(batch, f"method {label!r} reads log-probs, but {file.path} holds none; {_remedy(file.path)}")


def _token_texts(file: RolloutFile, label: str, model: str | None) -> tuple[tuple[str, ...], ...]:
    """What each token spells, as in training.

    Raises:
        DataError: no tokens, or no tokenizer.
    """
    spelling = Spelling.of_run(file) if model is None or not file.tokens else Spelling.of_model(model)
    if spelling.missing:
        raise DataError(f"method {label!r} reads what tokens spell: {file.path}: {spelling.missing}")
    return each_spelled(spelling.tokenizer, make_rows(file.groups).completions)


def _refuse_tokens(batch: RolloutBatch, refusal: str) -> RolloutBatch:
    """The same batch without log-probs. Whether a method reads them it does not declare: it shows when it does."""

    class RewardsOnly(RolloutBatch):
        def __getattribute__(self, name: str) -> Any:
            if name in ("old_logprobs", "entropies"):
                raise DataError(refusal)
            return super().__getattribute__(name)

    return RewardsOnly(**{field.name: getattr(batch, field.name) for field in fields(batch)})


def _method_notes(method: Method, files: Sequence[RolloutFile]) -> tuple[str, ...]:
    anew = "training reads the policy anew before each optimiser step; this is what the first step of a rollout sees"
    sizes = sorted({len(group.completions) for file in files for group in file.groups})
    notes = [anew] if method.refreshes else []
    if method.pool == "micro":
        sizes_of = ", ".join(str(size) for size in sorted({file.micro_tokens for file in files}))
        notes.append(
            "its statistics are those of each micro-batch, cut as training cuts them where prompts are shared, at "
            f"{sizes_of} tokens (batch.micro_tokens)"
        )
    return (*notes, *(note for size in sizes for note in method.check(size)))


def _file_notes(file: RolloutFile) -> list[str]:
    planned = file.section("batch").get("prompts")
    if not file.config:
        return [
            f"{file.path}: no settings of a run beside it (config.yaml above the folder rollouts); all of it counts as one "
            "optimiser step, and aggregate=fixed divides by its longest completion"
        ]
    notes = []
    if planned != len(file.groups):
        notes.append(
            f"{file.path}: {counted(len(file.groups), 'group')}, but its run makes {planned}; all of it counts as one step"
        )
    rounded = file.section("engine").get("name") == "paged" and file.section("model").get("precision") == "bf16"
    own_passes = {"trainer": True, "auto": rounded}
    if file.tokens and own_passes.get(str(file.config.get("old_logprobs", "auto")), False):
        notes.append(f"{file.path}: its run trained on log-probs of its own passes; here are those of the engine")
    return notes
