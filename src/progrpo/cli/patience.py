"""Say what takes so long, where nobody sees a bar move: a line, and a dot each second until the next."""

import logging
import sys
import threading
from types import TracebackType
from typing import Self, TextIO

from progrpo.processes import launched


class Patience:
    """Tells on standard error what is being done. Use as a context manager; leaving it ends the line. Of several processes the
    main one tells.

    Args:
        after_s: seconds of silence before a line, and between its dots; what is done sooner is not told.
    """

    def __init__(self, doing: str = "", *, after_s: float = 1.0) -> None:
        self._after_s = after_s
        self._changed = threading.Condition()
        self._doing = doing
        self._told = False
        self._over = False
        self._quiet = not launched().main
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def now(self, doing: str) -> None:
        """Something else is being done; "" for nothing that needs telling."""
        with self._changed:
            self._end_line()
            self._doing = doing
            self._changed.notify()

    def end_line(self) -> None:
        """End the line, if there is one, for something else to be written; what is being done goes on."""
        with self._changed:
            self._end_line()

    def __enter__(self) -> Self:
        _telling.append(self)
        self._teller.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        with self._changed:
            self._over = True
            self._end_line()
            self._changed.notify()
        self._teller.join()
        _telling.remove(self)

    def _tell(self) -> None:
        with self._changed:
            while not self._over:
                changed = self._changed.wait(self._after_s)
                # It may have ended, or changed to nothing, while this thread waited for its turn.
                if changed or self._over or self._quiet or not self._doing:
                    continue
                self._write("." if self._told else f"{self._doing} ")
                self._told = True

    def _end_line(self) -> None:
        if self._told:
            self._write("\n")
        self._told = False

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


_telling: list[Patience] = []


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes log records on standard error, each on a line of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        for one in _telling:
            one.end_line()
        super().emit(record)
