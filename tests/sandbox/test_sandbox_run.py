"""How programs end, and that they do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from progrpo.sandbox import Box, Ended, Limits
from progrpo.sandbox.run import run

SMALL = Limits(
    cpu_s=1, wall_s=10.0, memory_bytes=2**28, processes=8, disk_bytes=2**20, file_bytes=2**18, output_bytes=2**16
)
FORK_AND_EAT = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        block = b"x" * (100 * 2**20)
        time.sleep(30)
time.sleep(30)
"""


def go(box: Box, source: str, **changes: object) -> Ended:
    given = {name: changes.pop(name) for name in ("stdin", "payload") if name in changes}
    return run(box, source.encode(), limits=replace(SMALL, **changes), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "ending", "exit_code"),
    [
        ("print(1)", "ok", 0),
        ("", "ok", 0),
        ("exit()", "ok", 0),
        ("import sys; sys.exit(3)", "error", 3),
        ("import os; os._exit(4)", "error", 4),
        ("1/0", "error", 1),
        ("syntax error", "error", 1),
        ("x = 'null\0byte'", "error", 1),
        ("import os; os.abort()", "error", 128 + signal.SIGABRT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "error", 128 + signal.SIGKILL),
        ("while True: pass", "cpu", 128 + signal.SIGXCPU),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "cpu", 128 + signal.SIGKILL),
        ("try:\n while True: pass\nexcept BaseException: pass", "cpu", 128 + signal.SIGXCPU),
        ("x = bytearray(2**29)", "memory", 1),
        ("while True: print('x' * 1000)", "output", None),
        ("import sys\nwhile True: print('x' * 1000, file=sys.stderr)", "output", None),
        ("open('large', 'wb').write(b'x' * 2**19)", "error", 1),
        ("for i in range(9): open(str(i), 'wb').write(b'x' * 2**17)", "error", 1),
        ("import os\nwhile True: os.fork()", "error", 1),
    ],
)
def test_endings(box: Box, nothing_left: Callable[[], bool], source: str, ending: str, exit_code: int | None) -> None:
    ended = go(box, source)
    assert (ended.ending, ended.exit_code) == (ending, exit_code), ended


def test_a_sleeper_is_killed_at_the_wall_limit(box: Box, nothing_left: Callable[[], bool]) -> None:
    ended = go(box, "import time; time.sleep(60)", wall_s=0.5)
    assert ended.ending == "wall"
    assert ended.exit_code is None
    assert 0.5 <= ended.seconds < 5


def test_a_program_that_closes_its_pipes_is_still_watched(box: Box, nothing_left: Callable[[], bool]) -> None:
    ended = go(box, "import os, time\nfor fd in range(3): os.close(fd)\ntime.sleep(60)", wall_s=0.5)
    assert ended.ending == "wall"


def test_silence_on_the_channel_has_a_limit_of_its_own(box: Box) -> None:
    talker = "import os, sys, time\nfor _ in range(8):\n os.write(int(sys.argv[2]), b'.')\n time.sleep(0.13)\n"
    assert go(box, talker, payload=b"", silent_s=0.8).ending == "ok"  # 1.04 s in all
    ended = go(box, talker + "time.sleep(60)", payload=b"", silent_s=0.8)
    assert (ended.ending, ended.channel) == ("wall", b"........")
    assert ended.seconds < 8  # not the wall limit's 10


def test_the_memory_of_all_processes_counts_together(box: Box, nothing_left: Callable[[], bool]) -> None:
    """Each stays under 256 MiB of address space; four times 100 MiB are more than that together."""
    assert go(box, FORK_AND_EAT, cpu_s=5).ending == "memory"


def test_output_is_cut_at_the_limit(box: Box) -> None:
    assert go(box, "print('x' * (2**16 - 1))").stdout == b"x" * (2**16 - 1) + b"\n"
    ended = go(box, "print('x' * 2**16)")
    assert (ended.ending, ended.stdout) == ("output", b"x" * 2**16)


def test_standard_input_is_a_file(box: Box) -> None:
    data = "Grüße\n".encode() * 10_000
    for read in ("sys.stdin.buffer.read()", "open('/dev/stdin', 'rb').read()", "os.read(0, os.fstat(0).st_size)"):
        ended = go(box, f"import os, sys\ndata = {read}\nprint(len(data), data[:8])", stdin=data)
        assert ended.stdout.decode() == f"{len(data)} {data[:8]}\n", ended


def test_standard_output_can_be_opened_by_name(box: Box) -> None:
    assert go(box, "open('/dev/stdout', 'w').write('x')").stdout == b"x"


def test_the_payload_comes_in_and_the_channel_goes_out(box: Box) -> None:
    echo = "import os, sys\nos.write(int(sys.argv[2]), open(int(sys.argv[1]), 'rb').read())\nprint('out')"
    ended = go(box, echo, payload=b"\0\xff")
    assert (ended.channel, ended.stdout) == (b"\0\xff", b"out\n")


def test_without_a_payload_there_is_no_channel(box: Box) -> None:
    assert go(box, "import os; print(os.listdir('/proc/self/fd'))").stdout == b"['0', '1', '2', '3']\n"  # 3 lists them


def test_what_goes_in_cannot_be_changed_or_grown(box: Box) -> None:
    ended = go(box, "import os\nos.write(0, b'x')", stdin=b"given")
    assert "PermissionError" in ended.last_words


def test_the_working_directory_is_private_and_empty(box: Box) -> None:
    listing = "import os; print(os.getcwd(), os.listdir()); open('x', 'w').write('x'); print(os.listdir())"
    assert go(box, listing).stdout == go(box, listing).stdout == b"/tmp []\n['x']\n"


def test_a_module_in_the_working_directory_is_not_imported(box: Box) -> None:
    ended = go(box, "open('json.py', 'w').write('raise SystemExit(9)')\nimport json\nprint(json.dumps(1))")
    assert ended.stdout == b"1\n"


def test_sets_of_strings_have_one_order(box: Box) -> None:
    """Otherwise a program that prints one could pass today and fail tomorrow."""
    source = "print({str(i) for i in range(50)})"
    assert go(box, source).stdout == go(box, source).stdout


def test_deep_recursion_through_c_has_a_stack(box: Box) -> None:
    """8 MiB, the usual stack, end at about 15,000 levels with a segmentation fault."""
    source = (
        "import functools, sys\nsys.setrecursionlimit(10**6)\n"
        "@functools.cache\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint(f(100_000))"
    )
    assert go(box, source, memory_bytes=2**29).stdout == b"100000\n"


def test_endless_recursion_runs_into_a_limit(box: Box) -> None:
    ended = go(box, "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()")
    assert ended.ending in ("memory", "cpu"), ended


def test_asyncio_and_threads_work(box: Box) -> None:
    source = (
        "import asyncio, threading\nasync def f(): return 3\nprint(asyncio.run(f()))\n"
        "t = threading.Thread(target=print, args=(4,))\nt.start()\nt.join()"
    )
    assert go(box, source).stdout == b"3\n4\n"


def test_a_sandbox_that_cannot_start_is_not_the_programs_fault(box: Box) -> None:
    missing = replace(box, interpreter=replace(box.interpreter, path="/usr/lib/no-such-python"))
    ended = go(missing, "print(1)")
    assert ended.ending == "not_started"
    assert "no-such-python" in ended.last_words
    assert go(replace(box, bubblewrap="/no/bwrap"), "print(1)").ending == "not_started"


def test_killing_the_judge_ends_the_program(box: Box, tmp_path: Path) -> None:
    """As the pool does with a worker at its limit: no process may be left that nobody watches."""
    name = f"k{os.urandom(5).hex()}"
    script = tmp_path / "judge.py"
    program = f"import ctypes, time\nctypes.CDLL(None).prctl(15, {name.encode()!r}, 0, 0, 0)\ntime.sleep(60)"
    script.write_text(
        "from progrpo.sandbox import Limits\nfrom progrpo.sandbox.isolation import require_isolation\n"
        f"from progrpo.sandbox.run import run\nrun(require_isolation(), {program.encode()!r}, limits=Limits(wall_s=60))"
    )
    judge = subprocess.Popen([sys.executable, str(script)])
    try:
        _wait_until(lambda: _runs(name), 30)
    finally:
        judge.kill()
        judge.wait()
    _wait_until(lambda: not _runs(name), 5)


def _runs(name: str) -> bool:
    found = []
    for process in Path("/proc").glob("[0-9]*/comm"):
        try:
            found.append(process.read_text().strip())
        except OSError:
            continue
    return name in found


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_program_goes_first_when_memory_runs_out_and_cannot_take_that_back(box: Box) -> None:
    source = b"""
import os
for path in ("/proc/self/oom_score_adj", "/proc/1/oom_score_adj", "/proc/1/mem", "/proc/self/task/../../1/mem"):
    try: os.open(path, os.O_RDWR)
    except OSError as error: print(error.strerror)
    if "mem" not in path: print(open(path).read().strip())
"""
    closed = "Read-only file system"
    expected = [closed, "1000", closed, "1000", closed, closed]
    assert run(box, source, limits=Limits()).stdout.decode().splitlines() == expected


def test_descriptors_that_are_handed_over(box: Box) -> None:
    """They are the program's alone: its end ends the pipe."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    ended = run(box, b"import os\nos.write(%d, b'here')" % writing, limits=Limits(), handed=[writing])
    assert ended.ending == "ok"
    assert os.read(reading, 99) == b"here"
    assert os.read(reading, 99) == b""
    os.close(reading)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writing)


def test_a_program_can_be_ended_from_outside(box: Box) -> None:
    until = time.monotonic() + 0.5
    ended = run(box, b"import time\ntime.sleep(60)", limits=Limits(), over=lambda: time.monotonic() > until)
    assert ended.ending == "wall"
    assert ended.seconds < 10
