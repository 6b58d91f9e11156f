"""Checkpoint folders of other trainers: where the model lies in them, and what to do where its weights are in parts.

verl    DIR/global_step_N/actor/huggingface: configuration and tokenizer, and the weights where `hf_model` was saved; else
        they are in actor/model_world_size_W_rank_R.pt (FSDP) or actor/dist_ckpt (Megatron), which `verl.model_merger`
        merges; of LoRA the adapter is in actor/lora_adapter
TRL     DIR/checkpoint-N: a Hugging Face folder, or with LoRA that of an adapter, which names its base model; weights that
        FSDP or DeepSpeed left in parts are merged by their own commands
"""

from pathlib import Path

WEIGHTS = ("*.safetensors", "*.bin")


def model_within(folder: Path) -> Path:
    """The folder that a Hugging Face model, or an adapter, lies in: of a verl run its latest step's, else the folder given."""
    steps = by_number(folder, "global_step_")
    actor = (steps[-1] if steps else folder) / "actor"
    if not actor.is_dir():
        actor = folder
    if (actor / "lora_adapter" / "adapter_config.json").is_file():
        return actor / "lora_adapter"
    return actor / "huggingface" if (actor / "huggingface" / "config.json").is_file() else folder


def by_number(folder: Path, start: str) -> list[Path]:
    """The folders within whose names are `start` and a number, ascending."""
    if not folder.is_dir():  # also of what can be no path, which Python 3.13's glob does not take
        return []
    named = [one for one in folder.glob(f"{start}*") if one.is_dir() and one.name.removeprefix(start).isdecimal()]
    return sorted(named, key=lambda one: int(one.name.removeprefix(start)))


def merge_command(folder: Path) -> str | None:
    """The command that makes a Hugging Face folder of weights in parts; None where there are none, or weights beside them.

    Args:
        folder: what `model_within` gave.
    """
    if not folder.is_dir() or any(one for pattern in WEIGHTS for one in folder.glob(pattern)):
        return None
    actor = folder.parent if folder.name == "huggingface" else folder
    merge = f"python -m verl.model_merger merge --backend {{}} --local_dir {actor} --target_dir {folder}"
    if any(actor.glob("model_world_size_*_rank_*.pt")):
        return merge.format("fsdp")
    if (actor / "dist_ckpt").is_dir():
        return merge.format("megatron")
    if (folder / "zero_to_fp32.py").is_file():
        return f"python {folder / 'zero_to_fp32.py'} {folder} {folder} --safe_serialization"
    parts = sorted(folder.glob("pytorch_model_fsdp*"))
    return f"accelerate merge-weights {parts[0]} {folder}" if parts else None
