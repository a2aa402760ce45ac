"""Run the parts of the daemon: opened in the order of dependence, closed in reverse, ended by a signal or by a failure.

Promises an exit code that tells the truth: 0 only if everything came to rest in time. The first SIGTERM or SIGINT is a
soft stop with a deadline, a second one is immediate; a task that ends unexpectedly ends the process. What a part does to
come to rest is the part's matter, reconnecting is its adapter's, and starting the process again is the platform's.

Theory of operation. One task group holds every task and is the outermost thing but the hard stop's scope; parts and
tasks stand in one exit stack, so closing meets them in the reverse of the order in which they were opened or spawned. A
soft stop runs the drains in their order, then closes. The deadline is a task that says what is still open and then
cancels the scope; a deadline *of* the scope would end the same way as a clean stop, with exit code 0 and work undone.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from enum import IntEnum
from types import TracebackType
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus

from bridge.model.errors import Broken, Misconfigured
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger

T = TypeVar("T")
log = get_logger()


class ExitCode(IntEnum):
    """What the process says at its end. A second signal gives 128 and its number, as shells do."""

    STOPPED = 0
    FAILED = 1
    MISCONFIGURED = 2
    CUT_OFF = 3


class _EndedEarly(Exception):
    """A task ended by itself."""


class Supervisor:
    """One life of the daemon, made inside its event loop. `assemble` opens parts, spawns tasks and names drains."""

    def __init__(self, clock: Clock, *, shutdown_seconds: float) -> None:
        self.stop_requested = anyio.Event()
        """Set when the soft stop begins, whatever the cause."""
        self._clock = clock
        self._shutdown_seconds = shutdown_seconds
        self._hard = anyio.CancelScope()
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._drains: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._open: list[str] = []
        self._is_opening = True
        self._exit_code: int = ExitCode.STOPPED

    # -- for `assemble` ---------------------------------------------------------------------------------------------

    async def open(self, name: str, part: AbstractAsyncContextManager[T]) -> T:
        """Enter a part; it is left, after everything that was opened later, when the process stops."""
        value = await part.__aenter__()
        self._open.append(name)

        async def leave(
            kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> bool | None:
            outcome: list[bool | None] = []
            with self._closing(name), self._noting(name):
                outcome.append(await part.__aexit__(kind, error, traceback))
            return outcome[0] if outcome else True  # what a part raises here is a failure of its own, and noted

        self._stack.push_async_exit(leave)
        return value

    def spawn(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        """Start a task. It may end by itself only after a stop was requested; in its turn it is cancelled and awaited."""
        if self._tasks is None:
            raise Broken("spawn belongs into assemble")
        scope, ended = anyio.CancelScope(), anyio.Event()

        async def task() -> None:
            with scope, self._closing(name, ended), self._noting(name):
                await function()
                if not self.stop_requested.is_set():
                    raise _EndedEarly("it ended, and nothing had asked it to")

        async def end() -> None:
            scope.cancel()
            await ended.wait()

        self._open.append(name)
        self._tasks.start_soon(task, name=name)
        self._stack.push_async_callback(end)

    def on_soft_stop(self, name: str, drain: Callable[[], Awaitable[None]]) -> None:
        """Await `drain` when a soft stop begins, after those named before; it returns when nothing is left to be done."""
        self._drains.append((name, drain))

    # -- from outside -----------------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Begin the soft stop, once. Before everything is open there is nothing to come to rest: all is closed at once."""
        if not self.stop_requested.is_set():
            log.info("process.stopping", reason=reason, seconds=self._shutdown_seconds)
            self.stop_requested.set()
            if self._is_opening:
                self._hard.cancel()

    async def run(self, assemble: Callable[[], Awaitable[None]]) -> int:
        """Live until a signal, a failure or `stop`; returns the exit code."""
        started = self._clock.monotonic()
        async with anyio.create_task_group() as watchers:
            await watchers.start(self._watch_signals)
            watchers.start_soon(self._watch_deadline)
            with self._hard, self._noting("parts"):
                async with anyio.create_task_group() as self._tasks, self._stack:
                    await self._live(assemble)
            watchers.cancel_scope.cancel()
        duration_ms = int((self._clock.monotonic() - started) * 1000)
        log.info("process.stopped", exit_code=self._exit_code, duration_ms=duration_ms)
        return self._exit_code

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _live(self, assemble: Callable[[], Awaitable[None]]) -> None:
        with self._noting("assembly"):
            try:
                await assemble()
            finally:
                self._is_opening = False
            log.info("process.started", parts=self._open)
            await self.stop_requested.wait()
            for name, drain in self._drains:
                self._open.append(f"drain of {name}")
                with self._closing(f"drain of {name}"), self._noting(f"drain of {name}"):
                    await drain()

    @contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        """The one place where a failure becomes the process's end: the first line says which part, and why."""
        try:
            yield
        except Exception as error:  # every failure of every part comes by here, and ends the process
            self._exit_code = self._exit_code or (
                ExitCode.MISCONFIGURED if _holds(error, Misconfigured) else ExitCode.FAILED
            )
            log.exception("part.failed", part=name)
            if _holds(error, Broken):  # going on, be it to come to rest, would be going on wrongly
                self._hard.cancel()
            self.stop(f"{name} failed")

    @contextmanager
    def _closing(self, name: str, ended: anyio.Event | None = None) -> Iterator[None]:
        """At the end of the block, however it ends, this is not open any more."""
        try:
            yield
        finally:
            self._open.remove(name)
            if ended is not None:
                ended.set()

    async def _watch_signals(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            is_first = True
            async for number in signals:
                if is_first:
                    self.stop(signal.Signals(number).name)
                else:
                    self._cut_off(128 + number, f"a second signal, {signal.Signals(number).name}")
                is_first = False

    async def _watch_deadline(self) -> None:
        await self.stop_requested.wait()
        await anyio.sleep(self._shutdown_seconds)
        self._cut_off(ExitCode.CUT_OFF, f"not at rest after {self._shutdown_seconds} s")

    def _cut_off(self, exit_code: int, reason: str) -> None:
        self._exit_code = self._exit_code or exit_code
        log.error("process.cut_off", reason=reason, parts=list(self._open))
        self._hard.cancel()


def _holds(error: Exception, kind: type[Exception]) -> bool:
    """Whether it is one, or a group with one in it."""
    return isinstance(error, kind) or (isinstance(error, ExceptionGroup) and error.subgroup(kind) is not None)
