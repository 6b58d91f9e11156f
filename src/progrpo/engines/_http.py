"""JSON over HTTP to a server that generates: connections that are kept, and one line for whatever goes wrong."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
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
    """A server answered, and said no.

    Attributes:
        status: HTTP's.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class HttpServer:
    """One server.

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
        self._local = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
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
            raise EngineError(f"engine {self._engine}: {self.url}{path} answered no JSON: {_said(text)}") from error

    def close(self) -> None:
        """Break all connections off; calls that wait on them fail, and are not made again."""
        self._broken_off += 1
        for connection in list(self._open):
            sock = connection.sock
            if sock is not None:
                with suppress(OSError):  # it is closed already
                    sock.shutdown(socket.SHUT_RDWR)

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float, pauses_s: Sequence[float]
    ) -> tuple[int, str, bytes]:
        data = None if body is None else to_json(body).encode()
        pauses, broken_off = iter(pauses_s), self._broken_off
        while True:
            connection, fresh = self._connection()
            connection.timeout = timeout_s
            try:
                if connection.sock is not None:
                    connection.sock.settimeout(timeout_s)
                connection.request(method, self._parts.path.rstrip("/") + path, body=data, headers=self._headers)
                answer = connection.getresponse()
                return answer.status, answer.reason, answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if isinstance(error, TimeoutError) or self._broken_off != broken_off:
                    raise
                # A server may close a connection that was idle; only a new one says that it is gone.
                if fresh:
                    if (pause := next(pauses, None)) is None:
                        raise
                    time.sleep(pause)

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            assert self._parts.hostname is not None
            connection = kind(self._parts.hostname, self._parts.port, timeout=self._timeout_s)
            self._local.connection = connection
            self._open.add(connection)
        return connection, connection.sock is None


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
