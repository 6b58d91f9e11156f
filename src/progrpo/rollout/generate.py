"""From problems to groups: encode the prompts, sample G completions each, verify them meanwhile."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from progrpo.engines import Engine, Generated, Request, Sampling, check_generated
from progrpo.errors import DataError
from progrpo.model import LanguageModel
from progrpo.model.chat import DEFAULT_CHAT, Chat
from progrpo.model.tokenizer import encode_prompt
from progrpo.plural import counted
from progrpo.processes import ALONE, Processes
from progrpo.rollout.exchange import gather_groups
from progrpo.rollout.judging import Judging
from progrpo.rollout.prefixes import Joined
from progrpo.rollout.verify import Verifier
from progrpo.seeds import derive_seed
from progrpo.types import Group, Message, Problem

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """The groups of one rollout and the seconds its two phases took.

    Attributes:
        generate_s: of generation. verify_s: from its end until all verdicts were there.
        verify_busy_s: the verifier was at work, during generation and after.
        gather_s: of the exchange between processes, waiting for the slowest included; all others are of this process.
    """

    groups: tuple[Group, ...]
    generate_s: float
    verify_s: float
    verify_busy_s: float
    gather_s: float = 0.0

    @property
    def verify_hidden_s(self) -> float:
        """Seconds of verification that generation hid: nobody waited for them."""
        return max(0.0, self.verify_busy_s - self.verify_s)


def run_rollout(
    problems: Sequence[Problem],
    *,
    model: LanguageModel,
    engine: Engine,
    verifier: Verifier,
    sampling: Sampling,
    seeds: Sequence[tuple[int, ...]],
    processes: Processes = ALONE,
    prefixes: Sequence[Tensor | None] | None = None,
    limits: Sequence[int | None] | None = None,
    prompt_logprobs: bool = False,
    on_progress: Callable[[int], None] | None = None,
    on_sampled: Callable[[int], None] | None = None,
) -> Rollout:
    """Sample one completion per seed of each problem, and verify them; groups that are done meanwhile, where that helps.

    Args:
        seeds: for each problem, the seeds of its completions (see `completion_seeds`).
        prefixes: for each problem, tokens that its completions begin with (see `with_prefix`), or None; a problem may then
            stand here several times. None: none at all.
        limits: for each problem, tokens at most that follow the prompt or the prefix; None for `sampling.max_new_tokens`, which
            limits prefix and what follows together in any case.
        processes: each samples and verifies its share of the problems, and has all groups in the end; every one of them
            has to call this with the same problems and seeds.
        on_progress: called with the number of verdicts given so far, also while generation goes on and then from
            another thread.
        on_sampled: called with the number of problems whose completions are all there, as they come.
    """
    started = time.perf_counter()
    everything, share = problems, processes.share(len(problems))
    problems, seeds = problems[share], seeds[share]
    prompts = [_prompt_ids(problem, model.encode_prompt) for problem in problems]
    prefixes = [None] * len(problems) if prefixes is None else prefixes[share]
    limits = [None] * len(problems) if limits is None else limits[share]
    requests = _requests(model, sampling, problems, seeds, prompts, prefixes, limits)

    joined = Joined(prefixes, prompts, sampling, model)
    sampled_problems = count(1)
    with Judging(verifier, problems, on_progress) as judging:

        def done(index: int, result: Generated) -> None:
            judging.begin(index, joined.whole(index, result))
            if on_sampled is not None:
                on_sampled(next(sampled_problems))

        with record_function("generate"):
            generated = engine.generate(requests, sampling, prompt_logprobs=prompt_logprobs, on_done=done)
        check_generated(engine, requests, generated)
        generated = [joined.whole(index, result) for index, result in enumerate(generated)]
        sampled = time.perf_counter()
        with record_function("verify"):
            verdicts = judging.finish(generated)
    groups = tuple(
        Group(
            problem=problem,
            prompt_ids=prompt,
            prompt_logprobs=result.prompt_logprobs,
            completions=tuple(replace(completion, policy_version=engine.version) for completion in result.completions),
            verdicts=tuple(
                verifier.length_term(verdict, len(completion.token_ids))
                for verdict, completion in zip(group_verdicts, result.completions, strict=True)
            ),
        )
        for problem, prompt, result, group_verdicts in zip(problems, prompts, generated, verdicts, strict=True)
    )
    verified = time.perf_counter()
    with record_function("gather"):
        gathered = gather_groups(groups, everything, processes)
    return Rollout(
        groups=gathered,
        generate_s=sampled - started,
        verify_s=verified - sampled,
        verify_busy_s=judging.busy_s,
        gather_s=time.perf_counter() - verified if processes.count > 1 else 0.0,
    )


def _requests(
    model: LanguageModel,
    sampling: Sampling,
    problems: Sequence[Problem],
    seeds: Sequence[tuple[int, ...]],
    prompts: Sequence[Tensor],
    prefixes: Sequence[Tensor | None],
    limits: Sequence[int | None],
) -> list[Request]:
    """What an engine is asked: prompt and prefix in one, and no more tokens than may follow."""
    requests = []
    for problem, own, prompt, prefix, limit in zip(problems, seeds, prompts, prefixes, limits, strict=True):
        if prefix is None:
            given = _as_given(problem, model.chat)
            requests.append(Request(prompt_ids=prompt, seeds=own, prompt=given, limit=limit))
            continue
        left = sampling.max_new_tokens - len(prefix)
        most = left if limit is None else min(left, limit)
        requests.append(Request(prompt_ids=torch.cat([prompt, prefix]), seeds=own, limit=most))
    return requests


def completion_seeds(*parts: int | str, problem: Problem, group: int) -> tuple[int, ...]:
    """The seeds of a problem's `group` completions: a hash of (*parts, problem id, index), whatever stands beside it."""
    return tuple(derive_seed(*parts, problem.id, index) for index in range(group))


def fit_prompts(
    problems: Sequence[Problem],
    tokenizer: Any,
    *,
    max_prompt_tokens: int,
    positions: int | None,
    max_new_tokens: int,
    drop: bool,
    source: str,
    chat: Chat = DEFAULT_CHAT,
) -> tuple[Sequence[Problem], int]:
    """Check every prompt against the limit, and with the longest completion against the model's positions, before anything
    is generated.

    Args:
        tokenizer: the model's, for its own chat template, and `chat` for it. positions: see `LanguageModel`.
        drop: leave long prompts out (and say how many) instead of refusing them.

    Returns:
        The problems that fit, and the longest of their prompts in tokens (0 without problems).

    Raises:
        DataError: a prompt is too long and `drop` is off, or all are; or the tokenizer or its chat template refuses one.
    """
    lengths = [len(_prompt_ids(problem, partial(encode_prompt, tokenizer, chat=chat))) for problem in problems]
    longest = max_prompt_tokens if positions is None else min(max_prompt_tokens, positions - max_new_tokens)
    long = [(problem, length) for problem, length in zip(problems, lengths, strict=True) if length > longest]
    if not long:
        return problems, max(lengths, default=0)
    limit = (
        f"longer than data.max_prompt_tokens={max_prompt_tokens}"
        if longest == max_prompt_tokens
        else f"too long for sampling.max_new_tokens={max_new_tokens} within the model's {positions:,} positions"
    )
    kept = [problem for problem, length in zip(problems, lengths, strict=True) if length <= longest]
    if not drop or not kept:
        drop_them = ["data.long_prompts=drop to leave them out"] if kept else []
        remedies = _for_length(max(lengths), positions, max_new_tokens, max_prompt_tokens, drop_them)
        raise DataError(f"{source}: {_too_long(long, len(problems), limit)}. Set {', or '.join(remedies)}")
    logger.warning("%s: %d of %s left out, %s", source, len(long), counted(len(problems), "prompt"), limit)
    return kept, max(length for length in lengths if length <= longest)


def _too_long(long: Sequence[tuple[Problem, int]], of: int, why: str) -> str:
    """How many of `of` prompts are `why`, with the first and the longest of them: the problems with the tokens of each."""
    (first, tokens), most = long[0], max(tokens for _, tokens in long)
    longest = "" if tokens == most else f", the longest {most:,}"
    return (
        f"{len(long):,} of {counted(of, 'prompt')} {'is' if len(long) == 1 else 'are'} {why}; "
        f"the first, {_place(first)}, has {counted(tokens, 'token')}{longest}"
    )


def _for_length(
    longest: int, positions: int | None, max_new_tokens: int, max_prompt_tokens: int, others: Sequence[str]
) -> list[str]:
    """What would make room for a prompt of `longest` tokens: settings, `others`, and the model where settings would not."""
    raised = [f"data.max_prompt_tokens={longest}"] if longest > max_prompt_tokens else []
    if positions is None or longest + max_new_tokens <= positions:
        return [*raised, *others]
    larger = f"model.path to a model of more than {positions:,} positions"
    if longest >= positions:
        return [*others, larger]
    return [" with ".join([f"sampling.max_new_tokens={positions - longest} or less", *raised]), *others, larger]


def require_context(
    problems: Sequence[Problem],
    tokenizer: Any,
    *,
    positions: int | None,
    max_new_tokens: int,
    source: str,
    chat: Chat = DEFAULT_CHAT,
) -> None:
    """Check that prompt and completion fit into the model's positions, before the model is loaded.

    The first prompt and those that are long enough for it to matter are encoded, the others are not.

    Raises:
        DataError: a prompt does not, or the tokenizer or its chat template refuses it; the first is named.
    """
    longest = math.inf if positions is None else positions - max_new_tokens
    suspects = [one for number, one in enumerate(problems) if not number or _most_tokens(one, chat) > longest]
    encode = partial(encode_prompt, tokenizer, chat=chat)
    lengths = [len(_prompt_ids(problem, encode)) for problem in suspects]
    long = [(problem, length) for problem, length in zip(suspects, lengths, strict=True) if length > longest]
    if positions is None or not long:
        return
    most = positions - max(lengths)
    remedy = (
        f"set max_new_tokens={most} or less" if most > 0 else f"choose a model of more than {positions:,} positions"
    )
    why = f"too long for a completion of {counted(max_new_tokens, 'token')} within the model's {positions:,} positions"
    raise DataError(f"{source}: {_too_long(long, len(problems), why)}; {remedy}")


def _most_tokens(problem: Problem, chat: Chat) -> int:
    """More tokens than a prompt can have: four for each character, and what a chat template adds."""
    prompt = _as_given(problem, chat)
    texts = [prompt] if isinstance(prompt, str) else [str(message["content"]) for message in prompt]
    return 4 * sum(map(len, texts)) + 1024


def _prompt_ids(problem: Problem, encode: Callable[[str | tuple[Message, ...]], Tensor]) -> Tensor:
    try:
        return encode(problem.prompt)
    except DataError as error:
        raise DataError(f"{_place(problem)}: {error}") from error


def _as_given(problem: Problem, chat: Chat) -> str | tuple[Message, ...]:
    """The prompt for an engine that renders it by itself."""
    return problem.prompt if isinstance(problem.prompt, str) else chat.messages(problem.prompt)


def _place(problem: Problem) -> str:
    return problem.place or f"problem {problem.id!r}"
