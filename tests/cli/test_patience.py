import time

import pytest

from progrpo.cli.patience import Patience


def test_what_takes_long_is_told_once_and_dotted(capsys: pytest.CaptureFixture[str]) -> None:
    with Patience("loading", after_s=0.05) as patience:
        time.sleep(0.28)
        patience.now("reading")
        time.sleep(0.12)
        patience.now("")
        time.sleep(0.12)
    lines = capsys.readouterr().err.split("\n")
    assert lines[0].startswith("loading ..")
    assert lines[1].startswith("reading ")
    assert lines[2:] == [""]


def test_what_is_done_soon_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with Patience("loading", after_s=5.0) as patience:
        patience.now("reading")
    assert capsys.readouterr().err == ""
