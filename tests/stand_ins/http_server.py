"""A server of JSON in a thread of the tests' process."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RefusedError(Exception):
    """Answer with this status."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@contextmanager
def answering(
    answer: Callable[[str, dict[str, Any], Mapping[str, str]], Any], *, idle_s: float | None = None
) -> Iterator[str]:
    """Serve what `answer(path, body, headers)` gives (None: an empty answer) until the end of the context; the address. A body
    of JSON lines is {"lines": [...]}. Connections without a request for `idle_s` are closed; None: never."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = idle_s

        def _respond(self, body: dict[str, Any]) -> None:
            try:
                given, status = answer(self.path, body, self.headers), 200
            except RefusedError as error:
                given, status = {"error": str(error)}, error.status
            text = b"" if given is None else json.dumps(given).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            self._respond({})

        def do_POST(self) -> None:
            text = self._body()
            lines = "ndjson" in self.headers.get("Content-Type", "")
            self._respond(
                {"lines": [json.loads(line) for line in text.splitlines()]} if lines else json.loads(text or b"{}")
            )

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers["Content-Length"] or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 1024  # of 5, the default, some systems reset what clients that come at once have opened

        def handle_error(self, *_: Any) -> None:
            """A client that broke off is no error of this server."""

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
