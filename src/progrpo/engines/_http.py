"""JSON over HTTP to a server that generates: connections that are kept, and one line for whatever goes wrong."""

import errno
import http.client
import json
import multiprocessing.connection
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from progrpo.errors import ConfigError, EngineError
from progrpo.files import to_json

T = TypeVar("T")

_SHOWN = 300
"""Characters of a server's own words that a message repeats."""
_PAUSES_S = (0.2, 1.0)
"""Before a call that may be repeated is made again."""


class AnswerError(EngineError):
    """A server answered, and said no, or what is no JSON.

    Attributes:
        status: HTTP's.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class HttpServer:
    """One server. Any thread may call it: a connection is one call's at a time, and then kept for the next, whoever makes it.

    Args:
        url: http://HOST:PORT, with a path before those of `call` where it has one. engine: its name, for messages.
        timeout_s: silence after which a call fails. headers: sent with every call (a key, for instance; never shown).
    """

    def __init__(self, url: str, *, engine: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"engine {engine}: {url!r} is no address of a server; expected http://HOST:PORT")
        self.url = url.rstrip("/")
        self._parts, self._engine, self._timeout_s = parts, engine, timeout_s
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._broken_off = 0

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        repeatable: bool = False,
    ) -> Any:
        """The answer's JSON; None where it has no body.

        Args:
            repeatable: made twice it does what it does once, so a connection that breaks (a full queue of a server or of a
                proxy resets it) is no end yet.

        Raises:
            EngineError: no connection, no answer in time, or an answer that says no.
        """
        try:
            status, reason, text = self._exchange(
                method, path, body, timeout_s or self._timeout_s, _PAUSES_S if repeatable else ()
            )
        except TimeoutError as error:
            raise EngineError(
                f"engine {self._engine}: no answer from {self.url}{path} in {timeout_s or self._timeout_s:g} s: it hangs, or "
                "is given too much at a time"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise EngineError(
                    f"engine {self._engine}: no connection to {self.url}: too many files are open here ({error}); raise the "
                    "limit (ulimit -n), or set a lower engine.connections"
                ) from error
            name = type(error).__name__
            raise EngineError(
                f"engine {self._engine}: {self.url} is gone ({name}: {error}); its own log says why"
            ) from error
        if status >= 400:
            raise AnswerError(
                f"engine {self._engine}: {self.url}{path} answered {status} {reason}: {_said(text)}", status
            )
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except ValueError as error:
            raise AnswerError(
                f"engine {self._engine}: {self.url}{path} answered no JSON: {_said(text)}", status
            ) from error

    def close(self) -> None:
        """Close all connections; calls that wait on them fail, and are not made again. A later call opens its own."""
        with self._lock:
            self._broken_off += 1
            idle, self._idle = self._idle, []
            busy = [connection.sock for connection in self._busy]
        for connection in idle:
            connection.close()
        for sock in busy:
            if sock is not None:
                with suppress(OSError):  # it is closed already
                    sock.shutdown(socket.SHUT_RDWR)

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float, pauses_s: Sequence[float]
    ) -> tuple[int, str, bytes]:
        data = None if body is None else to_json(body).encode()
        pauses, broken_off = iter(pauses_s), self._broken_off
        again = False
        while True:
            fresh = True
            try:
                with self._connection(broken_off, kept=not again) as connection:
                    fresh = connection.sock is None
                    connection.timeout = timeout_s
                    if connection.sock is not None:
                        connection.sock.settimeout(timeout_s)
                    connection.request(method, self._parts.path.rstrip("/") + path, body=data, headers=self._headers)
                    with connection.getresponse() as answer:
                        return answer.status, answer.reason, answer.read()
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, TimeoutError) or self._broken_off != broken_off:
                    raise
                # A server may close a connection that was idle; only a new one says that it is gone.
                if fresh:
                    if (pause := next(pauses, None)) is None:
                        raise
                    time.sleep(pause)
                again = True

    @contextmanager
    def _connection(self, broken_off: int, *, kept: bool) -> Iterator[http.client.HTTPConnection]:
        """One for this call alone, without a socket where it is new. Closed if the call fails, else there for the next.

        Args:
            broken_off: how often connections had been broken off when the call began. kept: may be one of an earlier call.
        """
        connection = (self._kept() if kept else None) or self._new()
        whole = False
        try:
            with self._lock:
                if self._broken_off != broken_off:
                    raise ConnectionAbortedError("broken off from here")
                self._busy.add(connection)
            yield connection
            whole = connection.sock is not None  # None: the server keeps no connections
        finally:
            with self._lock:
                self._busy.discard(connection)
                if whole := whole and self._broken_off == broken_off:
                    self._idle.append(connection)
            if not whole:
                connection.close()

    def _kept(self) -> http.client.HTTPConnection | None:
        """The connection used last of those that the server has not closed; closes those used later."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            # Nothing is to come without a request: there is something to read where the server closed it. (Not select: it
            # takes no descriptor above 1023.)
            if not multiprocessing.connection.wait([connection.sock], timeout=0):
                return connection
            connection.close()

    def _new(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        assert self._parts.hostname is not None
        return kind(self._parts.hostname, self._parts.port, timeout=self._timeout_s)


def all_at_once(
    work: Callable[[int], T],
    count: int,
    *,
    connections: int,
    silence_s: float,
    engine: str,
    servers: Sequence[HttpServer],
) -> Generator[tuple[int, T], None, None]:
    """Call `work(i)` for i below `count` in threads; index and result of each as it comes, on the calling thread.

    Raises:
        EngineError: nothing came for `silence_s`. Whatever `work` raises; the others are given up.
    """
    pool = ThreadPoolExecutor(max_workers=max(1, min(connections, count)), thread_name_prefix="progrpo-http")
    pending: dict[Future[T], int] = {pool.submit(work, index): index for index in range(count)}
    try:
        while pending:
            done, _ = wait(pending, timeout=silence_s, return_when=FIRST_COMPLETED)
            if not done:
                raise EngineError(
                    f"engine {engine}: nothing came back for {silence_s:g} s with {len(pending)} completions outstanding: the "
                    "server hangs"
                )
            for future in done:
                yield pending.pop(future), future.result()
    finally:
        if pending:
            for server in servers:
                server.close()
        pool.shutdown(wait=not pending, cancel_futures=True)


def _said(text: bytes) -> str:
    """A server's own words, in one line."""
    words = " ".join(text.decode("utf-8", "replace").split())
    return words if len(words) <= _SHOWN else words[:_SHOWN] + "..."
