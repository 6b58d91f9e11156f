"""Connections that are kept, and connections that break."""

import json
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from progrpo.engines import _http
from progrpo.errors import EngineError
from stand_ins.http_server import answering

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


def slowly(path: str, body: dict[str, Any], headers: Any) -> dict[str, Any]:
    time.sleep(0.02)
    return {"path": path}


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def within(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it comes true: threads of calls and of the server close theirs after an answer has come."""
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()


@pytest.mark.parametrize("idle_s", [None, 0.2])
def test_calls_leave_no_more_connections_than_they_use_at_a_time(
    idle_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(slowly, idle_s=idle_s) as url:
        server = _http.HttpServer(url, engine="e", timeout_s=5)
        made, new = [], server._new
        monkeypatch.setattr(server, "_new", lambda: made.append(1) or new())
        before = descriptors()
        for _ in range(4):
            calls = _http.all_at_once(
                lambda _: server.call("POST", "/x", {}, repeatable=True),
                12,
                connections=4,
                silence_s=5,
                engine="e",
                servers=[server],
            )
            assert [result for _, result in calls] == [{"path": "/x"}] * 12
            if idle_s:
                time.sleep(1.5 * idle_s)  # the server closes them all
            assert within(lambda: descriptors() <= before + 2 * 4)  # both ends are in this process
        assert idle_s or len(made) <= 4
        server.close()
        assert within(lambda: descriptors() <= before)
        assert server.call("POST", "/y", {}) == {"path": "/y"}  # it may be called again


def test_calls_that_are_broken_off_leave_no_connection() -> None:
    asked, may_go = threading.Semaphore(0), threading.Event()

    def answer(path: str, body: dict[str, Any], headers: Any) -> dict[str, Any]:
        asked.release()
        may_go.wait(30)
        return {}

    with answering(answer) as url:
        server = _http.HttpServer(url, engine="e", timeout_s=30)
        before = descriptors()
        for _ in range(3):
            with pytest.raises(EngineError, match=r"no answer from .*/x in 0.05 s"):
                server.call("GET", "/x", timeout_s=0.05)
        assert descriptors() <= before + 3  # the server's ends
        calls = _http.all_at_once(
            lambda _: server.call("GET", "/x"), 3, connections=3, silence_s=0.2, engine="e", servers=[server]
        )
        with pytest.raises(EngineError, match=r"nothing came back for 0.2 s"):
            next(calls)
        for _ in range(6):
            assert asked.acquire(timeout=5)
        assert within(lambda: descriptors() <= before + 6)
        may_go.set()
        assert within(lambda: descriptors() <= before)


def test_too_many_files_of_this_process_are_not_the_server_s_end() -> None:
    with answering(slowly) as url:
        server = _http.HttpServer(url, engine="e", timeout_s=5)
        server.call("POST", "/x", {})
        server.close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(
                EngineError, match=r"too many files are open here .*raise the limit \(ulimit -n\)"
            ) as raised:
                server.call("POST", "/x", {}, repeatable=True)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "is gone" not in str(raised.value)
        assert server.call("POST", "/x", {}) == {"path": "/x"}
