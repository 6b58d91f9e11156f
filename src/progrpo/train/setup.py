"""Everything a run needs, checked and loaded before the first token is sampled."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from progrpo import engines, measures, methods, rewards, tasks
from progrpo.engines import EngineSetup
from progrpo.environment import digest
from progrpo.errors import ConfigError
from progrpo.evaluate.benchmark import BenchmarkPlan
from progrpo.files import require_writable
from progrpo.methods import Method
from progrpo.model import LanguageModel, count_parameters, load_model, pick_device
from progrpo.model.files import base_of
from progrpo.model.lora import is_adapted
from progrpo.model.shards import load_reference, load_to_shard
from progrpo.plural import counted
from progrpo.processes import ALONE, Processes
from progrpo.rewards import Reward
from progrpo.rollout.gold import without
from progrpo.rollout.verify import Verifier
from progrpo.tasks import Task
from progrpo.train import checkpoint, difficulty
from progrpo.train.alarms.watching import Alarms
from progrpo.train.benchmarks import bad_golds, plan_benchmarks, require_measurable, usable
from progrpo.train.bundles import Bundles
from progrpo.train.disk_space import predict, require_disk_space
from progrpo.train.evaluation import has_evaluation
from progrpo.train.follower import open_run, require_shared
from progrpo.train.footprint import footprint, require_sampling_copy
from progrpo.train.old_logprobs import concerns
from progrpo.train.optimizers import require_optimizer
from progrpo.train.parallel import Parallel, SamplingCopy, sync
from progrpo.train.policy import Policy
from progrpo.train.problems import fit_splits, in_steps, make_stream, require_epochs, require_usable
from progrpo.train.record import RunDirectory, require_free
from progrpo.train.reference import Reference
from progrpo.train.settings import RunSettings
from progrpo.train.start import Start
from progrpo.train.trackers import require_trackers
from progrpo.train.trainer import Listener, Trainer
from progrpo.train.watch import Watch
from progrpo.types import Problem

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chosen:
    """What the settings of a run choose, each imported and validated once.

    Attributes:
        settings: with every setting of method, task, reward and engine written out, presets and defaults included.
    """

    settings: RunSettings
    method: Method
    task: Task
    reward: Reward
    engine: EngineSetup


def choose(settings: RunSettings) -> Chosen:
    """Import the chosen method, task, reward, engine and measures, and write out every setting of the first four.

    Raises:
        PluginError, ConfigError: a name or setting of theirs is unknown or invalid.
    """
    method, task = methods.load(settings.method), tasks.load(settings.task)
    reward_choice = settings.reward or task.reward()
    reward, engine = rewards.load(reward_choice), engines.choose(settings.engine)
    if reward.takes_columns:
        task = tasks.load(tasks.for_columns(settings.task))
    require_epochs(settings, method, task)
    if settings.evaluate.every:
        measures.load(settings.evaluate.measures)
    Watch(settings)
    Alarms(settings.alarms, method.alarms)
    written_out = {
        key: type(choice)(**{**choice.model_dump(), **params.model_dump(mode="json")})
        for key, (choice, params) in {
            "method": (settings.method, method.params),
            "task": (settings.task, task.params),
            "reward": (reward_choice, reward.params),
            "engine": (settings.engine, engine.params),
        }.items()
    }
    settings = settings.model_copy(update=written_out)
    return Chosen(settings=settings, method=method, task=task, reward=reward, engine=engine)


def resolve(settings: RunSettings) -> RunSettings:
    """The settings of `choose`."""
    return choose(settings).settings


def prepare(
    chosen: Chosen, verifier: Verifier, *, resume: bool, listen: Listener, processes: Processes = ALONE
) -> Trainer:
    """Check all that can be checked, then make the parts; the run directory is made last.

    Raises:
        ProgrpoError: see `progrpo.errors`.
    """
    # Two trainers of one choice do not share what their methods remember.
    settings, method = chosen.settings, replace(chosen.method, state={})
    out = Path(str(settings.out))
    parallel = Parallel(settings.parallel, processes)
    resume = _goes_on(out, resume, processes)
    _require_machine(chosen, out, listen)
    run, checked = _checked(chosen, verifier, out, resume=resume, listen=listen, processes=processes)
    latest = _latest(settings, out, processes) if run else None
    listen("prepare", {"doing": "loading the model"})
    model, sampling_copy, before = _models(chosen, latest, parallel)
    splits = {"training": checked.problems, "test": checked.test}
    problems, test = (kept for kept, _ in fit_splits(settings, model.tokenizer, model.positions, splits).values())
    benchmarks = usable(checked.benchmarks, checked.excluded, settings, model.tokenizer, model.positions)
    make_stream(settings, problems, chosen.task.sources)  # what it refuses, it refuses before anything is sampled
    with ExitStack() as failing:
        start = Start(settings, method, chosen.engine, model, sampling_copy, verifier, parallel)
        failing.callback(start.close)
        rates = start.pass_rates(problems, run, listen) if settings.data.by_pass_rate else None
        rows = None if rates is None else difficulty.to_rows(problems, rates, settings.data)
        problems = problems if rates is None else difficulty.select(problems, rates, settings.data)
        settings = _in_steps(settings, len(problems), latest)
        stream = make_stream(settings, problems, chosen.task.sources, rates if settings.data.curriculum else None)
        policy = Policy(
            model,
            settings.optim,
            steps=settings.steps,
            temperature=settings.sampling.temperature,
            net=method.make_net(model.model.config.get_text_config().hidden_size),
            net_lr_factor=method.net_lr_factor,
            parallel=parallel,
        )
        reference = _reference(settings, method, policy, before)
        engine = start.engine()
        require_measurable(benchmarks, settings, engine)
        if latest is not None:
            checkpoint.restore(latest, policy, method.state)
        if latest is not None or (chosen.engine.own_weights and not start.synced):
            sync(engine, model, latest.step if latest else 0, parallel, sampling_copy)
        if run is None:
            run = open_run(
                processes, lambda: RunDirectory.create(settings, checked.excluded, checked.digest, rows), out
            )
        else:
            run.resume(settings, latest.step if latest else None)
        failing.pop_all()
    logged = run.metrics(until=latest.step) if latest else []
    return Trainer(
        settings=settings,
        run=run,
        method=method,
        model=model,
        parallel=parallel,
        sampling_copy=sampling_copy,
        policy=policy,
        engine=engine,
        verifier=verifier,
        reference=reference,
        stream=stream,
        sources=tuple(chosen.task.sources),
        test=tuple(test),
        benchmarks=benchmarks,
        watch=Watch(settings, logged),
        alarms=Alarms(settings.alarms, method.alarms, per_rollout=settings.batch.steps_per_rollout, rows=logged),
        bundles=Bundles(settings, run, done=latest.step if latest else 0),
        done=latest.step if latest else 0,
        evaluated=latest is not None and has_evaluation(logged, latest.step),
        listen=listen,
    )


def _reference(settings: RunSettings, method: Method, policy: Policy, before: LanguageModel | None) -> Reference | None:
    """The model before training, for a method that asks for it."""
    if "ref_logprobs" not in method.needs:
        return None
    temperature = settings.sampling.temperature
    return Reference(
        policy.model, settings.model, temperature, trained=policy.scorer, parallel=policy.parallel, before=before
    )


class _Checked(NamedTuple):
    """What a run reads: training and test problems whose golds verify and its benchmarks whole, the rows of those left out,
    and the digest of all."""

    problems: Sequence[Problem]
    test: Sequence[Problem]
    benchmarks: Sequence[BenchmarkPlan]
    excluded: Sequence[Mapping[str, Any]]
    digest: str


def _checked(
    chosen: Chosen, verifier: Verifier, out: Path, *, resume: bool, listen: Listener, processes: Processes
) -> tuple[RunDirectory | None, _Checked]:
    """Read the problems, and check their golds where the run directory, which is opened if it is resumed, does not know."""
    settings, method = chosen.settings, chosen.method
    listen("prepare", {"doing": "reading the problems"})
    for warning in concerns(settings, method):
        logger.warning("%s", warning)
    problems = chosen.task.problems("train")
    test = chosen.task.problems("test") if settings.evaluate.every else ()
    if shared := tasks.overlap(problems, test):
        logger.warning("%s", shared)
    require_usable(method, settings, problems)
    torch.manual_seed(settings.seed)  # for what a method initialises at random
    benchmarks = plan_benchmarks(settings)
    for one in benchmarks:
        if shared := tasks.overlap(problems, one.problems, of=f"problems of benchmark {one.name}"):
            logger.warning("%s", shared)
    known = digest([*problems, *test, *(problem for one in benchmarks for problem in one.problems)])
    run = open_run(processes, lambda: RunDirectory.reopen(settings, known), out) if resume else None
    # A resumed run leaves out what it left out when it began: a verdict may depend on how busy the machine is.
    excluded = run.excluded() if run else None
    if excluded is None:
        checked = problems, test, benchmarks
        excluded = processes.same(lambda: bad_golds(settings, verifier, *checked, listen=listen))
    problems, test = without(problems, excluded, split="train"), without(test, excluded, split="test")
    return run, _Checked(problems, test, benchmarks, excluded, known)


def _goes_on(out: Path, resume: bool, processes: Processes) -> bool:
    """Whether there is a run to go on with; a new one finds its directory free, writable, and seen by all processes."""
    processes.same(lambda: require_writable(out))
    require_shared(processes, out)
    if resume and processes.same(lambda: has_run(out)):
        return True
    processes.same(lambda: require_free(out))
    return False


def _models(
    chosen: Chosen, latest: checkpoint.Checkpoint | None, parallel: Parallel
) -> tuple[LanguageModel, SamplingCopy | None, LanguageModel | None]:
    """The model to train, as it was chosen or as a checkpoint left it; where it will be sharded, also the whole one for an
    engine that has no weights of its own, and the one before training for a method that asks for it."""
    adapter = latest.folder if latest and chosen.settings.model.lora else None
    moved = {"path": str(latest.folder.resolve())} if latest and not adapter else {}
    model = chosen.settings.model.model_copy(update=moved)
    if not parallel.sharded:
        return load_model(model, adapter=adapter, merge=True), None, None
    if base_of(model.path) != model.path:
        raise ConfigError(
            f"model.path={model.path}: is an adapter, which parallel=fsdp2 does not add to its base model; give the model with "
            "the adapter merged (peft's merge_and_unload)"
        )
    settings, size = chosen.settings, count_parameters(chosen.settings.model.path, chosen.settings.model.lora)
    reference = "ref_logprobs" in chosen.method.needs
    device = pick_device(model.device)
    one = footprint(
        settings, size, mode=parallel.mode, count=parallel.processes.count, reference=reference, device=device
    )
    if not chosen.engine.own_weights:
        require_sampling_copy(one, parallel.mode, settings.engine.name, device)
    trained, whole = load_to_shard(model, adapter=adapter)
    # Made like the one that is trained, which therefore must not be sharded yet.
    before = load_reference(settings.model, trained) if reference and not is_adapted(trained.model) else None
    return trained, None if chosen.engine.own_weights else SamplingCopy(whole), before


def _latest(settings: RunSettings, out: Path, processes: Processes) -> checkpoint.Checkpoint | None:
    folder = processes.same(lambda: checkpoint.latest_folder(out / "checkpoints"))
    if folder is None:
        return None
    latest = checkpoint.load(folder)
    _require_ahead(settings, latest)
    return latest


def _require_ahead(settings: RunSettings, latest: checkpoint.Checkpoint) -> None:
    """Raises ConfigError if more steps are made than the settings ask for, as far as that is known."""
    if 0 < settings.steps < latest.step:
        epochs = settings.epochs
        asked = f"steps={settings.steps}" if epochs is None else f"the {settings.steps} of {counted(epochs, 'epoch')}"
        raise ConfigError(f"{settings.out} has made {counted(latest.step, 'step')} already, more than {asked}")


def _in_steps(settings: RunSettings, problems: int, latest: checkpoint.Checkpoint | None) -> RunSettings:
    """The settings with the steps that so many training problems make of `epochs`, and what depends on them checked."""
    if settings.epochs is None:
        return settings
    settings = in_steps(settings, problems)
    if latest is not None:
        _require_ahead(settings, latest)
    trained = count_parameters(settings.model.path, settings.model.lora)["trained"]
    for warning in require_disk_space(Path(str(settings.out)), predict(settings, trained, held_out=0)):
        logger.warning("%s", warning)
    return settings


def _require_machine(chosen: Chosen, out: Path, listen: Listener) -> None:
    """Ask for all that a run needs beside its data and settings: trackers, device, engine, and space on the disk."""
    settings = chosen.settings
    require_trackers(settings)
    chosen.engine.prepare(settings.model.device)
    require_optimizer(settings.optim)
    listen("prepare", {"doing": "reading the model's configuration"})
    size = count_parameters(settings.model.path, settings.model.lora)
    settings.sampling.stop_ids(size["vocabulary"])
    for warning in require_disk_space(out, predict(settings, size["trained"], held_out=0)):
        logger.warning("%s", warning)


def has_run(path: Path) -> bool:
    """Whether there is anything to resume; a job that is always started with --resume must be able to begin."""
    if os.path.isfile(path / "config.yaml"):  # False where the name is none; `Path.is_file` raises
        return True
    logger.warning("%s holds no run yet; starting from the beginning", path)
    return False
