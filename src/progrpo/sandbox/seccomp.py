"""The system calls a program in the sandbox is refused, as a filter for bubblewrap's --seccomp.

Python programs need none of them; each has been a way out of containers, or memory nobody counts. Written out by hand
in the kernel's format (Linux, Documentation/userspace-api/seccomp_filter.rst) rather than by libseccomp: it is a list.
"""

import errno
import platform
import struct
from collections.abc import Mapping

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); -1 where the processor has no such call.
DENIED: Mapping[str, tuple[int, int]] = {
    "socket": (41, 198),  # every family; socketpair is left, it reaches nobody
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),  # memory outside the file system's limit
    "memfd_secret": (447, 447),
    "shmget": (29, 194),  # likewise
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "fanotify_init": (300, 262),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "vmsplice": (278, 75),
    "remap_file_pages": (216, 234),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "modify_ldt": (154, -1),
}
_CLONE, _CLONE3 = (56, 220), 435
_NEW_NAMESPACE = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
_PRCTL, _SET_PARENT_DEATH_SIGNAL = (157, 167), 1
"""By this signal the sandbox ends with its judge; nobody inside may call it off."""
_X32 = 0x40000000
"""Set in the numbers of x86_64's second table of calls."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16


def build(machine: str | None = None) -> bytes | None:
    """The filter for a processor ("x86_64", "aarch64"; this one's where None); None where none is written for it.

    A refused call fails with EPERM; clone3 with ENOSYS, so that the C library takes clone, whose flags can be read; a
    call in another architecture's table kills the program.
    """
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURE:
        return None
    column = list(_ARCHITECTURE).index(machine)
    refuse = (_RETURN, 0, 0, _ERROR | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    steps = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        steps += [(_AT_LEAST, 0, 1, _X32), refuse]
    steps += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    for number in sorted(numbers[column] for numbers in DENIED.values() if numbers[column] >= 0):
        steps += [(_EQUAL, 0, 1, number), refuse]
    by_argument = ((_CLONE, _ANY_BIT, _NEW_NAMESPACE), (_PRCTL, _EQUAL, _SET_PARENT_DEATH_SIGNAL))
    for call, test, value in by_argument:
        steps += [(_EQUAL, 0, 4, call[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT), (test, 0, 1, value), refuse, allow]
    steps.append(allow)
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
