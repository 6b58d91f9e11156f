import logging
from pathlib import Path

import pytest
import torch

from progrpo.errors import CheckpointError
from progrpo.model import LanguageModel
from progrpo.train import checkpoint
from progrpo.train.policy import Policy
from progrpo.train.settings import OptimSettings


def test_folders_of_the_tokenizer_are_kept(policy: Policy, tmp_path: Path) -> None:
    policy.model.tokenizer.chat_template = {"default": "a", "tool_use": "b"}
    folder = checkpoint.save(tmp_path, 1, policy, keep=2, method_state={})
    (extra,) = (folder / "additional_chat_templates").iterdir()
    loaded = checkpoint.load(checkpoint.latest_folder(tmp_path))
    assert loaded is not None
    extra.write_text("damaged")
    with pytest.raises(CheckpointError):
        checkpoint.load(checkpoint.latest_folder(tmp_path))


@pytest.fixture
def policy(tiny_model: LanguageModel) -> Policy:
    made = Policy(tiny_model, OptimSettings(lr=0.1, warmup_steps=3), steps=9, temperature=1.0)
    step(made)
    return made


def step(policy: Policy) -> None:
    policy.zero_grad()
    for parameter in policy.parameters:
        parameter.grad += torch.randn_like(parameter)
    policy.step()


def test_a_restored_policy_goes_on_as_if_it_had_never_stopped(policy: Policy, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from progrpo.model import wrap_model

    checkpoint.save(tmp_path, 1, policy, keep=2, method_state={})
    step(policy)
    expected = [p.detach().clone() for p in policy.parameters]
    loaded = checkpoint.load(checkpoint.latest_folder(tmp_path))
    assert loaded.step == 1
    model = wrap_model(
        AutoModelForCausalLM.from_pretrained(loaded.folder), policy.model.tokenizer, device=torch.device("cpu")
    )
    again = Policy(model, OptimSettings(lr=0.1, warmup_steps=3), steps=9, temperature=1.0)
    checkpoint.restore(loaded, again, {})
    step(again)  # the noise comes from the restored generator
    assert all(torch.equal(a, b) for a, b in zip(expected, again.parameters, strict=True))


def test_only_the_latest_are_kept(policy: Policy, tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        checkpoint.save(tmp_path, number, policy, keep=2, method_state={})
    assert [path.name for path in checkpoint.folders(tmp_path)] == ["step-000003", "step-000004"]
    assert not list(tmp_path.glob(".*"))


def test_an_unfinished_write_is_no_checkpoint(policy: Policy, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, policy, keep=2, method_state={})
    (tmp_path / ".writing-step-000002").mkdir()
    assert checkpoint.load(checkpoint.latest_folder(tmp_path)).step == 1
    checkpoint.save(tmp_path, 2, policy, keep=2, method_state={})
    assert checkpoint.load(checkpoint.latest_folder(tmp_path)).step == 2


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.pt", "manifest.json", "config.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_passed_over_and_named(
    policy: Policy, tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(tmp_path, 1, policy, keep=2, method_state={})
    checkpoint.save(tmp_path, 2, policy, keep=2, method_state={})
    path = tmp_path / "step-000002" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    if damage == "remove":
        path.unlink()
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(checkpoint.latest_folder(tmp_path)).step == 1
    assert "step-000002 is damaged" in caplog.text


def test_all_damaged(policy: Policy, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, policy, keep=2, method_state={})
    (tmp_path / "step-000001" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"every checkpoint is damaged \(1 checkpoint\)"):
        checkpoint.load(checkpoint.latest_folder(tmp_path))


def test_none_yet(tmp_path: Path) -> None:
    assert checkpoint.latest_folder(tmp_path / "checkpoints") is None
