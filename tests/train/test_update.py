import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from progrpo import methods
from progrpo.algo.logprobs import token_logprobs
from progrpo.errors import NonFiniteError
from progrpo.methods import Advantages
from progrpo.model import LanguageModel
from progrpo.settings import Choice
from progrpo.train.minibatch import MiniBatch, make_minibatch
from progrpo.train.policy import Policy
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.train.rows import TokenRows, make_rows
from progrpo.train.settings import OptimSettings
from progrpo.train.token_counts import TokenCounts
from progrpo.train.update import update
from progrpo.types import Group, RolloutBatch

ADVANTAGES = torch.tensor([[1.5, -0.5, -1.0], [0.0, 0.0, 0.0], [0.7, 0.0, -0.7], [0.2, -0.4, 0.9]])


@pytest.fixture
def batch(groups: tuple[Group, ...]) -> RolloutBatch:
    return make_rollout_batch(groups, frozenset())


def minibatch_of(
    rows: TokenRows, batch: RolloutBatch, advantages: torch.Tensor, problems: slice = slice(0, 4)
) -> MiniBatch:
    return make_minibatch(rows, batch, Advantages(values=advantages), problems, seed=0)


@pytest.fixture
def gradient(groups: tuple[Group, ...], batch: RolloutBatch, tiny_model: LanguageModel) -> Callable[..., torch.Tensor]:
    """The whole gradient of one update (steps are made on a copy), or of a naive loop over sequences."""

    def compute(
        *, naive: bool = False, budget: int = 10_000, skip_zero: bool = True, drift: float = 0.0, **method: object
    ):
        model = copy.deepcopy(tiny_model)
        chosen = methods.load(Choice(name="progrpo", **method))
        policy = Policy(model, OptimSettings(lr=1e-9, grad_clip=1e9), steps=1, temperature=1.5)
        old = batch.old_logprobs + drift * torch.randn(
            batch.old_logprobs.shape, generator=torch.Generator().manual_seed(5)
        )
        rows = make_rows(groups)
        minibatch = minibatch_of(rows, replace(batch, old_logprobs=old), ADVANTAGES)
        if naive:
            loss = naive_loss(model, rows, old, chosen, batch.lengths)
            loss.backward()
        else:
            update(policy, chosen, minibatch, longest=9, budget=budget, skip_zero=skip_zero, dump=lambda _: "")
        return torch.cat([p.grad.flatten() for p in policy.parameters])

    return compute


def naive_loss(model: LanguageModel, rows: object, old: torch.Tensor, method: methods.Method, lengths: torch.Tensor):
    """Eq. 7 as plain loops: one sequence, one token at a time."""
    problems, group = lengths.shape
    low, high = method.params.clip_low, method.params.clip_high
    total = 0.0
    for p in range(problems):
        tokens_of_group = int(lengths[p].sum())
        for g in range(group):
            n = p * group + g
            both = torch.cat([rows.prompts[n], rows.completions[n]])[None]
            logprobs = token_logprobs(model.model(both).logits, both, temperature=1.5)[0]
            for t in range(len(rows.completions[n])):
                ratio = torch.exp(logprobs[len(rows.prompts[n]) + t] - old[n, t])
                a = ADVANTAGES[p, g]
                total = (
                    total + torch.minimum(ratio * a, ratio.clamp(1 - low, 1 + high) * a) / tokens_of_group / problems
                )
    return -total


@pytest.mark.parametrize("drift", [0.0, 0.3])
def test_gradient_is_that_of_eq_7_written_as_loops(gradient: Callable[..., torch.Tensor], drift: float) -> None:
    expected = gradient(naive=True, drift=drift)
    assert expected.norm() > 1e-3
    assert torch.allclose(gradient(drift=drift), expected, atol=2e-5 * float(expected.abs().max()) + 1e-7)


@pytest.mark.parametrize("budget", [1, 30, 60])
@pytest.mark.parametrize("aggregate", ["group_token", "token", "sequence", "fixed"])
def test_micro_batches_change_no_gradient(gradient: Callable[..., torch.Tensor], budget: int, aggregate: str) -> None:
    whole = gradient(drift=0.3, aggregate=aggregate)
    split = gradient(drift=0.3, aggregate=aggregate, budget=budget)
    assert torch.allclose(split, whole, rtol=1e-4, atol=1e-6)


def test_leaving_zero_advantages_out_changes_no_gradient(gradient: Callable[..., torch.Tensor]) -> None:
    assert torch.allclose(gradient(skip_zero=False), gradient(skip_zero=True), rtol=1e-4, atol=1e-7)


def run_update(
    groups: tuple[Group, ...],
    batch: RolloutBatch,
    model: LanguageModel,
    advantages: torch.Tensor,
    *,
    dump: Callable[[dict[str, object]], str] = lambda _: "there",
    **optim: object,
) -> tuple[Policy, dict[str, float | None]]:
    policy = Policy(model, OptimSettings(**optim), steps=5, temperature=1.5)
    minibatch = minibatch_of(make_rows(groups), batch, advantages)
    method = methods.load(Choice(name="progrpo"))
    stats = update(policy, method, minibatch, longest=9, budget=64, skip_zero=True, dump=dump)
    return policy, {name: ratio.value for name, ratio in stats.items()}


def test_metrics_of_a_first_step(groups: tuple[Group, ...], batch: RolloutBatch, tiny_model: LanguageModel) -> None:
    _, stats = run_update(groups, batch, tiny_model, ADVANTAGES, lr=1e-3)
    # 8 of 12 advantages are not 0; the policy is the one that sampled, so every ratio is 1 and nothing is clipped
    assert stats["policy/trained_share"] == pytest.approx(8 / 12)
    assert stats["policy/zero_advantage_share"] == pytest.approx(4 / 12)
    assert stats["tokens/trained"] == float(batch.lengths[ADVANTAGES != 0].sum())
    assert stats["policy/ratio"] == pytest.approx(1.0, abs=1e-4)
    assert stats["policy/clip_low"] == stats["policy/clip_high"] == 0.0
    assert stats["policy/logprob_gap"] < 1e-4
    assert stats["policy/lr"] == 1e-3


def test_the_share_of_tokens_that_the_dual_clip_cut(
    groups: tuple[Group, ...], batch: RolloutBatch, tiny_model: LanguageModel
) -> None:
    policy = Policy(copy.deepcopy(tiny_model), OptimSettings(lr=1e-9), steps=1, temperature=1.5)
    chosen = methods.load(Choice(name="grpo", dual_clip=3.0))
    # Every ratio is about e^20, beyond 3: what is cut are the tokens of negative advantages, each counted once.
    minibatch = minibatch_of(make_rows(groups), replace(batch, old_logprobs=batch.old_logprobs - 20.0), ADVANTAGES)
    metrics = update(policy, chosen, minibatch, longest=9, budget=40, skip_zero=True, dump=lambda _: "")
    lengths, signs = batch.lengths.flatten(), ADVANTAGES.flatten().sign()
    assert metrics["policy/clip_dual"].total == int(lengths[signs < 0].sum())
    assert metrics["policy/clip_dual"].count == int(lengths[signs != 0].sum())


def test_work_is_that_of_all_micro_batches_and_of_the_scoring_before(
    groups: tuple[Group, ...], batch: RolloutBatch, tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwarded: list[int] = []
    plain = LanguageModel.hidden

    def spy(self: LanguageModel, input_ids: torch.Tensor, **kwargs: object) -> torch.Tensor:
        forwarded.append(input_ids.numel())
        return plain(self, input_ids, **kwargs)

    monkeypatch.setattr(LanguageModel, "hidden", spy)
    policy = Policy(tiny_model, OptimSettings(), steps=5, temperature=1.5)
    before = TokenCounts(positions=1000, padding=300, repeated_prompt=200, logit_rows=500)
    minibatch = minibatch_of(make_rows(groups), batch, ADVANTAGES)
    found = []
    for work in (TokenCounts(), before):
        forwarded.clear()
        made = update(
            policy,
            methods.load(Choice(name="grpo")),
            replace(minibatch, token_counts=work),
            longest=9,
            budget=64,
            skip_zero=False,
            dump=lambda _: "",
        )
        assert len(forwarded) > 1  # several micro-batches
        assert made["tokens/forwarded"].value == sum(forwarded) + work.positions
        assert made["policy/zero_advantage_share"].value == pytest.approx(4 / 12)  # though they went through
        assert made["policy/trained_share"].value == 1.0
        found.append({name: made[f"tokens/{name}_share"] for name in ("padding", "repeated_prompt", "logit_row")})
    alone, both = found
    # every completion token is scored, and nothing else
    assert alone["logit_row"].total == float(batch.lengths.sum())
    assert {name: both[name].total - alone[name].total for name in both} == {
        "padding": 300,
        "repeated_prompt": 200,
        "logit_row": 500,
    }


def test_a_mini_batch_without_any_advantage_still_makes_its_step(
    groups: tuple[Group, ...], batch: RolloutBatch, tiny_model: LanguageModel
) -> None:
    before = [p.clone() for p in tiny_model.model.parameters()]
    policy, stats = run_update(groups, batch, tiny_model, torch.zeros(4, 3), lr=0.1)
    assert stats["policy/trained_share"] == 0.0
    assert stats["policy/ratio"] is None
    assert stats["policy/grad_norm"] == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters, strict=True))


def test_a_later_mini_batch_takes_its_own_rows(
    groups: tuple[Group, ...], batch: RolloutBatch, tiny_model: LanguageModel
) -> None:
    policy = Policy(tiny_model, OptimSettings(), steps=5, temperature=1.5)
    minibatch = minibatch_of(make_rows(groups), batch, ADVANTAGES[2:], slice(2, 4))
    stats = update(
        policy, methods.load(Choice(name="grpo")), minibatch, longest=9, budget=999, skip_zero=False, dump=lambda _: ""
    )
    assert stats["tokens/trained"].value == float(batch.lengths[2:].sum())
    assert stats["policy/logprob_gap"].value < 1e-4


def test_a_non_finite_loss_is_dumped_and_nothing_is_stepped(
    groups: tuple[Group, ...], batch: RolloutBatch, tiny_model: LanguageModel
) -> None:
    before = [p.clone() for p in tiny_model.model.parameters()]
    bad = ADVANTAGES.clone()
    bad[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="the loss is inf or nan; no step was taken and the batch is in there"):
        run_update(groups, batch, tiny_model, bad)
    assert all(torch.equal(a, b) for a, b in zip(before, tiny_model.model.parameters(), strict=True))


def test_a_non_finite_gradient_is_dumped(
    groups: tuple[Group, ...], batch: RolloutBatch, tiny_model: LanguageModel
) -> None:
    first = next(tiny_model.model.parameters())
    first.register_hook(lambda gradient: gradient * float("inf"))
    seen: dict[str, object] = {}
    with pytest.raises(NonFiniteError, match="the gradient is inf or nan"):
        run_update(groups, batch, tiny_model, ADVANTAGES, dump=lambda tensors: str(seen.update(tensors)))
    # a batch that can be looked at: its tokens, too
    assert set(seen) == {"prompts", "completions", "old_logprobs", "advantages", "index"}
    assert seen["completions"].shape == batch.mask.shape
