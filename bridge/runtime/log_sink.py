"""Where log lines go: a buffer in memory, emptied by a thread, so that a slow reader of our output never stops the loop.

A line leaves within 50 ms or with 256 others; above the cap lines are dropped, counted, and the gap is said in the
output once there is room. Making the lines is `logging`'s part.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from types import TracebackType
from typing import Self

FLUSH_SECONDS = 0.05
FLUSH_LINES = 256


class Sink:
    """Takes lines on any thread; writes them to a file descriptor on its own. Use as a context manager: exit flushes."""

    def __init__(self, descriptor: int, *, max_buffered_lines: int = 10_000) -> None:
        self.dropped_lines = 0
        """So many lines were lost since the start: the buffer was full, or the output is gone."""
        self._descriptor = descriptor
        self._max_buffered_lines = max_buffered_lines
        self._lines: deque[bytes] = deque()
        self._some = threading.Event()
        self._many = threading.Event()
        self._closed = False
        self._reported_lines = 0
        self._thread = threading.Thread(target=self._write_until_closed, name="log-sink", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, line: bytes) -> None:
        """Take one line, without its end; never waits."""
        count = len(self._lines)
        if count >= self._max_buffered_lines:
            self.dropped_lines += 1
            return
        self._lines.append(line)
        if not self._some.is_set():  # asked after the append: the thread clears before it empties, so no line is left
            self._some.set()
        if count >= FLUSH_LINES and not self._many.is_set():
            self._many.set()

    def close(self, *, deadline_seconds: float = 2.0) -> None:
        """Write what is buffered, as far as the reader takes it within the deadline. Closing twice is fine."""
        self._closed = True
        self._some.set()
        self._many.set()
        if self._thread.is_alive():
            self._thread.join(deadline_seconds)

    def _write_until_closed(self) -> None:
        while not self._closed:
            self._some.wait()
            self._many.wait(FLUSH_SECONDS)
            self._some.clear()
            self._many.clear()
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while batch := self._batch():
            try:
                _write_all(self._descriptor, b"\n".join(batch) + b"\n")
            except OSError:
                self.dropped_lines += len(batch)
                self._reported_lines = self.dropped_lines  # there is nobody to tell

    def _batch(self) -> list[bytes]:
        batch = [self._lines.popleft() for _ in range(min(len(self._lines), 4 * FLUSH_LINES))]
        if self.dropped_lines > self._reported_lines:
            self._reported_lines = self.dropped_lines
            batch.append(b'{"event":"log.lines_dropped","count":%d}' % self._reported_lines)
        return batch


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
