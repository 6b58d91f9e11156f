"""Say what takes so long, where nobody sees a bar move: a line, and how far it is every ten seconds."""

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

from progrpo.processes import launched


class Patience:
    """Tells on standard error what is being done, a line at a time: "loading the model", "loading the model, 11 s",
    "checking the gold answers 120/841, 21 s". Use as a context manager. Of several processes the main one tells.

    Args:
        after_s: seconds of silence before the first line; after it, seconds before anything else that is done is told: what
            is done sooner is not. every_s: between the others.
        quiet: tell nothing.
    """

    def __init__(self, doing: str = "", *, after_s: float = 1.0, every_s: float = 10.0, quiet: bool = False) -> None:
        self._first_s, self._every_s = after_s, every_s
        self._after_s = after_s
        self._changed = threading.Condition()
        self._doing = doing
        self._counted = ""
        self._since = self._entered = time.monotonic()
        self._told = False
        self._silent = True
        self._over = False
        self._quiet = quiet or not launched().main
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def now(self, doing: str, *, after_s: float | None = None) -> None:
        """Something else is being done; "" for nothing that needs telling, which ends the silence.

        Args:
            after_s: seconds of silence before it is told, where it is not the usual.
        """
        with self._changed:
            self._doing, self._counted, self._told = doing, "", False
            self._since = time.monotonic()
            self._silent = self._silent and bool(doing)
            # Until something has been told, silence goes on from one thing that is done to the next.
            silent_s = self._since - self._entered if self._silent else 0.0
            self._after_s = max(0.0, self._first_s - silent_s) if after_s is None else after_s
            self._changed.notify()

    def count(self, done: int, of: int) -> None:
        """How far it is; told with the next line."""
        self._counted = f" {done}/{of}"

    def __enter__(self) -> Self:
        self._since = self._entered = time.monotonic()
        self._teller.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._teller.join()

    def _tell(self) -> None:
        with self._changed:
            while not self._over:
                changed = self._changed.wait(self._every_s if self._told else self._after_s)
                # It may have ended, or changed to nothing, while this thread waited for its turn.
                if changed or self._over or self._quiet or not self._doing:
                    continue
                seconds = f", {time.monotonic() - self._since:.0f} s" if self._told else ""
                sys.stderr.write(f"{self._doing}{self._counted}{seconds}\n")
                sys.stderr.flush()
                self._told, self._silent = True, False


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes log records on standard error, each on a line of its own, and no line twice in a row."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if line != self._last or record.exc_info:
            super().emit(record)
        self._last = line
