"""Places given out by turns: never too many inside, no lane behind another's queue, nothing lost to who gave up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup

from bridge.commands.places import Places

pytestmark = pytest.mark.anyio


class Crowd:
    """Commands of several lanes that want a place, one after the other."""

    def __init__(self, places: Places, tasks: TaskGroup) -> None:
        self.inside: list[str] = []
        """Who has had a place so far, in that order: lane and number."""
        self._places = places
        self._tasks = tasks
        self._leave: dict[str, anyio.CancelScope] = {}

    async def comes(self, *names: str) -> None:
        """The lane is the first character of a name."""
        for name in names:
            self._tasks.start_soon(self._stay, name)
            await anyio.wait_all_tasks_blocked()

    async def goes(self, name: str) -> None:
        """Out of its place, or out of the queue."""
        self._leave.pop(name).cancel()
        await anyio.wait_all_tasks_blocked()

    async def _stay(self, name: str) -> None:
        with anyio.CancelScope() as self._leave[name]:
            async with self._places.taken(int(name[0])):
                self.inside.append(name)
                await anyio.sleep_forever()


@asynccontextmanager
async def crowd(most: int) -> AsyncIterator[Crowd]:
    """A crowd that is sent home at the end; all its places are free again then."""
    places = Places(most)
    async with anyio.create_task_group() as tasks:
        yield Crowd(places, tasks)
        tasks.cancel_scope.cancel()
    assert places.free == most


async def test_lanes_take_turns() -> None:
    """A lane that comes with one command does not wait for the long queue of another."""
    async with crowd(1) as here:
        await here.comes("0a", "0b", "0c", "0d", "1a", "2a", "1b")
        for name in ("0a", "0b", "1a", "2a", "0c", "1b"):
            assert here.inside[-1] == name
            await here.goes(name)
    assert here.inside == ["0a", "0b", "1a", "2a", "0c", "1b", "0d"]


async def test_never_more_than_there_are() -> None:
    """As many as there are places are inside at once, whatever their lanes; in one lane it is first come, first served."""
    async with crowd(3) as here:
        await here.comes("0a", "1a", "0b", "0c", "0d")
        assert here.inside == ["0a", "1a", "0b"]
        await here.goes("1a")
        assert here.inside == ["0a", "1a", "0b", "0c"]


async def test_who_gives_up_waiting_takes_nothing_along() -> None:
    """The next one behind it is let in, also where it was the last of its lane."""
    async with crowd(1) as here:
        await here.comes("0a", "1a", "2a", "2b")
        await here.goes("1a")
        await here.goes("2a")
        await here.goes("0a")
        assert here.inside == ["0a", "2b"]


async def test_a_place_given_to_who_just_gave_up_goes_on() -> None:
    """Granted and cancelled in one moment: the place is not lost."""
    places = Places(1)
    entered = anyio.Event()

    async def wait(scope: anyio.CancelScope) -> None:
        with scope:
            async with places.taken(1):
                pytest.fail("it had given up")

    async def follow() -> None:
        async with places.taken(2):
            entered.set()

    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        async with places.taken(0):
            tasks.start_soon(wait, scope)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
        with anyio.fail_after(5):
            await entered.wait()
    assert places.free == 1
