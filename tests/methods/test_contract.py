import inspect
import textwrap
import uuid
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from progrpo import methods, plugins
from progrpo.errors import ConfigError, PluginError
from progrpo.methods import Method, StepBatch
from progrpo.settings import Choice
from progrpo.types import RolloutBatch
from stand_ins.batch_steps import NAN, Outcome, drifted, random_batch, take_step, verdicts_of
from stand_ins.every_method import load_for_three as load

Make = Callable[..., RolloutBatch]

NAMES = plugins.names("methods")
WIDTH = 4
SETTINGS: dict[str, dict[str, object]] = {
    "flowrl": {"dropout": 0.0},
    "clip_cov": {"ratio": 0.0},
    "spear": {"ratio": 0.0},
}
"""Without random numbers: what is drawn falls on other tokens where rows or columns have moved."""


@pytest.mark.parametrize("name", NAMES)
def test_every_method_gives_finite_advantages_of_the_right_shape(name: str, rollout_batch: Make) -> None:
    method = load(name)
    result = method.advantages(rollout_batch())
    assert result.values.shape == (2, 3)
    assert result.values.dtype == torch.float32
    assert torch.isfinite(result.values).all()
    assert not result.values.requires_grad
    assert all(column.shape == (2, 3) for column in result.columns.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_no_rollout_after_another_has_advantages_without_bound(wrong: float, name: str) -> None:
    """Groups that agree have a deviation of 0: what a method remembers of other groups must not be divided by it."""
    method, state = load(name), {}
    for seed, correct in ((1, None), (2, False), (3, True), (4, None)):
        batch = random_batch(seed, problems=4, failed=0.0)
        right = batch.correct if correct is None else torch.full_like(batch.correct, correct)
        rewards, lengths = torch.where(right, 1.0, wrong), batch.lengths.clamp(min=1)
        verdicts = verdicts_of(rewards, [["a", "b", "b"]] * 4)
        mask = torch.arange(batch.mask.shape[1]) < lengths.flatten()[:, None]
        batch = replace(
            batch, correct=right, rewards=rewards, verdicts=verdicts, lengths=lengths, mask=mask, state=state
        )
        found = method.advantages(batch)
        state = {**state, **(found.state or {})}
        assert found.values.abs().max() < 50, seed


def test_a_penalty_makes_no_reward_greater() -> None:
    for seed in range(20):
        batch = random_batch(seed)
        batch = replace(batch, rewards=2 * batch.rewards - 1, truncated=batch.lengths == batch.mask.shape[1])
        shaped = load("unlikeliness").module.shape_reward(batch, load("unlikeliness").params)
        assert (shaped <= batch.rewards)[batch.judged].all(), seed


@pytest.mark.parametrize("name", NAMES)
def test_padding_and_order_of_problems_change_nothing(name: str, rollout_batch: Make) -> None:
    batch: RolloutBatch = rollout_batch()
    method = load(name)
    plain = method.advantages(batch).values

    def padded(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, torch.zeros(len(values), 4, dtype=values.dtype)], dim=1)

    by_token = {
        field.name: padded(value)
        for field in fields(batch)
        if isinstance(value := getattr(batch, field.name), Tensor) and value.shape == batch.mask.shape
    }
    wider = rollout_batch(
        **by_token, prompt_logprobs=padded(batch.prompt_logprobs), prompt_mask=padded(batch.prompt_mask)
    )
    assert torch.equal(method.advantages(wider).values, plain)
    swap = torch.tensor([3, 4, 5, 0, 1, 2])
    swapped = RolloutBatch(
        **{
            field: value[swap] if len(value) == 6 else value.flip(0)
            for field in batch.__dataclass_fields__
            if isinstance(value := getattr(batch, field), torch.Tensor)
        },
        verdicts=batch.verdicts[::-1],
        token_texts=batch.token_texts[3:] + batch.token_texts[:3],
    )
    assert torch.equal(method.advantages(swapped).values.flip(0), plain)


@pytest.fixture
def own_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Method]:
    """Write a method file into a package of its own on the Python path, and load it by its dotted path."""
    package = f"mylab_{uuid.uuid4().hex}"
    (tmp_path / package).mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def load(name: str, text: str) -> Method:
        (tmp_path / package / f"{name}.py").write_text(textwrap.dedent(text))
        return methods.load(Choice(name=f"{package}.{name}"))

    return load


def test_a_method_outside_the_tree(
    own_method: Callable[[str, str], Method], rollout_batch: Make, step_batch: Callable[..., StepBatch]
) -> None:
    method = own_method(
        "twice",
        """
        '''Twice GRPO's advantages, and a wider clip.'''
        from progrpo import methods

        def advantages(batch, params):
            return methods.Advantages(values=2 * methods.base_advantages(batch, params))

        def clip_range(step, params):
            return 0.5, 0.5
        """,
    )
    batch = rollout_batch()
    assert torch.equal(method.advantages(batch).values, 2 * methods.load(Choice(name="grpo")).advantages(batch).values)
    assert method.clip_range(step_batch()) == (0.5, 0.5)


def test_unknown_hook_is_refused_with_the_nearest(own_method: Callable[[str, str], Method]) -> None:
    with pytest.raises(PluginError, match="unknown function 'advantage'; did you mean 'advantages'"):
        own_method("typo", "def advantage(batch, params): ...")


def test_private_helpers_and_imports_are_not_hooks(own_method: Callable[[str, str], Method]) -> None:
    own_method("quiet", "from math import exp\nfrom progrpo.algo.reweight import reweight_advantages\ndef _own(): ...")


def test_unknown_need_is_refused(own_method: Callable[[str, str], Method]) -> None:
    with pytest.raises(PluginError, match="unknown need 'prompt_logprob'"):
        own_method("needy", "NEEDS = frozenset({'prompt_logprob'})")


def test_unknown_preset_and_setting() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'papre'; did you mean 'paper'"):
        methods.load(Choice(name="progrpo", preset="papre"))
    with pytest.raises(ConfigError, match="unknown key 'alhpa'; did you mean 'alpha'"):
        methods.load(Choice(name="progrpo", alhpa=1))
    with pytest.raises(ConfigError, match="alpha: input should be greater than or equal to 0, got -1"):
        methods.load(Choice(name="progrpo", alpha=-1))
    with pytest.raises(
        ConfigError,
        match="unknown preset 'paper'; it is a preset of .*progrpo.*: method=grpo replaces .* Presets: none",
    ):
        methods.load(Choice(name="grpo", preset="paper"))


def by_rows(batch: RolloutBatch, seed: int = 7) -> dict[str, Tensor]:
    """Hidden states of the completions' tokens and of the prompts, and the log-probs of the three likeliest tokens."""
    draw = torch.Generator().manual_seed(seed)
    count, width = batch.mask.shape
    prompts = torch.randn(len(batch.rewards), 1, WIDTH, generator=draw)
    likeliest = torch.randn(count, width, 3, generator=torch.Generator().manual_seed(seed)).log_softmax(dim=-1)
    return {
        "top_logprobs": likeliest.sort(dim=-1, descending=True).values,
        "states": torch.randn(count, width, WIDTH, generator=draw),
        "prompt_states": prompts.expand(-1, batch.rewards.shape[1], -1).flatten(0, 1),
    }


def step_of(method: Method, batch: RolloutBatch, logprobs: Tensor, states: dict[str, Tensor], **more: Any) -> Outcome:
    """A step with everything that a method's needs can name; its net always the same."""
    torch.manual_seed(0)
    net = method.make_net(WIDTH)
    if net is not None:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(torch.randn(parameter.shape) / 2)
    batch = replace(batch, state={})
    return take_step(method, batch, logprobs, net=net, entropies=batch.entropies, **states, **more)


def hard_batches() -> dict[str, tuple[RolloutBatch, Tensor]]:
    """By name: rollouts at the edges, and the log-probs now."""
    plain = random_batch(11)
    nobody = plain.rewards.clone()
    nobody[1] = NAN
    empty = random_batch(12)
    empty = replace(empty, lengths=empty.lengths.clone(), mask=empty.mask.clone())
    empty.lengths[:, 1] = 0
    empty.mask[1::3] = False
    batches = {
        "ragged": plain,
        "far": random_batch(13, lowest=-30.0),
        "empty completions": replace(empty, old_logprobs=empty.old_logprobs * empty.mask),
        "a group without verdicts": replace(plain, rewards=nobody, correct=plain.correct & ~nobody.isnan()),
        "no verdict at all": replace(
            plain, rewards=torch.full((3, 3), NAN), correct=torch.zeros(3, 3, dtype=torch.bool)
        ),
        "all correct": replace(plain, rewards=torch.ones(3, 3), correct=torch.ones(3, 3, dtype=torch.bool)),
        "all incorrect": replace(plain, rewards=torch.zeros(3, 3), correct=torch.zeros(3, 3, dtype=torch.bool)),
    }
    made = {name: (batch, drifted(batch, 5, 0.3)) for name, batch in batches.items()}
    # from one end to the other: all tokens were near certain, and now have a log-prob of -30, or the other way round
    sure = batches["far"]
    made["forgotten"] = (replace(sure, old_logprobs=-0.01 * sure.mask), -30.0 * sure.mask)
    made["learned"] = (replace(sure, old_logprobs=-30.0 * sure.mask), -0.01 * sure.mask)
    return made


@pytest.mark.parametrize("settings", [{}, {"kl_coef": 0.1, "entropy_coef": 0.1}], ids=["", "regularised"])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_are_finite(name: str, settings: dict[str, object]) -> None:
    method = load(name, **settings)
    for label, (batch, logprobs) in hard_batches().items():
        advantages = method.advantages(replace(batch, state={}))
        assert torch.isfinite(advantages.values).all(), label
        found = step_of(method, batch, logprobs, by_rows(batch))
        assert torch.isfinite(torch.tensor([found.loss, found.own])).all(), label
        for of, gradient in found.gradients.items():
            assert torch.isfinite(gradient).all(), (label, of)
        assert not found.gradient[~batch.mask].any(), label


@pytest.mark.parametrize("name", NAMES)
def test_every_method_learns_something(name: str) -> None:
    batch = random_batch(12 if name == "ttrv" else 11)  # ttrv: the answers of batch 11 agree as well in every group
    found = step_of(load(name), batch, drifted(batch, 5, 0.05), by_rows(batch))
    assert found.gradient.norm() > 1e-5


def same(one: Outcome, other: Outcome, of: Callable[[Tensor], Tensor] = lambda rows: rows) -> None:
    """`of` picks from `other` what stands in `one`."""
    assert one.loss == pytest.approx(other.loss, rel=1e-4, abs=1e-5)
    for name, gradient in one.gradients.items():
        expected = other.gradients[name] if name == "net" else of(other.gradients[name])
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_no_gradient(name: str) -> None:
    method = load(name, **SETTINGS.get(name, {}))
    for seed in range(3):
        batch = random_batch(seed)
        states, logprobs = by_rows(batch), drifted(batch, seed, 0.3)
        count, width = batch.mask.shape
        changes = {
            field.name: torch.cat([value, torch.zeros(count, 3, dtype=value.dtype)], dim=1)
            for field in fields(batch)
            if isinstance(value := getattr(batch, field.name), Tensor) and value.shape == (count, width)
        }
        wider = {
            name: torch.cat([states[name], torch.zeros(count, 3, states[name].shape[2])], dim=1)
            for name in ("states", "top_logprobs")
        }
        other = step_of(
            method, replace(batch, **changes), torch.cat([logprobs, torch.zeros(count, 3)], dim=1), states | wider
        )
        same(
            step_of(method, batch, logprobs, states),
            other,
            lambda rows, width=width: rows[:, :width] if rows.shape[1] == width + 3 else rows,
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_problems_changes_no_gradient(name: str) -> None:
    method = load(name, **SETTINGS.get(name, {}))
    order = torch.tensor([2, 0, 1])
    sequences = (3 * order[:, None] + torch.arange(3)).flatten()
    for seed in range(3):
        batch = random_batch(seed)
        # No two rewards alike: where all covariances are 0, KL-Cov takes the first token.
        batch = replace(batch, rewards=batch.rewards + torch.arange(9).view(3, 3) / 50)
        states, logprobs = by_rows(batch), drifted(batch, seed, 0.3)
        changes = {
            field.name: value[order if len(value) == 3 else sequences]
            for field in fields(batch)
            if isinstance(value := getattr(batch, field.name), Tensor)
        }
        named = {name: tuple(getattr(batch, name)[int(p)] for p in order) for name in ("problems", "verdicts")}
        texts = tuple(batch.token_texts[int(n)] for n in sequences)
        moved = replace(batch, **changes, **named, token_texts=texts)
        other = step_of(method, moved, logprobs[sequences], {key: rows[sequences] for key, rows in states.items()})
        same(other, step_of(method, batch, logprobs, states), lambda rows: rows[sequences])


@pytest.mark.parametrize("settings", [{}, {"kl_coef": 0.1, "entropy_coef": 0.1}], ids=["", "regularised"])
@pytest.mark.parametrize("name", NAMES)
def test_micro_batches_change_no_gradient(name: str, settings: dict[str, object]) -> None:
    method = load(name, **settings, **({"dropout": 0.0} if name == "flowrl" else {}))
    for seed in range(3):
        batch = random_batch(seed)
        states, logprobs = by_rows(batch), drifted(batch, seed, 0.3)
        order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
        if "whole_groups" in method.needs:
            order = torch.arange(9)
        parts = [order[:3], order[3:6], order[6:]] if "whole_groups" in method.needs else order.split([2, 1, 6])
        whole = step_of(method, batch, logprobs, states)
        same(step_of(method, batch, logprobs, states, parts=parts), whole)


def tensors_of(value: Any) -> dict[str, Tensor]:
    """All tensors in an argument of a hook, what a method remembers and random numbers apart."""
    if isinstance(value, Tensor):
        return {"": value}
    items = value.items() if isinstance(value, dict) else ()
    if is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, getattr(value, field.name)) for field in fields(value) if field.name != "state")
    return {f"{name}.{rest}": tensor for name, item in items for rest, tensor in tensors_of(item).items()}


def guarded(method: Method) -> Method:
    """The method with hooks that compare their arguments before and after."""
    module = ModuleType(method.module.__name__)
    own = {name: value for name, value in vars(method.module).items() if name in methods.CONTRACT.names}
    for name, hook in own.items():
        if not inspect.isfunction(hook):
            continue

        def watched(*args: Any, hook: Callable[..., Any] = hook, name: str = name) -> Any:
            before = [{key: tensor.detach().clone() for key, tensor in tensors_of(arg).items()} for arg in args]
            result = hook(*args)
            for arg, old in zip(args, before, strict=True):
                for key, tensor in tensors_of(arg).items():
                    assert torch.equal(tensor.nan_to_num(), old[key].nan_to_num()), f"{name} wrote into {key}"
            return result

        setattr(module, name, watched)
    return replace(method, module=module)


@pytest.mark.parametrize("name", NAMES)
def test_no_method_writes_into_its_arguments(name: str) -> None:
    method = guarded(load(name))
    for seed in range(3):
        batch = random_batch(seed)
        step_of(method, batch, drifted(batch, seed, 0.3), by_rows(batch))
    added = methods.load(Choice(name="grpo", add="progrpo"))
    added = replace(added, added=guarded(added.added))
    added.advantages(random_batch(0))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_method_remembers_is_returned_and_not_written(name: str) -> None:
    method, state = load(name), {}
    first = method.advantages(replace(random_batch(0), state=state))
    assert state == {}
    known = dict(first.state or {})
    before = deepcopy(known)
    method.advantages(replace(random_batch(0), state=known))
    assert known == before


@pytest.mark.parametrize(
    ("hook", "written"),
    [
        ("def shape_reward(batch, params):\n    return batch.rewards.add_(1)", "shape_reward wrote into rewards"),
        ("def reweight(step, params):\n    step.mask[0] = False\n    return methods.Reweighted()", "into mask"),
        ("def token_loss(micro, surrogate, params):\n    micro.weights[0] = 9\n    return surrogate", "into weights"),
        ("def token_loss(micro, surrogate, params):\n    return surrogate.mul_(2)", "token_loss wrote into"),
    ],
)
def test_the_check_above_sees_a_write(own_method: Callable[[str, str], Method], hook: str, written: str) -> None:
    method = guarded(own_method("writer", f"from progrpo import methods\n{hook}"))
    batch = random_batch(0)
    with pytest.raises(AssertionError, match=written):
        take_step(method, batch, batch.old_logprobs)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_says_where_it_is_from(name: str) -> None:
    lines = (inspect.getdoc(plugins.load("methods", name)) or "").splitlines()
    assert lines[0].endswith("."), "`progrpo list methods` shows the first line alone"
    second_hand = [line for line in lines if line.startswith("Evidence: second-hand:")]
    assert ("second-hand" in lines[0]) == bool(second_hand), "a formula that was not read at its source says so at once"
    for word in ("Source: ", "Evidence: ", "Reproduce: "):
        assert [line for line in lines if line.startswith(word) and len(line) > len(word)], f"{name}: no line {word}"
