"""The completions of a rollout drawn once more from their seeds, by the weights that drew them."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from progrpo.environment import digest
from progrpo.errors import ConfigError
from progrpo.files import read_jsonl
from progrpo.processes import ALONE
from progrpo.rollout.bundle import Bundle
from progrpo.rollout.gold import without
from progrpo.rollout.verify import Verifier
from progrpo.train import difficulty
from progrpo.train.alarms.watching import Alarms
from progrpo.train.bundles import Bundles
from progrpo.train.follower import FollowedRun
from progrpo.train.parallel import sync
from progrpo.train.problems import fit_splits, make_stream
from progrpo.train.replay import Replaying
from progrpo.train.sampling import sample
from progrpo.train.setup import Chosen, choose
from progrpo.train.stream import ProblemStream
from progrpo.train.trainer import Trainer
from progrpo.train.watch import Watch
from progrpo.types import Group


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnAgain:
    """What became of one completion.

    Attributes:
        problem: its id. index: its place in the group.
        parts_at: the first token that differs; None where all are the same.
        logprobs: whether the sampler's log-probs are the same to the last bit. verdict: whether it was judged alike.
    """

    problem: str
    index: int
    parts_at: int | None
    logprobs: bool
    verdict: bool


def draw_again(replaying: Replaying, bundle: Bundle, run: Path) -> list[DrawnAgain]:
    """Sample and verify the rollout of a bundle once more, as the run did, and hold it against the bundle.

    Args:
        replaying: as the rollout found it: the weights, and what the method remembered.

    Raises:
        ConfigError: another policy than this one sampled it, or the task gives other problems now.
        ProgrpoError: task, reward or engine cannot be used here.
    """
    settings, done = replaying.settings, bundle.step - 1
    if settings.rollout.ahead:
        raise ConfigError(
            "--sample: with rollout.ahead=1 the policy of one rollout before drew the completions; replay a run without it"
        )
    chosen = choose(settings)
    with Verifier(chosen.reward, settings.verify) as verifier:
        chosen.engine.prepare(str(settings.model.device))
        engine = chosen.engine.make(replaying.policy.model)
        with closing(engine):
            engine.version = done
            parallel = replaying.policy.parallel
            if chosen.engine.own_weights:
                sync(engine, replaying.policy.model, done, parallel, None)
            followed = FollowedRun(run, ALONE.rank)
            trainer = Trainer(
                settings=settings,
                run=followed,
                method=replaying.method,
                model=replaying.policy.model,
                parallel=parallel,
                policy=replaying.policy,
                engine=engine,
                verifier=verifier,
                reference=replaying.reference,
                stream=_stream(replaying, chosen, run),
                test=(),
                benchmarks=(),
                watch=Watch(settings),
                alarms=Alarms(settings.alarms, replaying.method.alarms),
                bundles=Bundles(settings, followed, done=done),
                done=done,
                listen=lambda event, data: None,
            )
            rollout, _ = sample(trainer, done)
    return held_against(bundle.groups, rollout.groups)


def held_against(before: Sequence[Group], again: Sequence[Group]) -> list[DrawnAgain]:
    """Each completion of a rollout against the one in its place in another."""
    drawn = []
    for group, other in zip(before, again, strict=True):
        pairs = zip(group.completions, other.completions, group.verdicts, other.verdicts, strict=True)
        for index, (one, two, verdict, second) in enumerate(pairs):
            length = min(len(one.token_ids), len(two.token_ids))
            apart = (one.token_ids[:length] != two.token_ids[:length]).nonzero()
            same = (
                len(apart) == 0
                and len(one.token_ids) == len(two.token_ids)
                and group.prompt_ids.equal(other.prompt_ids)
            )
            drawn.append(
                DrawnAgain(
                    problem=group.problem.id,
                    index=index,
                    parts_at=None if same else int(apart[0]) if len(apart) else length,
                    logprobs=same and torch.equal(one.sampler_logprobs, two.sampler_logprobs),
                    verdict=(verdict.status, verdict.reward) == (second.status, second.reward),
                )
            )
    return drawn


def _stream(replaying: Replaying, chosen: Chosen, run: Path) -> ProblemStream:
    """The training problems in the order of the run: what it left out is left out, what it measured is taken."""
    settings, model = replaying.settings, replaying.policy.model
    problems = chosen.task.problems("train")
    test = chosen.task.problems("test") if settings.evaluate.every else ()
    known = json.loads((run / "environment.json").read_text("utf-8")).get("problems")
    if not settings.evaluate.tasks and known not in (None, digest([*problems, *test])):
        raise ConfigError(
            f"--sample: {run}: the task no longer gives the problems this run began with (a data file changed?); restore them"
        )
    left_out = run / "excluded.jsonl"
    problems = without(problems, list(read_jsonl(left_out)) if left_out.is_file() else [], split="train")
    ((problems, _),) = fit_splits(settings, model.tokenizer, model.positions, {"training": problems}).values()
    rates = None
    if settings.data.by_pass_rate:
        rates = difficulty.from_rows(list(read_jsonl(run / "pass_rates.jsonl")))
        problems = difficulty.select(problems, rates, settings.data)
    return make_stream(settings, problems, chosen.task.sources, rates if settings.data.curriculum else None)
