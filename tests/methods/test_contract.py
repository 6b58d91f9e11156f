import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from progrpo import methods, plugins
from progrpo.errors import ConfigError, PluginError
from progrpo.methods import Method, StepBatch
from progrpo.settings import Choice
from progrpo.types import RolloutBatch

Make = Callable[..., RolloutBatch]


@pytest.mark.parametrize("name", plugins.names("methods"))
def test_every_method_gives_finite_advantages_of_the_right_shape(name: str, rollout_batch: Make) -> None:
    method = methods.load(Choice(name=name))
    result = method.advantages(rollout_batch())
    assert result.values.shape == (2, 3)
    assert result.values.dtype == torch.float32
    assert torch.isfinite(result.values).all()
    assert not result.values.requires_grad
    assert all(column.shape == (2, 3) for column in result.columns.values())


@pytest.mark.parametrize("name", plugins.names("methods"))
def test_padding_and_order_of_problems_change_nothing(name: str, rollout_batch: Make) -> None:
    batch: RolloutBatch = rollout_batch()
    method = methods.load(Choice(name=name))
    plain = method.advantages(batch).values

    def padded(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, torch.zeros(len(values), 4, dtype=values.dtype)], dim=1)

    wider = rollout_batch(
        mask=padded(batch.mask),
        logprobs=padded(batch.logprobs),
        entropies=padded(batch.entropies),
        prompt_logprobs=padded(batch.prompt_logprobs),
        prompt_mask=padded(batch.prompt_mask),
    )
    assert torch.equal(method.advantages(wider).values, plain)
    swap = torch.tensor([3, 4, 5, 0, 1, 2])
    swapped = RolloutBatch(
        **{
            field: value[swap] if len(value) == 6 else value.flip(0)
            for field in batch.__dataclass_fields__
            if isinstance(value := getattr(batch, field), torch.Tensor)
        }
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
    with pytest.raises(PluginError, match="unknown hook 'advantage'; did you mean 'advantages'"):
        own_method("typo", "def advantage(batch, params): ...")


def test_there_are_eight_hooks() -> None:
    assert len(methods.HOOKS) == 8


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
    with pytest.raises(ConfigError, match="unknown preset 'paper'. Presets: none"):
        methods.load(Choice(name="grpo", preset="paper"))
