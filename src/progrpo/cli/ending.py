"""How a command ends: one line on standard error for what went wrong, and an exit status that says whose turn it is."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

import typer

from progrpo.api.patience import LogHandler
from progrpo.cli import output
from progrpo.errors import ProgrpoError, StorageError, TerminatedError, own_place
from progrpo.processes import EndOfProcess

EXIT_STATUSES = {
    0: "done",
    1: "`train --dry-run`: as things are the run would stop, for the reasons given; `replay`: something is not what was logged",
    2: "what was given must be changed first: settings, data, model, names, a directory that is taken, a file of yours that "
    "raises",
    3: "a run broke off for what happened meanwhile, and can go on with `--resume` once that is mended: a full disk, numbers "
    "that are not finite, a verifier that fails too often",
    4: "an alarm of `alarms.stop` ended a training run, whose last step has a checkpoint",
    130: "Ctrl-C",
    143: "SIGTERM, as Slurm sends it: a training run has written a checkpoint of its last step",
}
"""Of every verb. Anything else, and a traceback, is a fault of this package."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why a file that is open takes no more."""
_GO_ON = {
    "train": "; go on with --resume",
    "evaluate": "; what was written is kept, and the same command goes on from there",
}


def run(app: Callable[[], object]) -> None:
    """Run the command line; what goes wrong is one line on standard error and one of `EXIT_STATUSES`."""
    end = EndOfProcess()
    try:
        _run(app)
    except SystemExit as stop:
        end.status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise
    except BaseException:
        end.status = 1
        raise


def _run(app: Callable[[], object]) -> None:
    output.reset()
    logging.basicConfig(level=_log_level(), format="%(levelname)s %(message)s", handlers=[LogHandler()])
    logging.getLogger("huggingface_hub").propagate = False  # it writes its lines itself, and ours would be the second
    # Transformers imports it with its schedules; that it lacks a kernel for 4 bits on a CPU concerns no other run.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        _with_output(app)
    except TerminatedError as stop:
        typer.secho(str(stop), err=True)
        sys.exit(stop.exit_code)
    except ProgrpoError as error:
        place = own_place(error)
        for line in _lines(str(error)):
            typer.secho(f"error: {line}" + (f" (raised at {place})" if place else ""), err=True, fg="red")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer turns Ctrl-C into an exit with 130, and says nothing
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if code not in (130, 143):
            raise
        said = "interrupted" if code == 130 else "terminated by SIGTERM"
        typer.secho(f"{said}{_GO_ON.get(''.join(sys.argv[1:2]), '')}", err=True)
        sys.exit(code)
    except Exception as error:
        # A fault in a file of the user's own is told by its line; one of this package keeps its traceback.
        place = own_place(error)
        if place is None:
            raise
        logging.getLogger(__name__).debug("the whole of it:", exc_info=error)
        typer.secho(f"error: {place}: {type(error).__name__}: {' '.join(str(error).split())}", err=True, fg="red")
        sys.exit(2)
    finally:
        signal.signal(signal.SIGTERM, before)


def _with_output(app: Callable[[], object]) -> None:
    """Run `app`, and have everything that it printed leave this process.

    Raises:
        StorageError: standard output takes no more: a full disk behind `> FILE`.
    """
    try:
        app()
    except SystemExit as stop:
        if not stop.code:
            _flush_output()
        raise
    except OSError as error:
        if error.filename is None and error.errno in _FULL:
            _flush_output("\n")  # it does not say which file: the output, if that refuses one line more
        raise
    _flush_output()


def _flush_output(more: str = "") -> None:
    if sys.stdout is None:  # closed by whoever started this
        return
    try:
        sys.stdout.write(more)
        sys.stdout.flush()
    except OSError as error:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:  # or Python would fail once more when it ends
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)  # as typer ends where the reader of a pipe has gone: `| head`
        raise StorageError(f"standard output cannot be written: {error.strerror or error}") from error


def _lines(message: str) -> list[str]:
    """One line for each fault of a message: what is indented belongs to the line before it."""
    lines: list[str] = []
    for line in message.splitlines():
        if lines and (not line or line[0].isspace()):
            lines[-1] += f" - {' '.join(line.split())}" if line.strip() else ""
        else:
            lines.append(line)
    return lines


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _log_level() -> str:
    """PROGRPO_LOG, or warnings only where it names no level."""
    level = os.environ.get("PROGRPO_LOG", "WARNING").upper()
    return level if level in logging.getLevelNamesMapping() else "WARNING"
