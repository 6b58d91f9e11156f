"""What hooks give back is checked where it comes in, by hook and method."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from progrpo import methods
from progrpo.errors import PluginError
from progrpo.methods import Method, MicroView, StepBatch
from progrpo.settings import Choice
from progrpo.types import RolloutBatch

OwnMethod = Callable[[str], Method]

HEAD = """
import torch
from progrpo import methods

def _wrong(given, **fields):  # past the checks of types that only tests switch on
    for name, value in fields.items():
        object.__setattr__(given, name, value)
    return given

def _wrong_advantages(batch, **fields):
    return _wrong(methods.Advantages(values=batch.rewards), **fields)

"""


@pytest.fixture
def own(tmp_path: Path) -> OwnMethod:
    """The method with these lines, in a file of its own."""

    def load(text: str) -> Method:
        path = tmp_path / f"mine_{uuid.uuid4().hex}.py"
        path.write_text(HEAD + text)
        return methods.load(Choice(name=str(path)))

    return load


def micro_view() -> MicroView:
    return MicroView(
        logprobs=torch.zeros(2, 3, requires_grad=True),
        old_logprobs=torch.zeros(2, 3),
        advantages=torch.ones(2, 3),
        mask=torch.ones(2, 3, dtype=torch.bool),
        weights=torch.full((2,), 1 / 6),
        sequences=torch.arange(2),
        group=2,
        count=2,
        correct=torch.ones(2, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("None", "advantages gave None; expected a progrpo.methods.Advantages"),
        ("batch.rewards", r"advantages gave a tensor \(2, 3\) of float32; expected a progrpo.methods.Advantages"),
        ("_wrong_advantages(batch, values=batch.rewards[0])", r"values has shape \(3,\); expected \(2, 3\)"),
        (
            "_wrong_advantages(batch, values=[1.0])",
            r"values is \[1.0\]; expected a floating-point tensor of shape \(2, 3\)",
        ),
        (
            "_wrong_advantages(batch, values=batch.correct)",
            "values is a tensor .* of bool; expected a floating-point tensor",
        ),
        ("_wrong_advantages(batch, values=batch.rewards / 0)", r"values: 6 of 6 are nan or inf \(the first: inf\)"),
        (
            "_wrong_advantages(batch, tokens=batch.mask / 0)",
            # 2 + 1 + 3 + 1 + 2 + 2 tokens; what stands behind the last is nobody's
            "tokens: 11 of 11 are nan or inf",
        ),
        ("_wrong_advantages(batch, tokens=batch.rewards)", r"tokens has shape \(2, 3\); expected \(6, 3\)"),
        ("_wrong_advantages(batch, columns={'a': batch.rewards[0]})", r"columns\['a'\] has shape"),
        ("_wrong_advantages(batch, carried={'a': batch.rewards})", r"carried\['a'\] has shape"),
        ("_wrong_advantages(batch, stats={'a/b': 1.0})", r"stats\['a/b'\] is 1.0; expected .*WeightedMean"),
        ("_wrong_advantages(batch, state=[1])", r"state is \[1\]; expected a mapping"),
        (
            "methods.Advantages(values=batch.rewards, state={'a': [1.0, __import__('numpy').float64(2)]})",
            r"state\['a'\]\[1\] is a numpy.float64; checkpoints keep .*take .item\(\)",
        ),
    ],
)
def test_advantages(own: OwnMethod, rollout_batch: Callable[..., RolloutBatch], body: str, message: str) -> None:
    method = own(f"def advantages(batch, params):\n    return {body}\n")
    with pytest.raises(PluginError, match=f"method '.*': (advantages: )?{message}"):
        method.advantages(rollout_batch(rewards=torch.ones(2, 3)))


@pytest.mark.parametrize(
    ("hook", "body", "message"),
    [
        ("shape_reward", "1.0", "shape_reward is 1.0; expected a floating-point tensor"),
        ("shape_reward", "batch.rewards / 0", r"shape_reward \(where there is a verdict\): 5 of 5 are nan or inf"),
        ("sequence_keep", "1", "sequence_keep is 1; expected a bool tensor"),
        ("sequence_keep", "batch.rewards", "sequence_keep is a tensor .* of float32; expected a bool tensor"),
        ("sequence_keep", "batch.correct[0]", r"sequence_keep has shape \(3,\); expected \(2, 3\)"),
    ],
)
def test_rewards_and_dropped_sequences(
    own: OwnMethod, rollout_batch: Callable[..., RolloutBatch], hook: str, body: str, message: str
) -> None:
    rewards = torch.tensor([[float("nan"), 1.0, 1.0], [1.0, 1.0, 1.0]])  # nan: no verdict, and no fault of the hook's
    with pytest.raises(PluginError, match=message):
        own(f"def {hook}(batch, params):\n    return {body}\n").advantages(rollout_batch(rewards=rewards))


@pytest.mark.parametrize(
    ("hook", "body", "message"),
    [
        ("reweight", "None", "reweight gave None; expected a progrpo.methods.Reweighted"),
        (
            "reweight",
            "_wrong(methods.Reweighted(), keep=step.logprobs)",
            "keep is a tensor .* of float32; expected a bool tensor",
        ),
        (
            "reweight",
            "_wrong(methods.Reweighted(), weights=step.mask[:1].float())",
            r"weights has shape \(1, 3\); expected \(6, 3\)",
        ),
        (
            "reweight",
            "_wrong(methods.Reweighted(), advantages=step.advantages / 0)",
            "advantages: 11 of 11 are nan or inf",
        ),
        ("clip_range", "None", "clip_range gave None; expected two"),
        ("clip_range", "(0.2,)", r"clip_range gave \(0.2,\); expected two"),
        ("clip_range", "(0.2, 'x')", "clip_range: high is 'x'; expected a finite number"),
        ("clip_range", "(0.2, float('nan'))", "clip_range: high is nan; expected a finite number"),
        ("clip_range", "(step.mask[0] * 0.1, 0.2)", r"clip_range: low has shape \(3,\); expected \(6, 3\)"),
    ],
)
def test_of_an_optimiser_step(
    own: OwnMethod, step_batch: Callable[..., StepBatch], hook: str, body: str, message: str
) -> None:
    method: Any = own(f"def {hook}(step, params):\n    return {body}\n")
    with pytest.raises(PluginError, match=message):
        getattr(method, hook)(step_batch())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def token_loss(micro, surrogate, params): return None",
            "token_loss is None; expected a floating-point tensor",
        ),
        (
            "def token_loss(micro, surrogate, params): return surrogate.mean()",
            r"token_loss has shape \(\); expected \(2, 3\)",
        ),
        ("def token_loss(micro, surrogate, params): return surrogate[:, :1]", r"token_loss has shape \(2, 1\)"),
        ("def extra_loss(micro, params): return micro.logprobs", r"extra_loss has shape \(2, 3\); expected \(\)"),
        ("def group_loss(micro, params): return 0.5", "group_loss is 0.5; expected a floating-point tensor"),
    ],
)
def test_of_a_micro_batch(own: OwnMethod, source: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        own(source + "\n").loss(micro_view(), 0.2, 0.2)


def test_what_is_added(own: OwnMethod, rollout_batch: Callable[..., RolloutBatch], tmp_path: Path) -> None:
    (tmp_path / "added.py").write_text("def add_to(advantages, batch, params):\n    return advantages\n")
    method = methods.load(Choice(name="grpo", add=str(tmp_path / "added.py")))
    with pytest.raises(PluginError, match="method '.*added.py': add_to gave a tensor"):
        method.advantages(rollout_batch())


def test_bounds_may_be_numbers_or_tensors(own: OwnMethod, step_batch: Callable[..., StepBatch]) -> None:
    method = own("def clip_range(step, params):\n    return torch.tensor(0.25), step.mask * 0.5\n")
    low, high = method.clip_range(step_batch())
    assert low == 0.25
    assert isinstance(high, torch.Tensor)
    assert high.shape == (6, 3)
