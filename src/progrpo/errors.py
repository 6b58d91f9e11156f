"""Every error the package raises on purpose: what was wrong, what was expected, what was got, and what to do.

Each class is also the standard exception of its kind, so callers may catch either.
"""

import linecache
import sysconfig
from pathlib import Path
from traceback import walk_tb


class ProgrpoError(Exception):
    """Base of all errors below. The command line prints its message in one line and exits with `exit_code`: 2 where what
    was given must be changed first, 3 where a run broke off for what happened meanwhile."""

    exit_code = 2


class ConfigError(ProgrpoError, ValueError):
    """A setting is unknown, of the wrong type, out of range, or at odds with another setting."""


class PluginError(ProgrpoError, LookupError):
    """A method, reward, task, engine or measure is unknown, or does not keep the contract of its package."""


class ShapeError(ProgrpoError, ValueError):
    """A tensor argument has another shape than the function's signature says."""


class DataError(ProgrpoError, ValueError):
    """A data file is missing, empty, or has a row that cannot be used (file and line are named)."""


class SplitError(DataError):
    """A task has no such split at all: nothing is missing that could be supplied, another split is meant."""


class ModelError(ProgrpoError, ValueError):
    """A model or tokenizer cannot be used for training (no end-of-text token, no such folder, ...)."""


class RunDirectoryError(ProgrpoError, FileExistsError):
    """A run directory already holds a run, or holds none where one is needed. Nothing was overwritten."""


class CheckpointError(ProgrpoError, RuntimeError):
    """No checkpoint of a run can be read."""


class HubError(ProgrpoError, ConnectionError):
    """The Hugging Face hub refuses a push or cannot be reached. Nothing was committed there."""


class StorageError(ProgrpoError, OSError):
    """The disk refuses: no space, no permission, read-only, or a file that may not grow."""

    exit_code = 3


class TerminatedError(ProgrpoError, InterruptedError):
    """SIGTERM ended a run (Slurm at its time limit); the message says how far it is safe."""

    exit_code = 143


class AlarmError(ProgrpoError, RuntimeError):
    """An alarm that `alarms.stop` names ended a run; its last step has a checkpoint."""

    exit_code = 4


class StopTraining(Exception):  # noqa: N818 - no error: a callback ends the run
    """Raised by a callback: the run ends after the rollout it is in, with a checkpoint; the message says why."""


class VerifierError(ProgrpoError, RuntimeError):
    """Too many verdicts were `timeout` or `crashed`: the rewards say more about the verifier than about the model."""

    exit_code = 3


class NonFiniteError(ProgrpoError, FloatingPointError):
    """A loss or gradient was inf or nan. The batch was dumped; the message says where."""

    exit_code = 3


class EngineError(ProgrpoError, RuntimeError):
    """An engine died, hangs, has no memory left, or does not hold the weights it was sent: what it would sample is not the
    policy's."""

    exit_code = 3


class HostError(ProgrpoError, ImportError):
    """A trainer that the package is to run inside is missing, or has another interface than the adapter knows."""


class SandboxError(ProgrpoError, RuntimeError):
    """This machine cannot isolate untrusted programs, or a sandbox is set up in a way that cannot work."""


class ProcessError(ProgrpoError, RuntimeError):
    """The processes of a run cannot meet, have lost one of them, or do not hold the same numbers."""


_HERE = Path(__file__).resolve().parent
_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))


def own_place(error: BaseException) -> str | None:
    """Where in a file of the user's own (a reward, a task, a method) an error comes from: file, line, function and source.

    Returns:
        The innermost such line that this package called, or the line of a syntax error; None where there is none, and the
        fault is this package's or a library's.
    """
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename):
        return _shown(error.filename, error.lineno or 0, "")
    called, place = False, None
    for frame, line in walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if called and _is_own(name):
            place = _shown(name, line, frame.f_code.co_name)
        called |= Path(name).is_relative_to(_HERE)
    return place


_CELLS = ("<ipython-input", "<python-input", "<stdin>")


def _is_own(name: str) -> bool:
    path = Path(name)
    if name.startswith(_CELLS) or "ipykernel_" in name:  # a cell of a notebook, or a line of Python's prompt
        return True
    library = {"site-packages", "dist-packages"}.intersection(path.parts)
    return (
        path.is_file() and not library and not any(path.resolve().is_relative_to(one) for one in (_HERE, *_INSTALLED))
    )


def _shown(name: str, line: int, function: str) -> str:
    where = f"{name}, line {line}" + ("" if function in ("", "<module>") else f", in {function}")
    source = linecache.getline(name, line).strip()
    return f"{where}: `{source}`" if source else where
