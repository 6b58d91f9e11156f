import time

import pytest
import torch

from progrpo.train.clock import BESIDE, PHASES, Clock


def test_seconds_are_added_up_and_taken_once() -> None:
    clock = Clock(torch.device("cpu"))
    with clock.phase("train"):
        time.sleep(0.05)
    with clock.phase("train"):
        time.sleep(0.05)
    clock.add("generate", 3.0)
    clock.add("verify_hidden", 2.0)
    row = clock.take()
    assert {key for key in row if key.startswith("time/")} == {
        *(f"time/{name}_s" for name in (*PHASES, *BESIDE)),
        "time/step_s",
    }
    assert 0.1 <= row["time/train_s"] < 1.0
    assert (row["time/generate_s"], row["time/verify_hidden_s"]) == (3.0, 2.0)
    assert row["time/train_s"] <= row["time/step_s"] < 1.0
    assert clock.take()["time/train_s"] == 0.0


def raise_late(error: Exception) -> None:
    time.sleep(0.01)
    raise error


def test_a_phase_that_fails_is_timed_too() -> None:
    clock = Clock(torch.device("cpu"))
    with pytest.raises(OSError, match="full"), clock.phase("write"):
        raise_late(OSError("full"))
    assert clock.take()["time/write_s"] >= 0.01
