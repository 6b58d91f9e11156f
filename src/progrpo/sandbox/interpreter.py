"""Finds a Python that the sandbox can show to a user without rights."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

from progrpo.errors import SandboxError
from progrpo.sandbox import Interpreter

_QUESTION = """
import json, os, sys, sysconfig
print(json.dumps({
    "path": os.path.realpath(sys.executable),
    "version": "%d.%d.%d" % sys.version_info[:3],
    "prefixes": [sys.base_prefix, sys.base_exec_prefix],
    "libraries": [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")],
}))
"""
_SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/etc/ld.so.cache")
_DISTRIBUTION_PACKAGES = "/usr/lib/python3/dist-packages"  # Debian's, outside the folder of any one version


def find(wanted: str | None, packages: Sequence[str], user: int | None) -> Interpreter:
    """The interpreter at `wanted`; where None the running one, else the system's: the first that `user` can start.

    Only its standard library is shown to programs: folders of installed packages stay hidden (they hold data sets and
    solutions more often than one would think), but for those in `packages`.

    Args:
        user: the user id that will start it; None: this process's.

    Raises:
        SandboxError: none can be started; the message says why for each. Or `packages` are not there, or of another Python.
    """
    candidates = [wanted] if wanted else _candidates()
    faults = []
    for candidate in candidates:
        try:
            answer = _ask(candidate, user)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            faults.append(f"{candidate}: {error}")
            continue
        return _describe(answer, packages)
    raise SandboxError(
        f"no Python that user {os.geteuid() if user is None else user} (who has no rights) can start: {'; '.join(faults)}. "
        "Install the system's python3, or name one outside any private home folder as interpreter"
    )


def _candidates() -> list[str]:
    base = getattr(sys, "_base_executable", sys.executable)
    paths = [base, "/usr/local/bin/python3", "/usr/bin/python3", shutil.which("python3")]
    return list(dict.fromkeys(path for path in paths if path and os.path.exists(path)))


def _ask(path: str, user: int | None) -> dict[str, object]:
    done = subprocess.run(
        [path, "-I", "-S", "-c", _QUESTION],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def _describe(answer: dict[str, object], packages: Sequence[str]) -> Interpreter:
    path, version = str(answer["path"]), str(answer["version"])
    prefixes = [os.path.realpath(str(prefix)) for prefix in answer["prefixes"]]  # type: ignore[attr-defined]
    libraries = [os.path.realpath(str(folder)) for folder in answer["libraries"]]  # type: ignore[attr-defined]
    shown = [path, *libraries, *_SYSTEM_LIBRARIES]
    shown += [f"{prefix}/{folder}" for prefix in prefixes for folder in ("lib", "lib64")]
    if path.startswith(("/nix/store/", "/gnu/store/")):  # there each library is a folder of its own
        shown.append("/".join(path.split("/")[:3]))
    folders = [os.path.realpath(folder) for folder in packages]
    missing = [folder for folder in folders if not os.path.isdir(folder)]
    if missing:
        raise SandboxError(f"packages: no such folder: {', '.join(missing)}")
    for folder in folders:
        of = re.search(r"/python(\d+\.\d+)/", f"{folder}/")
        if of is not None and not version.startswith(f"{of[1]}."):
            raise SandboxError(
                f"packages: {folder} is of Python {of[1]}, and programs run on {path}, Python {version}: it does not load; "
                "name packages of that one, or as interpreter a Python of theirs that users without rights can start"
            )
    hidden = [f"{library}/{name}" for library in libraries for name in ("site-packages", "dist-packages")]
    return Interpreter(
        path=path,
        version=version,
        folders=_outermost([folder for folder in shown if os.path.exists(folder)]),
        hidden=tuple(folder for folder in dict.fromkeys((*hidden, _DISTRIBUTION_PACKAGES)) if os.path.isdir(folder)),
        packages=tuple(folders),
    )


def _outermost(folders: Sequence[str]) -> tuple[str, ...]:
    """The folders without those that lie in another of them."""
    kept: list[str] = []
    for folder in sorted(set(folders)):
        if not any(folder.startswith(f"{other}/") for other in kept):
            kept.append(folder)
    return tuple(kept)
