import torch
from torch import Tensor

from progrpo.methods import Advantages
from progrpo.train.batch import Rows
from progrpo.train.minibatch import make_minibatch, part_of
from progrpo.train.work import Work
from progrpo.types import Ratio
from stand_ins.naive_methods_b import random_batch

ROWS = Rows(prompts=(), completions=(), group=3)


def numbered(rows: int, columns: int) -> Tensor:
    return torch.arange(float(rows * columns)).view(rows, columns)


def test_the_part_of_some_problems() -> None:
    whole = Advantages(
        values=numbered(3, 3),
        tokens=numbered(9, 6),
        keep=numbered(3, 3) > 4,
        carried={"returns": -numbered(9, 6)},
        stats={"a": Ratio(1, 1)},
        columns={"b": numbered(3, 3)},
    )
    part = part_of(whole, slice(1, 3), 3)
    assert torch.equal(part.values, whole.values[1:])
    assert torch.equal(part.tokens, whole.tokens[3:])
    assert part.keep.tolist() == [[False, False, True], [True, True, True]]
    assert torch.equal(part.carried["returns"], whole.carried["returns"][3:])
    # they speak of the rollout, and would be counted once for each part
    assert part.stats == {}
    assert part.columns == {}
    plain = part_of(Advantages(values=numbered(3, 3)), slice(0, 1), 3)
    assert plain.tokens is plain.keep is None


def test_a_minibatch_holds_the_rows_of_its_problems() -> None:
    batch = random_batch(0)
    values = torch.tensor([[1.0, -1.0, 0.5]])
    made = make_minibatch(ROWS, batch, Advantages(values=values), slice(1, 2), seed=0)
    own = slice(3, 6)
    assert made.first == 3
    assert torch.equal(made.step.advantages, values[0][:, None].expand(3, 6))
    for name in ("mask", "logprobs", "entropies"):
        assert torch.equal(getattr(made.step, name), getattr(batch, name)[own]), name
    assert torch.equal(made.step.old_logprobs, batch.logprobs[own])
    for name in ("correct", "judged", "truncated"):
        assert torch.equal(getattr(made.step, name), getattr(batch, name)[1:2]), name
    assert made.kept.all()
    assert torch.equal(made.ref_logprobs, batch.ref_logprobs[own])
    assert made.slopes is None
    assert made.step.pool.tolist() == [0, 0, 0]
    assert made.work == Work()


def test_dropped_sequences_have_no_tokens_and_no_length() -> None:
    batch = random_batch(0)
    keep = torch.tensor([[True, False, True]])
    made = make_minibatch(ROWS, batch, Advantages(values=torch.ones(1, 3), keep=keep), slice(0, 1), seed=0)
    assert not made.step.mask[1].any()
    assert torch.equal(made.step.mask[[0, 2]], batch.mask[[0, 2]])
    assert made.kept.tolist() == [[True, False, True]]


def test_advantages_of_tokens_take_the_place_of_those_of_sequences() -> None:
    batch, tokens = random_batch(0), numbered(3, 6)
    own = Advantages(values=torch.ones(1, 3), tokens=tokens, carried={"values": 2 * tokens})
    made = make_minibatch(ROWS, batch, own, slice(2, 3), seed=0)
    assert torch.equal(made.step.advantages, tokens)
    assert torch.equal(made.carried["values"], 2 * tokens)


def test_refreshed_log_probs_stand_beside_those_of_the_policy_that_sampled() -> None:
    batch = random_batch(0)
    # what `rescore` gives: these problems alone
    now = random_batch(1, problems=1)
    made = make_minibatch(
        ROWS, batch, Advantages(values=torch.ones(1, 3)), slice(1, 2), seed=0, now=now, work=Work(positions=5)
    )
    assert torch.equal(made.step.logprobs, now.logprobs)
    assert torch.equal(made.step.entropies, now.entropies)
    assert torch.equal(made.step.old_logprobs, batch.logprobs[3:6])
    assert made.work.positions == 5


def test_random_numbers_follow_the_seed() -> None:
    batch, own = random_batch(0), Advantages(values=torch.ones(3, 3))
    drawn = [
        torch.rand(4, generator=make_minibatch(ROWS, batch, own, slice(0, 3), seed=seed).step.generator)
        for seed in (5, 5, 6)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
