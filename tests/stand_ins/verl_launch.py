"""verl's own command line on a CPU: the embedded model, a parquet file of countdown problems, and what must be set there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer

from progrpo import tasks
from progrpo.model.files import resolve_path
from progrpo.settings import Choice

NOTES = "VERL_CPU_NOTES"
"""Environment variable: the folder for a file per training step."""

TIMEOUT_S = 3600
"""Of a run, which takes minutes."""

PROBLEMS, GROUP, STEPS = 6, 8, 2
"""Problems of a training step, completions of each, training steps of a run; each has two optimiser steps."""


def prepare(folder: Path) -> None:
    """Put a model with a chat template and the problems into a folder."""
    model = shutil.copytree(resolve_path("embedded:countdown"), folder / "model")
    file = model / "tokenizer.json"
    written = json.loads(file.read_text())
    # A Qwen of verl's ends a turn with <|im_end|> and has a newline.
    written["added_tokens"] = [entry for entry in written["added_tokens"] if entry["content"] != "<unk>"]
    renamed = {"<eos>": "<|im_end|>", "<unk>": "\u010a"}
    for entry in written["added_tokens"]:
        entry["content"] = renamed.get(entry["content"], entry["content"])
    vocabulary = written["model"]["vocab"]
    written["model"]["vocab"] = {renamed.get(token, token): number for token, number in vocabulary.items()}
    written["model"]["unk_token"] = None
    file.write_text(json.dumps(written))
    tokenizer = AutoTokenizer.from_pretrained(model, eos_token="<|im_end|>", unk_token=None)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(model)
    problems = tasks.problems(Choice(name="countdown", train_size=PROBLEMS * STEPS), "train")
    rows = [
        {
            "data_source": "countdown",
            "prompt": [{"role": "user", "content": problem.prompt}],
            "reward_model": {"style": "rule", "ground_truth": problem.answer},
            "extra_info": {
                "index": index,
                "id": problem.id,
                "prompt": problem.prompt,
                "numbers": problem.info["numbers"],
                "min_used": problem.info["min_used"],
            },
        }
        for index, problem in enumerate(problems)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "problems.parquet")


def settings(folder: Path) -> list[str]:
    """What every run here shares; nothing of it is of a method."""
    return [
        f"data.train_files={folder}/problems.parquet",
        f"data.val_files={folder}/problems.parquet",
        f"data.train_batch_size={PROBLEMS}",
        "data.max_prompt_length=32",
        "data.max_response_length=40",
        "data.shuffle=False",
        "data.dataloader_num_workers=0",
        f"actor_rollout_ref.model.path={folder}/model",
        "actor_rollout_ref.model.use_remove_padding=False",
        "actor_rollout_ref.model.enable_gradient_checkpointing=False",
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        "actor_rollout_ref.actor.strategy=fsdp2",
        "actor_rollout_ref.actor.fsdp_config.strategy=fsdp2",
        "+actor_rollout_ref.actor.fsdp_config.mixed_precision={param_dtype: fp32, reduce_dtype: fp32}",
        "actor_rollout_ref.actor.fsdp_config.use_torch_compile=False",
        "actor_rollout_ref.actor.use_torch_compile=False",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={PROBLEMS // 2}",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
        "actor_rollout_ref.actor.optim.lr=1e-4",
        "actor_rollout_ref.rollout.name=vllm",
        f"actor_rollout_ref.rollout.n={GROUP}",
        "actor_rollout_ref.rollout.dtype=float32",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
        "actor_rollout_ref.rollout.max_model_len=128",
        "actor_rollout_ref.rollout.max_num_seqs=64",
        "actor_rollout_ref.rollout.enforce_eager=True",
        "actor_rollout_ref.rollout.free_cache_engine=False",
        "+actor_rollout_ref.rollout.enable_sleep_mode=False",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
        "actor_rollout_ref.rollout.agent.num_workers=1",
        "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=16",
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls=stand_ins.verl_cpu_worker.Worker",
        f"reward.custom_reward_function.path={Path(__file__).with_name('verl_reward.py')}",
        "reward.custom_reward_function.name=solved",
        "reward.num_workers=1",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        "trainer.device=cpu",
        "trainer.nnodes=1",
        "trainer.n_gpus_per_node=1",
        f"trainer.total_training_steps={STEPS}",
        "trainer.val_before_train=False",
        "trainer.resume_mode=disable",
        "trainer.logger=[console]",
        f"trainer.default_local_dir={folder}/checkpoints",
        "ray_kwargs.ray_init.num_cpus=16",
        "+ray_kwargs.ray_init.num_gpus=1",
        "+ray_kwargs.ray_init.include_dashboard=False",
        "+ray_kwargs.ray_init.object_store_memory=200000000",
    ]


def run(folder: Path, name: str, *overrides: str) -> list[dict[str, Any]]:
    """Run verl's main_ppo with more settings; returns the notes of its training steps.

    Raises:
        RuntimeError: it failed; with the end of what it printed.
    """
    notes = folder / name
    notes.mkdir()
    tests = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]),
        "VERL_PLATFORM": "cpu",
        "VERL_ENGINE_DEVICE": "cuda",  # which of verl's training engines; there is none by the name of "cpu"
        "VERL_USE_EXTERNAL_MODULES": "stand_ins.verl_cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        NOTES: str(notes),
    }
    of_hydra = f"hydra.run.dir={folder / 'hydra'}"  # else it writes into the current folder
    module = [sys.executable, "-W", "ignore", "-m", "verl.trainer.main_ppo"]
    command = [*module, *settings(folder), of_hydra, *overrides]
    with (notes / "log.txt").open("w") as log:
        ended = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=TIMEOUT_S)
    if ended.returncode != 0:
        raise RuntimeError(f"verl's main_ppo ended with {ended.returncode}:\n{(notes / 'log.txt').read_text()[-4000:]}")
    return [torch.load(file, weights_only=False) for file in sorted(notes.glob("step-*.pt"))]
