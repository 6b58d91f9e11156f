"""Checkpoint folders of TRL and verl: taken where they hold a model, and what to do is said where its weights are in parts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from progrpo.errors import ConfigError, ModelError
from progrpo.model import LanguageModel, ModelSettings, load_model, load_tokenizer
from progrpo.model.files import resolve_path
from progrpo.settings import parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings
from stand_ins.needs import need

Folder = Callable[..., Path]
IDS = torch.tensor([[3, 4, 5, 6, 7]])


def load(path: Path, **settings: Any) -> LanguageModel:
    return load_model(ModelSettings(path=str(path), device="cpu", **settings), again=True, merge=True)


def logits(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.model(IDS).logits


def write_adapter(base: Path, folder: Path, *, tokenizer: bool) -> torch.Tensor:
    """An adapter of rank 1 on one matrix as peft writes it, B A = u v^T; returns the logits of W + 2 u v^T."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 2, "target_modules": ["up_proj"]}
    where = "base_model.model.model.layers.1.mlp.up_proj"
    matrices = {f"{where}.lora_A.weight": torch.linspace(-1, 1, 32)[None], f"{where}.lora_B.weight": torch.ones(64, 1)}
    others = {
        f"base_model.model.model.layers.0.mlp.up_proj.lora_{x}.weight": torch.zeros(s)
        for x, s in (("A", (1, 32)), ("B", (64, 1)))
    }
    save_file(matrices | others, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    if tokenizer:
        load_tokenizer(ModelSettings(path=str(base))).save_pretrained(folder)
    plain = load(base)
    with torch.no_grad():
        plain.model.model.layers[1].mlp.up_proj.weight += 2 * torch.ones(64, 1) @ torch.linspace(-1, 1, 32)[None]
    return logits(plain)


def trl_run(base: Path, root: Path) -> Path:
    """As TRL leaves it: checkpoint-N with a model, its tokenizer, and what Transformers' trainer goes on from."""
    for step in (50, 500):
        shutil.copytree(base, root / f"checkpoint-{step}")
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
            torch.save({"step": step}, root / f"checkpoint-{step}" / name)
        (root / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    return root


def test_a_checkpoint_of_trl_is_a_model(tiny_folder: Folder, tmp_path: Path) -> None:
    root = trl_run(tiny_folder(), tmp_path / "out")
    assert torch.equal(logits(load(root / "checkpoint-500")), logits(load(tiny_folder())))
    with pytest.raises(ModelError, match="holds no config.json; did you mean .*out/checkpoint-500"):
        resolve_path(str(root))


@pytest.mark.parametrize(
    ("parts", "command"),
    [
        ("pytorch_model_fsdp_0", r"accelerate merge-weights \S*/c/pytorch_model_fsdp_0 \S*/c$"),
        ("zero_to_fp32.py", r"python \S*/c/zero_to_fp32.py \S*/c \S*/c --safe_serialization"),
    ],
)
def test_weights_that_trl_left_in_parts(tiny_folder: Folder, tmp_path: Path, parts: str, command: str) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "c")
    if parts.endswith(".py"):
        (folder / parts).write_text("")
    else:
        (folder / parts).mkdir()
    load(folder)  # beside whole weights they are none of our business
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=f"its weights are in parts, one for each process that saved them. Merge them: {command}"
    ):
        load(folder)


@pytest.mark.parametrize("tokenizer", [True, False])
def test_an_adapter_is_its_base_model_with_the_adapter_added(
    tiny_folder: Folder, tmp_path: Path, tokenizer: bool
) -> None:
    need("peft")
    folder = tmp_path / "checkpoint-5"
    expected = write_adapter(tiny_folder(), folder, tokenizer=tokenizer)
    model = load(folder)
    assert torch.allclose(logits(model), expected, atol=1e-5)
    assert (expected - logits(load(tiny_folder()))).abs().max() > 1e-2
    assert all(parameter.requires_grad for parameter in model.model.parameters())
    with pytest.raises(ConfigError, match="is an adapter already.*leave model.lora out to train all weights"):
        load(folder, lora={"r": 2})


def test_a_run_that_starts_from_an_adapter(tiny_folder: Folder, tmp_path: Path) -> None:
    need("peft")
    expected = write_adapter(tiny_folder(), tmp_path / "checkpoint-5", tokenizer=True)
    data: dict[str, Any] = {
        "steps": 1,
        "out": str(tmp_path / "run"),
        "model": {"path": str(tmp_path / "checkpoint-5")},
        "task": {"name": "countdown", "numbers": 3, "train_size": 8, "max_target": 20, "min_solutions": 1},
        "reward": {"name": "stand_ins.parity"},
        "method": {"name": "grpo"},
        "sampling": {"max_new_tokens": 6},
        "batch": {"prompts": 2, "group": 4},
        "optim": {"lr": 1e-9},
    }
    path = train(parse(RunSettings, data, where="test")).path
    assert torch.allclose(logits(load(path / "checkpoints/step-000001")), expected, atol=1e-4)
    assert "config.json" in {file.name for file in (path / "checkpoints/step-000001").iterdir()}
    data |= {"out": str(tmp_path / "sharded"), "parallel": "fsdp2"}
    with pytest.raises(ConfigError, match="is an adapter, which parallel=fsdp2 does not add to its base model"):
        train(parse(RunSettings, data, where="test"))


def verl_run(base: Path, root: Path, *, whole: bool, megatron: bool = False) -> Path:
    """As verl leaves it: shards, and beside them configuration and tokenizer, with the weights where `hf_model` was saved."""
    for step in (10, 9):
        actor = root / f"global_step_{step}" / "actor"
        shutil.copytree(base, actor / "huggingface")
        if megatron:
            (actor / "dist_ckpt").mkdir()
        for rank in range(0 if megatron else 2):
            for kind in ("model", "optim", "extra_state"):
                torch.save({}, actor / f"{kind}_world_size_2_rank_{rank}.pt")
        if not whole:
            (actor / "huggingface" / "model.safetensors").unlink()
    (root / "latest_checkpointed_iteration.txt").write_text("10")
    return root


def test_a_checkpoint_of_verl_is_the_model_in_it(tiny_folder: Folder, tmp_path: Path) -> None:
    root = verl_run(tiny_folder(), tmp_path / "verl", whole=True)
    model = root / "global_step_10/actor/huggingface"
    for given in (root, root / "global_step_10", root / "global_step_10/actor", model):
        assert resolve_path(str(given)) == str(model)
    assert resolve_path(str(root / "global_step_9")).endswith("global_step_9/actor/huggingface")
    assert torch.equal(logits(load(root)), logits(load(tiny_folder())))


@pytest.mark.parametrize("megatron", [False, True])
def test_shards_of_verl_name_the_command_that_merges_them(tiny_folder: Folder, tmp_path: Path, megatron: bool) -> None:
    root = verl_run(tiny_folder(), tmp_path / "verl", whole=False, megatron=megatron)
    actor = root / "global_step_10/actor"
    backend = "megatron" if megatron else "fsdp"
    command = (
        f"python -m verl.model_merger merge --backend {backend} --local_dir {actor} --target_dir {actor}/huggingface"
    )
    for given in (root, actor, actor / "huggingface"):
        with pytest.raises(ModelError, match=command):
            resolve_path(str(given))


def test_an_adapter_of_verl(tiny_folder: Folder, tmp_path: Path) -> None:
    need("peft")
    root = verl_run(tiny_folder(), tmp_path / "verl", whole=False)
    expected = write_adapter(tiny_folder(), root / "global_step_10/actor/lora_adapter", tokenizer=False)
    assert torch.allclose(logits(load(root / "global_step_10")), expected, atol=1e-5)
