"""Verdicts on the groups that are done while others are still being generated."""

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from torch.profiler import record_function

from progrpo.engines import Generated
from progrpo.rollout.verify import Verifier
from progrpo.types import Problem, Verdict


class Judging:
    """The verdicts of one rollout. Use as a context manager: leaving it ends what is still going on.

    Where worker processes judge, a thread of this object hands them what `begin` announced, in batches of all that has
    come in meanwhile. A verifier that works in this process judges when generation is over: it would take the
    interpreter from the loop that generates, and gain nothing. Neither changes a verdict or their order.
    """

    def __init__(
        self, verifier: Verifier, problems: Sequence[Problem], on_progress: Callable[[int], None] | None = None
    ) -> None:
        self._verifier = verifier
        self._problems = problems
        self._on_progress = on_progress
        self._begun: set[int] = set()
        self._verdicts: dict[int, list[Verdict]] = {}
        self._handed_over = 0
        self._waiting: SimpleQueue[tuple[int, Generated] | None] = SimpleQueue()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        # A daemon: a second Ctrl-C while the first is being obeyed must find nothing that keeps the process alive.
        self._thread = threading.Thread(target=self._work, name="progrpo-judging", daemon=True)
        self.busy_s = 0.0
        """Seconds the verifier was at work; to be read after `finish`."""

    def __enter__(self) -> Self:
        if self._verifier.overlaps:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._end()

    def begin(self, index: int, generated: Generated) -> None:
        """Announce that problem `index` has all its completions (an engine's `on_done`).

        Raises:
            Whatever judging has failed with meanwhile, so that nothing more is generated for nothing.
        """
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            self._begun.add(index)
            self._waiting.put((index, generated))

    def finish(self, generated: Sequence[Generated]) -> list[list[Verdict]]:
        """The verdicts of each problem, in order; what was not announced is judged now.

        Raises:
            Whatever judging failed with.
        """
        late = [(index, result) for index, result in enumerate(generated) if index not in self._begun]
        if self._thread.is_alive():
            for one in late:
                self._waiting.put(one)
            self._end()
        elif self._failure is None:
            self._judge(late)
        if self._failure is not None:
            raise self._failure
        return [self._verdicts[index] for index in range(len(generated))]

    def _end(self) -> None:
        """Let the thread finish what waits, and wait for it."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        try:
            while True:
                batch = [self._waiting.get()]
                while not self._waiting.empty():
                    batch.append(self._waiting.get())
                if self._stop.is_set():
                    return
                self._judge([one for one in batch if one is not None])
                if None in batch:
                    return
        except BaseException as failure:  # noqa: BLE001 - carried to the thread that waits for the verdicts
            self._failure = failure

    def _judge(self, done: Sequence[tuple[int, Generated]]) -> None:
        items = [
            (completion.text, self._problems[index], completion.finish)
            for index, result in done
            for completion in result.completions
        ]
        if not items:
            return
        before, report = self._handed_over, self._on_progress
        started = time.perf_counter()
        with record_function("judge"):
            verdicts = iter(
                self._verifier.judge(items, (lambda count: report(before + count)) if report else None, self._stop)
            )
        self.busy_s += time.perf_counter() - started
        self._handed_over += len(items)
        for index, result in done:
            self._verdicts[index] = [next(verdicts) for _ in result.completions]
