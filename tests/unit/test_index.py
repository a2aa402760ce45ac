"""Who is who: names to calls and sessions to commands, certain or not, within their time and within bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.bus.protocol import BatchItem, Headers, Position, Record
from bridge.ledger.index import Index, IndexSettings, Known, Match, lifetime, name_key, session_key
from bridge.model.errors import Poison, Unavailable
from bridge.model.words import call_id_of
from tests.support.clock import NOON, HandClock

pytestmark = pytest.mark.anyio

TOPIC = "calls.index"
CALLEE = "callee/+49301234567"
SESSION = "demo/s-1"


class Log:
    """The topic, in memory: what is published stands there, and a tail reads it from its beginning."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_down = False
        self.failing_polls = 0
        self.empty_polls = 0
        self._read = 0

    async def publish(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> Position:
        """Append a record, unless the broker is down."""
        if self.is_down:
            raise Unavailable("down")
        self.records.append(Record(topic, partition or 0, len(self.records), key, value, headers))
        return Position(partition or 0, len(self.records) - 1)

    async def publish_batch(
        self, topic: str, partition: int, items: Sequence[BatchItem]
    ) -> list[Position | Unavailable | Poison]:
        """Append several."""
        return [await self.publish(topic, key=item[0], value=item[1], partition=partition) for item in items]

    async def poll(self, *, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records; an empty poll does not take its time."""
        if self.failing_polls:
            self.failing_polls -= 1
            raise Unavailable("down")
        with anyio.move_on_after(timeout_seconds):
            await anyio.lowlevel.checkpoint()
        found = self.records[self._read : self._read + max_records]
        self._read += len(found)
        self.empty_polls += not found
        return found

    def lag(self) -> int:
        """What was not read yet."""
        return len(self.records) - self._read

    def seconds_since_contact(self) -> float:
        """Always just now."""
        return 0.0


@pytest.fixture
def clock() -> HandClock:
    """Time in the test's hand."""
    return HandClock()


@pytest.fixture
def log() -> Log:
    """The topic."""
    return Log()


@pytest.fixture
def index(clock: HandClock, log: Log) -> Index:
    """A replica's index, with room for four."""
    return Index(TOPIC, log, clock, IndexSettings(max_entries=4))


def call(command_id: str = "c", *, seconds: float = 60, at: datetime = NOON) -> Known:
    """A call that is known for a minute."""
    return Known(
        at=at,
        until=lifetime(at, seconds),
        command_id=command_id,
        call_id=call_id_of(command_id),
        partition=3,
        metadata={"order": command_id},
    )


async def replica(log: Log, clock: HandClock) -> Index:
    """Another replica that has read everything."""
    index = Index(TOPIC, log, clock, IndexSettings(max_entries=4, poll_records=2))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(index.run, log)
        await index.caught_up.wait()
        tasks.cancel_scope.cancel()
    return index


# -- names ------------------------------------------------------------------------------------------------------------------


async def test_one_call_of_a_name_is_certain(index: Index) -> None:
    """A callee who was called once is that call, under the connection that called, and nobody else is."""
    await index.announce("demo", [CALLEE], call())
    key = name_key("demo", CALLEE, call_id_of("c"))
    assert index.match("demo", [CALLEE]) == Match(key, call(), certain=True)
    assert index.match("demo", ["callee/+49301234568"]) is None
    assert index.match("other", [CALLEE]) is None
    assert index.match("demo", []) is None


async def test_of_several_calls_the_newest_is_meant_perhaps(index: Index) -> None:
    """A callee who was called twice may mean either: the newest, uncertain, until one of them is used up."""
    await index.announce("demo", [CALLEE], call("first"))
    await index.announce("demo", [CALLEE], call("second"))
    found = index.match("demo", [CALLEE])
    assert found is not None
    assert (found.known.command_id, found.certain) == ("second", False)
    await index.bind(SESSION, found.known, matched=found.name)
    found = index.match("demo", [CALLEE])
    assert found is not None
    assert (found.known.command_id, found.certain) == ("first", True)


async def test_the_first_name_that_is_known_counts(index: Index) -> None:
    """Names come in the order of their worth."""
    await index.announce("demo", ["call/1"], call("by-call"))
    await index.announce("demo", [CALLEE], call("by-callee"))
    for names, command_id in ((["call/1", CALLEE], "by-call"), ([CALLEE, "call/1"], "by-callee")):
        found = index.match("demo", ["call/unknown", *names])
        assert found is not None
        assert found.known.command_id == command_id


async def test_a_name_has_its_time(index: Index, clock: HandClock) -> None:
    """A call is meant until its window is over, and then does not make another uncertain either."""
    await index.announce("demo", [CALLEE], call("old", seconds=60))
    clock.advance(59)
    await index.announce("demo", [CALLEE], call("new", at=clock.now()))
    found = index.match("demo", [CALLEE])
    assert found is not None
    assert not found.certain
    clock.advance(1)
    found = index.match("demo", [CALLEE])
    assert found is not None
    assert (found.known.command_id, found.certain) == ("new", True)
    clock.advance(60)
    assert index.match("demo", [CALLEE]) is None


def late(command_id: str, *, at: datetime, window_seconds: float = 120, late_seconds: float = 2160) -> Known:
    """A call whose webhooks may come late."""
    known = call(command_id, seconds=window_seconds + late_seconds, at=at)
    return msgspec.structs.replace(known, begins_until=lifetime(at, window_seconds))


async def test_a_late_webhook_means_the_call_that_began_when_it_says(index: Index, clock: HandClock) -> None:
    """Of two calls to one callee within half an hour, each is found by its own time, and is evidence."""
    await index.announce("demo", [CALLEE], late("first", at=clock.now()))
    clock.advance(600)
    await index.announce("demo", [CALLEE], late("second", at=clock.now()))
    clock.advance(1520)
    for seconds, command_id in ((20, "first"), (120, "first"), (595, "second"), (620, "second"), (720, "second")):
        found = index.match("demo", [CALLEE], occurred_at=NOON + timedelta(seconds=seconds))
        assert found is not None
        assert (found.known.command_id, found.certain) == (command_id, True)
    for seconds in (-6, 121, 594, 721):
        assert index.match("demo", [CALLEE], occurred_at=NOON + timedelta(seconds=seconds)) is None
    clock.advance(160)
    assert index.match("demo", [CALLEE], occurred_at=NOON + timedelta(seconds=20)) is None


async def test_a_late_webhook_that_may_mean_two_calls_is_no_evidence(index: Index, clock: HandClock) -> None:
    """Both were dialled within the window in front of it."""
    await index.announce("demo", [CALLEE], late("first", at=clock.now()))
    clock.advance(60)
    await index.announce("demo", [CALLEE], late("second", at=clock.now()))
    clock.advance(1800)
    found = index.match("demo", [CALLEE], occurred_at=NOON + timedelta(seconds=90))
    assert found is not None
    assert (found.known.command_id, found.certain) == ("second", False)


async def test_a_webhook_without_a_time_is_judged_by_its_arrival(index: Index, clock: HandClock) -> None:
    """However long its name is kept for those that have one."""
    await index.announce("demo", [CALLEE], late("first", at=clock.now()))
    clock.advance(120)
    assert index.match("demo", [CALLEE]) is not None
    clock.advance(1)
    assert index.match("demo", [CALLEE]) is None


async def test_a_name_without_a_window_means_its_call_whenever_that_began(index: Index, clock: HandClock) -> None:
    """A provider's clock may be wrong, and its reference right."""
    await index.announce("demo", ["ref/call_1"], call())
    assert index.match("demo", ["ref/call_1"], occurred_at=NOON - timedelta(hours=1)) is not None


async def test_a_name_taken_back_is_forgotten(index: Index) -> None:
    """A call that will not be heard of makes no other call uncertain; forgetting it twice does nothing."""
    await index.announce("demo", [CALLEE], call("refused"))
    await index.announce("demo", [CALLEE], call("rings"))
    for _ in range(2):
        await index.forget(name_key("demo", CALLEE, call_id_of("refused")))
        found = index.match("demo", [CALLEE])
        assert found is not None
        assert (found.known.command_id, found.certain) == ("rings", True)


async def test_announcing_again_is_no_second_call(index: Index) -> None:
    """The next attempt of the same command stands under the same name, with a new window, and stays certain."""
    await index.announce("demo", [CALLEE], call())
    again = call(at=NOON + timedelta(seconds=30))
    await index.announce("demo", [CALLEE], again)
    assert index.match("demo", [CALLEE]) == Match(name_key("demo", CALLEE, call_id_of("c")), again, certain=True)
    assert len(index) == 1


# -- sessions -----------------------------------------------------------------------------------------------------------------


async def test_a_session_is_bound_to_its_command(index: Index) -> None:
    """What a webhook proves is known at once, uses the name up, and is evidence."""
    await index.announce("demo", [CALLEE], call())
    assert index.session(SESSION) is None
    assert index.heard_of("c") is None
    await index.bind(SESSION, call(), matched=name_key("demo", CALLEE, call_id_of("c")))
    assert index.session(SESSION) == call()
    assert index.heard_of("c") == SESSION
    assert index.match("demo", [CALLEE]) is None


@pytest.mark.parametrize(
    "known",
    [Known(at=NOON, until=lifetime(NOON, 60)), Known(at=NOON, until=lifetime(NOON, 60), command_id="c", certain=False)],
)
async def test_what_is_not_certain_is_no_evidence(index: Index, known: Known) -> None:
    """A session of nobody's, or perhaps of this command's, is known, and proves nothing."""
    told: list[str] = []
    index.listeners.append(lambda reference, _: told.append(reference))
    await index.bind(SESSION, known)
    assert index.session(SESSION) == known
    assert index.heard_of("c") is None
    assert told == []


async def test_evidence_outlives_the_session(index: Index, clock: HandClock) -> None:
    """A call that is over has been placed nevertheless."""
    await index.bind(SESSION, call())
    await index.forget(session_key(SESSION))
    assert index.session(SESSION) is None
    assert index.heard_of("c") == SESSION
    clock.advance(3600)
    assert index.heard_of("c") == SESSION


async def test_evidence_has_its_time(log: Log, clock: HandClock) -> None:
    """Counted from when it was read: what a replica finds at its start is evidence for as long as what comes later."""
    writer = Index(TOPIC, log, clock, IndexSettings())
    await writer.bind(SESSION, call("old"))
    clock.advance(3 * 86_400)
    reader = Index(TOPIC, log, clock, IndexSettings(evidence_seconds=600))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run, log)
        await reader.caught_up.wait()
        assert reader.session(SESSION) is None
        clock.advance(300)
        await writer.bind("demo/two", call("new", at=clock.now()))
        await _until(lambda: reader.heard_of("new") is not None)
        assert reader.heard_of("old") == SESSION
        clock.advance(301)
        await _until(lambda: reader.heard_of("old") is None)
        assert reader.heard_of("new") == "demo/two"
        clock.advance(300)
        await _until(lambda: reader.heard_of("new") is None)
        tasks.cancel_scope.cancel()


async def _until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not holds():
            await anyio.lowlevel.checkpoint()


async def test_a_session_has_its_time(index: Index, clock: HandClock) -> None:
    """One of which no end is heard is forgotten."""
    await index.bind(SESSION, call(seconds=10))
    clock.advance(9)
    assert index.session(SESSION) is not None
    clock.advance(1)
    assert index.session(SESSION) is None


async def test_listeners_are_told_once(index: Index, log: Log, clock: HandClock) -> None:
    """Of each session that certainly is a command's, whether it was bound here or read, and not again for a copy."""
    told: list[tuple[str, str | None]] = []
    index.listeners.append(lambda reference, known: told.append((reference, known.command_id)))
    await index.bind(SESSION, call())
    await index.bind(SESSION, call())
    await index.announce("demo", [CALLEE], call("d"))
    assert told == [(SESSION, "c")]

    read: list[tuple[str, str | None]] = []
    other = Index(TOPIC, log, clock, IndexSettings())
    other.listeners.append(lambda reference, known: read.append((reference, known.command_id)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other.run, log)
        await other.caught_up.wait()
        tasks.cancel_scope.cancel()
    assert read == told


async def test_waiting_for_a_session(index: Index) -> None:
    """Who waits is woken by the session he waits for, and not satisfied by another."""
    found: list[Known] = []

    async def wait() -> None:
        found.append(await index.wait_for_session(SESSION))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await index.bind("demo/other", call("other"))
        await anyio.wait_all_tasks_blocked()
        assert found == []
        await index.bind(SESSION, call())
    assert found == [call()]
    assert await index.wait_for_session(SESSION) == call()


async def test_ids_with_separators_stay_whole(index: Index) -> None:
    """A session or a name that holds `#` or `/` is another than its parts."""
    await index.bind("demo/a#b", call("x"))
    await index.announce("demo", ["callee/sip:a#b@c/d"], call("y"))
    assert index.session("demo/a") is None
    assert index.session("demo/a#b") == call("x")
    found = index.match("demo", ["callee/sip:a#b@c/d"])
    assert found is not None
    assert found.known == call("y")
    assert index.match("demo", ["callee/sip:a"]) is None


# -- every replica --------------------------------------------------------------------------------------------------------------


async def test_another_replica_knows_the_same(index: Index, log: Log, clock: HandClock) -> None:
    """Everything announced, bound and forgotten here is so on a replica that reads the topic from its beginning."""
    await index.announce("demo", [CALLEE, "call/1"], call("a"))
    await index.announce("demo", [CALLEE], call("b"))
    await index.bind(SESSION, call("a"), matched=name_key("demo", CALLEE, call_id_of("a")))
    await index.forget(name_key("demo", "call/1", call_id_of("a")))
    other = await replica(log, clock)
    for each in (index, other):
        assert each.session(SESSION) == call("a")
        assert each.heard_of("a") == SESSION
        assert each.match("demo", ["call/1"]) is None
        found = each.match("demo", [CALLEE])
        assert found is not None
        assert (found.known, found.certain) == (call("b"), True)
    assert len(other) == len(index) == 2


async def test_what_is_past_its_time_is_let_go(log: Log, clock: HandClock) -> None:
    """While following the topic, entries are dropped when their time is over, and a renewed one is not."""
    index = Index(TOPIC, log, clock, IndexSettings())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(index.run, log)
        await index.announce("demo", [CALLEE], call("a", seconds=10))
        await index.announce("demo", [CALLEE], call("b", seconds=10))
        await index.announce("demo", [CALLEE], call("b", seconds=100))
        await index.caught_up.wait()
        clock.advance(50)
        polls = log.empty_polls
        while log.empty_polls < polls + 2:
            await anyio.lowlevel.checkpoint()
        assert len(index) == 1
        found = index.match("demo", [CALLEE])
        assert found is not None
        assert found.known.command_id == "b"
        tasks.cancel_scope.cancel()


async def test_what_is_written_again_and_again_takes_no_memory(log: Log, clock: HandClock) -> None:
    """A session that is renewed at every webhook, and sessions that come and go: only what is held is remembered."""
    index = Index(TOPIC, log, clock, IndexSettings())
    for number in range(5000):
        await index.bind(SESSION, call(at=clock.now()))
        await index.bind(f"demo/{number}", call())
        await index.forget(session_key(f"demo/{number}"))
        clock.advance(0.001)
    assert len(index) == 1
    assert len(index._ends) < 2000
    async with anyio.create_task_group() as tasks:
        log.records.clear()
        tasks.start_soon(index.run, log)
        clock.advance(61)
        polls = log.empty_polls
        while log.empty_polls < polls + 2:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert len(index) == 0


async def test_caught_up_means_everything_read(log: Log, clock: HandClock) -> None:
    """It is said when what stood there at the start has been read, however many polls that takes, and not before."""
    writer = Index(TOPIC, log, clock, IndexSettings())
    for number in range(7):
        await writer.bind(f"demo/{number}", call(str(number)))
    reader = await replica(log, clock)
    assert log.lag() == 0
    assert reader.heard_of("0") is None  # the oldest are dropped where there is room for four
    assert [reader.heard_of(str(number)) for number in range(3, 7)] == [f"demo/{number}" for number in range(3, 7)]


async def test_reading_goes_on_when_kafka_is_back(log: Log, clock: HandClock) -> None:
    """Polls that fail are tried again; nothing is missed, and being caught up is not said too early."""
    writer = Index(TOPIC, log, clock, IndexSettings())
    await writer.bind(SESSION, call())
    log.failing_polls = 2
    reader = Index(TOPIC, log, clock, IndexSettings(poll_seconds=0.001))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.run, log)
        await reader.caught_up.wait()
        tasks.cancel_scope.cancel()
    assert log.failing_polls == 0
    assert reader.session(SESSION) == call()


@pytest.mark.parametrize("value", [b"", b"no json", b"[]", b"{}", b'{"at":1}', b"\xff"])
async def test_what_is_not_ours_is_passed_by(log: Log, clock: HandClock, value: bytes) -> None:
    """A record that cannot be read is no entry, and no end of the reading either."""
    await log.publish(TOPIC, key=b"demo/x#session", value=value)
    await log.publish(TOPIC, key=b"#probe", value=None)
    await log.publish(TOPIC, key=None, value=None)
    await log.publish(TOPIC, key=b"\xff\xfe", value=None)
    index = await replica(log, clock)
    assert len(index) == 0


async def test_a_write_that_is_not_acknowledged_says_so(index: Index, log: Log) -> None:
    """The caller learns that Kafka did not take it; the name is known here all the same, the session is not."""
    log.is_down = True
    with pytest.raises(Unavailable):
        await index.announce("demo", [CALLEE], call())
    with pytest.raises(Unavailable):
        await index.bind(SESSION, call())
    assert index.match("demo", [CALLEE]) is not None
    assert index.session(SESSION) is None


# -- bounds -----------------------------------------------------------------------------------------------------------------------


async def test_the_oldest_go_first(index: Index) -> None:
    """More than there is room for: the oldest entries are dropped, names and sessions alike, and nothing is left of them."""
    for number in range(3):
        await index.announce("demo", [CALLEE], call(str(number)))
    for number in range(3):
        await index.bind(f"demo/{number}", call(str(number)))
    assert len(index) == 4
    found = index.match("demo", [CALLEE])
    assert found is not None
    assert (found.known.command_id, found.certain) == ("2", True)
    await index.bind("demo/3", call("3"))
    assert index.match("demo", [CALLEE]) is None
    assert index.session("demo/3") is not None


async def test_evidence_is_bounded(index: Index) -> None:
    """It goes by number too, the oldest first."""
    for number in range(9):
        await index.bind(f"demo/{number}", call(str(number)))
        await index.forget(session_key(f"demo/{number}"))
    assert [number for number in range(9) if index.heard_of(str(number))] == [5, 6, 7, 8]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("announce"), st.sampled_from("abc"), st.sampled_from("xyz")),
        st.tuples(st.just("retract"), st.sampled_from("abc"), st.sampled_from("xyz")),
        st.tuples(st.just("bind"), st.sampled_from("stu"), st.sampled_from("xyz")),
        st.tuples(st.just("end"), st.sampled_from("stu"), st.just("")),
        st.tuples(st.just("wait"), st.integers(1, 40).map(str), st.just("")),
    ),
    max_size=30,
)


@given(steps)
async def test_against_a_plain_model(steps: list[tuple[str, str, str]]) -> None:
    """Any announcements, retractions, sessions and waits: names and sessions mean what two plain dicts say."""
    clock = HandClock()
    index = Index(TOPIC, Log(), clock, IndexSettings())
    names: dict[tuple[str, str], datetime] = {}
    sessions: dict[str, tuple[str, datetime]] = {}
    for what, one, other in steps:
        known = call(other, at=clock.now()) if other else call()
        match what:
            case "announce":
                await index.announce("demo", [one], known)
                names[one, other] = known.until
            case "retract":
                await index.forget(name_key("demo", one, call_id_of(other)))
                names.pop((one, other), None)
            case "bind":
                await index.bind(f"demo/{one}", known)
                sessions[one] = (other, known.until)
            case "end":
                await index.forget(session_key(f"demo/{one}"))
                sessions.pop(one, None)
            case _:
                clock.advance(int(one))
        for name in "abc":
            alive = {command for (each, command), until in names.items() if each == name and until > clock.now()}
            found = index.match("demo", [name])
            assert (found is None) == (not alive)
            assert found is None or (found.known.command_id in alive and found.certain == (len(alive) == 1))
        for session in "stu":
            command, until = sessions.get(session, ("", NOON))
            here = index.session(f"demo/{session}")
            assert (None if here is None else here.command_id) == (command if until > clock.now() else None)
