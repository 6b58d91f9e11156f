"""What a run will do, in prompts and sequences and tokens, and about how much memory it will take."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from progrpo import methods, tasks
from progrpo.algo.aggregate import How
from progrpo.environment import digest
from progrpo.errors import ProgrpoError
from progrpo.files import require_writable
from progrpo.model import count_parameters, known_positions, load_tokenizer, pick_device, replaced_pad
from progrpo.model.chat import unknown_variables
from progrpo.model.files import require_readable
from progrpo.model.tokenizer import require_embedded
from progrpo.plural import counted
from progrpo.processes import Processes
from progrpo.rollout.gold import without
from progrpo.rollout.verify import Verifier
from progrpo.train import difficulty
from progrpo.train.benchmarks import bad_golds, plan_benchmarks, usable
from progrpo.train.disk_space import predict, require_disk_space
from progrpo.train.footprint import describe, footprint, require_sampling_copy
from progrpo.train.old_logprobs import concerns
from progrpo.train.optimizers import require_optimizer
from progrpo.train.problems import (
    describe_epoch,
    describe_length,
    describe_sources,
    fit_splits,
    in_steps,
    make_stream,
    no_epochs,
    require_usable,
)
from progrpo.train.record import require_free
from progrpo.train.same_run import require_same
from progrpo.train.settings import RunSettings
from progrpo.train.setup import Chosen, has_run
from progrpo.train.trackers import require_trackers
from progrpo.train.trainer import Listener

AGGREGATIONS: dict[How, str] = {
    "group_token": "token mean within each group, mean over problems",
    "token": "mean over all tokens of the step",
    "sequence": "token mean within each completion, mean over completions",
    "fixed": "token sums over a constant length",
}


STOPS = "warning: as things are the run would stop: "
"""Begins a line that says why."""


def make_plan(
    chosen: Chosen, *, resume: bool = False, processes: int = 1, listen: Listener = lambda event, data: None
) -> list[str]:
    """Lines of text; everything is resolved as the run would, but no weights are read and nothing is written.

    All that would stop the run and can be known without its weights is in lines that begin with `STOPS`: its directory and
    disk, its trackers, device, engine, verifier and measures, its model's configuration and tokenizer, its problems and their
    golds. So a recipe can be read on another machine than the one it runs on.

    Args:
        resume: whether the run is to go on where there is one. processes: that train it, each with a device.
        listen: see `progrpo.train.setup.Listener`.

    Raises:
        ProgrpoError: a setting is invalid.
    """
    settings, method = chosen.settings, chosen.method
    batch = settings.batch
    sequences = batch.prompts * batch.group
    per_step = batch.minibatch_prompts or batch.prompts
    lines = [
        f"method {_summary(method)}",
        f"loss: {AGGREGATIONS[method.params.aggregate]}; ratio clipped to "
        f"[{1 - method.params.clip_low:g}, {1 + method.params.clip_high:g}]" + _dual_clip(method.params),
        f"rollout: {counted(batch.prompts, 'problem')} x {batch.group} completions = {sequences:,} sequences, at most "
        f"{counted(sequences * settings.sampling.max_new_tokens, 'sampled token')}",
        f"optimiser step: {counted(per_step, 'problem')} = {per_step * batch.group:,} sequences; "
        f"{counted(batch.steps_per_rollout, 'step')} per rollout, by {settings.optim.name}",
        *([describe_length(settings)] if settings.epochs is None else ()),
    ]
    lines += [f"warning: {warning}" for warning in concerns(settings, method)]
    splits: dict[str, Any] = {}
    resume = resume and has_run(Path(str(settings.out)))
    checks: dict[str, Callable[[], Iterable[str]]] = {
        "looking at the run directory": lambda: _directory(settings, resume),
        "asking for device and engine": lambda: _machine(chosen),
        "reading the problems": lambda: _problems(chosen, splits, resume),
        "checking the gold answers": lambda: _golds(chosen, splits, listen),
        "reading the prompts": lambda: _prompts(chosen, splits),
        "reading the benchmarks": lambda: _benchmarks(settings, splits, listen),
        "reading the model's configuration": lambda: _memory(chosen, processes),
        "looking at the disk": lambda: _disk(settings, splits),
    }
    for doing, check in checks.items():
        listen("prepare", {"doing": doing})
        try:
            lines += check()
        except ProgrpoError as error:
            lines += [line for line in (f"{STOPS}{error}",) if line not in lines]
    return lines


def _summary(method: methods.Method) -> str:
    """The method's name and what its file says of it in one line; its settings are among those of the run."""
    said = (method.module.__doc__ or "").strip().split("\n")[0]
    return f"{method.name}: {said}" if said else method.name


def _dual_clip(params: methods.Params) -> str:
    return "" if params.dual_clip is None else f", a negative advantage counts at most {params.dual_clip:g} times"


def _directory(settings: RunSettings, resume: bool) -> Iterator[str]:
    out = Path(str(settings.out))
    require_writable(out)
    if not resume:
        require_free(out)
    require_trackers(settings)
    yield from ()


def _machine(chosen: Chosen) -> Iterator[str]:
    chosen.engine.prepare(chosen.settings.model.device)
    require_optimizer(chosen.settings.optim)
    yield from ()


def _problems(chosen: Chosen, into: dict[str, Any], resume: bool) -> Iterator[str]:
    """Fill `into` with the splits."""
    splits = {"training": chosen.task.problems("train")}
    if chosen.settings.evaluate.every:
        splits["held-out"] = chosen.task.problems("test")
    into |= splits
    if resume:
        every = [*splits.values(), *(one.problems for one in plan_benchmarks(chosen.settings))]
        require_same(chosen.settings, digest([one for problems in every for one in problems]))
    if shared := tasks.overlap(splits["training"], splits.get("held-out", ())):
        yield f"warning: {shared}"


def _golds(chosen: Chosen, splits: dict[str, Any], listen: Listener) -> Iterator[str]:
    """Take problems with a bad gold out of `splits`."""
    settings = chosen.settings
    with Verifier(chosen.reward, settings.verify) as verifier:
        if settings.evaluate.every:
            settings.evaluate.load_measures(verifier)
        if not splits:
            return
        train, test = splits["training"], splits.get("held-out", ())
        bad = bad_golds(settings, verifier, train, test, listen=listen)
    if bad:
        of = counted(len(train) + len(test), "gold answer")
        left = "its problem is" if len(bad) == 1 else "their problems are"
        yield f"warning: {len(bad):,} of {of} {'does' if len(bad) == 1 else 'do'} not verify; {left} left out"
    splits["training"] = without(train, bad, split="train")
    if test:
        splits["held-out"] = without(test, bad, split="test")


def _prompts(chosen: Chosen, splits: dict[str, Any]) -> Iterator[str]:
    settings = chosen.settings
    tokenizer = load_tokenizer(settings.model)
    rows = count_parameters(settings.model.path)["vocabulary"]
    require_embedded(tokenizer, rows, settings.model.path, replaced_pad(settings.model))
    settings.sampling.stop_ids(rows)
    yield from (f"warning: {sentence}" for sentence in unknown_variables(tokenizer, settings.model.chat))
    kept = fit_splits(settings, tokenizer, known_positions(settings.model.path), splits)
    if not kept:
        return
    sizes = (
        f"{counted(len(problems), f'{name} problem')}, prompts up to {counted(long, 'token')}"
        for name, (problems, long) in kept.items()
    )
    yield "data: " + ", ".join(sizes)
    training = kept["training"][0]
    if settings.data.by_pass_rate:
        rates = difficulty.cached(training, settings)
        if rates is None:
            size = settings.data.pass_rate_samples
            yield (
                f"pass rates: not measured yet; {counted(len(training), 'problem')} x {counted(size, 'completion')} = "
                f"{len(training) * size:,} before the first step, and what follows is of all problems"
            )
        else:
            yield from difficulty.describe(training, rates, settings.data)
            training = difficulty.select(training, rates, settings.data)
    splits["training"] = training
    yield from describe_sources(settings, training, chosen.task.sources)
    make_stream(settings, training, chosen.task.sources)
    require_usable(chosen.method, settings, training)
    if no_epochs(chosen.method, chosen.task) is None:
        yield describe_epoch(settings, len(training))
    if settings.epochs is not None:
        yield describe_length(in_steps(settings, len(training)))


def _benchmarks(settings: RunSettings, into: dict[str, Any], listen: Listener) -> Iterator[str]:
    """Fill `into` with the benchmarks."""
    plans = plan_benchmarks(settings)
    if not plans:
        return
    bad: list[Mapping[str, Any]] = []
    for one in plans:
        with Verifier(one.reward, settings.verify) as verifier:
            bad += bad_golds(settings, verifier, (), (), [one], listen=listen)
            one.settings.load_measures(verifier)
    ready = usable(plans, bad, settings, load_tokenizer(settings.model), known_positions(settings.model.path))
    shown = ", ".join(f"{one.name} ({counted(len(one.problems), 'problem')} x {one.settings.n})" for one in ready)
    yield f"benchmarks at each evaluation: {shown}, at most {counted(ready[0].max_new_tokens, 'token')} a completion"
    into["benchmarks"] = ready


def _disk(settings: RunSettings, splits: dict[str, Any]) -> Iterator[str]:
    out = Path(str(settings.out))
    settings = in_steps(settings, len(splits.get("training", ())))
    parameters = count_parameters(settings.model.path, settings.model.lora)["trained"]
    held_out, benchmarks = len(splits.get("held-out", ())), splits.get("benchmarks", ())
    space = predict(settings, parameters, held_out, [(len(one.problems), one.settings.n) for one in benchmarks])
    yield f"disk: {space}"
    yield from (f"warning: {warning}" for warning in require_disk_space(out, space))


def _memory(chosen: Chosen, processes: int) -> Iterator[str]:
    settings = chosen.settings
    require_readable(settings.model.path)
    size = count_parameters(settings.model.path, settings.model.lora)
    mode = settings.parallel.resolve(Processes(count=processes))
    reference = "ref_logprobs" in chosen.method.needs
    device = pick_device(settings.model.device)
    one = footprint(settings, size, mode=mode, count=processes, reference=reference, device=device)
    trained = "" if size["trained"] == size["parameters"] else f", {size['trained']:,} of an adapter are trained"
    yield f"model: {size['parameters']:,} parameters{trained}, vocabulary {size['vocabulary']:,}"
    yield from describe(
        one, mode=mode, count=processes, device=device, shared_by=1 if device.type == "cuda" else processes
    )
    if not chosen.engine.own_weights:
        require_sampling_copy(one, mode, settings.engine.name, device)
