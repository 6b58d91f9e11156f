"""Several processes take the step that one takes: DDP and FSDP2, with gloo on the CPU."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from progrpo.errors import ConfigError
from progrpo.files import read_jsonl
from progrpo.processes import Processes, join, leave
from progrpo.rollout.bundle import bundle_path, sound_bundle
from progrpo.settings import parse
from progrpo.train.parallel import ParallelSettings
from progrpo.train.settings import RunSettings
from stand_ins.runs import token_rows
from stand_ins.several_processes import start, train_together, with_gradients

Make = Callable[..., dict[str, Any]]

METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"method": {"name": "grpo"}},
    "progrpo": {"method": {"name": "progrpo"}},
    "kl_cov": {"method": {"name": "kl_cov", "ratio": 0.2}},  # its top-k goes over the whole step
    "flowrl": {"method": {"name": "flowrl", "dropout": 0}},  # a net of its own, and a reference
    "ppo": {"method": {"name": "ppo"}},  # values
    "trainer": {"method": {"name": "progrpo"}, "old_logprobs": "trainer"},
    "dapo": {"method": {"name": "dapo", "max_rounds": 2}},
    "cure": {"method": {"name": "cure", "continuations": 1, "least_characters": 1}},
    "spear": {"method": {"name": "spear", "buffer": 2}},
    "r3": {"method": {"name": "r3", "samples": 1}},
    "deepsearch": {"method": {"name": "deepsearch", "depth": 3, "width": 2}},
    "hapo": {"method": {"name": "hapo"}},
    "empg": {"method": {"name": "empg"}},  # what tokens spell
    "likelihood": {"method": {"name": "likelihood", "after": "="}},  # a pass over answers
}
WITHIN = {"flowrl": 1e-5, "hapo": 1e-3, "empg": 1e-3, "likelihood": 2e-4}
"""FlowRL's loss is a square of what nearly cancels: another cut in one process moves it as much. HAPO and EMPG divide by the
range of entropies, and the advantages of `likelihood` are differences of log-probs of answers: of a random model these are
some thousandths, of numbers near 4 that are rounded at 1e-6."""
CLOCK = ("time/", "memory/", "tokens/forwarded", "tokens/padding", "tokens/repeated", "tokens/logit")


@pytest.mark.parametrize(
    ("count", "names", "modes"),
    [
        pytest.param(2, ("progrpo", "kl_cov"), ("ddp", "fsdp2"), id="2"),
        pytest.param(2, ("grpo", "flowrl", "ppo"), ("ddp", "fsdp2"), id="2, more", marks=pytest.mark.slow),
        pytest.param(3, tuple(METHODS), ("ddp", "fsdp2"), id="3", marks=pytest.mark.slow),
    ],
)
def test_processes_take_the_steps_that_one_takes(
    count: int, names: tuple[str, ...], modes: tuple[str, ...], settings: Make, tmp_path: Path
) -> None:
    def run_of(name: str, mode: str) -> dict[str, Any]:
        # Five problems: an odd number of groups, so that shares differ. Two optimiser steps a rollout would need an even one.
        batch = {"prompts": 5, "group": 4, "micro_tokens": 64}
        record = {"tokens": True}
        more = {"steps": 2, "batch": batch, "evaluate": {"every": 2, "n": 2}, "checkpoint": {"every": 0}}
        return settings(**more, **METHODS[name], out=str(tmp_path / f"{name}-{mode}"), parallel=mode, record=record)

    for name in names:
        with_gradients(run_of(name, "none"))
    train_together(count, [run_of(name, mode) for name in names for mode in modes])
    for name in names:
        alone = tmp_path / f"{name}-none"
        for mode in modes:
            together = tmp_path / f"{name}-{mode}"
            same_completions(alone, together)
            same_bundles(alone, together)
            within = WITHIN.get(name, 1e-6)
            same_gradients(alone, together, within)
            same_metrics(alone, together, max(1e-5, within))


def same_completions(alone: Path, together: Path) -> None:
    for path in sorted((alone / "rollouts").iterdir()):
        step = int(path.stem.removeprefix("step-"))
        rows = token_rows(alone, step), token_rows(together, step)
        tokens = [[(row["problem"], row["seed"], row["token_ids"], row["reward"]) for row in part] for part in rows]
        assert tokens[0] == tokens[1], path


def same_bundles(alone: Path, together: Path) -> None:
    """What the main process wrote down of all of them: the first rollout begins with the same weights, bit for bit."""
    one, two = sound_bundle(bundle_path(alone, 1)), sound_bundle(bundle_path(together, 1))
    assert one.header["weights"]["before"] == two.header["weights"]["before"]
    assert one.tensors.keys() == two.tensors.keys()
    for name, values in one.tensors.items():
        if values.is_floating_point():
            torch.testing.assert_close(values, two.tensors[name], atol=2e-5, rtol=1e-3, equal_nan=True, msg=name)


def same_gradients(alone: Path, together: Path, within: float) -> None:
    pairs = zip(torch.load(alone / "gradients.pt"), torch.load(together / "gradients.pt"), strict=True)
    moved = 0.0
    for one, other in pairs:
        assert one.keys() == other.keys()
        norm = math.sqrt(sum(float(value.double().square().sum()) for value in one.values()))
        apart = math.sqrt(sum(float((one[name] - other[name]).double().square().sum()) for name in one))
        assert apart <= within * max(norm, 1e-3), (alone, together)
        moved += norm
    assert moved > 1e-3, alone


def same_metrics(alone: Path, together: Path, within: float) -> None:
    rows, others = read_jsonl(alone / "metrics.jsonl"), read_jsonl(together / "metrics.jsonl")
    assert len(rows) == len(others) == 3
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys() - {"time/gather_s"} | ({"time/gather_s"} & row.keys())
        for key, value in row.items():
            if value is None:
                assert other[key] is None, key
            elif not key.startswith(CLOCK):
                assert other[key] == pytest.approx(value, rel=within, abs=within), (key, together)


@pytest.mark.slow
def test_weights_gathered_in_bf16_move_log_probs_by_their_rounding(settings: Make, tmp_path: Path) -> None:
    def one(name: str, **parallel: Any) -> dict[str, Any]:
        made = settings(steps=2, batch={"prompts": 4, "group": 4}, evaluate={"every": 0}, out=str(tmp_path / name))
        model = made["model"] | {"precision": "bf16", "gradient_checkpointing": True}
        return made | {"model": model, "parallel": {"mode": "fsdp2"} | parallel}

    train_together(2, [one("plain"), one("rounded", mixed_precision=True)])
    gaps = [read_jsonl(tmp_path / name / "metrics.jsonl")[0]["sampler/gap"] for name in ("plain", "rounded")]
    assert gaps[0] < gaps[1] < 2e-2  # bf16 has 8 bits: 4e-3 a rounding


def _idle(rank: int, count: int, port: int, run: dict[str, Any]) -> None:
    from stand_ins.several_processes import enter

    enter(rank, count, port)
    with_gradients(run)
    leave()


def test_a_process_without_a_share_neither_hangs_nor_counts(settings: Make, tmp_path: Path) -> None:
    # One group, kept together: the second process has nothing to forward, and in a step without any reward nobody has.
    batch = {"prompts": 1, "group": 4, "micro_tokens": 4096}
    more = {
        "steps": 3,
        "batch": batch,
        "evaluate": {"every": 0},
        "checkpoint": {"every": 0},
        "method": {"name": "grpo"},
    }
    with_gradients(settings(**more, out=str(tmp_path / "alone")))
    for mode in ("ddp", "fsdp2"):
        start(_idle, 2, settings(**more, out=str(tmp_path / mode), parallel=mode))
        for one, other in zip(
            torch.load(tmp_path / "alone" / "gradients.pt"), torch.load(tmp_path / mode / "gradients.pt"), strict=True
        ):
            for name, value in one.items():
                assert torch.allclose(value, other[name], atol=1e-6), (mode, name)


def _disagree(rank: int, count: int, port: int) -> None:
    from stand_ins.several_processes import enter

    enter(rank, count, port)
    processes = join()
    processes.require_same("this", torch.arange(3), None)
    assert processes.same(lambda: ("main", rank)) == ("main", 0)
    total = torch.tensor([1.0, rank])
    processes.sum(total)
    assert total.tolist() == [2.0, 1.0]

    def fail() -> None:
        raise ConfigError("no such thing")

    with pytest.raises(ConfigError, match="no such thing"):
        processes.same(fail)
    processes.require_same("the step", torch.tensor([float(rank)]))


def test_what_differs_between_processes_is_an_error() -> None:
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="disagree on the step"):
        start(_disagree, 2)


@pytest.mark.parametrize(
    ("mode", "count", "expected"),
    [
        ("auto", 1, "none"),
        ("auto", 2, "ddp"),
        ("none", 1, "none"),
        ("ddp", 1, "none"),
        ("ddp", 2, "ddp"),
        ("fsdp2", 1, "fsdp2"),
        ("fsdp2", 2, "fsdp2"),
    ],
)
def test_the_mode(mode: str, count: int, expected: str) -> None:
    settings = ParallelSettings.model_validate(mode)
    assert settings.resolve(Processes(count=count)) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parallel": "fsdp2", "model": {"load_in_4bit": True, "lora": {}}}, "4 bits are not sharded"),
        (
            {"parallel": {"mode": "fsdp2", "mixed_precision": True}},
            "belongs to parallel.mode=fsdp2 and model.precision=bf16",
        ),
        (
            {"parallel": {"mode": "ddp", "mixed_precision": True}, "model": {"precision": "bf16"}},
            "belongs to parallel.mode=fsdp2",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str, settings: Make) -> None:
    made = settings()
    model = made["model"] | changes.pop("model", {})
    with pytest.raises(ConfigError, match=message):
        parse(RunSettings, made | changes | {"model": model}, where="test")


def test_several_processes_must_not_train_each_for_itself() -> None:
    with pytest.raises(ConfigError, match="2 processes were started"):
        ParallelSettings.model_validate("none").resolve(Processes(count=2))
