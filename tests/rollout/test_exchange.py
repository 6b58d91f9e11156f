"""Groups travel between processes unchanged, and cheaply."""

import pickle
from dataclasses import fields

import torch
from hypothesis import given
from hypothesis import strategies as st

from progrpo.processes import ALONE
from progrpo.rollout.exchange import gather_groups, pack, size_of, unpack
from progrpo.types import Completion, Group, Problem, Verdict

PROBLEMS = tuple(Problem(id=str(n), prompt=f"p{n}", answer="1", info={"n": n}) for n in range(3))


def made_up_group(problem: Problem, lengths: list[int], *, entropies: bool, prompt_logprobs: bool) -> Group:
    draw = torch.Generator().manual_seed(len(lengths))
    completions = []
    for seed, length in enumerate(lengths):
        log_probs = -torch.rand(length, generator=draw)
        completions.append(
            Completion(
                seed=2**60 + seed,
                text="né\ud800" if seed == 0 else "x" * seed,
                finish="stop",
                token_ids=torch.randint(0, 150_000, (length,), generator=draw),
                **{LOGPROBS: log_probs},
                entropies=log_probs * 2 if entropies else None,
                policy_version=seed,
            )
        )
    return Group(
        problem=problem,
        prompt_ids=torch.tensor([3, 2**40, -1]),
        prompt_logprobs=torch.tensor([0.0, -1.0, -2.0]) if prompt_logprobs else None,
        completions=tuple(completions),
        verdicts=tuple(Verdict(status="correct", reward=0.5, parts={"a": 1.0}) for _ in completions),
    )


LOGPROBS = next(field.name for field in fields(Completion) if field.name in ("logprobs", "sampler_logprobs"))


def same(first: object, second: object) -> bool:
    """Equality of dataclasses that hold tensors."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, tuple):
        return isinstance(second, tuple) and len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, Group | Completion):
        return all(same(getattr(first, field.name), getattr(second, field.name)) for field in fields(first))
    return first == second


@given(
    lengths=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), max_size=3),
    entropies=st.booleans(),
    prompt_logprobs=st.booleans(),
)
def test_what_is_unpacked_is_what_was_packed(lengths: list[list[int]], entropies: bool, prompt_logprobs: bool) -> None:
    groups = tuple(
        made_up_group(problem, sizes, entropies=entropies, prompt_logprobs=prompt_logprobs)
        for problem, sizes in zip(PROBLEMS, lengths, strict=False)
    )
    back = unpack(pickle.loads(pickle.dumps(pack(groups, PROBLEMS))), PROBLEMS)
    assert same(back, groups)
    # Problems did not travel: everyone has them.
    assert all(mine.problem is other.problem for mine, other in zip(back, groups, strict=True))


def test_a_token_costs_twelve_bytes() -> None:
    # id in 32 bits, log-prob and entropy in 32 bits each
    lengths = [1000] * 8
    parcel = pack([made_up_group(PROBLEMS[0], lengths, entropies=True, prompt_logprobs=False)], PROBLEMS)
    assert 12 * 8000 <= size_of(parcel) < 12 * 8000 + 3000


def test_alone_nothing_is_copied() -> None:
    groups = (made_up_group(PROBLEMS[0], [2, 3], entropies=True, prompt_logprobs=True),)
    assert gather_groups(groups, PROBLEMS, ALONE)[0] is groups[0]
