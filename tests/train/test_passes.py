"""Passes over micro-batches against one plain pass per sequence, on packed sequences and on rectangles."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from progrpo.algo.logprobs import distribution_entropy
from progrpo.model import LanguageModel
from progrpo.train.micro_batch import MicroBatch
from progrpo.train.passes import Passes, prompt_states, scatter_columns, token_states
from progrpo.train.rows import TokenRows, make_rows
from progrpo.train.scorer import Scorer
from progrpo.types import Group

TEMPERATURE, COLUMNS, BUDGETS = 1.5, 9, (25, 10_000)


@pytest.fixture
def rows(groups: tuple[Group, ...]) -> TokenRows:
    """Four groups of three, a prompt of one token among them (see conftest.py)."""
    made = make_rows(groups)
    one = made.prompts[0][:1]
    return replace(made, prompts=(*made.prompts[:9], one, one, one))


@pytest.fixture(params=[True, False], ids=["packed", "rectangles"])
def passes(tiny_model: LanguageModel, request: pytest.FixtureRequest) -> Passes:
    assert tiny_model.shares_prompts
    return Passes(model := replace(tiny_model, shares_prompts=request.param), Scorer(model, TEMPERATURE))


@pytest.fixture
def net() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(32, 1), torch.nn.Flatten(0))


def states_of(model: LanguageModel, rows: TokenRows, n: int) -> Tensor:
    """Last hidden states [Q + T, D] of one sequence by itself."""
    return model.model.base_model(torch.cat([rows.prompts[n], rows.completions[n]])[None]).last_hidden_state[0]


def before_tokens(model: LanguageModel, rows: TokenRows, n: int) -> Tensor:
    """[T, D] the state before each completion token."""
    first = len(rows.prompts[n])
    return states_of(model, rows, n)[first - 1 : first - 1 + len(rows.completions[n])]


def micros(passes: Passes, rows: TokenRows, index: Tensor, budget: int) -> list[MicroBatch]:
    return list(passes.micro_batches(rows, index, COLUMNS, budget))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("index", [torch.arange(12), torch.arange(6, 12)])
def test_values_of_a_net(passes: Passes, rows: TokenRows, net: torch.nn.Module, budget: int, index: Tensor) -> None:
    scores = passes.score(rows, index, columns=COLUMNS, budget=budget, prompts=True, net=net)
    assert scores.values.shape == (len(index), COLUMNS)
    for row, n in zip(scores.values, index.tolist(), strict=True):
        length = len(rows.completions[n])
        expected = net(before_tokens(passes.model, rows, n))
        assert torch.allclose(row[:length], expected, atol=1e-4)
        assert not row[length:].any()
    plain = passes.score(rows, index, columns=COLUMNS, budget=budget)
    assert plain.values is None
    assert torch.allclose(plain.logprobs, scores.logprobs, atol=1e-5)


@pytest.mark.parametrize("budget", BUDGETS)
def test_states_before_each_token_and_back_to_columns(passes: Passes, rows: TokenRows, budget: int) -> None:
    for micro in micros(passes, rows, torch.tensor([0, 2, 4, 5, 9, 11]), budget):
        found = token_states(micro, passes.forward(micro, micro.scored).states)
        expected = [before_tokens(passes.model, rows, n) for n in micro.index.tolist()]
        assert torch.allclose(found, torch.cat(expected), atol=1e-4)
        columns = scatter_columns(micro, found[:, 0])
        for row, own in zip(columns, expected, strict=True):
            assert torch.allclose(row[: len(own)], own[:, 0], atol=1e-4)
            assert not row[len(own) :].any()


@pytest.mark.parametrize("budget", BUDGETS)
def test_mean_states_of_prompts(passes: Passes, rows: TokenRows, budget: int) -> None:
    for micro in micros(passes, rows, torch.tensor([0, 2, 4, 5, 9, 11]), budget):
        found = prompt_states(micro, passes.forward(micro, micro.scored).states, rows.group)
        assert len(found) == len(micro.index)
        for row, n in zip(found, micro.index.tolist(), strict=True):
            # the last token is left out, but where it is the only one
            own = states_of(passes.model, rows, n)[: max(1, len(rows.prompts[n]) - 1)]
            assert torch.allclose(row, own.mean(dim=0), atol=1e-4)


def gradient(model: LanguageModel, loss: Callable[[], Tensor]) -> Tensor:
    for parameter in model.model.parameters():
        parameter.grad = None
    loss().backward()
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.model.parameters()])


@pytest.mark.parametrize("budget", BUDGETS)
def test_states_carry_the_gradient_of_plain_passes(
    passes: Passes, rows: TokenRows, net: torch.nn.Module, budget: int
) -> None:
    index = torch.tensor([0, 2, 4, 5, 9, 11])
    direction = torch.randn(12, COLUMNS, generator=torch.Generator().manual_seed(0))

    def packed() -> Tensor:
        total = torch.zeros(())
        for micro in micros(passes, rows, index, budget):
            states = passes.forward(micro, micro.scored).states
            values = scatter_columns(micro, net(token_states(micro, states)))
            total = total + (values * direction[micro.index]).sum()
            total = total + (net(prompt_states(micro, states, rows.group)) * direction[micro.index, 0]).sum()
        return total

    def plain() -> Tensor:
        total = torch.zeros(())
        for n in index.tolist():
            own = before_tokens(passes.model, rows, n)
            total = total + (net(own) * direction[n, : len(own)]).sum()
            prompt = states_of(passes.model, rows, n)[: max(1, len(rows.prompts[n]) - 1)]
            total = total + (net(prompt.mean(dim=0, keepdim=True)) * direction[n, :1]).sum()
        return total

    found, expected = gradient(passes.model, packed), gradient(passes.model, plain)
    assert expected.norm() > 0.1
    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_gradient_of_entropies_is_that_of_a_plain_pass(passes: Passes, rows: TokenRows, budget: int) -> None:
    index = torch.tensor([0, 2, 4, 5, 9, 11])
    direction = torch.randn(12, COLUMNS, generator=torch.Generator().manual_seed(0))

    def packed() -> Tensor:
        total = torch.zeros(())
        for micro in micros(passes, rows, index, budget):
            made = passes.forward(micro, micro.scored, entropy_grad=True)
            total = total + (micro.as_columns(made.entropies) * direction[micro.index]).sum()
        return total

    def plain() -> Tensor:
        total = torch.zeros(())
        for n in index.tolist():
            both, first = torch.cat([rows.prompts[n], rows.completions[n]]), len(rows.prompts[n])
            logits = passes.model.model(both[None]).logits[0] / TEMPERATURE
            for t in range(len(rows.completions[n])):
                logp = logits[first - 1 + t].log_softmax(dim=0)
                total = total - direction[n, t] * (logp.exp() * logp).sum()
        return total

    assert packed().item() == pytest.approx(plain().item(), abs=1e-3)
    found, expected = gradient(passes.model, packed), gradient(passes.model, plain)
    assert expected.norm() > 0.1
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_entropies_have_no_gradient_unless_asked(passes: Passes, rows: TokenRows) -> None:
    (micro,) = micros(passes, rows, torch.arange(12), 10_000)
    plain = passes.forward(micro, micro.scored)
    assert plain.entropies is None
    assert plain.logprobs.requires_grad
    assert not passes.forward(micro, micro.scored, entropies=True).entropies.requires_grad
    live = passes.forward(micro, micro.scored, entropy_grad=True).entropies
    assert live.requires_grad
    logits = passes.model.head(token_states(micro, plain.states))
    assert torch.allclose(live[micro.scored], distribution_entropy(logits, TEMPERATURE), atol=1e-5)


@pytest.mark.parametrize("budget", [1, 40, 10_000])
@pytest.mark.parametrize("index", [torch.arange(12), torch.tensor([11, 3, 0, 4, 10, 2])])
def test_whole_groups_stay_together(passes: Passes, rows: TokenRows, budget: int, index: Tensor) -> None:
    found = list(passes.micro_batches(rows, index, COLUMNS, budget, keep_groups_together=True))
    held = [set(micro.index.tolist()) for micro in found]
    assert sum(len(one) for one in held) == len(index)
    assert set.union(*held) == set(index.tolist())
    for group in {n // 3 for n in index.tolist()}:
        own = {n for n in index.tolist() if n // 3 == group}
        assert sum(bool(own & one) for one in held) == 1
    # one group is the least there can be; without `whole` it would be cut
    if budget == 1:
        assert len(held) == len({n // 3 for n in index.tolist()})
        assert len(list(passes.micro_batches(rows, index, COLUMNS, budget))) == len(index)
    if budget == 10_000:
        assert len(held) == 1
