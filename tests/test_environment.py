"""What is recorded of how something was made."""

import pytest

from progrpo.environment import environment


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["/lib/python3/site-packages/progrpo/__main__.py", "train", "a"], ["python", "-m", "progrpo", "train", "a"]),
        (["/venv/bin/progrpo", "train", "a"], ["/venv/bin/progrpo", "train", "a"]),
    ],
)
def test_the_command_can_be_given_again(monkeypatch: pytest.MonkeyPatch, words: list[str], command: list[str]) -> None:
    monkeypatch.setattr("sys.argv", words)
    assert environment("cpu", 0)["command"] == command


def test_the_number_of_processes_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert environment("cpu", 0)["processes"] == 1
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert environment("cpu", 0)["processes"] == 3
