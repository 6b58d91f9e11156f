"""The self-test finds every wall that is missing, and a machine that cannot isolate is refused."""

import logging
import os
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from progrpo.errors import ProgrpoError, SandboxError
from progrpo.sandbox import Box, Limits, bubblewrap, interpreter, isolation
from progrpo.sandbox.run import run

ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
NAMESPACES = ("user", "ipc", "pid", "net", "uts")


def sharing(one: str) -> Callable[[list[str]], list[str]]:
    """All namespaces but one."""
    kept = [f"--unshare-{name}" for name in NAMESPACES if name != one]
    return lambda arguments: [*kept, *arguments[arguments.index("--unshare-all") + 2 :]]


def without(*words: str) -> Callable[[list[str]], list[str]]:
    def change(arguments: list[str]) -> list[str]:
        at = next(i for i in range(len(arguments)) if tuple(arguments[i : i + len(words)]) == words)
        return arguments[:at] + arguments[at + len(words) :]

    return change


def without_size(arguments: list[str]) -> list[str]:
    at = arguments.index("--size")
    return arguments[:at] + arguments[at + 2 :]


def showing(how: str) -> Callable[[list[str]], list[str]]:
    """The machine's folder of temporary files in place of the private one."""

    def change(arguments: list[str]) -> list[str]:
        at, folder = arguments.index("--perms"), tempfile.gettempdir()
        return [*arguments[:at], how, folder, folder, *arguments[at + 6 :]]

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (sharing("net"), "network"),
        (sharing("pid"), "not alone"),
        (without("--remount-ro", "/"), "writing"),
        (without("--remount-ro", "/dev"), "writing"),
        (without("--remount-ro", "/proc"), "writing: /proc is a writable mount"),
        (without("--remount-ro", "/proc"), "rights: /proc/1/mem can be written, /proc/1/oom_score_adj can be written"),
        (without_size, "writing: /tmp holds"),
        (showing("--bind"), "a file outside was changed"),
        (lambda arguments: [*arguments, "--setenv", "SECRET", "1"], "environment: SECRET"),
        (showing("--ro-bind"), "reading"),
    ],
)
def test_a_missing_wall_is_found(
    box: Box, monkeypatch: pytest.MonkeyPatch, change: Callable[[list[str]], list[str]], fault: str
) -> None:
    complete = bubblewrap.walls
    monkeypatch.setattr(bubblewrap, "walls", lambda *given: change(complete(*given)))
    faults = isolation._walls(replace(box, seccomp=None))
    assert any(fault in found for found in faults), faults


def test_other_processes_in_sight_are_found(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    walls, program = bubblewrap.walls, bubblewrap.program
    monkeypatch.setattr(bubblewrap, "walls", lambda *given: sharing("pid")(walls(*given)))
    monkeypatch.setattr(bubblewrap, "program", lambda *given: [w if w != "0,1" else "0" for w in program(*given)])
    assert any(fault.startswith("processes") for fault in isolation._walls(box))


def test_a_filter_that_lets_namespaces_through_is_found(box: Box) -> None:
    open_box = replace(box, seccomp=ALLOW_ALL, can_disable_namespaces=False)
    faults = isolation._walls(open_box)
    assert any("namespaces" in fault for fault in faults)
    assert any("outlive its judge" in fault for fault in faults)


def test_the_outer_environment_behind_process_1_is_found(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """bubblewrap's --clearenv leaves it readable in /proc/1/environ; the empty environment of bubblewrap itself helps."""
    complete = bubblewrap.first_to_go
    monkeypatch.setattr(bubblewrap, "first_to_go", lambda command, given: complete(command, {**given, "SECRET": "1"}))
    assert any("environment" in fault for fault in isolation._walls(box))


def test_a_process_limit_that_does_not_bind_is_found(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = bubblewrap.program

    def unlimited(*given: Any) -> list[str]:
        return [word for word in complete(*given) if not word.startswith("NPROC=")]

    monkeypatch.setattr(bubblewrap, "program", unlimited)
    assert any("process limit" in fault for fault in isolation._walls(box))


def test_a_process_1_that_could_be_taken_over_for_more_is_found(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = bubblewrap.program
    monkeypatch.setattr(bubblewrap, "program", lambda *given: [w if w != "0,1" else "0" for w in complete(*given)])
    assert "rights: process 1 has no limits" in isolation._walls(box)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to drop")
def test_root_inside_is_found(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """bubblewrap's --uid does not make the process limit bind root."""
    monkeypatch.setattr(bubblewrap, "user", lambda: None)
    assert any("process limit" in fault for fault in isolation._walls(box))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to drop")
def test_programs_of_root_share_no_user(box: Box) -> None:
    users = {bubblewrap.user() for _ in range(20)}
    assert len(users) == 20
    assert all(user is not None and user >= 60_000 for user in users)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ({"cpu_s": 600, "wall_s": 1.5}, "cpu"),
        ({"output_bytes": 2**40, "wall_s": 1.0}, "output"),
        ({"memory_bytes": 2**32}, "memory"),
    ],
)
def test_a_limit_that_does_not_bind_is_found(
    box: Box, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], fault: str
) -> None:
    monkeypatch.setattr(isolation, "_LIMITS", replace(isolation._LIMITS, **limits))
    test: Callable[[Box], Sequence[str]] = getattr(isolation, f"_{fault}")
    assert any(fault in found for found in test(box))


@pytest.mark.slow
def test_a_grandchild_that_stays_is_found(box: Box) -> None:
    assert any("outlived" in fault for fault in isolation._daemon(replace(box, bubblewrap=None)))


def test_the_proof_is_made_once(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "self_test", lambda box: pytest.fail("a second proof"))
    assert isolation.require_isolation() is box


@pytest.fixture
def fresh() -> None:
    isolation.require_isolation.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_without_bubblewrap_it_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="apt-get install bubblewrap") as caught:
        isolation.require_isolation()
    assert isinstance(caught.value, ProgrpoError)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo --unshare-all", "too old"),
        (
            "echo --size\n[ $1 = --help ] || { echo 'bwrap: No permissions to create new namespace' >&2; exit 1; }",
            "No perm",
        ),
        ('[ $1 = --help ] && echo --size || { while [ "$1" != -- ]; do shift; done; shift; exec "$@"; }', "not alone"),
    ],
)
def test_a_bubblewrap_that_does_not_isolate_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, message: str
) -> None:
    """Too old; forbidden by the machine; a stand-in that builds no walls at all."""
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents[:-2]):  # the user without rights must reach it
        folder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match=message) as caught:
        isolation.require_isolation()
    assert "unprivileged_userns_clone" in str(caught.value)


@pytest.mark.usefixtures("fresh")
def test_unsafe_must_be_asked_for_and_warns_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    isolation._warned.clear()
    monkeypatch.setenv("PATH", str(tmp_path))  # no bubblewrap
    with caplog.at_level(logging.WARNING):
        box = isolation.require_isolation(sys.executable, unsafe=True)
        isolation.require_isolation(sys.executable, (str(tmp_path),), unsafe=True)
    assert [record.message for record in caplog.records if "WITHOUT isolation" in record.message] == [
        f"unsafe=true: model-written programs run WITHOUT isolation, as user {os.geteuid()}, with your files and network"
    ]
    assert run(box, b"print(input())", stdin=b"1\n", limits=Limits()).stdout == b"1\n"
    assert "NO isolation" in " ".join(isolation.describe(box))


@pytest.mark.parametrize(
    ("source", "ending"),
    [
        ("import time; time.sleep(60)", "wall"),
        ("while True: print('x' * 1000)", "output"),
        ("x = bytearray(2**30)", "memory"),
        ("import os, time\nif os.fork() == 0: time.sleep(60)", "ok"),  # killed with its group
        ("open('left', 'w').write('x')", "ok"),  # in a folder that is removed
    ],
)
def test_unsafe_keeps_the_limits(nothing_left: Callable[[], bool], source: str, ending: str) -> None:
    box = isolation.require_isolation(sys.executable, unsafe=True)
    limits = Limits(wall_s=1.0, memory_bytes=2**28, output_bytes=2**16)
    assert run(box, source.encode(), limits=limits).ending == ending


def test_an_interpreter_that_cannot_be_started_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "python"
    with pytest.raises(SandboxError, match="no Python that user .* can start: .*python"):
        interpreter.find(str(missing), (), None)
    missing.write_text("#!/bin/sh\necho no json\n")
    missing.chmod(0o755)
    with pytest.raises(SandboxError, match="no Python"):
        interpreter.find(str(missing), (), None)


def test_only_packages_that_were_named_can_be_imported(box: Box, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "named_package.py").write_text("x = 5")
    for parent in (folder, *folder.parents[:-2]):
        parent.chmod(0o755)
    source = b"import named_package; print(named_package.x)"
    assert "No module named" in run(box, source, limits=Limits()).last_words
    named = replace(box, interpreter=interpreter.find(box.interpreter.path, (str(folder),), None))
    assert run(named, source, limits=Limits()).stdout == b"5\n"
    assert isolation._walls(named) == []
    with pytest.raises(SandboxError, match="no such folder"):
        interpreter.find(box.interpreter.path, ("/no/packages",), None)
    other = tmp_path / "lib" / "python2.7" / "site-packages"
    other.mkdir(parents=True)
    with pytest.raises(SandboxError, match=r"site-packages is of Python 2\.7, and programs run on"):
        interpreter.find(box.interpreter.path, (str(other),), None)


def test_installed_packages_are_hidden(box: Box) -> None:
    if not box.interpreter.hidden:
        pytest.skip("this interpreter has no folder of installed packages")
    source = f"import os; print([os.listdir(folder) for folder in {box.interpreter.hidden!r}])"
    assert run(box, source.encode(), limits=Limits()).stdout.decode() == f"{[[] for _ in box.interpreter.hidden]}\n"


def test_folders_inside_others_are_shown_once() -> None:
    assert interpreter._outermost(["/usr/lib/python3", "/usr/lib", "/usr/lib64", "/usr/lib"]) == (
        "/usr/lib",
        "/usr/lib64",
    )
