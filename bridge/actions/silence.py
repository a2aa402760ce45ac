"""Pure: which calls are silent, and for how long: what the watchdog decides by.

Theory. The index says on every replica which sessions are open, and which calls a provider took without a word since;
the events say on the replica that reads their partition when each was last heard of. A call is *due* when it has been
silent for long enough to be looked up, or for so long that nobody will ever say that it is over. Invariants: only the
owner of a call's partition finds it due, and only after having listened to the partition for a while; a call whose end
was seen is never due; what only the events tell of is kept for the next owner (`oldest_needed`). Times are seconds since
the epoch.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

import msgspec

from bridge.actions.ends import Ends, Repair
from bridge.actions.seen import Seen
from bridge.ledger.index import Known

ENDS: Final = frozenset({"call.ended", "session.ended"})
"""After one of these a call is over, whichever its provider has. A report is no end: Twilio tells of a recording while
the call goes on. Where it is one (`Heard.ends_session`), the index says so."""
_AFTERMATH: Final = frozenset({"other", "sms.failed", "verb.finished", "call.report"})
"""These may come when a call is over: they begin no watch."""
_MOST_DOUBLINGS: Final = 20
_IDLE_PLACES: Final = 1000

Looked: TypeAlias = Literal["live", "in vain", "later"]
"""What came of attending to a call: it goes on; nobody could say; nothing was done yet."""


class Patience(msgspec.Struct, frozen=True):
    """What a connection's provider is like."""

    session_ttl_seconds: float
    can_look_up: bool


class SilenceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a silent call is looked up: first, and at longest, the pauses doubling in between; and how many are held."""

    silent_seconds: float = 60.0
    longest_pause_seconds: float = 900.0
    retry_seconds: float = 1.0
    max_calls: int = 1_000_000
    max_ends: int = 200_000


class Call(msgspec.Struct, kw_only=True, eq=False):
    """A call of which no end was heard."""

    reference: str
    connection: str
    session: str
    partition: int
    known: Known
    heard_at: float
    until: float
    """Silent until then, it is over."""
    looks: int = 0
    looked_at: float = 0.0
    is_expected: bool = False
    """The provider took it, and no webhook of it ever came."""
    is_open: bool = True
    """False as soon as its end is known."""


class Silence:
    """The calls of all partitions; those of our own can become due."""

    def __init__(
        self,
        connections: Mapping[str, Patience],
        settings: SilenceSettings,
        *,
        partition_of: Callable[[bytes], int],
        is_heard_of: Callable[[str], bool],
    ) -> None:
        """`is_heard_of`: whether a session of this command (id) was ever seen, by any replica."""
        self._connections = connections
        self._is_heard_of = is_heard_of
        self._partition_of = partition_of
        self._settings = settings
        self._calls: dict[str, Call] = {}
        self._names: dict[str, str] = {}
        """Our id of a call to the reference that it is watched under."""
        self._heap: list[tuple[float, int, Call]] = []
        self._pushed = 0
        self._needed: dict[int, dict[str, int]] = {}
        self._calm_at: dict[int, float] = {}
        self.ends = Ends(max_ends=settings.max_ends)

    def __len__(self) -> int:
        return len(self._calls)

    # -- what is heard ----------------------------------------------------------------------------------------------

    def indexed(self, key: str, known: Known) -> None:
        """An entry of the index, new or changed."""
        name, _, mark = key.rpartition("#")
        connection, _, rest = name.partition("/")
        if connection not in self._connections:
            return
        kind, _, provider_call_id = rest.partition("/")
        if mark == "session":
            self._indexed_session(name, connection, known)
        elif kind == "call" and mark == known.call_id:
            self._expect(f"{connection}/{provider_call_id}", connection, known)

    def seen(self, partition: int, seen: Seen, offset: int) -> None:
        """An event, read from the events topic."""
        reference = seen.reference
        if seen.connection not in self._connections:
            return
        if seen.call_id is not None:
            self._no_longer_expected(seen.call_id, reference)
        call = self._calls.get(reference)
        if seen.type in ENDS:
            known = _known_by(seen) if call is None else call.known
            self.ends.seen(Repair(reference, known, partition, offset, seen.received_at.timestamp()))
            self._drop(reference)
        elif call is not None:
            call.partition, call.is_expected = partition, False
            self._heard(call, seen.received_at.timestamp())
        elif reference not in self.ends and seen.type not in _AFTERMATH:
            self._open(reference, seen.connection, _known_by(seen), partition=partition)
            self._needed.setdefault(partition, {})[reference] = offset

    # -- partitions -------------------------------------------------------------------------------------------------

    def assigned(self, partitions: frozenset[int], now: float) -> None:
        """These are ours: their calls may be due when we have listened as long as a call may be silent."""
        for partition in partitions:
            self._calm_at[partition] = now + self._settings.silent_seconds
        self.ends.assigned(partitions)

    def revoked(self, partitions: frozenset[int]) -> None:
        """Another owner reads again what `oldest_needed` kept."""
        for partition in partitions:
            self._calm_at.pop(partition, None)
            for reference in list(self._needed.get(partition, {})):
                self._drop(reference)
        self.ends.revoked(partitions)

    def oldest_needed(self, partition: int) -> int | None:
        """The first offset that a later owner must read again; None: nothing of what was seen is needed."""
        open_calls = min(self._needed.get(partition, {}).values(), default=None)
        ends = self.ends.oldest_needed(partition)
        return min((each for each in (open_calls, ends) if each is not None), default=None)

    # -- what is to be done -----------------------------------------------------------------------------------------

    def due(self, now: float, *, limit: int) -> list[Call]:
        """Our calls that have been silent for too long. Each is the caller's until it is `returned` or `closed`."""
        found: list[Call] = []
        while self._heap and self._heap[0][0] <= now and len(found) < limit:
            call = heapq.heappop(self._heap)[2]
            if not call.is_open or self._was_heard_of(call):
                continue
            at = self._due_at(call)
            if at <= now and self._calm_at.get(call.partition, now + 1) <= now:
                found.append(call)
            else:
                self._push(call, max(at, now + self._settings.silent_seconds / 4))
        return found

    def returned(self, call: Call, now: float, looked: Looked) -> None:
        """It was attended to, and is not over as far as anybody knows."""
        if looked == "later":
            self._push(call, now + self._settings.retry_seconds)
            return
        call.looks += 1
        call.looked_at = now
        if looked == "live":
            call.until = max(call.until, now + self._connections[call.connection].session_ttl_seconds)
        self._push(call, self._due_at(call))

    def closed(self, call: Call, now: float) -> None:
        """Its end was published; the index is to be told."""
        self.ends.seen(Repair(call.reference, call.known, call.partition, None, now))
        self._drop(call.reference)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _indexed_session(self, reference: str, connection: str, known: Known) -> None:
        if known.call_id is not None:
            self._no_longer_expected(known.call_id, reference)
        call = self._calls.get(reference)
        if known.ended:
            self.ends.indexed(reference)
            self._drop(reference)
        elif reference in self.ends:
            self.ends.contradicted(reference, known, self._partition_of(reference.encode()))
        elif call is None:
            self._open(reference, connection, known)
        else:
            self._unname(call)
            call.known, call.is_expected = known, False
            self._name(call)
            call.until = max(call.until, known.until.timestamp())
            self._needed.get(call.partition, {}).pop(reference, None)

    def _expect(self, reference: str, connection: str, known: Known) -> None:
        call_id = str(known.call_id)
        if reference in self.ends or reference in self._calls or call_id in self._names:
            return
        if known.command_id is not None and self._is_heard_of(known.command_id):
            return  # it may even be over: a whole call can overtake the answer to its dial
        self._open(reference, connection, known)
        call = self._calls.get(reference)
        if call is not None:
            call.is_expected = True
            call.until += self._settings.silent_seconds  # a session may begin in the last moment

    def _was_heard_of(self, call: Call) -> bool:
        """Before we were there: names are kept longer than sessions."""
        command_id = call.known.command_id
        if not call.is_expected or command_id is None or not self._is_heard_of(command_id):
            return False
        self._drop(call.reference)
        return True

    def _no_longer_expected(self, call_id: str, reference: str) -> None:
        """The call is heard of, maybe under another name than the one it was taken under."""
        name = self._names.get(call_id, reference)
        if name != reference and self._calls[name].is_expected:
            self._drop(name)
            self.ends.renamed(name)

    def _open(self, reference: str, connection: str, known: Known, *, partition: int | None = None) -> None:
        if len(self._calls) >= self._settings.max_calls:
            return
        at = known.at.timestamp()
        call = Call(
            reference=reference,
            connection=connection,
            session=reference[len(connection) + 1 :],
            partition=self._partition_of(reference.encode()) if partition is None else partition,
            known=known,
            heard_at=at,
            until=known.until.timestamp(),
        )
        self._calls[reference] = call
        self._name(call)
        if partition is not None:
            self._heard(call, at)
        self._push(call, self._due_at(call))

    def _heard(self, call: Call, at: float) -> None:
        call.heard_at = max(call.heard_at, at)
        call.looks = 0
        call.until = max(call.until, call.heard_at + self._connections[call.connection].session_ttl_seconds)

    def _drop(self, reference: str) -> None:
        call = self._calls.pop(reference, None)
        if call is not None:
            call.is_open = False
            self._needed.get(call.partition, {}).pop(reference, None)
            self._unname(call)

    def _name(self, call: Call) -> None:
        if call.known.call_id is not None:
            self._names.setdefault(call.known.call_id, call.reference)

    def _unname(self, call: Call) -> None:
        if call.known.call_id is not None and self._names.get(call.known.call_id) == call.reference:
            del self._names[call.known.call_id]

    def _due_at(self, call: Call) -> float:
        if not self._connections[call.connection].can_look_up:
            return call.until
        settings = self._settings
        pause = min(settings.silent_seconds * 2.0 ** min(call.looks, _MOST_DOUBLINGS), settings.longest_pause_seconds)
        return min((call.looked_at if call.looks else call.heard_at) + pause, call.until)

    def _push(self, call: Call, at: float) -> None:
        """Calls that have ended leave their places behind, for hours maybe: those must not pile up."""
        if call.is_open:
            self._pushed += 1
            heapq.heappush(self._heap, (at, self._pushed, call))
        if len(self._heap) > 2 * len(self._calls) + _IDLE_PLACES:
            self._heap = [each for each in self._heap if each[2].is_open]
            heapq.heapify(self._heap)


def _known_by(seen: Seen) -> Known:
    at = seen.received_at
    return Known(at=at, until=at, command_id=seen.command_id, call_id=seen.call_id, metadata=seen.metadata)


def moment(seconds: float) -> datetime:
    """A time of this module as a date."""
    return datetime.fromtimestamp(seconds, UTC)
