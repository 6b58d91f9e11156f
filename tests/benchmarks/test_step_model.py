"""The model of a step: its terms by hand, its fit, and what it says of many devices."""

import json
from pathlib import Path

import numpy as np
import pytest

from stand_ins.needs import need

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    need("psutil")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def test_rows_are_decoded_as_groups_enter_and_end() -> None:
    from step_time.model import rows_by_pass

    lengths = list(np.array([[1, 3], [2, 2], [4, 1]]))
    # All fit: two rows a group. Of the six, those with 1 leave after the first pass, and so on.
    assert rows_by_pass(lengths, 6).tolist() == [6, 4, 2, 1]
    # Four rows at most: the third group waits for two free rows. After pass 1 one is free, after pass 2 three are.
    assert rows_by_pass(lengths, 4).tolist() == [4, 3, 3, 1, 1, 1]
    # A group at a time, however small max_rows is.
    assert rows_by_pass(lengths, 1).tolist() == [2, 1, 1, 2, 2, 2, 1, 1, 1]


def test_terms_by_hand() -> None:
    from step_time.model import Device, Load, Model, sampling_terms, training_terms
    from vs_trl.steps import Sizes

    model = Model(sizes=Sizes(body=100, head=10, attention=4, cache=6), layers=2, bytes=4)
    device = Device(flops=1000.0, bandwidth=100.0)
    load = Load(
        prompt=3,
        lengths=[np.array([2, 4])],
        max_rows=8,
        learning=np.array([True]),
        micro_tokens=5,
        steps=1,
    )
    # Tokens: a prompt of 3 and 6 sampled. Contexts: 3^2/2 of the prompt, 2*3 + 2 and 4*3 + 8 of the completions: 32.5.
    # FLOPs: 2 * (100 * 9 + 10 * 6) + 4 * 4 * 32.5 = 2,440. Cache: (2*3 + 2) + (4*3 + 8) = 28 tokens read, 6 numbers each.
    # Passes: 4, each with 110 weights: 4 bytes * (4 * 110 + 28 * 6) = 2,432 bytes.
    assert sampling_terms(load, model, device) == pytest.approx([2.44, 24.32, 8])
    # Three forward passes; AdamW moves 28 bytes of 110 parameters; 9 tokens are two micro-batches of 5.
    assert training_terms(load, model, device) == pytest.approx([7.32, 30.8, 4])


def test_the_fit_finds_what_the_seconds_were_made_of() -> None:
    from step_time.model import fit

    rng = np.random.default_rng(0)
    terms = list(rng.uniform(0.1, 2.0, size=(8, 3)))
    planted = np.array([2.5, 1.4, 0.01])
    assert fit(terms, [float(planted @ row) for row in terms]).multiples == pytest.approx(planted, rel=1e-6)
    # A device does no more than its limits: half a second cannot have moved what takes a whole one.
    assert fit(terms, [float(np.array([0.5, 1.4, 0.01]) @ row) for row in terms]).multiples[0] == pytest.approx(1.0)


def test_groups_are_divided_as_training_divides_them() -> None:
    from step_time.cluster import divide

    # Prompts of 1. Costs 9, 7, 5, in all 21; an even share is 10.5, so that no group is cut: 9 | 7, 5 after it to the second.
    lengths = np.array([[4, 4], [3, 3], [2, 2]])
    assert [[piece.tolist() for piece in share] for share in divide(lengths, 1, 2)] == [[[4, 4]], [[3, 3], [2, 2]]]
    # Among six an even share is 3.5: every group is cut, and each piece has a prompt of its own.
    assert [[piece.tolist() for piece in share] for share in divide(lengths, 1, 6)] == [
        [[n]] for n in (4, 4, 3, 3, 2, 2)
    ]
    assert [len(share) for share in divide(lengths, 1, 8)] == [1, 1, 1, 1, 1, 1, 0, 0]


def test_more_devices_than_completions_train_no_faster() -> None:
    from step_time.cluster import QWEN, Links, Settings, predict
    from step_time.model import Device, Fit

    device, links = Device(flops=7e14, bandwidth=3e12), Links(node=3e11, between=4e10)
    fits = {phase: Fit(np.array([2.0, 1.0, 0.0])) for phase in ("sampling", "training")}
    settings = Settings(median=200.0, limit=1024, learns=1.0)
    made = {devices: predict(QWEN["7B"], settings, devices, device, fits, links) for devices in (8, 256, 512)}
    assert made[8].training > 5 * made[256].training
    # 32 prompts x 8 completions are 256 pieces.
    assert made[512].training == pytest.approx(made[256].training, rel=0.05)
    assert made[512].idle_devices == pytest.approx(0.5)
    assert made[8].idle_devices == 0.0
    assert made[8].tokens == made[512].tokens
    for one in made.values():
        assert 0 <= one.waiting < one.sampling
        assert one.seconds == pytest.approx(one.sampling + one.training + one.weights)


def test_the_points_in_the_repository_are_fitted_and_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    from step_model import main

    main(["--median", "300"])
    shown = capsys.readouterr().out
    assert "**one H100.** Sampling: " in shown
    assert "Mean error of the points it was fitted to: " in shown
    assert shown.count("of those it was not fitted to: ") == 2  # all of one machine are left out in turn
    assert "| 7B, 8 | " in shown
    assert "| 32B, 512 | " in shown


def test_points_are_written_as_they_are_read(tmp_path: Path) -> None:
    from step_time.points import read

    points = read(ROOT / "docs" / "step_points.jsonl")
    again = tmp_path / "again.jsonl"
    again.write_text("".join(json.dumps(point.as_json()) + "\n" for point in points))
    for before, after in zip(points, read(again), strict=True):
        assert after.name == before.name
        assert after.terms("sampling") == pytest.approx(before.terms("sampling"))
        assert after.terms("training") == pytest.approx(before.terms("training"))
