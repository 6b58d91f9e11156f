"""Training an adapter: what samples is what is trained, and what a checkpoint holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from progrpo import engines
from progrpo.api.subject import Subject, find_model
from progrpo.engines import Request, Sampling
from progrpo.errors import ConfigError, ModelError
from progrpo.files import read_jsonl
from progrpo.model import ModelSettings, count_parameters, load_model
from progrpo.model.files import base_of
from progrpo.settings import Choice, parse
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings
from stand_ins.several_processes import train_together

Make = Callable[..., dict[str, Any]]
LORA = {"r": 4}


@pytest.fixture
def run(settings: Make, tmp_path: Path) -> Callable[..., Path]:
    def train_one(name: str, *, resume: bool = False, **changes: Any) -> Path:
        made = settings(**({"evaluate": {"every": 0}} | changes), out=str(tmp_path / name))
        made["model"] = made["model"] | {"lora": LORA} | changes.get("more", {})
        made.pop("more", None)
        return train(parse(RunSettings, made, where="test"), resume=resume).path

    return train_one


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(5, 25)[None]).logits
    return found


def test_the_adapter_alone_moves_and_loads_anywhere(run: Callable[..., Path], tiny_folder: Callable[..., Path]) -> None:
    path = run("a", checkpoint={"every": 4, "merged": True})
    folder = path / "checkpoints" / "step-000004"
    assert not (folder / "model.safetensors").exists()
    weights = load_file(folder / "adapter_model.safetensors")
    # All linear layers but the head: 7 of each of 2 layers, A and B of each
    assert len(weights) == 2 * 7 * 2
    assert all(value.abs().sum() > 0 for value in weights.values())  # B began at 0

    base = AutoModelForCausalLM.from_pretrained(tiny_folder())
    adapted = AutoModelForCausalLM.from_pretrained(folder)  # finds the base model by the adapter's file
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged")
    assert not torch.allclose(logits(adapted), logits(base), atol=1e-4)
    assert torch.allclose(logits(adapted), logits(merged), atol=1e-5)
    # and for every verb that takes a model
    for named in (path, folder):
        about, _ = find_model(str(named), Subject(model={"device": "cpu"}), where="test")
        assert torch.equal(logits(load_model(about, again=True).model), logits(adapted))


def test_the_sampler_sees_the_adapter_at_every_step(run: Callable[..., Path]) -> None:
    # The trainer's log-probs of the first step on a rollout against those of the engine, and what the engine draws changes.
    rows = read_jsonl(run("a") / "metrics.jsonl")
    assert max(row["sampler/gap"] for row in rows) < 1e-5
    assert all(row["policy/grad_norm"] > 0 for row in rows)


def test_log_probs_follow_the_adapter(tiny_folder: Callable[..., Path]) -> None:
    model = load_model(parse(ModelSettings, {"path": str(tiny_folder()), "lora": LORA, "device": "cpu"}, where="test"))
    engine = engines.load(Choice(name="hf"), model)
    request = Request(prompt_ids=torch.tensor([5, 6, 7]), seeds=(1,))

    def drawn() -> torch.Tensor:
        (result,) = engine.generate([request], Sampling(max_new_tokens=6))
        return result.completions[0].sampler_logprobs

    before = drawn()
    with torch.no_grad():
        for name, parameter in model.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    engine.update_weights(model.model.named_parameters(), version=1)
    assert not torch.allclose(drawn()[:1], before[:1], atol=1e-3)


def test_at_first_it_is_the_base_model_to_the_last_bit(tiny_folder: Callable[..., Path]) -> None:
    plain = load_model(ModelSettings(path=str(tiny_folder()), device="cpu"))
    adapted = load_model(
        parse(ModelSettings, {"path": str(tiny_folder()), "lora": LORA, "device": "cpu"}, where="test"), again=True
    )
    assert torch.equal(logits(adapted.model), logits(plain.model))


def test_a_run_resumes_to_the_last_bit(run: Callable[..., Path]) -> None:
    whole = run("whole", steps=4, checkpoint={"every": 2}, method={"name": "flowrl", "dropout": 0})
    run("parts", steps=2, checkpoint={"every": 2}, method={"name": "flowrl", "dropout": 0})
    parts = run("parts", steps=4, checkpoint={"every": 2}, method={"name": "flowrl", "dropout": 0}, resume=True)
    one, other = (load_file(path / "checkpoints/step-000004/adapter_model.safetensors") for path in (whole, parts))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_second_adapter_on_top_is_refused(run: Callable[..., Path]) -> None:
    folder = run("a", steps=2) / "checkpoints" / "step-000002"
    assert count_parameters(str(folder)) == count_parameters(base_of(str(folder)))  # of the base model
    with pytest.raises(ConfigError, match="is an adapter already"):
        load_model(parse(ModelSettings, {"path": str(folder), "lora": LORA}, where="test"), again=True)


def test_an_adapter_of_another_shape_is_refused(run: Callable[..., Path], tiny_folder: Callable[..., Path]) -> None:
    folder = run("a", steps=2) / "checkpoints" / "step-000002"
    narrower = {"path": str(tiny_folder()), "device": "cpu", "lora": {"r": 4, "target": ["q_proj"]}}
    with pytest.raises(ModelError, match="does not fit model.lora"):
        load_model(parse(ModelSettings, narrower, where="test"), again=True, adapter=folder)
    with pytest.raises(ModelError, match="holds no adapter"):
        load_model(parse(ModelSettings, narrower, where="test"), again=True, adapter=Path(str(tiny_folder())))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lora": {"target": ["no_such"]}}, "model.lora.target=.*no_such"),
        (
            {"lora": {"target": ["q_proj", "v_porj"]}},
            "model.lora.target: no module is called 'v_porj'; did you mean 'v_proj'",
        ),
        ({"load_in_4bit": True}, "cannot be trained; set model.lora"),
    ],
)
def test_what_cannot_work_is_refused(more: dict[str, Any], message: str, tiny_folder: Callable[..., Path]) -> None:
    settings = parse(ModelSettings, {"path": str(tiny_folder()), "device": "cpu"} | more, where="test")
    with pytest.raises(ConfigError, match=message):
        load_model(settings, again=True)


@pytest.mark.slow
def test_processes_train_an_adapter_as_one_does(settings: Make, tmp_path: Path) -> None:
    kept = {"mode": "fsdp2", "reshard_after_forward": False}  # what the reference pass gathered serves the step, too

    def one(mode: str) -> dict[str, Any]:
        made = settings(
            steps=2,
            evaluate={"every": 0},
            batch={"prompts": 3, "group": 4, "micro_tokens": 64},
            method={"name": "progrpo", "kl_coef": 0.1},
            checkpoint={"every": 2, "merged": True},
            out=str(tmp_path / mode),
        )
        return made | {"model": made["model"] | {"lora": LORA}, "parallel": kept if mode == "kept" else mode}

    train(parse(RunSettings, one("none"), where="test"))
    train_together(2, [one("ddp"), one("fsdp2"), one("kept")])
    for file in ("adapter_model.safetensors", "merged/model.safetensors"):
        expected = load_file(tmp_path / "none" / "checkpoints" / "step-000002" / file)
        for mode in ("ddp", "fsdp2", "kept"):
            found = load_file(tmp_path / mode / "checkpoints" / "step-000002" / file)
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert float((found[key] - value).abs().max()) < 3e-4, (mode, key)
                assert float((found[key] - value).abs().mean()) < 3e-6, (mode, key)
