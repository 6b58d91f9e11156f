"""The verb `watch`; what it serves is tested with `progrpo.report.live`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progrpo.report import live


@pytest.fixture
def ended_by_hand(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A server that is ended by Ctrl-C as soon as it serves."""
    served: list[Any] = []

    def serve(self: live.LiveServer) -> None:
        served.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(live.LiveServer, "serve_forever", serve)
    monkeypatch.setattr(live, "make_live_page", lambda runs: live.LivePage("v", b"page"))
    return served


def test_it_names_the_address_and_ends_in_peace(here: Callable[..., Any], ended_by_hand: list[Any]) -> None:
    done = here("watch", "runs/a", "runs/b", "--port", 0)
    (server,) = ended_by_hand
    assert done == (0, f"runs/a, runs/b: {server.url} (Ctrl-C ends it)\n", "")
    assert server.socket.fileno() == -1  # nothing listens any more
    done = here("watch", "runs/a", "--port", 0, "--json")
    assert json.loads(done.out) == {"url": ended_by_hand[1].url}


def test_what_is_no_run_is_told(here: Callable[..., Any], tmp_path: Path) -> None:
    done = here("watch", tmp_path, "--port", 0)
    assert done.status == 2
    assert "expected a run directory" in done.err
    assert done.out == ""
