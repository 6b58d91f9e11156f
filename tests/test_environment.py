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
