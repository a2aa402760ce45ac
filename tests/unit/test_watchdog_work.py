"""The watchdog at work: how many look-ups at once, how long, and what becomes of a call while Kafka is away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import anyio
import msgspec
import pytest

from bridge.actions.seen import Seen
from bridge.actions.silence import Patience, Silence, SilenceSettings
from bridge.actions.watchdog import Watchdog, WatchdogSettings, WatchdogTools
from bridge.events.identify import Identify, IdentifySettings
from bridge.ledger.index import Index, IndexSettings, Known, lifetime, session_key
from bridge.model.commands import PlaceCall
from bridge.model.errors import Unavailable
from bridge.model.events import CallAnswered, CallEnded, Ended, Progress
from bridge.model.outcome import Outcome, Refused
from bridge.providers.protocol import Answer, Heard, Live, Over, Plan, Standing, Verified, Webhook
from bridge.providers.settings import AccountLimits
from bridge.runtime.metrics import Metrics
from tests.support.clock import NOON, HandClock
from tests.unit.test_index import Log

pytestmark = pytest.mark.anyio

TTL = 3600.0
PATIENCE_SECONDS = 20.0


class Line:
    """A connection whose calls can be looked up, and nothing else: a `Provider` that refuses the rest."""

    name = "line"
    match_window_seconds = 60.0
    late_webhook_seconds = 0.0
    limits = AccountLimits()
    session_ttl_seconds = TTL

    def __init__(self, says: Callable[[str], Standing | None]) -> None:
        """`says`: how a call stands; None: no answer, ever."""
        self.says = says
        self.asked: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self.may_answer = anyio.Event()
        self.may_answer.set()

    async def look_up(self, session: str) -> Standing:
        """As `says` says, when it may."""
        self.asked.append(session)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.may_answer.wait()
            standing = self.says(session)
            if standing is None:
                await anyio.sleep_forever()
                raise AssertionError
            return standing
        finally:
            self.under_way -= 1

    def check(self, command: PlaceCall, *, call_id: str) -> Plan | Refused:
        """Not here."""
        raise NotImplementedError

    async def dial(self, plan: Plan) -> Outcome:
        """Not here."""
        raise NotImplementedError

    def verify(self, webhook: Webhook) -> Verified:
        """Not here."""
        raise NotImplementedError

    def parse(self, verified: Verified) -> Sequence[Heard]:
        """Not here."""
        raise NotImplementedError

    def acknowledge(self, heard: Heard) -> Answer:
        """Not here."""
        raise NotImplementedError


class Here:
    """A watchdog with its lines, an index in memory, and the events that it publishes."""

    def __init__(self, lines: Mapping[str, Line], **settings: float) -> None:
        self.clock = HandClock()
        self.topic = Log()
        self.index = Index("calls.index", self.topic, self.clock, IndexSettings())
        self.metrics = Metrics()
        self.published: list[CallEnded] = []
        self.is_down = False
        silence = Silence(
            {name: Patience(TTL, can_look_up=True) for name in lines},
            SilenceSettings(silent_seconds=60, retry_seconds=0),
            partition_of=lambda _: 0,
            is_heard_of=lambda _: False,
        )
        tools = WatchdogTools(lines, self.index, self._publish, self.clock, self.metrics)
        given = WatchdogSettings(tick_seconds=0.001, repair_after_seconds=0, **settings)  # type: ignore[arg-type]
        self.watchdog = Watchdog(tools, silence, given)
        self.watchdog.assigned(frozenset({0}))

    async def _publish(self, event: CallEnded) -> None:
        await anyio.lowlevel.checkpoint()
        if self.is_down:
            raise Unavailable("away")
        self.published.append(event)

    async def session(self, reference: str) -> None:
        """A session begins."""
        now = self.clock.now()
        await self.index.bind(reference, Known(at=now, until=lifetime(now, TTL)))

    def event(self, reference: str, kind: str, offset: int) -> None:
        """An event is read from the events topic."""
        connection, _, session = reference.partition("/")
        seen = Seen(
            type=kind,
            event_id=f"e-{offset}",
            connection=connection,
            provider="p",
            session=session,
            received_at=self.clock.now(),
            call_id="call_1",
            metadata={"order": 7},
        )
        self.watchdog.seen(0, seen, offset)

    def ended_by_the_topic(self, reference: str) -> bool:
        """Whether a replica that reads the topic would know of the end."""
        last = [each.value for each in self.topic.records if each.key == session_key(reference).encode()][-1]
        return msgspec.json.decode(last or b"", type=Known).ended

    def looks(self, found: str) -> float:
        """How many look-ups ended so."""
        return self.metrics.registry.get_sample_value("callbridge_look_ups_total", {"found": found}) or 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """The watchdog works for the length of the block, a minute of silence later."""
        self.clock.advance(60)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.index.run, self.topic)
            tasks.start_soon(self.watchdog.run)
            yield
            tasks.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Return when it is so."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not condition():
            await anyio.lowlevel.checkpoint()


def over(_: str) -> Standing:
    """Somebody hung up."""
    return Over(Ended(reason="completed"), at=datetime(2026, 1, 31, 11, 59, tzinfo=NOON.tzinfo))


async def test_no_more_look_ups_at_once_than_allowed_and_a_slow_provider_holds_up_no_other() -> None:
    """Of each connection; all calls are looked up in the end."""
    slow, quick = Line(over), Line(over)
    slow.may_answer = anyio.Event()
    here = Here({"slow": slow, "quick": quick}, max_look_ups=3)
    for number in range(20):
        await here.session(f"slow/{number}")
        await here.session(f"quick/{number}")
    async with here.watching():
        await until(lambda: len({event.session for event in here.published}) == 20)
        assert {event.connection for event in here.published} == {"quick"}
        assert slow.under_way == 3
        slow.may_answer.set()
        await until(lambda: len(here.published) == 40)
    assert (slow.most_under_way, quick.most_under_way) == (3, 3)
    assert (here.looks("over"), len(slow.asked)) == (40, 20)


async def test_a_look_up_without_an_answer_is_given_up_and_the_call_asked_for_again() -> None:
    """Not at once, but after the next pause."""
    line = Line(lambda _: None)
    here = Here({"line": line}, look_up_seconds=0.01)
    await here.session("line/s")
    async with here.watching():
        await until(lambda: here.looks("no_answer") == 1)
        assert (here.published, line.under_way) == ([], 0)
        line.says = over
        here.clock.advance(120)
        await until(lambda: here.published)
    [event] = here.published
    assert (event.data.reason, event.occurred_at) == ("completed", datetime(2026, 1, 31, 11, 59, tzinfo=NOON.tzinfo))


async def test_a_live_call_stays_open_for_as_long_as_it_is_live() -> None:
    """Whatever its time says."""
    line = Line(lambda _: Live())
    here = Here({"line": line})
    await here.session("line/s")
    async with here.watching():
        for looks in range(1, 30):
            await until(lambda looks=looks: here.looks("live") >= looks)  # type: ignore[misc]
            here.clock.advance(900)
    assert here.published == []
    assert here.clock.seconds > 5 * TTL


async def test_what_kafka_does_not_take_is_tried_again_until_it_does() -> None:
    """The end first, then the index; the end is published once."""
    here = Here({"line": Line(over)})
    await here.session("line/s")
    here.is_down = here.topic.is_down = True
    async with here.watching():
        await until(lambda: here.looks("over") >= 3)
        assert here.published == []
        here.is_down = False
        await until(lambda: here.published)
        here.topic.is_down = False
        await until(lambda: len(here.topic.records) > 1)
    assert len(here.published) == 1
    assert here.ended_by_the_topic("line/s")


async def test_another_replica_is_told_of_the_end_by_the_index() -> None:
    """Whose own watch of it ends there."""
    here = Here({"line": Line(over)})
    await here.session("line/s")
    other = Here({"line": Line(over)})
    async with here.watching():
        await until(lambda: here.published)
        await until(lambda: len(here.topic.records) == 2)
    other.topic.records += here.topic.records
    async with other.watching():
        await until(lambda: other.topic.empty_polls > 10)
    assert other.published == []
    assert other.metrics.registry.get_sample_value("callbridge_watched_sessions") == 0


async def test_an_end_that_is_on_the_topic_only_is_told_to_the_index() -> None:
    """And a webhook that comes minutes later does not have the call ended twice, not after a restart either."""
    here = Here({"line": Line(over)})
    here.event("line/s", "call.ended", 0)
    async with here.watching():
        await until(lambda: here.topic.records)
        found = here.index.session("line/s")
        assert found is not None
        assert (found.ended, found.call_id, found.metadata) == (True, "call_1", {"order": 7})
        here.clock.advance(30 * 60)
        identify = Identify(here.index, here.clock, IdentifySettings())
        late = Heard(session="s", kind=CallAnswered, data=Progress(), raw=b"{}", provider_type="p", starts_session=True)
        assert await identify.whose("line", late, session_ttl_seconds=TTL) == found
        await until(lambda: here.watchdog.oldest_needed(0) is None)
    assert here.published == []
    await nothing_is_closed_after_a_restart(here)


async def test_a_session_that_was_opened_again_is_closed_in_the_index_only() -> None:
    """By a replica that did not know of the end: the one that does repairs it."""
    here = Here({"line": Line(over)})
    await here.session("line/s")
    here.event("line/s", "call.ended", 0)
    async with here.watching():
        await until(lambda: here.topic.records and here.ended_by_the_topic("line/s"))
        await until(lambda: here.watchdog.oldest_needed(0) is None)
        await here.session("line/s")
        await until(lambda: here.ended_by_the_topic("line/s"))
    assert here.published == []
    await nothing_is_closed_after_a_restart(here)


async def nothing_is_closed_after_a_restart(before: Here) -> None:
    """Another process reads the index and finds nothing to watch."""
    after = Here({"line": Line(over)})
    after.clock.advance(before.clock.seconds)
    after.topic.records += before.topic.records
    async with after.watching():
        await until(lambda: after.topic.empty_polls > 10)
        assert after.metrics.registry.get_sample_value("callbridge_watched_sessions") == 0
    assert after.published == []
