"""`progrpo watch`: the page of runs over HTTP, and nothing else."""

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_up_runs import MakeRun, metrics_row

from progrpo.errors import ConfigError, RunDirectoryError
from progrpo.report import live
from progrpo.report.live import LiveServer, version_of
from progrpo.report.read import load_runs
from progrpo.report.run_page.page import make_page

pytestmark = pytest.mark.usefixtures("unrendered")
PATIENCE_S = 60.0


@contextmanager
def serving(*runs: Path) -> Iterator[LiveServer]:
    with LiveServer(runs, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(
    server: LiveServer, path: str = "/", *, host: str | None = None, verb: str = "GET", etag: str = ""
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=PATIENCE_S)
    connection.putrequest(verb, path, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    if etag:
        connection.putheader("If-None-Match", etag)
    connection.endheaders()
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def body(server: LiveServer, path: str = "/") -> str:
    return str(ask(server, path).body.decode())  # type: ignore[attr-defined]


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_page_and_its_version_and_nothing_else(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("one")
    with serving(run) as server:
        page = ask(server)
        assert page.status == 200
        assert "<h1>Run one</h1>" in page.body.decode()  # type: ignore[attr-defined]
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        version = body(server, "/version")
        assert page.headers["ETag"] == f'"{version}"'
        assert f'data-version="{version}"' in body(server)
        outside = ("/config.yaml", "/../config.yaml", "/%2e%2e/config.yaml", f"/{run}/config.yaml", "//config.yaml")
        for path in (*outside, "/version/", "/?a"):
            answer = ask(server, path)
            assert (answer.status, answer.body) == (404, b"the page is at /\n")  # type: ignore[attr-defined]
        assert ask(server, verb="POST").status == 501
        head = ask(server, verb="HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, page.headers["Content-Length"])
        assert ask(server, etag=f'"{version}"').status == 304
        assert ask(server, etag='"another"').status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:9999", 200),  # through a tunnel
        ("evil.example", 403),
        ("evil.example:7272", 403),
        ("localhost.evil.example", 403),
        ("evil.example@127.0.0.1.", 403),
        ("", 403),
        ("[127.0.0.1", 403),  # brackets around no address
        ("[::1]", 403),
    ],
)
def test_who_is_answered(make_run: MakeRun, host: str, status: int) -> None:
    with serving(make_run("one")) as server:
        for path in ("/", "/version"):
            assert ask(server, path, host=host).status == status


def test_it_listens_on_this_machine_alone(make_run: MakeRun) -> None:
    with serving(make_run("one")) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_it_is_renewed_when_a_step_is_written_and_left_alone_else(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.02)
    monkeypatch.setattr(live, "REST", 0.0)
    run = make_run("one")
    made: list[str] = []
    make = live.make_live_page
    monkeypatch.setattr(live, "make_live_page", lambda runs: made.append(version_of(runs)) or make(runs))
    with serving(run) as server:
        first = server.page
        for _ in range(20):
            assert body(server, "/version") == first.version
        assert len(made) == 1
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics_row(77)) + "\n")
        until(lambda: server.page is not first)
        assert body(server, "/version") == version_of([run]) != first.version
        assert "77" in body(server)
        second = server.page
        # what cannot be read leaves the page as it is, and is said once
        (run / "config.yaml").write_text("- no settings")
        with caplog.at_level(logging.WARNING):
            until(lambda: "the page could not be made anew" in caplog.text)
            tries = len(made)
            until(lambda: len(made) > tries + 2)
        assert caplog.text.count("could not be made anew") == 1
        assert server.page is second


def test_files_that_cannot_be_looked_at_are_told_and_looked_at_again(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.02)
    run = make_run("one")

    def refused(runs: object) -> str:
        raise PermissionError(13, "Permission denied")

    with serving(run) as server:
        first = server.page
        with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
            broken.setattr(live, "version_of", refused)
            until(lambda: "PermissionError" in caplog.text)
        assert server.page is first
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(metrics_row(77)) + "\n")
        until(lambda: server.page is not first)


def test_a_browser_that_leaves_is_no_error(make_run: MakeRun, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(make_run("one")) as server:
        for error, told in ((BrokenPipeError(), False), (RuntimeError("ours"), True)):
            try:
                raise error
            except type(error):
                server.handle_error(None, ("127.0.0.1", 1))
            assert ("Traceback" in capfd.readouterr().err) == told


def test_several_runs_are_compared(make_run: MakeRun) -> None:
    with serving(make_run("one"), make_run("two")) as server:
        assert "<h1>Comparison of runs</h1>" in body(server)


def test_only_a_served_page_may_ask_its_server(make_run: MakeRun) -> None:
    runs = load_runs([make_run("one")])
    still, served = make_page(runs, title="t"), make_page(runs, title="t", live="v1")
    assert "connect-src" not in still
    assert "data-version" not in still
    assert "progrpo watch" not in still
    assert "connect-src 'self'" in served


def test_a_port_that_is_taken_and_a_directory_without_a_run(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("one")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--port {port}: it is taken .*--port 0 for one that is free"):
            LiveServer([run], port)
    with pytest.raises(RunDirectoryError, match="expected a run directory"):
        LiveServer([tmp_path / "none"], port)
    LiveServer([run], port).server_close()  # neither of the two holds it
