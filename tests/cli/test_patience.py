import logging
import time

import pytest

from progrpo.api.patience import LogHandler, Patience


def test_what_takes_long_is_told_and_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Patience("loading", after_s=0.05, every_s=0.1) as patience:
        time.sleep(0.12)
        patience.now("checking golds")
        patience.count(3, 8)
        time.sleep(0.09)
        patience.count(7, 8)
        time.sleep(0.2)
        patience.now("")
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["loading", "checking golds 3/8"]
    assert lines[2] == "checking golds 7/8, 0 s"
    assert set(lines[2:]) == {"checking golds 7/8, 0 s"}  # nothing of what needs no telling


def test_silence_adds_up_until_something_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with Patience("one", after_s=0.5, every_s=10.0) as patience:
        time.sleep(0.3)
        patience.now("two")
        time.sleep(0.4)  # 0.7 s without a word, though neither took 0.5
        patience.now("three")
        time.sleep(0.1)  # this is counted by itself
    assert capsys.readouterr().err == "two\n"


def test_what_needs_no_telling_is_no_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with Patience("one", after_s=0.5) as patience:
        patience.now("")
        time.sleep(0.7)  # others have printed
        patience.now("two")
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_nothing_is_told_after_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    # the teller's wait ends while another holds the lock, and it has its turn only after the end
    for _ in range(20):
        with Patience("loading", after_s=0.005) as patience, patience._changed:
            time.sleep(0.01)
            patience._over = True
        assert capsys.readouterr().err in ("", "loading\n")


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_done_soon_is_not_told_and_where_it_is_unwanted_nothing_is(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with Patience("loading", after_s=0.02 if quiet else 5.0, quiet=quiet) as patience:
        patience.now("reading", after_s=0.02 if quiet else 5.0)
        time.sleep(0.06 * quiet)
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


def test_a_warning_is_not_said_twice_in_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("made up")
    logger.addHandler(LogHandler())
    for words in ("same", "same", "other", "same"):
        logger.warning(words)
    assert capsys.readouterr().err.split() == ["same", "other", "same"]
