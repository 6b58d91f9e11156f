from pathlib import Path

import pytest
import torch

from progrpo.train import memory
from progrpo.train.memory import PeakMemory

CPU = torch.device("cpu")
needs_a_reset = pytest.mark.skipif(PeakMemory(CPU).gib() is None, reason="the system's peak cannot be reset")


@needs_a_reset
def test_the_peak_is_that_since_the_reset() -> None:
    peak = PeakMemory(CPU)
    before = peak.gib()
    held = torch.ones(2**27 // 4)  # 2**27 bytes, an eighth of a GiB
    del held
    with_it = peak.gib()
    assert before is not None
    assert with_it is not None
    assert with_it - before == pytest.approx(0.125, abs=0.02)  # though it is free again
    peak.reset()
    assert peak.gib() == pytest.approx(before, abs=0.02)


def test_where_it_cannot_be_reset_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_RESET", tmp_path / "nowhere" / "clear_refs")
    assert PeakMemory(CPU).gib() is None


def test_on_cuda_it_is_torch_s_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[object] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**29)
    device = torch.device("cuda", 0)
    assert PeakMemory(device).gib() == 1.5
    assert resets == [device]
