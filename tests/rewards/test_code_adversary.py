"""Programs that attack the judge or the machine: each gets its status, leaves no trace, and the next verdict is right."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from progrpo.rewards.code import Params, score
from progrpo.sandbox import Box, bubblewrap
from progrpo.types import Problem, Verdict

SMALL = Params(cpu_s=1, wall_factor=2, memory_mib=192, disk_mib=1, output_mib=1, processes=8, total_s=20)
SECRET = "n0t-f0r-y0u"
PIPE = {"tests": [{"input": "1 2\n", "output": "3\n"}]}
CALL = {"tests": {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [3, 7]}}
HUMANEVAL = {
    "tests": {
        "entry_point": "add",
        "test": "def check(candidate):\n    inputs = [[1, 2], [3, 4]]\n    results = [3, 7]\n"
        "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assertion(candidate(*inp), exp, 0)\n",
    }
}
RIGHT = "print(sum(map(int, input().split())))"
RIGHT_CALL = "def add(a, b): return a + b"
ALWAYS = "def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    __hash__ = None"
SEARCH = """
import gc, sys
def add(a, b):
    found, frame = [], sys._getframe()
    while frame:
        found += [*frame.f_locals.items(), *frame.f_globals.items()]
        frame = frame.f_back
    for thing in gc.get_objects():
        if isinstance(thing, dict):
            found += [(key, thing[key]) for key in list(thing) if isinstance(key, str)]
    for name, value in found:
        if name in ("expected", "outputs", "accepted", "exp", "results", "answer_key"):
            return value
    return None
"""
FORGE = """
import os
def add(a, b):
    for descriptor in range(3, 64):
        try: os.write(descriptor, CLAIM)
        except OSError: pass
    os._exit(0)
"""
SHARED = """
import mmap, os, time
for _ in range(3):
    if os.fork() == 0:
        block = mmap.mmap(-1, 10**8)
        for i in range(0, 10**8, 4096): block[i] = 1
        time.sleep(9)
time.sleep(9)
"""


@dataclass(frozen=True)
class Machine:
    """What is there outside to be harmed."""

    canary: Path
    listener: socket.socket

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])


@pytest.fixture
def machine(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Everything outside is open to every user: only the walls protect it. Checked afterwards: nothing has changed, nobody
    called, no process is left, and a right program is correct."""
    canary = tmp_path / "tests.json"
    canary.write_text(SECRET)
    canary.chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    tmp_path.chmod(0o777)
    monkeypatch.setenv("PROGRPO_TEST_TOKEN", SECRET)
    token = f"# {os.urandom(8).hex()}"
    monkeypatch.setattr(bubblewrap, "_LAUNCHER", f"{bubblewrap._LAUNCHER}\n{token}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield Machine(canary, listener)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert canary.read_text() == SECRET
    assert os.listdir(tmp_path) == ["tests.json"]
    _wait_until(lambda: not _any_command_with(token))
    assert judged(PIPE, RIGHT).correct
    assert judged(CALL, RIGHT_CALL).correct


def judged(info: dict[str, Any], program: str, params: Params = SMALL) -> Verdict:
    return score(f"```python\n{program}\n```", Problem(id="x", prompt="", info=info), params)


def _any_command_with(token: str) -> bool:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if token.encode() in process.read_bytes():
                return True
        except OSError:
            continue
    return False


def _wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not done():
        assert time.monotonic() < until, "a process of the program is left"
        time.sleep(0.05)


HUNGRY: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("infinite loop", PIPE, "while True: pass", "wrong", "time"),
    ("infinite loop in a call", CALL, "def add(a, b):\n    while True: pass", "wrong", "time"),
    ("swallowed timeout", PIPE,
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "wrong", "time"),
    ("ignored signal", PIPE,
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "wrong", "time"),
    ("loop in C", PIPE, "sum(iter(int, 1))", "wrong", "time"),
    ("huge power", PIPE, "9**9**9**9", "wrong", "test 1"),
    ("huge integer to text", PIPE, "print(7**10**7)", "wrong", "test 1"),
    ("sleep", PIPE, "import time\ntime.sleep(1000)", "wrong", "more time"),
    ("stops itself", PIPE, "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "wrong", "more time"),
    ("waits for input that never comes", PIPE, "import os\nr, w = os.pipe()\nos.read(r, 1)", "wrong", "more time"),
    ("100 MB of output", PIPE, "for _ in range(100): print('x' * 10**6)", "wrong", "output"),
    ("endless output", PIPE, "while True: print('x')", "wrong", "output"),
    ("endless errors", PIPE, "import sys\nwhile True: print('x' * 999, file=sys.stderr)", "wrong", "output"),
    ("endless output in a call", CALL, "def add(a, b):\n    while True: print('x' * 999)", "wrong", "output"),
    ("a returned list without end", CALL, "def add(a, b): return [a] * 10**7", "wrong", "test 1"),
    ("right, after 10 MB of blanks", PIPE, f"print(' ' * 10**7)\n{RIGHT}", "wrong", "output"),
    ("fork bomb", PIPE, "import os\nwhile True: os.fork()", "wrong", "test 1"),
    ("fork bomb that goes on", PIPE,
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "wrong", "test 1"),
    ("thread bomb", PIPE,
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()",
        "wrong", "test 1"),
    ("memory bomb", PIPE, "x = []\nwhile True: x.append(bytearray(10**7))", "wrong", "memory"),
    ("memory bomb at once", PIPE, "bytearray(10**11)", "wrong", "memory"),
    ("memory bomb in a call", CALL, "def add(a, b): return bytearray(10**10)", "wrong", "MemoryError"),
    ("memory bomb by children", PIPE,
        "import os, time\nfor _ in range(2): os.fork()\nx = b'x' * 10**8\ntime.sleep(9)",
        "wrong", "memory"),
    ("shared memory by children", PIPE, SHARED, "wrong", "memory"),
    ("file without end", PIPE,
        "with open('x', 'wb') as file:\n    while True: file.write(b'x' * 10**6)",
        "wrong", "too large"),
    ("full file system", PIPE, "for i in range(99): open(str(i), 'wb').write(b'x' * 10**5)", "wrong", "No space left"),
    ("files without end", PIPE, "i = 0\nwhile True:\n    open(str(i), 'w').close()\n    i += 1", "wrong", "test 1"),
    ("open files without end", PIPE, "x = [open('/dev/null') for _ in range(10**6)]", "wrong", "Too many open files"),
    ("memory files", PIPE, "import os\nos.memfd_create('x')", "wrong", "PermissionError"),
    ("raised limits", PIPE, "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "wrong", "limit"),
    ("deep recursion", PIPE, "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()", "wrong", "test 1"),
    ("deep recursion in C", PIPE,
        "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
        "wrong", "test 1"),
    ("segmentation fault", PIPE, "import ctypes\nctypes.string_at(0)", "wrong", "exit code 139"),
    ("segmentation fault in a call", CALL,
        "import ctypes\ndef add(a, b): ctypes.string_at(0)",
        "wrong", "exit code 139"),
]  # fmt: skip

LONG = {
    *("infinite loop in a call", "swallowed timeout", "ignored signal", "loop in C", "huge power", "stops itself"),
    *(
        "endless errors",
        "thread bomb",
        "fork bomb that goes on",
        "files without end",
        "waits for input that never comes",
    ),
}
"""They run into a limit as another row does, after seconds."""

CHEATS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("sys.exit(0)", PIPE, "import sys\nsys.exit(0)", "wrong", "wrong answer"),
    ("os._exit(0)", PIPE, "import os\nos._exit(0)", "wrong", "wrong answer"),
    ("sys.exit(0) for calls", CALL, "import sys\nsys.exit(0)", "wrong", "without a result"),
    ("sys.exit(0) in a call", CALL, "import sys\ndef add(a, b): sys.exit(0)", "wrong", "SystemExit"),
    ("os._exit(0) in a call", CALL, "import os\ndef add(a, b): os._exit(0)", "wrong", "without a result"),
    ("os._exit(0) in the second call", CALL,
        "import os\ndef add(a, b): return 3 if a == 1 else os._exit(0)",
        "wrong", "test 2 of 2"),
    ("sys.exit(0) for HumanEval+", HUMANEVAL, "import sys\nsys.exit(0)", "wrong", "without a result"),
    ("os._exit(0) for HumanEval+", HUMANEVAL, "import os\nos._exit(0)", "wrong", "without a result"),
    ("says that it passed", PIPE, "print('PASS')\nprint('correct')\nprint(True)", "wrong", "wrong answer"),
    ("prints the expected answer to errors", PIPE, "import sys\nprint(3, file=sys.stderr)", "wrong", "wrong answer"),
    ("equal to everything", CALL, f"class E:\n    {ALWAYS}\ndef add(a, b): return E()", "wrong", "UnwritableError"),
    ("a number equal to everything", CALL,
        f"class E(int):\n    {ALWAYS}\ndef add(a, b): return E(99)",
        "wrong", "UnwritableError"),
    ("a list equal to everything", CALL,
        f"class E(list):\n    {ALWAYS}\ndef add(a, b): return E()",
        "wrong", "UnwritableError"),
    ("a dictionary equal to everything", CALL,
        f"class E(dict):\n    {ALWAYS}\ndef add(a, b): return E()",
        "wrong", "UnwritableError"),
    ("a lying type", CALL,
        "class E:\n    __class__ = int\n    def __index__(self): return 3\ndef add(a, b): return E()",
        "wrong", "Unwritable"),
    ("a type named numpy", CALL,
        "class E:\n    def tolist(self): return 99\nE.__module__ = 'numpy'\ndef add(a, b): return E()",
        "wrong", "got 99"),
    ("an item equal to everything", CALL,
        f"class E:\n    {ALWAYS}\ndef add(a, b): return [E()]",
        "wrong", "UnwritableError"),
    ("equal to everything for HumanEval+", HUMANEVAL,
        f"class E:\n    {ALWAYS}\ndef add(a, b): return E()",
        "wrong", "UnwritableError"),
    ("a list that holds itself", CALL, "def add(a, b):\n    x = []\n    x.append(x)\n    return x", "wrong", "nested"),
    ("patched builtins", PIPE,
        "import builtins\nbuiltins.all = builtins.any = lambda x: True\nbuiltins.len = lambda x: 0\n"
        "print(0)",
        "wrong", "wrong answer"),
    ("patched builtins in calls", CALL,
        "import builtins\nbuiltins.type = lambda x: int\nbuiltins.zip = None\ndef add(a, b): return 0",
        "wrong", "test 1"),
    ("patched unittest and json", CALL,
        "import json, sys, unittest\nunittest.TestCase.assertEqual = json.dumps = lambda *a: '3'\n"
        "sys.modules['json'] = None\ndef add(a, b): return 0",
        "wrong", "got 0"),
    ("patched output", PIPE,
        "import io, sys\nsys.stdout = sys.__stdout__ = io.StringIO('3')\nprint(3)",
        "wrong", "got ''"),
    ("patched driver", CALL,
        "import sys\nmain = sys.modules['__main__']\nmain.written = lambda *a: '3'\nmain.answer = None\n"
        "def add(a, b): return 0",
        "wrong", "test 1"),
    ("patched frames of the driver", CALL,
        "import sys\ndef add(a, b):\n    f = sys._getframe(1)\n"
        "    f.f_globals['written'] = lambda *a: 'true'\n    return 0",
        "wrong", "test 1"),
    ("closed channel", CALL, "import os\nos.closerange(0, 99)\ndef add(a, b): return 3", "wrong", "test 1"),
    ("looks for the answer in frames and memory", CALL, SEARCH, "wrong", "got None"),
    ("looks for it for HumanEval+", HUMANEVAL, SEARCH, "wrong", "got None"),
    ("forges the channel", CALL, FORGE.replace("CLAIM", "b'{\"value\":99}\\n' * 9"), "wrong", "got 99"),
    ("forges truth", CALL, FORGE.replace("CLAIM", "b'{\"value\":true}\\n' * 9"), "wrong", "got True"),
    ("forges garbage", CALL, FORGE.replace("CLAIM", "b'\\xff\\0{[\\n' * 9"), "wrong", "cannot be read"),
    ("forges depth", CALL,
        FORGE.replace("CLAIM", "b'{\"value\":' + b'[' * 50000 + b'}\\n'"),
        "wrong", "cannot be read"),
    ("forges a huge number", CALL,
        FORGE.replace("CLAIM", "b'{\"value\":' + b'9' * 50000 + b'}\\n'"),
        "wrong", "cannot be read"),
    ("forges a judgement", CALL,
        FORGE.replace("CLAIM", "b'{\"status\":\"correct\",\"reward\":1}\\n'"),
        "wrong", "cannot be read"),
    ("a json.py of its own", CALL,
        "for n in ('json', 're', 'os', 'ast'):\n    open(n + '.py', 'w').write('raise SystemExit(0)')\n"
        "def add(a, b): return 0",
        "wrong", "got 0"),
    ("null bytes in the program", PIPE, "print(3)\0", "wrong", "null bytes"),
    ("null bytes in a program of calls", CALL, "def add(a, b): return a + b\0", "wrong", "null bytes"),
    ("a lone surrogate in the program", PIPE, "print('\ud800')", "wrong", "surrogate"),
    ("null bytes in the output", PIPE, "print('3\\0')", "wrong", "wrong answer"),
    ("invalid UTF-8 in the output", PIPE, "import sys\nsys.stdout.buffer.write(b'3\\xff')", "wrong", "wrong answer"),
    ("brackets without end", PIPE, "(" * 100_000, "wrong", "test 1"),
    ("signs without end", PIPE, "x = " + "-" * 100_000 + "1", "wrong", "test 1"),
    ("right, in a line of 2 MB", PIPE, f"x = '{'x' * 2_000_000}'\n{RIGHT}", "correct", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("info", "program", "status", "reason"),
    [pytest.param(*row[1:], id=row[0], marks=[pytest.mark.slow] if row[0] in LONG else []) for row in HUNGRY],
)
def test_hungry_programs(machine: Machine, info: dict[str, Any], program: str, status: str, reason: str) -> None:
    verdict = judged(info, program)
    assert verdict.status == status
    assert reason in verdict.detail


@pytest.mark.parametrize(
    ("info", "program", "status", "reason"), [row[1:] for row in CHEATS], ids=[row[0] for row in CHEATS]
)
def test_cheating_programs(machine: Machine, info: dict[str, Any], program: str, status: str, reason: str) -> None:
    verdict = judged(info, program)
    assert verdict.status == status, verdict.detail
    assert reason in verdict.detail


CONNECT = "import socket\ns = socket.create_connection(('127.0.0.1', PORT), timeout=2)\nprint(3)"
CONNECT_ANYWAY = """
import ctypes, struct
libc = ctypes.CDLL(None)
s = libc.socket(2, 1, 0)
address = struct.pack('=HH4s8s', 2, int.from_bytes(struct.pack('>H', PORT), 'little'), bytes([127, 0, 0, 1]), bytes(8))
print(3 if s >= 0 and libc.connect(s, address, 16) == 0 else 'refused')
"""
SYMLINKS = """
import io, os, zipfile
data = io.BytesIO()
with zipfile.ZipFile(data, 'w') as archive:
    link = zipfile.ZipInfo('link')
    link.create_system, link.external_attr = 3, 0o120777 << 16
    archive.writestr(link, 'CANARY')
archive = zipfile.ZipFile(data)
os.symlink(archive.read('link').decode(), 'link')
archive.extractall('out')
for path in ('link', 'out/link'):
    try: print(open(path).read())
    except OSError as error: print(error)
try: open('link', 'w').write('changed')
except OSError: pass
"""
READS = """
import glob
ways = ('/proc/1/root', '/proc/self/root', '/proc/1/cwd', '/proc/2/root/..', '')
files = ('environ', 'cmdline', 'status', 'mountinfo', 'maps', 'comm', 'net/tcp', 'net/unix')
for path in [*(way + 'CANARY' for way in ways), *(f'{p}/{f}' for p in glob.glob('/proc/[0-9]*') for f in files)]:
    try: print(open(path, 'rb').read(100_000))
    except OSError: pass
"""
WRITES = """
import os
for path in ['CANARY', '/x', '/usr/lib/x', '/dev/x', '/dev/shm/x', '/proc/1/root' + 'CANARY',
             '/proc/sys/kernel/core_pattern', os.path.dirname('CANARY') + '/new']:
    for how in ('w', 'a', 'r+'):
        try: open(path, how).write('changed'); print('wrote', path)
        except OSError: pass
try: os.remove('CANARY'); print('removed')
except OSError: pass
"""
KILLS = """
import os, signal
for pid in (os.getppid(), 1, 0 - os.getppid(), JUDGE):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
os.kill(-1, signal.SIGKILL)
print(3)
"""
TRACES = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
found = [libc.ptrace(16, pid, 0, 0) for pid in (1, os.getppid(), JUDGE)]
print(found, libc.unshare(0x10000000), libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), libc.chroot(b'/tmp'))
"""
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(64):
            try: os.close(descriptor)
            except OSError: pass
        time.sleep(1000)
    os._exit(0)
"""


def told(machine: Machine, template: str) -> str:
    for name, value in (("CANARY", machine.canary), ("PORT", machine.port), ("JUDGE", os.getpid())):
        template = template.replace(name, str(value))
    return template


@pytest.mark.parametrize("template", [CONNECT, CONNECT_ANYWAY], ids=["socket", "system call"])
def test_no_connection_to_this_machine(machine: Machine, template: str) -> None:
    verdict = judged(PIPE, told(machine, template))
    assert verdict.status == "wrong"
    assert "Operation not permitted" in verdict.detail or "refused" in verdict.detail


def test_no_file_variable_or_process_outside_can_be_read(machine: Machine) -> None:
    """The program prints all it can reach; the judge's own secrets must not be among it."""
    checker = f"print(0 if {SECRET!r} in open('solution_output.txt', errors='replace').read() else 1)"
    everything = {**PIPE, "checker": checker}
    assert not judged(everything, f"print({SECRET!r})").correct
    verdict = judged(everything, told(machine, READS), SMALL.model_copy(update={"output_mib": 64}))
    assert verdict.correct, verdict.detail


def test_a_zip_of_symlinks_leads_nowhere(machine: Machine) -> None:
    checker = f"print(0 if {SECRET!r} in open('solution_output.txt').read() else 1)"
    assert judged({**PIPE, "checker": checker}, told(machine, SYMLINKS)).correct


def test_nothing_outside_can_be_written(machine: Machine) -> None:
    verdict = judged({"tests": [{"input": "", "output": ""}]}, told(machine, WRITES))
    assert verdict.correct, verdict.detail


def test_nobody_outside_can_be_killed(machine: Machine) -> None:
    assert judged(PIPE, told(machine, KILLS)).status in ("correct", "wrong")  # it may live long enough to print


def test_nobody_can_be_traced(machine: Machine) -> None:
    verdict = judged({"tests": [{"input": "", "output": "[-1, -1, -1] -1 -1 -1"}]}, told(machine, TRACES))
    assert verdict.correct, verdict.detail


@pytest.mark.parametrize(
    ("info", "program"), [(PIPE, DAEMON + RIGHT), (CALL, DAEMON + RIGHT_CALL)], ids=["script", "call"]
)
def test_a_daemon_does_not_stay(machine: Machine, info: dict[str, Any], program: str) -> None:
    assert judged(info, program).correct


def test_one_program_leaves_nothing_to_the_next(machine: Machine) -> None:
    judged(PIPE, "open('/tmp/note', 'w').write('3')\nopen('/tmp/sitecustomize.py', 'w').write('print(3)')")
    assert judged(PIPE, "print(open('/tmp/note').read())").status == "wrong"
