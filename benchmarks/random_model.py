"""A Qwen2 with random weights and the embedded model's tokenizer: any size, no download."""

import shutil
from pathlib import Path

import torch

from progrpo.model.files import resolve_path


def random_model(
    folder: Path,
    *,
    hidden: int,
    layers: int,
    heads: int,
    intermediate: int,
    vocabulary: int,
    stored_as: torch.dtype = torch.float32,
) -> str:
    """Write it to `folder`, which must not be there; its path. Heads share keys and values two by two."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    embedded = Path(resolve_path("embedded:countdown"))
    shutil.copytree(embedded, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = Qwen2Config.from_pretrained(embedded)
    config.update(
        {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "layer_types": ["full_attention"] * layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "intermediate_size": intermediate,
            "vocab_size": vocabulary,
            "max_position_embeddings": 2**15,
            "tie_word_embeddings": False,
        }
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(stored_as).save_pretrained(folder)
    return str(folder)
