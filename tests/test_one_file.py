"""The method in one file without the package, and the package: the same numbers from the same start."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from progrpo.files import read_jsonl
from progrpo.settings import parse
from progrpo.tasks import countdown
from progrpo.train.loop import train
from progrpo.train.settings import RunSettings

ROOT = Path(__file__).parent.parent
STEPS = 2


@pytest.fixture(scope="module")
def one_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_file_progrpo", ROOT / "examples" / "one_file_progrpo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short_and_imports_nothing_of_the_package() -> None:
    text = (ROOT / "examples" / "one_file_progrpo.py").read_text()
    assert text.count("\n") <= 250
    assert "import progrpo" not in text
    assert "from progrpo" not in text


@pytest.mark.slow
def test_same_numbers(one_file: ModuleType, tmp_path: Path) -> None:
    params = countdown.Params(
        numbers=4, max_number=8, max_target=24, min_used=3, min_solutions=4, train_size=one_file.PROMPTS * 2
    )
    problems = [
        {"prompt": problem.prompt, "answer": problem.answer, **problem.info}
        for problem in countdown.load("train", params)
    ]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    settings = parse(
        RunSettings,
        {
            "out": str(tmp_path / "run"),
            "seed": one_file.SEED,
            "steps": STEPS,
            "model": {"path": "embedded:countdown"},
            "task": {
                "name": "file",
                "train": str(path),
                "chat": False,
                "info_keys": ["numbers", "min_used", "grammar"],
            },
            "reward": {"name": "expression"},
            "method": {"name": "progrpo", "alpha": one_file.ALPHA},
            "sampling": {"max_new_tokens": one_file.MAX_NEW_TOKENS},
            "data": {"shuffle": False},
            "batch": {"prompts": one_file.PROMPTS, "group": one_file.GROUP},
            "optim": {"lr": one_file.LR, "grad_clip": one_file.GRAD_CLIP},
        },
        where="test",
    )
    run = train(settings)
    seen: list[tuple[list[dict], float]] = []
    model = one_file.train(
        str(ROOT / "src" / "progrpo" / "embedded" / "countdown"),
        problems,
        STEPS,
        lambda step, groups, value: seen.append((groups, value)),
    )

    metrics = [row for row in read_jsonl(run.path / "metrics.jsonl") if row["step"]]
    changed = 0
    for step, (groups, value) in enumerate(seen):
        rows = read_jsonl(run.path / "rollouts" / f"step-{step + 1:06d}.jsonl")
        assert [row["completion"] for row in rows] == [text for group in groups for text in group["texts"]]
        assert [row["reward"] for row in rows] == [reward for group in groups for reward in group["rewards"]]
        ours = [row["advantage"] for row in rows]
        theirs = [advantage for group in groups for advantage in group["advantages"]]
        assert ours == pytest.approx(theirs, abs=1e-4)
        assert rows[0]["prompt_confidence"] == pytest.approx(groups[0]["prompt_confidence"], rel=1e-3)
        assert metrics[step]["policy/objective"] == pytest.approx(value, abs=1e-5)
        changed += sum(a != 0 for a in ours)
    assert changed > one_file.GROUP  # something was learnt from

    from transformers import AutoModelForCausalLM

    trained = AutoModelForCausalLM.from_pretrained(run.path / "checkpoints" / f"step-{STEPS:06d}")
    start = AutoModelForCausalLM.from_pretrained(ROOT / "src" / "progrpo" / "embedded" / "countdown")
    for (name, ours), theirs, before in zip(
        trained.named_parameters(), model.parameters(), start.parameters(), strict=True
    ):
        moved = (theirs - before).abs().max()
        assert moved > 0, name
        # Adam turns a gradient near 0 into a step of full size either way, so single entries may differ
        assert ((ours - theirs).abs() > 0.02 * moved).float().mean() < 0.02, name
        assert torch.allclose(ours, theirs, atol=2 * STEPS * one_file.LR), name
