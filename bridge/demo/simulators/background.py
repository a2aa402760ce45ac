"""A task group for what runs behind a context: cancelled at its end, and not in the way of the body's own errors.

It promises that an exception of the body comes out as itself, not wrapped in a group, and that one of a task ends the
body. anyio's own groups are for tasks that the body waits for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

import anyio
import anyio.abc


class _Kept:
    """Holds back the exception of its body."""

    error: Exception | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.error = error
            return True
        return False


@asynccontextmanager
async def background_tasks() -> AsyncIterator[anyio.abc.TaskGroup]:
    """A group whose tasks end with the context."""
    kept = _Kept()
    async with anyio.create_task_group() as group:
        with kept:
            yield group
        group.cancel_scope.cancel()
    if kept.error is not None:
        raise kept.error
