"""The table of tokens a second: its numbers follow from the lengths and seconds of the run that it made."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from progrpo.model.files import resolve_path
from stand_ins.needs import need


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_run_is_measured_and_every_group_has_a_gradient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("psutil")
    from throughput import main

    sizes = ["--prompts=2", "--group=4", "--prompt-tokens=8", "--completion-tokens=6", "--steps=1", "--threads=1"]
    file = tmp_path / "measured.json"
    main(["embedded:countdown", *sizes, f"--json={file}", "method=grpo"])
    measured = json.loads(file.read_text())
    (step,) = measured["lengths"]
    assert step["completions"] == 8
    assert 8 <= step["tokens"] <= 48
    assert step["zero_std_share"] == 0.0
    phases = measured["phases"]
    assert phases["sampling"]["tokens_per_s"] * phases["sampling"]["seconds"] == pytest.approx(step["tokens"])
    assert phases["training"]["tokens_per_s"] * phases["training"]["seconds"] == pytest.approx(step["tokens"])
    assert phases["whole step"]["seconds"] == pytest.approx(step["seconds"])
    assert phases["whole step"]["seconds"] > phases["sampling"]["seconds"] + phases["training"]["seconds"]
    for name in ("sampling", "training"):
        assert 0 < phases[name]["flop_share"] < 1
        assert phases[name]["memory_gib"] > 0.1
    assert 0 < phases["sampling"]["bandwidth_share"] < 1
    assert measured["settings"] == {"method": "grpo", "engine": "hf", "sampling": "fp32", "training": "fp32"}
    shown = capsys.readouterr().out
    assert f"| sampling | {phases['sampling']['seconds']:.2f} | {phases['sampling']['tokens_per_s']:,.0f} |" in shown


def test_the_sizes_are_those_of_the_matrices_and_a_few_norms() -> None:
    from throughput import sizes_of
    from vs_trl.steps import Sizes
    from vs_trl.workloads import read_config

    ours, matrices = sizes_of("embedded:countdown"), Sizes.of(read_config(resolve_path("embedded:countdown")))
    assert (ours.head, ours.attention, ours.cache) == (matrices.head, matrices.attention, matrices.cache)
    assert matrices.body < ours.body < 1.01 * matrices.body


def test_prompts_have_about_the_tokens_that_were_asked_for() -> None:
    from throughput import made_up_prompts

    prompts = made_up_prompts("embedded:countdown", 20, 16)
    assert len({text for text, _ in prompts}) == 20
    assert all(14 <= length <= 16 for _, length in prompts)
