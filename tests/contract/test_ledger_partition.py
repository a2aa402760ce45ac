"""The ledger partition on both brokers: who owns it, what makes a claim count, and what somebody else's records mean."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from bridge.commands.sweep import Sweep, SweepSettings
from bridge.ledger import records
from bridge.ledger.partition import Ended, LedgerSettings, Tombstone
from bridge.ledger.records import Fence, Sending, Settled
from bridge.ledger.state import LedgerState, recent_dials
from bridge.ledger.transitions import State
from bridge.model.errors import Broken, Unavailable
from tests.contract.bus_support import PATIENCE_SECONDS, bus_at
from tests.contract.ledger_support import Failing, Hiding, Partition, Watched, partition_of
from tests.support.brokers import Broker, OwnKafka
from tests.support.clock import HandClock
from tests.support.ledger_values import cancelled, decision, deferred, not_sent, sending, settled, unsure

pytestmark = pytest.mark.anyio


@pytest.fixture
async def partition(broker: Broker, topic_prefix: str) -> AsyncIterator[Partition]:
    """A new ledger partition on each of the brokers."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async with partition_of(bus_at(broker.bootstrap), topic_prefix + "ledger") as found:
            yield found


def state_of(owner: Watched, command_id: str = "c") -> State | None:
    """What a lane may do with a command."""
    entry = owner.ledger.state.entry(command_id)
    return None if entry is None else entry.state


# -- opening ------------------------------------------------------------------------------------------------------------------


async def test_opening_writes_a_fence_and_reads_what_stands_before_it(partition: Partition) -> None:
    """The fence's offset is the epoch; everything in front of it is known. A probe follows, and tells of what is behind it."""
    await partition.inject(Fence("former", 5), sending("a"), settled("a"), sending("b"), deferred("d"), sending("gone"))
    me = await partition.owner("me")
    await partition.inject(sending("behind"))
    log = await partition.log()
    state = me.ledger.state
    assert records.decode(log[me.epoch].value or b"") == Fence("me", 1)
    assert (me.epoch, state.next_offset) == (6, 8)
    assert {name: entry.state for name, entry in state.entries.items()} == {
        "a": State.FINISHED,
        "b": State.UNSETTLED,
        "d": State.DEFERRED,
        "gone": State.UNSETTLED,
    }
    assert state.take_old_fences(6) == [b"fence/former"]


async def test_opening_an_empty_partition(partition: Partition) -> None:
    """Nothing is known, and the first claim counts."""
    me = await partition.owner("me")
    assert (me.epoch, me.ledger.state.entries) == (0, {})
    assert await me.ledger.claim(me.claim_of("c")) == "counted"


async def test_opening_again_after_an_error_starts_anew(partition: Partition) -> None:
    """When the reading broke off, what was read the first time does not count: the state is that of one reading."""
    await partition.inject(Fence("former", 5), sending("a", epoch=0), Fence("other", 5))
    await partition.inject(settled("a", epoch=2), sending("b", epoch=2))
    reader = Failing(partition.reader)
    broken = await partition.closed("me", reader=reader)
    reader.after = 4
    with pytest.raises(Unavailable):
        await broken.open(at_ms=1)
    await broken.open(at_ms=1)
    fresh = await partition.owner("fresh")
    for ledger in (broken, fresh.ledger):
        assert [each.command_id for each in ledger.state.unsettled()] == ["b"]
        archived = ledger.state.entries["a"].archived
        assert archived is not None
        assert archived.offset == 3
        assert [claimed for claimed, _ in recent_dials(ledger.state, "demo")] == [1.0, 1.0]


async def test_a_record_of_another_program_ends_everything(partition: Partition) -> None:
    """What cannot be read may be a claim: the process must not go on, and says where it stands."""
    await partition.inject(Fence("former", 5))
    log = await partition.log()
    await partition.inject(log[0]._replace(value=b'{"kind":"unheard_of"}'))
    with pytest.raises(Broken, match=r"ledger/0 offset 2: not a ledger record of this version"):
        await partition.owner("me")


# -- claims -------------------------------------------------------------------------------------------------------------------


async def test_a_claim_counts(partition: Partition) -> None:
    """Directly behind everything known it counts, stands in the log, and its command is unsettled until it is settled."""
    me = await partition.owner("me")
    claim = me.claim_of("c")
    assert await me.ledger.claim(claim) == "counted"
    assert state_of(me) is State.UNSETTLED
    await me.ledger.write(me.end_of("c"))
    assert state_of(me) is State.FINISHED
    assert await partition.written() == [Fence("me", 1), b"probe/me", claim, me.end_of("c")]
    assert me.gaps == []


async def test_a_claim_behind_a_newer_fence_ends_its_owner(partition: Partition) -> None:
    """The former owner learns from the log that it was succeeded, says why, dials nothing, and writes no more."""
    old = await partition.owner("old")
    new = await partition.owner("new")
    with pytest.raises(Ended, match=rf"another owner's fence stands at offset {new.epoch}"):
        await old.ledger.claim(old.claim_of("c"))
    assert old.ledger.ended == f"another owner's fence stands at offset {new.epoch}"
    count = len(await partition.log())
    for attempt in (old.ledger.claim(old.claim_of("d")), old.ledger.probe(), old.ledger.write(old.end_of("d"))):
        with pytest.raises(Ended, match="another owner's fence"):
            await attempt
    assert len(await partition.log()) == count


async def test_the_newer_owner_finds_a_claim_that_did_not_count(partition: Partition) -> None:
    """What a former owner claimed too late is told to the new one, unsettled, and is never dialled by it."""
    old = await partition.owner("old")
    new = await partition.owner("new")
    with pytest.raises(Ended):
        await old.ledger.claim(old.claim_of("c"))
    await new.ledger.probe()
    assert (new.foreign, new.gaps) == (["c"], [1])
    assert state_of(new) is State.UNSETTLED
    assert await new.ledger.claim(new.claim_of("c")) == "contested"


async def test_a_claim_in_front_of_the_fence_is_found_by_the_next_owner(partition: Partition) -> None:
    """A claim that counted is known to every later owner as unsettled."""
    old = await partition.owner("old")
    claim = old.claim_of("c")
    assert await old.ledger.claim(claim) == "counted"
    new = await partition.owner("new")
    assert new.ledger.state.unsettled() == [claim]
    assert new.foreign == []


async def test_somebody_elses_claim_of_the_same_command_contests(partition: Partition) -> None:
    """A former owner's `sending` behind the fence may be the copy of one that counted: the own claim does not count."""
    me = await partition.owner("me")
    await partition.inject(sending("c", epoch=me.epoch - 1))
    assert await me.ledger.claim(me.claim_of("c")) == "contested"
    assert (me.foreign, me.gaps) == (["c"], [1])
    assert state_of(me) is State.UNSETTLED
    assert await me.ledger.claim(me.claim_of("d")) == "counted"


@pytest.mark.parametrize("news", [settled("c"), unsure("c"), not_sent("c")], ids=lambda each: type(each).__name__)
async def test_somebody_elses_knowledge_contests(partition: Partition, news: Settled) -> None:
    """Whatever a former owner wrote late about the command, a claim that was decided without it does not count."""
    me = await partition.owner("me")
    await partition.inject(news)
    assert await me.ledger.claim(me.claim_of("c")) == "contested"
    assert me.foreign == ["c"]


async def test_what_an_earlier_write_found_contests_too(partition: Partition) -> None:
    """The gap in front of another command's record told of the claim: it does not count though no gap is before it."""
    me = await partition.owner("me")
    claim = me.claim_of("c")  # decided now
    await partition.inject(sending("c", epoch=me.epoch - 1))
    await me.ledger.write(me.end_of("other"))
    assert me.foreign == ["c"]
    assert await me.ledger.claim(claim) == "contested"


async def test_two_claims_of_one_batch_behind_one_gap(partition: Partition) -> None:
    """Written in one go, the second claim has no gap before it: what the first one's gap told counts for both."""
    me = await partition.owner("me", runs=False)
    await partition.inject(sending("b", epoch=me.epoch - 1))
    answers: dict[str, str] = {}

    async def claim(command_id: str) -> None:
        answers[command_id] = await me.ledger.claim(me.claim_of(command_id))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(claim, "a")
        tasks.start_soon(claim, "b")
        await anyio.wait_all_tasks_blocked()
        assert partition.tasks is not None
        partition.tasks.start_soon(me.ledger.run)
    assert answers == {"a": "counted", "b": "contested"}


async def test_own_copies_in_a_gap_are_nothing_new(partition: Partition) -> None:
    """The same bytes once more, as a retried batch leaves them, keep no claim from counting and tell nobody anything."""
    me = await partition.owner("me")
    assert await me.ledger.claim(me.claim_of("a")) == "counted"
    await me.ledger.write(me.end_of("a"))
    copies = await partition.log()
    await partition.inject(*copies)
    assert await me.ledger.claim(me.claim_of("b")) == "counted"
    assert (me.foreign, len(me.gaps)) == ([], 1)
    assert (state_of(me, "a"), state_of(me, "b")) == (State.FINISHED, State.UNSETTLED)


async def test_an_own_claim_that_was_stored_without_an_answer(partition: Partition) -> None:
    """The first copy of a claim in front of the acknowledged one, as after a lost acknowledgement, does not contest it."""
    me = await partition.owner("me")
    await partition.inject(me.claim_of("c"))
    assert await me.ledger.claim(me.claim_of("c")) == "counted"


async def test_a_decision_is_judged_as_a_claim_is(partition: Partition) -> None:
    """An end without a dial may be told only if nothing in front of it knows better; its own copy does not."""
    me = await partition.owner("me")
    ends = {name: settled(name, 0, result=cancelled(name), epoch=me.epoch) for name in "abc"}
    assert await me.ledger.claim(ends["a"]) == "counted"
    await partition.inject(sending("b", epoch=me.epoch - 1), ends["c"])
    assert await me.ledger.claim(ends["c"]) == "counted"
    assert await me.ledger.claim(ends["b"]) == "contested"
    assert [state_of(me, name) for name in "abc"] == [
        State.FINISHED
    ] * 3  # a former owner's claim behind our fence did not count


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_emptied_offset_in_a_gap_ends_the_lane(partition: Partition, place: int) -> None:
    """Where compaction has taken a record that the lane never saw, it cannot know what it was: it ends without a dial."""
    hidden: set[int] = set()
    me = await partition.owner("me", reader=Hiding(partition.reader, hidden))
    offsets = await partition.inject(sending("a"), sending("b"), sending("d"))
    hidden.add(offsets[place])
    with pytest.raises(Ended, match=rf"offset {offsets[place]} in front of an own record has been compacted away"):
        await me.ledger.claim(me.claim_of("c"))
    assert me.ledger.ended is not None


async def test_a_gap_is_read_again_while_kafka_is_away(partition: Partition) -> None:
    """With a claim in hand there is nothing better to do than to try again, and the claim is judged by the whole gap."""
    reader = Failing(partition.reader)
    me = await partition.owner("me", reader=reader)
    await partition.inject(sending("x"), sending("c"))
    reader.after = 1
    assert await me.ledger.claim(me.claim_of("c")) == "contested"


async def test_both_owners_of_a_doubled_fence_end_or_one_does(partition: Partition) -> None:
    """A late copy of the former owner's fence behind the newer one ends the newer, and the former one ends as well."""
    old = await partition.owner("old")
    new = await partition.owner("new")
    await partition.inject(Fence("old", 1))
    for each in (new, old):
        with pytest.raises(Ended):
            await each.ledger.claim(each.claim_of("c"))


# -- knowledge ----------------------------------------------------------------------------------------------------------------


async def test_a_former_owners_testimony_is_welcome(partition: Partition) -> None:
    """What a dial came to is written though the lane is closed, found by the new owner, folded in, and owed by it."""
    old = await partition.owner("old")
    assert await old.ledger.claim(old.claim_of("c")) == "counted"
    old.ledger.close("gone")
    new = await partition.owner("new")
    assert state_of(new) is State.UNSETTLED
    await old.ledger.testify(old.end_of("c"))
    await new.ledger.probe()
    assert (new.foreign, state_of(new)) == (["c"], State.FINISHED)
    assert new.ledger.state.entries["c"].owed
    assert new.ledger.ended is None


async def test_testimony_that_nothing_was_sent_frees_the_command(partition: Partition) -> None:
    """The next attempt of it counts."""
    old = await partition.owner("old")
    assert await old.ledger.claim(old.claim_of("c")) == "counted"
    new = await partition.owner("new")
    await old.ledger.testify(not_sent("c", epoch=old.epoch))
    await new.ledger.probe()
    assert (new.foreign, state_of(new)) == (["c"], State.FREE)
    assert await new.ledger.claim(new.claim_of("c", 1)) == "contested"
    assert await new.ledger.claim(new.claim_of("e", 1)) == "counted"


async def test_probing_finds_what_others_wrote_and_changes_no_epoch(partition: Partition) -> None:
    """However often it is asked, the own fence stays the owner's, and nothing is found twice."""
    me = await partition.owner("me")
    epoch = me.epoch
    await me.ledger.probe()
    assert me.foreign == []
    await partition.inject(settled("a"), unsure("b"), sending("d"), deferred("e"))
    await me.ledger.probe()
    await me.ledger.probe()
    assert sorted(me.foreign) == ["a", "b", "d"]
    assert (me.epoch, me.gaps) == (epoch, [4])


async def test_a_command_that_somebody_else_deferred_is_told(partition: Partition) -> None:
    """A former owner's deferral behind the fence is the lane's to keep in time; its own copies are nothing new."""
    me = await partition.owner("me")
    own, foreign = deferred("own", epoch=me.epoch), deferred("foreign", epoch=me.epoch - 1)
    await me.ledger.write(own)
    await partition.inject(own, foreign)
    await me.ledger.probe()
    assert (me.deferred, me.foreign) == ([foreign], [])
    assert state_of(me, "foreign") is State.DEFERRED


async def test_nobody_is_found_late_because_his_owner_probed(partition: Partition) -> None:
    """A result written after a probe of its own owner is no former owner's for the next one: it is not told again."""
    old = await partition.owner("old")
    assert await old.ledger.claim(old.claim_of("c")) == "counted"
    await old.ledger.probe()
    await old.ledger.write(old.end_of("c"))
    new = await partition.owner("new")
    entry = new.ledger.state.entries["c"]
    assert entry.archived is not None
    assert not entry.owed


async def test_nobody_is_found_late_after_compaction_either(partition: Partition) -> None:
    """The same when compaction has taken all but the last record of each key."""
    old = await partition.owner("old")
    assert await old.ledger.claim(old.claim_of("c")) == "counted"
    await old.ledger.probe()
    await old.ledger.write(old.end_of("c"))
    log = await partition.log()
    keys = [each.key for each in log]
    taken = [each.offset for place, each in enumerate(log) if each.key in keys[place + 1 :]]
    new = await partition.owner("new", reader=Hiding(partition.reader, taken))
    assert not new.ledger.state.entries["c"].owed


@pytest.mark.parametrize("remembered", [0, 10])
async def test_a_stored_result_is_recalled(partition: Partition, remembered: int) -> None:
    """From memory or from the log: the very record, by the owner that wrote it and by the next one."""
    settings = LedgerSettings(retry_seconds=0.05, max_recent_results=remembered)
    me = await partition.owner("me", settings=settings)
    for command_id in ("a", "b"):
        assert await me.ledger.claim(me.claim_of(command_id)) == "counted"
        await me.ledger.write(me.end_of(command_id))
    assert await me.ledger.recall("a") == me.end_of("a")
    new = await partition.owner("new", settings=settings)
    assert await new.ledger.recall("b") == me.end_of("b")
    assert (len(me.ledger._recent), len(new.ledger._recent)) == (2 if remembered else 0, 0)


async def test_a_result_is_recalled_where_its_last_copy_stands(partition: Partition) -> None:
    """When compaction has taken the record for the sake of a later copy, the copy is found."""
    hidden: set[int] = set()
    settings = LedgerSettings(retry_seconds=0.05, max_recent_results=0)
    me = await partition.owner("me", settings=settings, reader=Hiding(partition.reader, hidden))
    await me.ledger.write(me.end_of("c"))
    log = await partition.log()
    [again] = await partition.inject(log[-1])
    hidden.add(log[-1].offset)
    assert await me.ledger.recall("c") == me.end_of("c")
    archived = me.ledger.state.entries["c"].archived
    assert archived is not None
    assert archived.offset == again


async def test_a_result_that_is_nowhere_ends_everything(partition: Partition) -> None:
    """The log does not hold what the lane knows to be there: better to stop than to go on without a result."""
    hidden: set[int] = set()
    settings = LedgerSettings(retry_seconds=0.05, max_recent_results=0)
    me = await partition.owner("me", settings=settings, reader=Hiding(partition.reader, hidden))
    await me.ledger.write(me.end_of("c"))
    hidden.add(me.ledger.state.next_offset - 1)
    for command_id in ("c", "never seen"):
        with pytest.raises(Broken, match="the stored result of a finished command is not in the log"):
            await me.ledger.recall(command_id)


# -- writing ------------------------------------------------------------------------------------------------------------------


async def test_many_writers_at_once(partition: Partition) -> None:
    """All writes complete; those of one task stand in its order; the state knows the whole log."""
    me = await partition.owner("me", settings=LedgerSettings(max_batch_records=32, retry_seconds=0.05))

    async def work(number: int) -> None:
        for attempt in range(1, 6):
            assert await me.ledger.claim(me.claim_of(f"c{number}", attempt)) == "counted"
            await me.ledger.write(not_sent(f"c{number}", attempt, epoch=me.epoch), deferred(f"c{number}"))

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(work, number)
    log = await partition.written()
    assert me.ledger.state.next_offset == len(log) == 2 + 60 * 15
    for number in range(60):
        own = [each for each in log[1:] if not isinstance(each, Fence | bytes) and each.command_id == f"c{number}"]
        assert [type(each).__name__ for each in own] == ["Sending", "Settled", "Deferred"] * 5
        assert [each.attempt for each in own if isinstance(each, Sending)] == [1, 2, 3, 4, 5]
    assert me.gaps == []


async def test_a_tombstone_erases(partition: Partition) -> None:
    """In the own state at once, and for every later owner."""
    me = await partition.owner("me")
    await me.ledger.write(deferred("c", epoch=me.epoch), deferred("d", epoch=me.epoch))
    await me.ledger.write(Tombstone(b"c/deferred"))
    assert (state_of(me, "c"), state_of(me, "d")) == (None, State.DEFERRED)
    new = await partition.owner("new")
    assert set(new.ledger.state.entries) == {"d"}


async def test_closing_releases_everybody_who_waits(partition: Partition) -> None:
    """Writers that wait learn that the lane has ended and why, and nobody waits for ever."""
    me = await partition.owner("me", runs=False)
    reasons: list[str] = []

    async def write() -> None:
        with pytest.raises(Ended) as caught:
            await me.ledger.claim(me.claim_of("c"))
        reasons.append(str(caught.value))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(write)
        await anyio.wait_all_tasks_blocked()
        me.ledger.close("the partition went elsewhere")
    assert reasons == ["the partition went elsewhere"] * 3
    me.ledger.close("another reason")
    assert me.ledger.ended == "the partition went elsewhere"


async def test_a_writer_that_gives_up_leaves_no_trace_but_its_record(partition: Partition) -> None:
    """A claim whose caller was cancelled is in the log and unsettled, and the next claim counts."""
    me = await partition.owner("me")
    with anyio.move_on_after(0) as given_up:
        await me.ledger.claim(me.claim_of("c"))
    assert given_up.cancelled_caught
    assert await me.ledger.claim(me.claim_of("d")) == "counted"
    assert state_of(me, "c") is State.UNSETTLED


async def test_too_many_who_wait_are_an_error_of_ours(partition: Partition) -> None:
    """The bound of waiting writes says that a limit elsewhere does not hold; nothing of the write is taken."""
    me = await partition.owner("me", settings=LedgerSettings(max_waiting_writes=2), runs=False)
    with pytest.raises(Broken, match="more than 2 ledger writes wait"):
        await me.ledger.write(*(Tombstone(b"%d" % number) for number in range(3)))
    assert len(await partition.log()) == 2


async def test_a_record_that_no_broker_takes_ends_everything(broker: Broker, topic_prefix: str) -> None:
    """It would be written again for ever: the process ends, and says why."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async with partition_of(bus_at(broker.bootstrap, max_record_bytes=1000), topic_prefix + "ledger") as partition:
            me = await partition.owner("me", runs=False)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_claim_in_vain, me, "c" * 2000)
                with pytest.raises(Broken, match="does not take a record of ours"):
                    await me.ledger.run()


async def _claim_in_vain(owner: Watched, command_id: str) -> None:
    with pytest.raises(Ended):
        await owner.ledger.claim(owner.claim_of(command_id))


# -- letting go -----------------------------------------------------------------------------------------------------------------


def sweep_of(owner: Watched, **settings: float) -> Sweep:
    """The broom of a lane, at a time when everything is old."""
    return Sweep(owner.ledger, HandClock(), SweepSettings(window_seconds=60.0, **settings))  # type: ignore[arg-type]


async def test_what_is_over_is_let_go(partition: Partition) -> None:
    """Old ends leave memory and log, with the fences of former owners; what is not over stays, for the next owner too.

    So do decisions that are void, and what comes in after all else was let go; a result that is owed is told first.
    """
    await partition.owner("former")
    me = await partition.owner("me")
    epoch = me.epoch
    await me.ledger.write(
        *(
            sending("twice", epoch=epoch),
            not_sent("twice", epoch=epoch),
            sending("twice", 2, epoch=epoch),
            settled("twice", 2, epoch=epoch),
        ),
        *(sending("unknown", epoch=epoch), unsure("unknown", epoch=epoch)),
        *(sending("late", epoch=epoch), unsure("late", epoch=epoch), settled("late", epoch=epoch)),
        decision(epoch, command_id="refused"),
        *(
            decision(0, command_id="void"),
            unsure("void", epoch=0),
            sending("void", epoch=epoch),
            settled("void", epoch=epoch),
        ),
        not_sent("long over", 2, epoch=0),
        sending("open", epoch=epoch),
        deferred("later", epoch=epoch),
        *(sending("free", epoch=epoch), not_sent("free", epoch=epoch)),
        *(sending("owed", epoch=epoch), settled("owed", owed=True, epoch=epoch)),
    )
    began = len(await partition.log())
    assert not await sweep_of(me).once()
    assert set(me.ledger.state.entries) == {"open", "later", "free", "owed"}
    new = await partition.owner("new")
    assert set(new.ledger.state.entries) == {"open", "later", "free", "owed"}
    written = (await partition.written())[began:]
    assert b"fence/former" in written
    assert b"fence/me" not in written


async def test_a_claim_is_let_go_before_its_end(partition: Partition) -> None:
    """Whenever the sweep is cut off, whoever reads the log finds no claim without what it came to, and nothing to tell."""
    me = await partition.owner("me")
    for number in range(5):
        await me.ledger.write(sending(f"c{number}"), settled(f"c{number}"), sending(f"u{number}"), unsure(f"u{number}"))
        await me.ledger.write(decision(0, command_id=f"c{number}"), unsure(f"c{number}", epoch=0, owed=True))
    began = me.ledger.state.next_offset
    await sweep_of(me).once()
    log = await partition.log()
    assert len(log) > began + 20
    reader = LedgerState("reader")
    for record in log:
        if record.value is not None:
            reader.fold(records.decode(record.value), record.offset)
        elif (parts := records.parts_of(record.key or b"")) is not None:
            reader.erase(parts, record.offset)
        assert record.offset < began or reader.unsettled() == []
        assert not any(entry.owed for entry in reader.entries.values())
    assert reader.entries == {}


async def test_much_is_let_go_a_part_at_a_time(partition: Partition) -> None:
    """A part is as many commands as the settings say, however many records and attempts they have."""
    me = await partition.owner("me")
    await partition.inject(*(settled(f"c{number}", 4, epoch=me.epoch) for number in range(1100)))
    await me.ledger.probe()
    sweep = sweep_of(me, max_entries=1050)
    assert await sweep.once()
    assert len(me.ledger.state.entries) == 50
    assert not await sweep.once()
    assert me.ledger.state.entries == {}


# -- a broker that is away --------------------------------------------------------------------------------------------------------


async def test_a_claim_waits_for_its_acknowledgement(own_kafka: OwnKafka, topic_prefix: str) -> None:
    """While Kafka is frozen a claim neither counts nor fails; afterwards it counts once, whatever copies it left."""
    kafka = own_kafka()
    quick = {"request_timeout_seconds": 0.5, "publish_timeout_seconds": 0.7, "read_timeout_seconds": 1.0}
    bus = bus_at(kafka.bootstrap, **quick)
    answers: list[str] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        async with partition_of(bus, topic_prefix + "ledger") as partition:
            me = await partition.owner("me")
            written = 0
            retried = anyio.Event()

            def on_append(_: float) -> None:
                nonlocal written
                written += 1
                if written > 1:
                    retried.set()

            me.ledger.on_append = on_append

            async def claim(command_id: str) -> None:
                answers.append(await me.ledger.claim(me.claim_of(command_id)))

            kafka.pause()
            try:
                async with anyio.create_task_group() as tasks:
                    for number in range(3):
                        tasks.start_soon(claim, f"c{number}")
                    await retried.wait()
                    assert answers == []
                    kafka.resume()
            finally:
                kafka.resume()
            assert answers == ["counted"] * 3
            assert me.foreign == []
            claims = [each for each in await partition.written() if isinstance(each, Sending)]
            assert {each.command_id for each in claims} == {"c0", "c1", "c2"}
            new = await partition.owner("new")
            assert {each.command_id for each in new.ledger.state.unsettled()} == {"c0", "c1", "c2"}
            with pytest.raises(Ended):
                await me.ledger.claim(me.claim_of("d"))
