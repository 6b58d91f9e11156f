import pytest
import torch
from torch import Tensor

from progrpo import methods
from progrpo.methods import Advantages
from progrpo.methods.step import decide, make_step, micro_loss, micro_view, part_of
from progrpo.settings import Choice
from progrpo.types import WeightedMean
from stand_ins.batch_steps import random_batch


def numbered(rows: int, columns: int) -> Tensor:
    return torch.arange(float(rows * columns)).view(rows, columns)


def test_the_part_of_some_problems() -> None:
    whole = Advantages(
        values=numbered(3, 3),
        tokens=numbered(9, 6),
        keep=numbered(3, 3) > 4,
        carried={"returns": -numbered(9, 6)},
        stats={"a": WeightedMean(1, 1)},
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


def test_a_step_holds_the_rows_of_its_problems() -> None:
    batch = random_batch(0)
    values = torch.tensor([[1.0, -1.0, 0.5]])
    made = make_step(batch, Advantages(values=values), slice(1, 2), seed=0)
    own = slice(3, 6)
    assert torch.equal(made.batch.advantages, values[0][:, None].expand(3, 6))
    for name in ("mask", "old_logprobs", "entropies"):
        assert torch.equal(getattr(made.batch, name), getattr(batch, name)[own]), name
    assert torch.equal(made.batch.old_logprobs, batch.old_logprobs[own])
    for name in ("correct", "judged", "truncated"):
        assert torch.equal(getattr(made.batch, name), getattr(batch, name)[1:2]), name
    assert made.kept.all()
    assert torch.equal(made.ref_logprobs, batch.ref_logprobs[own])
    assert torch.equal(made.entropy_gradients, batch.entropy_gradients[own])
    assert made.group == 3
    assert made.batch.pool.tolist() == [0, 0, 0]


def test_dropped_sequences_have_no_tokens_and_no_length() -> None:
    batch = random_batch(0)
    keep = torch.tensor([[True, False, True]])
    made = make_step(batch, Advantages(values=torch.ones(1, 3), keep=keep), slice(0, 1), seed=0)
    assert not made.batch.mask[1].any()
    assert torch.equal(made.batch.mask[[0, 2]], batch.mask[[0, 2]])
    assert made.kept.tolist() == [[True, False, True]]


def test_advantages_of_tokens_take_the_place_of_those_of_sequences() -> None:
    batch, tokens = random_batch(0), numbered(3, 6)
    own = Advantages(values=torch.ones(1, 3), tokens=tokens, carried={"values": 2 * tokens})
    made = make_step(batch, own, slice(2, 3), seed=0)
    assert torch.equal(made.batch.advantages, tokens)
    assert torch.equal(made.batch.carried["values"], 2 * tokens)


def test_refreshed_log_probs_stand_beside_those_of_the_policy_that_sampled() -> None:
    batch = random_batch(0)
    # what `rescore` gives: these problems alone
    now = random_batch(1, problems=1)
    made = make_step(batch, Advantages(values=torch.ones(1, 3)), slice(1, 2), seed=0, now=now)
    assert torch.equal(made.batch.logprobs, now.old_logprobs)
    assert torch.equal(made.batch.entropies, now.entropies)
    assert torch.equal(made.batch.old_logprobs, batch.old_logprobs[3:6])


def test_random_numbers_follow_the_seed() -> None:
    batch, own = random_batch(0), Advantages(values=torch.ones(3, 3))
    drawn = [
        torch.rand(4, generator=make_step(batch, own, slice(0, 3), seed=seed).batch.generator) for seed in (5, 5, 6)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_losses_of_micro_batches_add_up_to_that_of_the_step() -> None:
    batch = random_batch(0)
    method = methods.load(Choice(name="dapo"))
    step = make_step(batch, method.advantages(batch), slice(0, 3), seed=0)
    decided = decide(method, step, longest=6, skip_zero=False)

    def loss(place: Tensor) -> float:
        view = micro_view(step, decided, place, logprobs=batch.old_logprobs[place] + 0.1)
        return float(micro_loss(method, view, decided, place)[0])

    whole = loss(torch.arange(9))
    assert abs(whole) > 1e-3
    assert sum(loss(place) for place in torch.arange(9).split([2, 6, 1])) == pytest.approx(whole, abs=1e-6)


def test_sequences_without_an_advantage_are_chosen_only_where_they_act() -> None:
    batch = random_batch(0, failed=0.0)
    values = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, -0.5]])
    step = make_step(batch, Advantages(values=values), slice(0, 3), seed=0)
    full = [n for n in range(9) if batch.mask[n].any()]
    acting = [n for n in full if values.flatten()[n]]
    chosen = {
        name: decide(methods.load(Choice(name=name, **more)), step, longest=6, skip_zero=True).chosen.tolist()
        for name, more in (("grpo", {}), ("dapo", {"kl_coef": 0.1}))
    }
    assert chosen == {"grpo": acting, "dapo": full}  # a penalty acts on all
    everything = decide(methods.load(Choice(name="grpo")), step, longest=6, skip_zero=False).chosen
    assert everything.tolist() == list(range(9))
    # micro-batches that are pools stay whole
    pooled = decide(methods.load(Choice(name="grpo")), step, longest=6, skip_zero=True, pool=torch.zeros(9).long())
    assert pooled.chosen.tolist() == full
