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


def test_nothing_is_told_after_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    # the teller's wait ends while another holds the lock, and it has its turn only after the end
    for _ in range(20):
        with Patience("loading", after_s=0.005) as patience, patience._changed:
            time.sleep(0.01)
            patience._over = True
        assert capsys.readouterr().err in ("", "loading \n")


def test_what_is_done_soon_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with Patience("loading", after_s=5.0) as patience:
        patience.now("reading")
    assert capsys.readouterr().err == ""


def test_of_several_processes_the_main_one_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        with Patience(f"as process {rank}", after_s=0.02):
            time.sleep(0.3)
    assert "as process 0" in (told := capsys.readouterr().err)
    assert "as process 1" not in told
