"""Bundles of tiny runs, and their steps computed again: to the last bit, and what was tampered with is named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from progrpo import methods, plugins
from progrpo.api.agreement import digits, of_numbers, of_tensors
from progrpo.api.replay import kept, replay
from progrpo.errors import ConfigError, DataError
from progrpo.rollout.bundle import bundle_path, bundle_paths, packed, read_bundle, sound_bundle, unpacked
from progrpo.settings import Choice
from progrpo.train import bundles, checkpoint, loop
from progrpo.train.bundles import Bundles
from progrpo.train.fingerprint import weight_checksums
from progrpo.train.policy import Policy
from progrpo.train.trainer import Trainer
from stand_ins import every_method
from stand_ins.needs import need
from stand_ins.runs import run, token_rows

Make = Callable[..., dict[str, Any]]

BATCH = {"prompts": 4, "group": 4, "minibatch_prompts": 2, "micro_tokens": 128}
METHODS = {
    "grpo": {"name": "grpo"},
    "progrpo": {"name": "progrpo"},
    "balanced": {"name": "progrpo", "preset": "balanced"},
    "tokens": {"name": "entropy_advantage"},
    "sampling": {"name": "spear", "buffer": 4},
}
"""The last samples in its own way, and puts completions of before in place of sampled ones."""


@pytest.fixture(scope="module")
def made(
    settings_into: Callable[[Path], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A run of six steps, two a rollout, with a checkpoint after each rollout; made once for each method."""
    runs: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in runs:
            data = settings_into(tmp_path_factory.mktemp(name) / "run")
            changes = {"steps": 6, "batch": BATCH, "method": METHODS[name], "checkpoint": {"every": 2, "keep": 9}}
            runs[name] = run(data | changes | {"evaluate": {"every": 6, "n": 4}, "alarms": {"watch": False}})
        return runs[name]

    return make


@pytest.fixture
def own(made: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy to tamper with."""
    path = shutil.copytree(made("progrpo"), tmp_path / "run")
    config = path / "config.yaml"
    config.write_text(config.read_text().replace(str(made("progrpo")), str(path)))
    return path


@pytest.mark.parametrize("name", METHODS)
def test_three_steps_are_equal_to_the_last_bit(name: str, made: Callable[[str], Path]) -> None:
    for step in (1, 4, 5):  # from the start; the second of a rollout; the first after a checkpoint
        found = replay(made(name), step)
        assert found.agrees, found.faults
        assert {one.what: one.status for one in found.values if one.status != "equal"} == {}
        assert found.start == (step - 1) // 2 * 2
    whats = {one.what for one in found.values}
    assert whats >= {"advantages", "weights of tokens in the loss", "log-probs of the training pass", "loss"}
    assert whats >= {"policy/grad_norm", "policy/objective", "rollout/entropy"}


def test_the_last_step_ends_with_the_weights_of_the_run(made: Callable[[str], Path]) -> None:
    (after,) = [one for one in replay(made("progrpo"), 6).values if one.what == "weights after the step"]
    assert after.status == "equal"
    one, two = (sound_bundle(bundle_path(made("progrpo"), step)).header["weights"] for step in (1, 3))
    assert one["after"] == two["before"]
    assert one["before"] != one["after"]


def test_completions_are_drawn_again_from_their_seeds(made: Callable[[str], Path]) -> None:
    for name in ("progrpo", "sampling"):
        found = replay(made(name), 3, sample=True)
        assert found.drawn is not None
        assert len(found.drawn) == 16
        assert all(one.parts_at is None and one.logprobs and one.verdict for one in found.drawn)
        assert found.agrees
        judged_otherwise = replace(found.drawn[0], verdict=False)
        assert not replace(found, drawn=(judged_otherwise,)).agrees


def test_a_step_is_reached_through_the_rollouts_since_a_checkpoint(own: Path) -> None:
    for step in (2, 4):
        shutil.rmtree(own / "checkpoints" / f"step-{step:06d}")
    found = replay(own, 6, sample=True)
    assert found.start == 0
    assert found.agrees
    assert all(one.status == "equal" for one in found.values)
    bundle_path(own, 3).unlink()
    assert kept(own) == [
        (1, 0, ["the first of the run", "leads to the checkpoint of step 2"]),
        (5, None, ["follows the checkpoint of step 4", "leads to the checkpoint of step 6"]),
    ]
    with pytest.raises(
        DataError, match=r"step 5 cannot be replayed: its rollout was kept, but .* Steps that can: 1 to 2\."
    ):
        replay(own, 5)
    with pytest.raises(DataError, match="step 3 cannot be replayed: its rollout was not kept with its tokens"):
        replay(own, 3)
    with pytest.raises(DataError, match="step 7 cannot be replayed"):
        replay(own, 7)


def test_a_changed_weight_is_found_and_named(own: Path) -> None:
    folder = own / "checkpoints" / "step-000002"
    weights, name = load_file(folder / "model.safetensors"), "model.layers.1.mlp.up_proj.weight"
    weights[name][3, 5] *= 1 + 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    found = replay(own, 3)
    assert found.faults == (
        "checkpoint step-000002: model.safetensors differs from what was written",
        f"weights before step 3: not those of the run: {name}",
    )
    assert not found.agrees
    assert any(one.status != "equal" for one in found.values)
    # whoever hashes it anew is found by the bundle
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model.safetensors"] = checkpoint._digest(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert replay(own, 3).faults == (f"weights before step 3: not those of the run: {name}",)


def tampered(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)


def test_a_changed_token_is_found_and_named(own: Path) -> None:
    row = token_rows(own, 3)[5]

    def change(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        place = int(tensors["lengths"][:5].sum()) + 1
        tensors["token_ids"][place] = 5 if tensors["token_ids"][place] != 5 else 6

    tampered(bundle_path(own, 3), change)
    found = replay(own, 3)
    assert found.faults == (
        "bundle step-000003.safetensors: tensor token_ids is not what was written",
        f"problem {row['problem']!r}, completion 1: its tokens do not spell its text",
    )
    if row["advantage"]:  # it went through the model
        (logprobs,) = [one for one in found.values if one.what == "log-probs of the training pass"]
        assert logprobs.where == f"problem {row['problem']!r}, completion 1, token 1"
    with pytest.raises(DataError, match="differs from what was written: tensor token_ids"):
        sound_bundle(bundle_path(own, 3))


def test_a_changed_setting_is_found_and_named(own: Path) -> None:
    config = yaml.safe_load((own / "config.yaml").read_text())
    config["method"]["alpha"] = 0.5
    config["checkpoint"]["keep"] = 3
    (own / "config.yaml").write_text(yaml.safe_dump(config))
    found = replay(own, 3)
    assert found.faults == ("setting method.alpha: 0.3 in the bundle, 0.5 in config.yaml",)
    assert "setting checkpoint.keep: 9 in the bundle, 3 in config.yaml" in found.notes
    assert all(one.status == "equal" for one in found.values)  # the step was made as the bundle says

    def change(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        header = metadata["progrpo"].replace('"alpha": 0.3', '"alpha": 0.5')
        metadata["progrpo"] = header.replace('"policy/lr": 0.001', '"policy/lr": 0.0010005')

    tampered(bundle_path(own, 3), change)
    found = replay(own, 3)
    assert found.faults == ("bundle step-000003.safetensors: the header is not what was written",)
    assert {"advantages", "policy/lr"} <= {one.what for one in found.values if one.status == "differs"}


def test_progrpo_without_its_shift_takes_grpo_s_step(made: Callable[[str], Path]) -> None:
    none = methods.load(Choice(name="progrpo", alpha=0, aggregate="sequence"))
    chosen = {"none": none, "some": methods.load(Choice(name="progrpo"))}
    found = replay(made("grpo"), 3, micro=1, methods=chosen, step_too=True)
    others = found.others
    assert others is not None
    of_run, without, shifted = zip(*(one.advantages for one in others.scoring.completions), strict=True)
    assert of_run == without != shifted
    for one in others.scoring.completions:
        assert one.weights is not None
        assert torch.equal(one.weights[0], one.weights[1])
    assert others.metrics[0] == others.metrics[1]
    assert others.effects[0] == others.effects[1] != others.effects[2]
    assert others.cosines[:2] == pytest.approx((1.0, 1.0))
    assert others.cosines[2] is not None
    assert others.cosines[2] < 1
    # afterwards the weights are what they were: the step itself still agrees
    assert all(one.status == "equal" for one in found.values)
    assert found.micro is not None
    assert 0 < len(found.micro.sequences) <= 8
    assert found.micro.number == 1
    with pytest.raises(ConfigError, match=r"step 3 has \d+ micro-batches .*; got 99"):
        replay(made("grpo"), 3, micro=99)


def test_the_losses_and_gradients_of_the_micro_batches_make_up_the_step(made: Callable[[str], Path]) -> None:
    first = replay(made("grpo"), 1, micro=1)
    assert first.micro is not None
    parts = [first.micro, *(replay(made("grpo"), 1, micro=k).micro for k in range(2, first.micro.of + 1))]
    (loss,) = [one for one in first.values if one.what == "loss"]
    assert sum(one.loss for one in parts if one is not None) == pytest.approx(loss.again, abs=1e-7)
    (norm,) = [one for one in first.values if one.what == "policy/grad_norm"]
    assert isinstance(norm.again, float)
    assert sum(one.grad_norm for one in parts if one is not None) >= norm.again - 1e-6  # the triangle inequality


def test_the_weight_of_a_token_is_its_part_in_the_gradient(made: Callable[[str], Path]) -> None:
    """GRPO at ratio 1: dJ/dlog-prob = A / (sequences x length), 8 sequences a step here (aggregate=sequence)."""
    bundle = sound_bundle(bundle_path(made("grpo"), 1))
    weights, lengths = bundle.columns("token_weights"), bundle.tensors["lengths"]
    assert weights is not None
    each = bundle.tensors["advantages"].flatten() / (8 * lengths)
    expected = each[:8, None] * (torch.arange(weights.shape[1]) < lengths[:8, None])
    torch.testing.assert_close(weights[:8], expected, atol=1e-6, rtol=1e-4)


def test_what_an_alarm_names_is_kept(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bool] = []
    record = loop.record_rollout

    def alarmed(trainer: Trainer, step: int, *rest: Any) -> Any:
        if step in (2, 3):
            said.append(trainer.bundles.keep(step, "alarm: spike"))
            said.append(trainer.bundles.keep(step + 7, "of another rollout"))
        return record(trainer, step, *rest)

    monkeypatch.setattr(loop, "record_rollout", alarmed)
    quiet = {"checkpoint": {"every": 0}, "evaluate": {"every": 0}, "steps": 4, "alarms": {"watch": False}}
    path = run(settings(**quiet))
    assert said == [True, False, True, False]
    why = {step: read_bundle(one).header["kept_for"] for step, one in bundle_paths(path).items()}
    first, last = ["the first of the run"], ["leads to the checkpoint of step 4"]
    assert why == {1: first, 2: ["alarm: spike"], 3: ["alarm: spike"], 4: last}
    assert replay(path, 4).agrees  # through all of them
    said.clear()
    path = run(settings(**quiet, record={"tokens": False}, out=str(path.parent / "none")))
    assert said == [False] * 4
    assert not bundle_paths(path)


def test_the_oldest_bundles_go_first(settings: Make, made: Callable[[str], Path], tmp_path: Path) -> None:
    size = max(path.stat().st_size for path in bundle_paths(made("progrpo")).values())
    data = settings(steps=5, evaluate={"every": 0}, checkpoint={"every": 0})
    path = run(data | {"record": {"tokens": True, "tokens_mib": 2.5 * size / 2**20}})
    steps = [*bundle_paths(path)]
    assert steps == [3, 4, 5][-len(steps) :]
    assert len(steps) in (2, 3)
    assert sum(one.stat().st_size for one in bundle_paths(path).values()) <= 2.5 * size


def test_nothing_is_held_where_nothing_is_kept(tmp_path: Path) -> None:
    record = SimpleNamespace(tokens=False, rollouts_every=1)
    held = Bundles(SimpleNamespace(record=record), SimpleNamespace(path=tmp_path), done=0)  # type: ignore[arg-type]
    held.begin(1, (), None, None, engine_scores=True)  # type: ignore[arg-type]
    assert held.trace() is None
    assert not held.keep(1, "why")
    held.end(None)  # type: ignore[arg-type]


def test_a_rollout_that_nothing_can_ask_for_is_not_held(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def checksums(policy: Policy) -> dict[str, str]:
        begun.append(len(begun))
        return weight_checksums(policy)

    monkeypatch.setattr(bundles, "weight_checksums", checksums)
    quiet = {"checkpoint": {"every": 0}, "evaluate": {"every": 0}, "alarms": {"watch": False}}
    path = run(settings(**quiet, record={"tokens": True, "rollouts_every": 2}))
    assert [*bundle_paths(path)] == [1, 3]
    assert len(begun) == 4  # before and after each of the two


def test_packing_by_hand() -> None:
    columns, lengths = torch.tensor([[1, 2, 3], [4, 0, 0], [0, 0, 0]]), torch.tensor([3, 1, 0])
    assert packed(columns, lengths).tolist() == [1, 2, 3, 4]
    assert torch.equal(unpacked(packed(columns, lengths), lengths), columns)
    assert unpacked(torch.zeros(0), torch.tensor([0, 0])).shape == (2, 1)


def test_digits_by_hand() -> None:
    assert digits(0.001, 1.0) == 3
    assert digits(0.5, 1000.0) == 3  # 3.3
    assert digits(2.0, 1.0) == 0
    assert of_numbers("x", 1.0, 1.0, within=1e-5).status == "equal"
    assert of_numbers("x", 1.0, 1.000009, within=1e-5).status == "close"
    assert of_numbers("x", 1.0, 1.00002, within=1e-5).status == "differs"
    assert of_numbers("x", None, 1.0, within=1e-5).status == "differs"
    assert of_numbers("sum", 1e-8, -9e-7, within=1e-5).status == "close"
    assert of_numbers("lr", 1e-6, 2e-6, within=1e-5, near_zero=0).status == "differs"
    nan = float("nan")
    one, two = torch.tensor([[1.0, nan], [2.0, 3.0]]), torch.tensor([[1.0, nan], [2.5, 3.5]])
    assert of_tensors("x", one, one.clone(), within=1e-5, place=str).status == "equal"
    found = of_tensors("x", one, two, within=1e-5, place=str)
    assert (found.status, found.where, found.logged, found.again) == ("differs", "(1, 0)", 2.0, 2.5)
    # weights of a million tokens: the one is twice the other
    assert of_tensors("x", one * 1e-7, one * 2e-7, within=1e-5, place=str, near_zero=1e-12).status == "differs"
    assert of_tensors("x", one, one[:1], within=1e-5, place=str).where == "shape"


@pytest.mark.slow
@pytest.mark.parametrize("name", plugins.names("methods"))
def test_every_method_is_equal_to_the_last_bit(name: str, settings: Make) -> None:
    needed = (every_method.REQUIRED, every_method.OF_SMALL_GROUPS, every_method.OF_SMALL_MODELS)
    method = {"name": name} | {key: value for each in needed for key, value in each.get(name, {}).items()}
    data = settings(steps=4, batch=BATCH, method=method, checkpoint={"every": 2}, evaluate={"every": 0})
    path = run(data)
    for step in (1, 4):
        found = replay(path, step)
        assert found.agrees, found.faults
        assert {one.what: one.status for one in found.values if one.status != "equal"} == {}


KINDS: dict[str, dict[str, Any]] = {
    "reference": {"method": {"name": "grpo", "kl_coef": 0.1, "entropy_coef": 0.01}},
    "trainer": {"old_logprobs": "trainer", "off_policy": {"level": "token"}},
    "bf16": {"precision": "bf16"},
    "padded": {"share_prompts": False, "gradient_checkpointing": True},
    "momentum": {"optim": {"name": "sgd", "momentum": 0.9, "lr": 1e-2, "schedule": "cosine", "warmup_steps": 1}},
    "truncated": {"method": {"name": "progrpo", "truncated": "drop", "dual_clip": 3.0}},
    "lora": {"lora": {"r": 4, "dropout": 0.1}},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_is_equal_to_the_last_bit(kind: str, settings: Make) -> None:
    if kind == "lora":
        need("peft")
    data = settings(steps=4, batch=BATCH, checkpoint={"every": 2}, evaluate={"every": 0})
    of_model = {
        key: KINDS[kind][key]
        for key in ("precision", "share_prompts", "gradient_checkpointing", "lora")
        if key in KINDS[kind]
    }
    changes = {key: value for key, value in KINDS[kind].items() if key not in of_model}
    path = run(data | changes | {"model": data["model"] | of_model})
    for step in (2, 3):
        found = replay(path, step, sample=True)
        assert found.agrees, found.faults
        assert {one.what: one.status for one in found.values if one.status != "equal"} == {}
