"""SIGTERM, as Slurm and Kubernetes send it at the end of their time: the run ends with a checkpoint, not in the middle."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

logger = logging.getLogger(__name__)

_STATUS = 128 + signal.SIGTERM


class Interrupted(BaseException):
    """SIGTERM came within `StopSignal.interruptible`. No `except Exception` of a verifier may swallow it."""


class StopSignal:
    """Hears SIGTERM while its context lasts; a second one ends the process at once, with status 143.

    Signals reach the main thread of a process only: started from another thread it hears nothing, and SIGTERM does what it
    did before.

    Attributes:
        requested: whether SIGTERM came.
    """

    def __init__(self) -> None:
        self.requested = False
        self._interruptible = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Do what may be given up at any moment.

        Raises:
            Interrupted: SIGTERM came within.
        """
        self._interruptible = True
        try:
            if self.requested:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            # Not the default action: the first process of a container has none.
            os._exit(_STATUS)
        self.requested = True
        logger.warning("SIGTERM: the run ends with a checkpoint as soon as it can; a second one ends it at once")
        if self._interruptible:
            raise Interrupted
