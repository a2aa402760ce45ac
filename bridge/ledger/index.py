"""Who is who: which command a session, a provider's call id or a callee belongs to. Held in memory by every replica.

A lane writes what a call will be known by before it dials; ingress writes what a webhook proves. Each replica reads the
compacted index topic from its beginning, and then its tail, so any replica can enrich any webhook. Entries leave by
time; what is held is bounded, and the oldest entry goes first.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import anyio
import msgspec

from bridge.bus.protocol import Producer, Record, TailReader
from bridge.model.errors import Unavailable
from bridge.model.words import JsonObject
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger

log = get_logger()


class IndexSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of what is held."""

    max_entries: int = 1_000_000
    evidence_seconds: float = 86_400.0
    """How long it stays known, session or not, that a command's call was heard of."""
    clock_slack_seconds: float = 5.0
    """So much earlier than we dialled a call may begin by its provider's clock."""
    poll_records: int = 500
    poll_seconds: float = 0.2


class Known(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call as the index knows it. A session that belongs to no command has no `command_id`."""

    at: datetime
    until: datetime
    command_id: str | None = None
    call_id: str | None = None
    partition: int | None = None
    """The partition of the commands topic: its lane is told when the call is heard of."""
    metadata: JsonObject | None = None
    certain: bool = True
    """False where the session was matched by a name that could have meant several calls: no evidence, then."""
    ended: bool = False
    """The session's end is on the events topic."""
    begins_until: datetime | None = None
    """A name that is kept for longer than the call may take to begin, for webhooks that come late, means only calls
    that begin from `at` to then. None: any that is heard of in its time."""

    def may_begin(self, at: datetime, *, slack_seconds: float) -> bool:
        """Whether what began at that time may be this call."""
        return self.begins_until is None or self.at - timedelta(seconds=slack_seconds) <= at <= self.begins_until


class Match(msgspec.Struct, frozen=True):
    """A call found under a name. `certain` is False where several calls could be meant: no evidence, then."""

    name: str
    known: Known
    certain: bool


PROBE_KEY = b"#probe"
"""A key that no entry has: to find out whether the topic takes records."""

_SESSION_MARK = "#session"
_IDLE_ENDS = 1000
"""So many ends of entries that are no more are not worth looking for."""

_decoder = msgspec.json.Decoder(Known)
_encoder = msgspec.json.Encoder()


class Index:
    """Names to calls. `connection/session/ID` has one call; any other name may have several, newest last."""

    def __init__(self, topic: str, producer: Producer, clock: Clock, settings: IndexSettings) -> None:
        self._topic = topic
        self._producer = producer
        self._clock = clock
        self._settings = settings
        self._entries: OrderedDict[str, Known] = OrderedDict()
        self._by_name: dict[str, list[str]] = {}
        self._by_command: OrderedDict[str, tuple[str, datetime]] = OrderedDict()
        """The session of a command's call, and until when that is evidence."""
        self._ends: list[tuple[datetime, str]] = []
        self.listeners: list[Callable[[str, Known], None]] = []
        """Told of each session that certainly belongs to a command, by whichever replica: `(session reference, call)`."""
        self.watchers: list[Callable[[str, Known], None]] = []
        """Told of each entry that is read from the topic, with its key: what every replica knows, or will know."""
        self._changed = anyio.Event()
        self.caught_up = anyio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[str, Known]]:
        """All that is held now, with their keys."""
        return iter(list(self._entries.items()))

    def session(self, reference: str) -> Known | None:
        """The call of a session, where it is known."""
        return self._alive(session_key(reference))

    async def wait_for_session(self, reference: str) -> Known:
        """The call of a session, as soon as it is known. The caller brings the deadline."""
        while (known := self.session(reference)) is None:
            await self._changed.wait()
        return known

    def match(self, connection: str, names: Sequence[str], *, occurred_at: datetime | None = None) -> Match | None:
        """The newest call that may be meant by one of these names, if any is within its time.

        Args:
            connection: to which the names belong.
            names: in the order of their worth.
            occurred_at: when the call began, as its provider says; None: now.
        """
        at = occurred_at or self._clock.now()
        for name in names:
            keys = [key for key in self._by_name.get(f"{connection}/{name}", ()) if self._may_mean(key, at)]
            if keys:
                return Match(keys[-1], self._entries[keys[-1]], certain=len(keys) == 1)
        return None

    async def announce(self, connection: str, names: Sequence[str], known: Known) -> None:
        """Write under which names the provider may speak of this call; returns when every name is acknowledged.

        Raises:
            Unavailable: not acknowledged in time.
        """
        for name in names:
            await self._write(name_key(connection, name, str(known.call_id)), known)

    def heard_of(self, command_id: str) -> str | None:
        """The session that certainly belongs to this command, if a webhook has named one."""
        found = self._by_command.get(command_id)
        return None if found is None else found[0]

    async def bind(self, reference: str, known: Known, *, matched: str | None = None) -> None:
        """Write whose session this is; the name it was matched by is used up.

        Raises:
            Unavailable: not acknowledged in time.
        """
        await self._write(session_key(reference), known)
        if matched is not None:
            await self._write(matched, None)

    async def forget(self, *keys: str) -> None:
        """Take entries back: a session that is over (`session_key`), a name that will not be used (`name_key`).

        Raises:
            Unavailable: not acknowledged in time.
        """
        for key in keys:
            await self._write(key, None)

    async def run(self, tail: TailReader) -> None:
        """Follow the topic. `caught_up` is set when what stood there at the start has been read."""
        while True:
            try:
                records = await tail.poll(
                    max_records=self._settings.poll_records, timeout_seconds=self._settings.poll_seconds
                )
            except Unavailable as error:
                log.warning("poll.waits", topic=self._topic, error=error)
                await anyio.sleep(self._settings.poll_seconds)
                continue
            for record in records:
                self._take(record)
            if not self.caught_up.is_set() and tail.lag() == 0:
                self.caught_up.set()
            self._expire()

    # -- inside -----------------------------------------------------------------------------------------------------

    async def _write(self, key: str, known: Known | None) -> None:
        """Into memory first: a webhook may come before Kafka has told us our own record.

        A session that was not acknowledged is taken back: its next webhook must not take it for written, because other
        replicas have not heard of it. A name stays, for a dial's webhook may be on its way.
        """
        before = self._entries.get(key)
        stays = not key.endswith(_SESSION_MARK)
        self._put(key, known)
        value = None if known is None else _encoder.encode(known)
        try:
            await self._producer.publish(self._topic, key=key.encode(), value=value)
            stays = True
        finally:
            if not stays and self._entries.get(key) is known:
                self._put(key, before)

    def _take(self, record: Record) -> None:
        key = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            self._put(key, None)
            return
        try:
            known = _decoder.decode(record.value)
        except msgspec.DecodeError:
            return  # not ours; the topic is written by this program only, and nothing depends on a single entry
        self._put(key, known)
        for watcher in self.watchers:
            watcher(key, known)

    def _put(self, key: str, known: Known | None) -> None:
        before = self._entries.pop(key, None)
        name, _, mark = key.rpartition("#")
        if known is None:
            if before is not None and mark != "session":
                self._unname(name, key)
            return  # `_by_command` outlives the session: it is evidence
        self._entries[key] = known
        self._note_end(known.until, key)
        if mark == "session":
            self._put_session(name, known, is_news=before != known)
        elif before is None:
            self._by_name.setdefault(name, []).append(key)
        while len(self._entries) > self._settings.max_entries:
            self._drop_oldest()

    def _put_session(self, reference: str, known: Known, *, is_news: bool) -> None:
        """Wake who waits for the session, and tell who may have waited for its command."""
        self._changed.set()
        self._changed = anyio.Event()
        if known.command_id is None or not known.certain or not is_news:
            return
        self._by_command[known.command_id] = (reference, lifetime(self._clock.now(), self._settings.evidence_seconds))
        self._by_command.move_to_end(known.command_id)
        if len(self._by_command) > self._settings.max_entries:
            self._by_command.popitem(last=False)
        for listener in self.listeners:
            listener(reference, known)

    def _note_end(self, until: datetime, key: str) -> None:
        """Entries that are written again, or leave early, leave their ends behind: those must not pile up."""
        heapq.heappush(self._ends, (until, key))
        if len(self._ends) > 2 * len(self._entries) + _IDLE_ENDS:
            self._ends = [(each.until, name) for name, each in self._entries.items()]
            heapq.heapify(self._ends)

    def _unname(self, name: str, key: str) -> None:
        keys = self._by_name.get(name, [])
        if key in keys:
            keys.remove(key)
        if not keys:
            self._by_name.pop(name, None)

    def _drop_oldest(self) -> None:
        key, _ = self._entries.popitem(last=False)
        name, _, mark = key.rpartition("#")
        if mark != "session":
            self._unname(name, key)

    def _alive(self, key: str) -> Known | None:
        known = self._entries.get(key)
        return known if known is not None and known.until > self._clock.now() else None

    def _may_mean(self, key: str, at: datetime) -> bool:
        known = self._alive(key)
        return known is not None and known.may_begin(at, slack_seconds=self._settings.clock_slack_seconds)

    def _expire(self) -> None:
        """Forget what is past its time."""
        now = self._clock.now()
        while self._ends and self._ends[0][0] <= now:
            until, key = heapq.heappop(self._ends)
            known = self._entries.get(key)
            if known is not None and known.until == until:
                self._put(key, None)
        while self._by_command and next(iter(self._by_command.values()))[1] <= now:
            self._by_command.popitem(last=False)


def lifetime(at: datetime, seconds: float) -> datetime:
    """When an entry written now is past its time."""
    return at + timedelta(seconds=seconds)


def session_key(reference: str) -> str:
    """The entry of a session."""
    return f"{reference}{_SESSION_MARK}"


def name_key(connection: str, name: str, call_id: str) -> str:
    """The entry of a name that one call may go by."""
    return f"{connection}/{name}#{call_id}"
