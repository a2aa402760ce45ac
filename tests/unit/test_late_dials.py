"""A webhook that was faster than the news of its dial."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest

from bridge.events.identify import Identify, IdentifySettings
from bridge.events.late_dials import LateDials, LateDialsSettings
from bridge.ledger.index import Index, IndexSettings, Known, lifetime, name_key
from bridge.model.errors import Unavailable
from bridge.model.events import CallAnswered, Progress
from bridge.providers.protocol import Heard
from tests.support.clock import NOON, HandClock
from tests.unit.test_index import CALLEE, TOPIC, Log

pytestmark = pytest.mark.anyio

SESSION = "demo/s-1"
BEGIN = Heard(
    session="s-1",
    kind=CallAnswered,
    data=Progress(),
    raw=b"{}",
    provider_type="p",
    known_by=(CALLEE,),
    starts_session=True,
)


class Stand:
    """One replica, and the record of a dial that it has not read yet."""

    def __init__(self, *, most: int = 10) -> None:
        self.clock = HandClock()
        self.log = Log()
        self.index = Index(TOPIC, self.log, self.clock, IndexSettings())
        self.late = LateDials(self.index, self.clock, LateDialsSettings(most=most))
        settings = IdentifySettings(unknown_session_wait_seconds=0)
        self.identify = Identify(self.index, self.clock, settings, late_dials=self.late)

    async def begins(self, heard: Heard = BEGIN) -> Known | None:
        """A webhook begins a session."""
        return await self.identify.whose("demo", heard, session_ttl_seconds=3600.0)

    def reads(self, at: datetime, command_id: str = "c") -> None:
        """The announcement of a dial is read from the topic."""
        known = Known(at=at, until=lifetime(at, 120), command_id=command_id, call_id=f"call_{command_id}", partition=3)
        self.index._put(name_key("demo", CALLEE, f"call_{command_id}"), known)
        for watcher in self.index.watchers:
            watcher(name_key("demo", CALLEE, f"call_{command_id}"), known)

    async def bound(self) -> Known | None:
        """What is known of the session once all that was found is bound."""
        while self.late._found:
            await self.late.bind(self.late._found.popleft())
        return self.index.session(SESSION)


async def test_a_dial_that_is_read_after_its_session_began() -> None:
    """The session is its command's, it is evidence, and the callee's name is used up."""
    stand = Stand()
    told: list[str | None] = []
    stand.index.listeners.append(lambda _, known: told.append(known.command_id))
    nobodys = await stand.begins()
    assert nobodys is not None
    assert nobodys.command_id is None
    stand.reads(NOON - timedelta(seconds=1))
    known = await stand.bound()
    assert known is not None
    assert (known.command_id, known.certain, known.until) == ("c", True, nobodys.until)
    assert told == ["c"]
    assert stand.index.match("demo", [CALLEE]) is None
    assert len(stand.late) == 0


async def test_a_dial_after_the_session_began_is_another_call() -> None:
    """Whoever called him then, it was not this dial."""
    stand = Stand()
    await stand.begins()
    stand.reads(NOON + timedelta(seconds=1))
    known = await stand.bound()
    assert known is not None
    assert known.command_id is None
    assert stand.index.match("demo", [CALLEE]) is not None


async def test_two_dials_that_may_be_meant_are_no_evidence() -> None:
    """The newest is taken for it, as ever."""
    stand = Stand()
    await stand.begins()
    stand.reads(NOON - timedelta(seconds=2), "c1")
    stand.reads(NOON - timedelta(seconds=1), "c2")
    known = await stand.bound()
    assert known is not None
    assert (known.command_id, known.certain) == ("c2", False)


async def test_it_is_remembered_for_a_while() -> None:
    """News that comes later than that is not of this session."""
    stand = Stand()
    await stand.begins()
    stand.clock.advance(121)
    stand.reads(NOON - timedelta(seconds=1))
    known = await stand.bound()
    assert known is not None
    assert known.command_id is None


async def test_what_is_remembered_is_bounded() -> None:
    """The oldest go first."""
    stand = Stand(most=2)
    for number in range(4):
        await stand.begins(msgspec.structs.replace(BEGIN, session=f"s-{number}", known_by=(f"callee/+4930{number}",)))
    assert len(stand.late) == 2


async def test_what_was_not_acknowledged_is_not_taken_for_written() -> None:
    """The provider's next try binds the session, so that the other replicas hear of it, too."""
    stand = Stand()
    stand.reads(NOON - timedelta(seconds=1))
    stand.log.is_down = True
    with pytest.raises(Unavailable):
        await stand.begins()
    assert stand.index.session(SESSION) is None
    stand.log.is_down = False
    known = await stand.begins()
    assert known is not None
    assert known.command_id == "c"
    assert [record.key for record in stand.log.records if record.value is not None] == [b"demo/s-1#session"]
