from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from progrpo.algo.distributions import Further, Nucleus
from progrpo.model import LanguageModel, ModelSettings, load_model
from progrpo.train.policy import Policy
from progrpo.train.rollout_batch import make_rollout_batch
from progrpo.train.rows import make_rows
from progrpo.train.settings import OptimSettings
from progrpo.types import Group


def policy(model: LanguageModel, **optim: object) -> Policy:
    return Policy(model, OptimSettings(**optim), steps=10, temperature=1.5)


@pytest.mark.parametrize("share", [True, False])
def test_one_pass_gives_what_the_engine_kept(groups: tuple[Group, ...], tiny_model: LanguageModel, share: bool) -> None:
    batch = make_rollout_batch(groups, frozenset({"entropies", "prompt_logprobs"}))
    for budget in (30, 10_000):
        scores = policy(replace(tiny_model, shares_prompts=share)).score(
            make_rows(groups),
            torch.arange(12),
            columns=batch.mask.shape[1],
            budget=budget,
            entropies=True,
            prompts=True,
        )
        assert torch.allclose(scores.logprobs, batch.old_logprobs, atol=1e-4)
        assert torch.allclose(scores.entropies, batch.entropies, atol=1e-4)
        assert torch.allclose(scores.prompt_logprobs, batch.prompt_logprobs, atol=1e-4)


@pytest.mark.parametrize("budget", [30, 10_000])
def test_what_else_a_pass_gives_of_the_distributions(
    groups: tuple[Group, ...], tiny_model: LanguageModel, budget: int
) -> None:
    batch, rows = make_rollout_batch(groups, frozenset()), make_rows(groups)
    wanted = Further(
        entropy_gradients=True,
        certainties=True,
        raw_logits=True,
        proxy_logprobs=0.2,
        nucleus_entropies=Nucleus(mass=0.8),
    )
    own = policy(tiny_model)
    scores = own.score(rows, torch.arange(12), columns=9, budget=budget, entropies=False, prompts=False, further=wanted)
    assert tuple(scores.further) == wanted.names
    width = batch.mask.shape[1]
    assert torch.allclose(scores.further["entropy_gradients"][:, :width], batch.entropy_gradients, atol=1e-4)
    for n in range(12):
        prompt, completion = rows.prompts[n], rows.completions[n]
        with torch.no_grad():
            logits = tiny_model.model(torch.cat([prompt, completion])[None]).logits[0][len(prompt) - 1 : -1]
        for name, expected in zip(wanted.names, wanted.values(logits, completion, 1.5), strict=True):
            found = scores.further[name][n]
            assert torch.allclose(found[: len(completion)], expected, rtol=1e-4, atol=1e-4), name
            assert not found[len(completion) :].any()
    # the training pass gives the nucleus' entropy again, with a gradient
    for micro, _, _ in own.shared_micro_batches(rows, torch.arange(12), 9, budget):
        made = micro.as_columns(own.forward(micro, further=wanted.with_gradient).further["nucleus_entropies"])
        assert made.requires_grad
        assert torch.allclose(made.detach(), scores.further["nucleus_entropies"][micro.index], atol=1e-4)


def test_a_part_of_the_groups(groups: tuple[Group, ...], tiny_model: LanguageModel) -> None:
    batch = make_rollout_batch(groups, frozenset({"prompt_logprobs"}))
    scores = policy(tiny_model).score(
        make_rows(groups), torch.arange(6, 12), columns=batch.mask.shape[1], budget=40, entropies=False, prompts=True
    )
    assert torch.allclose(scores.logprobs, batch.old_logprobs[6:], atol=1e-4)
    width = scores.prompt_logprobs.shape[1]
    assert torch.allclose(scores.prompt_logprobs, batch.prompt_logprobs[2:, :width], atol=1e-4)
    assert scores.entropies is None


def test_a_pass_that_keeps_step_with_others_adds_nothing(groups: tuple[Group, ...], tiny_model: LanguageModel) -> None:
    own = policy(tiny_model)
    own.zero_grad()
    micro, _, _ = next(iter(own.shared_micro_batches(make_rows(groups), torch.arange(12), 9, 10_000)))
    own.keep_step(micro)
    assert all(bool((parameter.grad == 0).all()) for parameter in own.parameters)


@pytest.mark.parametrize("budget", [25, 10_000])
def test_shared_prompts_give_the_gradient_of_plain_passes(
    groups: tuple[Group, ...], tiny_model: LanguageModel, budget: int
) -> None:
    rows, direction = make_rows(groups), torch.randn(12, 9, generator=torch.Generator().manual_seed(0))
    gradients = []
    for share in (True, False):
        own = policy(replace(tiny_model, shares_prompts=share))
        own.zero_grad()
        for micro, _, _ in own.shared_micro_batches(rows, torch.tensor([0, 1, 2, 4, 9, 11]), 9, budget):
            (own.logprobs(micro) * direction[micro.index]).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten().clone() for parameter in own.parameters]))
    shared, plain = gradients
    assert plain.norm() > 1
    assert (shared - plain).norm() < 1e-5 * plain.norm()


def test_recomputed_layers_follow_the_layout_too(groups: tuple[Group, ...], tiny_folder: Callable[..., Path]) -> None:
    rows, gradients = make_rows(groups), []
    folder = str(tiny_folder())
    for recompute in (False, True):
        model = load_model(ModelSettings(path=folder, gradient_checkpointing=recompute))
        assert model.shares_prompts
        own = policy(model)
        own.zero_grad()
        ((micro, _, _),) = own.shared_micro_batches(rows, torch.arange(12), 9, 10_000)
        own.logprobs(micro).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in own.parameters]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_warm_up_and_schedule(tiny_model: LanguageModel) -> None:
    rates = []
    warm = policy(tiny_model, lr=1.0, warmup_steps=4, schedule="linear")
    warm.zero_grad()
    for _ in range(10):
        rates.append(warm.lr)
        warm.step()
    # up in quarters, then down to 0 in sixths
    assert torch.allclose(torch.tensor(rates), torch.tensor([0, 0.25, 0.5, 0.75, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]))


def test_gradient_is_clipped_and_its_norm_reported(tiny_model: LanguageModel) -> None:
    clipped = policy(tiny_model, grad_clip=0.5)
    clipped.zero_grad()
    clipped.parameters[0].grad.fill_(3.0)
    count = clipped.parameters[0].numel()
    assert abs(clipped.clip_gradient() - 3.0 * count**0.5) < 1e-2
    assert abs(clipped.parameters[0].grad.norm().item() - 0.5) < 1e-3
