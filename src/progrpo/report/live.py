"""The page of runs while they go on, served on this machine to this machine: `progrpo watch`.

Read-only: the page and its version are all that is served, whatever the path; nothing is run or written. It listens on
127.0.0.1 alone, and answers nobody who asks for another host (a page on the web whose name is made to point here).
"""

import errno
import hashlib
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from progrpo.errors import ConfigError, ProgrpoError
from progrpo.report.read import load_runs
from progrpo.report.run_page.page import make_page
from progrpo.report.seeds import pool_seeds

logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
HOSTS = frozenset({ADDRESS, "localhost"})
"""Whom a request may ask for; the port may be another where it comes through a tunnel (ssh -L)."""
PERIOD_S = 1.0
"""From one look at the files to the next."""
REST = 3.0
"""Seconds of rest for each second that a page took to make: the runs want the processor, too."""


class LivePage(NamedTuple):
    """A page as it is sent.

    Attributes:
        version: other where the files of its runs are.
    """

    version: str
    body: bytes


def version_of(runs: Sequence[Path]) -> str:
    """A hash of the sizes and times of the files that a page is made of. Rollouts are left out: each is followed by a row of
    metrics."""
    digest = hashlib.sha256()
    for run in runs:
        for path in _files(run):
            try:
                about = path.stat()
            except FileNotFoundError:  # it is written again this moment, or not yet there
                continue
            digest.update(f"{path}\0{about.st_mtime_ns}\0{about.st_size}\0".encode())
    return digest.hexdigest()[:16]


def _files(run: Path) -> Iterator[Path]:
    names = ("config.yaml", "environment.json", "metrics.jsonl", "alarms.jsonl", "checkpoints/best.json")
    yield from (run / name for name in names)
    yield from sorted((run / "evaluations").rglob("*.json*"))


def make_live_page(runs: Sequence[Path]) -> LivePage:
    """The page of one run, or the comparison of several, as `report` and `compare` make it.

    Raises:
        RunDirectoryError: one of them holds no run. DataError: a file of one is damaged.
    """
    version = version_of(runs)  # before anything is read: what comes meanwhile makes the next page
    loaded = load_runs(runs)
    loaded = pool_seeds(loaded) if len(loaded) > 1 else loaded
    title = "Comparison of runs" if len(loaded) > 1 else f"Run {loaded[0].name}"
    return LivePage(version, make_page(loaded, title=title, live=version).encode("utf-8"))


class LiveServer(ThreadingHTTPServer):
    """Serves the page of `runs` and makes it anew, in one thread, where their files have changed.

        with LiveServer(runs, port) as server:
            server.serve_forever()

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigError: the port is taken, or not for everyone. RunDirectoryError, DataError: see `make_live_page`.

    Attributes:
        page: as it was made last. url: to look at.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, runs: Sequence[Path], port: int) -> None:
        self._runs = tuple(runs)
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="progrpo-watch", daemon=True)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "it is taken (by another progrpo watch?)" if taken else error.strerror or type(error).__name__
            raise ConfigError(f"--port {port}: {why}; give another, or --port 0 for one that is free") from None
        try:
            self.page = make_live_page(self._runs)
        except BaseException:
            self.server_close()
            raise
        self._renewing.start()

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def server_close(self) -> None:
        """Stop listening, and making pages. One in the making is waited for a moment, and else given up with the process."""
        super().server_close()
        self._ended.set()
        if self._renewing.is_alive():
            self._renewing.join(timeout=2.0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves or reloads in the middle of an answer is no error."""
        if isinstance(sys.exception(), ConnectionError):
            logger.debug("%s left before it had its answer", client_address)
        else:
            super().handle_error(request, client_address)

    def _renew(self) -> None:
        rest, said = PERIOD_S, ""
        while not self._ended.wait(rest):
            rest, started = PERIOD_S, time.monotonic()
            try:
                if version_of(self._runs) == self.page.version:
                    continue
                self.page = make_live_page(self._runs)
                said = ""
            except (ProgrpoError, OSError, ValueError) as error:
                # A file may be caught in the middle of a change. The last page stays; what lasts is said once.
                if (text := f"{type(error).__name__}: {error}") != said:
                    logger.warning("the page could not be made anew: %s", text)
                said = text
            rest = max(PERIOD_S, REST * (time.monotonic() - started))


def _host_name(host: str) -> str | None:
    """The name that a Host header asks for, without its port; None where it has none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # brackets around what is no address
        return None


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "progrpo", ""
    timeout = 60.0

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        page = self.server.page
        if _host_name(self.headers.get("Host", "")) not in HOSTS:
            self._answer(HTTPStatus.FORBIDDEN, b"ask for 127.0.0.1 or localhost\n")
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, page.version.encode())
        elif self.path != "/":
            self._answer(HTTPStatus.NOT_FOUND, b"the page is at /\n")
        elif self.headers.get("If-None-Match") == f'"{page.version}"':
            self._answer(HTTPStatus.NOT_MODIFIED, None, version=page.version)
        else:
            self._answer(HTTPStatus.OK, page.body, kind="text/html; charset=utf-8", version=page.version)

    def _answer(
        self, status: HTTPStatus, body: bytes | None, *, kind: str = "text/plain; charset=utf-8", version: str = ""
    ) -> None:
        self.send_response(status)
        if body is not None:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        if version:
            self.send_header("ETag", f'"{version}"')
        for name, value in (
            ("Cache-Control", "no-cache"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if body is not None and self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)
