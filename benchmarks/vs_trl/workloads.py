"""What both sides are given: the model, the prompts, the lengths."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from progrpo.model.files import resolve_path
from progrpo.settings import Choice

CLIP = (0.2, 0.28)
BETAS = (0.9, 0.999)
GRAD_CLIP = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A Llama with random weights."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """One work load.

    Attributes:
        shape: of the random model; None for the embedded countdown model.
        prompts: P. group: G. prompt_tokens: of every prompt (0: as the countdown task makes them).
        completion_tokens: the limit. median: of the completion lengths, geometric up to the limit; None: no token ends
            a completion, all have the full length.
        zero_std: every other group has equal rewards.
        lr: of AdamW. micro_tokens: of progrpo's micro-batches. micro_rows: of TRL's, in sequences.
    """

    name: str
    shape: Shape | None
    prompts: int
    group: int
    prompt_tokens: int
    completion_tokens: int
    median: int | None
    zero_std: bool
    lr: float
    micro_tokens: int
    micro_rows: int

    @property
    def stop_ids(self) -> int:
        """How many of the V ids end a completion, for the median: (1 - k/V)^median = 1/2 where all are equally likely."""
        if self.shape is None or self.median is None:
            return 0
        return max(1, round(self.shape.vocabulary * (1 - 0.5 ** (1 / self.median))))

    def task(self, rollouts: int) -> Choice:
        """The problems of so many rollouts, as a task of progrpo."""
        if self.shape is None:
            # The game of benchmarks/step.py.
            game = {"numbers": 4, "max_number": 8, "max_target": 24, "min_used": 3, "min_solutions": 4}
            return Choice(name="countdown", **game, train_size=max(1000, self.prompts * rollouts))
        return Choice(
            name="vs_trl.prompts",
            tokens=self.prompt_tokens,
            vocabulary=self.shape.vocabulary,
            zero_std=self.zero_std,
            count=self.prompts * rollouts,
        )

    def reward(self) -> Choice:
        return Choice(name="expression" if self.shape is None else "vs_trl.coin")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A work load as it is run: both sides are made from this alone.

    Attributes:
        path: the model folder. rollouts: steps there are prompts for, the warm-up included.
        precision: "bf16" is autocast over float32 weights on both sides. device: "cpu" or "cuda".
    """

    work: Workload
    path: str
    rollouts: int
    precision: str = "fp32"
    device: str = "cpu"
    checkpointing: bool = False


SMALL = Shape(hidden=512, layers=8, heads=8, kv_heads=4, intermediate=1408, vocabulary=8192, tied=False)
HALF_B = Shape(hidden=896, layers=24, heads=14, kv_heads=2, intermediate=4864, vocabulary=151_936, tied=True)
ONE_AND_A_HALF_B = Shape(hidden=1536, layers=28, heads=12, kv_heads=2, intermediate=8960, vocabulary=151_936, tied=True)
TINY = Shape(hidden=64, layers=2, heads=4, kv_heads=2, intermediate=128, vocabulary=256, tied=False)

_COUNTDOWN = Workload(
    name="a",
    shape=None,
    prompts=16,
    group=16,
    prompt_tokens=11,
    completion_tokens=40,
    median=None,
    zero_std=False,
    lr=1e-4,
    micro_tokens=4096,
    micro_rows=64,
)
_LONG_TAILED = Workload(
    name="b",
    shape=SMALL,
    prompts=8,
    group=8,
    prompt_tokens=256,
    completion_tokens=256,
    median=80,
    zero_std=True,
    lr=1e-6,
    micro_tokens=1024,
    micro_rows=4,
)
_FULL = replace(_LONG_TAILED, name="c", prompt_tokens=32, median=None, zero_std=False, micro_rows=8)
_GPU = replace(
    _LONG_TAILED,
    name="d",
    shape=HALF_B,
    prompts=32,
    prompt_tokens=512,
    completion_tokens=2048,
    median=600,
    micro_tokens=16_384,
)
_GPU_LARGE = replace(_GPU, name="e", shape=ONE_AND_A_HALF_B, micro_tokens=8192, micro_rows=2)
WORKLOADS = {work.name: work for work in (_COUNTDOWN, _LONG_TAILED, _FULL, _GPU, _GPU_LARGE)}


def tiny(work: Workload) -> Workload:
    """The same work load in seconds: for the test, and to try the script."""
    small = replace(work, prompts=4, group=4, completion_tokens=16, micro_tokens=512, micro_rows=4)
    if work.shape is None:
        return small
    return replace(small, shape=TINY, prompt_tokens=16, median=None if work.median is None else 6)


def model_folder(work: Workload, folder: Path, device: str) -> str:
    """The path both sides load from: the embedded model, or random weights written to `folder` with a tokenizer.

    The tokenizer makes token i of the word "ti". Its end token is t1, the first of the ids that end a completion; where no
    completion shall end before the limit, t1 is never drawn (see `_never_draw`).
    """
    if work.shape is None:
        return resolve_path("embedded:countdown")
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = work.shape
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=max(4096, work.prompt_tokens + work.completion_tokens),
        tie_word_embeddings=shape.tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    if not work.stop_ids:
        _never_draw(model, 1)
    model.generation_config.eos_token_id = [*range(1, max(1, work.stop_ids) + 1)]
    # Large weights travel in half the bytes; both sides read the same folder, so they still start equal.
    model.to(torch.bfloat16 if device == "cuda" else torch.float32).save_pretrained(folder)
    _write_tokenizer(shape.vocabulary, folder)
    return str(folder)


@torch.no_grad()
def _never_draw(model: Any, token: int) -> None:
    """Give one token a logit far below all others: every token's embedding has the same large first number, which no layer
    adds to, so that it stays so in the last hidden state, and the token's row of the head multiplies it by -100."""
    model.get_input_embeddings().weight[:, 0] = 0.2
    for layer in model.base_model.layers:
        layer.self_attn.o_proj.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    head = model.get_output_embeddings().weight
    head[:, 0] = 0.2  # the same in each logit, so that it changes no probability
    head[token, 0] = -100.0


def _write_tokenizer(vocabulary: int, folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {"<pad>": 0} | {f"t{index}": index for index in range(1, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="t1")
    fast.save_pretrained(folder)


def read_config(path: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((Path(path) / "config.json").read_text("utf-8"))
    return config
