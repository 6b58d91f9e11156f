"""Connections that break."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from progrpo.engines import _http
from progrpo.errors import EngineError

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n{"a": 1}'


@contextmanager
def resetting(count: int, on_asked: Callable[[], None] = lambda: None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that resets its first `count` connections and answers the others; its address, and what was asked of it."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    text = b""
                    while not text.endswith(b"}"):  # headers and body may come apart
                        text += connection.recv(65536)
                    asked.append(text)
                    on_asked()
                    if len(asked) <= count:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    else:
                        connection.sendall(ANSWER)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "_PAUSES_S", (0.0, 0.0))


def test_a_call_that_may_be_repeated_outlives_two_resets() -> None:
    with resetting(2) as (url, asked):
        assert _http.HttpServer(url, engine="e", timeout_s=5).call("POST", "/x", {"b": 2}, repeatable=True) == {"a": 1}
    assert len(asked) == 3
    assert all(json.loads(text.partition(b"\r\n\r\n")[2]) == {"b": 2} for text in asked)


@pytest.mark.parametrize(("resets", "repeatable", "calls"), [(1, False, 1), (3, True, 3)])
def test_else_the_server_is_gone(resets: int, repeatable: bool, calls: int) -> None:
    with resetting(resets) as (url, asked):
        server = _http.HttpServer(url, engine="e", timeout_s=5)
        with pytest.raises(EngineError, match=f"engine e: {url} is gone"):
            server.call("POST", "/x", {"b": 2}, repeatable=repeatable)
    assert len(asked) == calls


def test_a_call_that_was_broken_off_is_not_made_again() -> None:
    servers: list[_http.HttpServer] = []

    def break_off() -> None:
        servers[0].close()

    with resetting(1, on_asked=break_off) as (url, asked):
        servers.append(_http.HttpServer(url, engine="e", timeout_s=5))
        with pytest.raises(EngineError, match="is gone"):
            servers[0].call("POST", "/x", {"b": 2}, repeatable=True)
    assert len(asked) == 1
