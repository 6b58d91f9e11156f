"""The filter, run by an interpreter of its instructions, for both processors."""

import errno
import struct

import pytest

from progrpo.sandbox import Box, Limits, seccomp
from progrpo.sandbox.run import run

ALLOW, KILL, REFUSE, UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def verdict(machine: str, number: int, argument: int = 0, architecture: int | None = None) -> int:
    """What the kernel would do: struct seccomp_data is number, architecture, instruction pointer, arguments."""
    program = seccomp.build(machine)
    assert program is not None
    data = struct.pack("=IIQQ", number, architecture or ARCHITECTURE[machine], 0, argument)
    steps = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at, accumulator = 0, 0
    while True:
        code, true, false, k = steps[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x06:
            return k
        else:
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
            at += true if holds else false


@pytest.mark.parametrize(
    ("machine", "number", "argument", "expected"),
    [
        ("x86_64", 0, 0, ALLOW),  # read
        ("x86_64", 53, 0, ALLOW),  # socketpair
        ("x86_64", 41, 2, REFUSE),  # socket(AF_INET)
        ("x86_64", 41, 1, REFUSE),  # socket(AF_UNIX)
        ("x86_64", 101, 0, REFUSE),  # ptrace
        ("x86_64", 319, 0, REFUSE),  # memfd_create
        ("x86_64", 425, 0, REFUSE),  # io_uring_setup
        ("x86_64", 56, 0x3D0F00, ALLOW),  # clone of a thread
        ("x86_64", 56, 0x01200011, ALLOW),  # fork
        ("x86_64", 56, 0x10000011, REFUSE),  # clone(CLONE_NEWUSER)
        ("x86_64", 56, 0x00020011, REFUSE),  # clone(CLONE_NEWNS)
        ("x86_64", 435, 0, UNKNOWN),  # clone3
        ("x86_64", 157, 1, REFUSE),  # prctl(PR_SET_PDEATHSIG)
        ("x86_64", 157, 15, ALLOW),  # prctl(PR_SET_NAME)
        ("aarch64", 167, 1, REFUSE),  # prctl(PR_SET_PDEATHSIG)
        ("x86_64", 0x40000000, 0, REFUSE),  # x32 read
        ("aarch64", 63, 0, ALLOW),  # read
        ("aarch64", 41, 0, REFUSE),  # pivot_root, whose number is socket's on x86_64
        ("aarch64", 198, 2, REFUSE),  # socket
        ("aarch64", 117, 0, REFUSE),  # ptrace
        ("aarch64", 220, 0x10000011, REFUSE),  # clone(CLONE_NEWUSER)
        ("aarch64", 220, 0x01200011, ALLOW),  # fork
        ("aarch64", 435, 0, UNKNOWN),  # clone3
    ],
)
def test_calls(machine: str, number: int, argument: int, expected: int) -> None:
    assert verdict(machine, number, argument) == expected


def test_every_denied_call_is_refused() -> None:
    for column, machine in enumerate(ARCHITECTURE):
        for name, numbers in seccomp.DENIED.items():
            if numbers[column] >= 0:
                assert verdict(machine, numbers[column]) == REFUSE, name


def test_another_architectures_calls_kill() -> None:
    assert verdict("x86_64", 0, architecture=0x40000003) == KILL  # i386, by int 0x80


def test_no_filter_is_guessed_for_an_unknown_processor() -> None:
    assert seccomp.build("riscv64") is None


def test_the_kernel_takes_it(box: Box) -> None:
    if box.seccomp is None:
        pytest.skip("no filter for this processor")
    source = (
        "import ctypes, os, socket\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.ptrace(0, 0, 0, 0), libc.unshare(0x10000000), libc.mount(b'/', b'/', b'', 0, b''))\n"
        "for family in (socket.AF_INET, socket.AF_UNIX, socket.AF_NETLINK):\n"
        "    try: socket.socket(family); print('open')\n"
        "    except PermissionError: print('refused')\n"
        "a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))"
    )
    assert run(box, source.encode(), limits=Limits()).stdout == b"-1 -1 -1\nrefused\nrefused\nrefused\nb'x'\n"
