"""Read actions on every replica and give them to the questions that wait here.

Every replica tails the whole topic without a group and skips by key, before decoding, what concerns no question of its
own. What it cannot place it leaves to the keeper; what it can place, it answers or refuses with a verdict. Notes among
the actions (`notes`) bring what waited for a question, or say that its answer is not wanted any more.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bridge.actions.claims import Claims
from bridge.actions.given import Given, Verdict, read_given
from bridge.actions.notes import Attach, Claim, Note, given_of, is_note, read_note
from bridge.actions.pending import Pending, Question
from bridge.actions.relay import Waiter
from bridge.actions.sockets import Line, Sockets
from bridge.actions.teller import Teller
from bridge.actions.tokens import Tokens
from bridge.actions.verdicts import Verdicts
from bridge.bus.protocol import Record, TailReader
from bridge.model.actions import Action, ActionStatus
from bridge.model.errors import Poison, Unavailable
from bridge.model.scrub import scrub
from bridge.providers.protocol import CanControl
from bridge.runtime.clock import Clock
from bridge.runtime.logging import get_logger
from bridge.runtime.metrics import Metrics

log = get_logger()


class RepliesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How actions are read."""

    poll_records: int = 500
    poll_seconds: float = 0.1
    fresh_seconds: float = 0.25
    """An unasked action that may be older is left to the keeper, who does not wait long for somebody to take it."""
    max_record_bytes: int = 262_144
    max_waiting_verdicts: int = 1000
    verdicts_at_once: int = 16


class RepliesTools(msgspec.Struct, frozen=True):
    """What answers are given with."""

    tokens: Tokens
    verdicts: Verdicts
    sockets: Sockets
    clock: Clock
    metrics: Metrics
    teller: Teller


class Replies:
    """From the actions topic to the open questions."""

    def __init__(self, pending: Pending[Waiter], tools: RepliesTools, settings: RepliesSettings) -> None:
        self._pending = pending
        self._tools = tools
        self._settings = settings
        self._read_at = tools.clock.monotonic()
        self._caught_up = True
        self._fresh = False
        self._claims = Claims(valid_seconds=settings.fresh_seconds)
        self._claiming: list[tuple[Given, str]] = []

    async def run(self, tail: TailReader) -> None:
        """Follow the topic until cancelled."""
        send, receive = anyio.create_memory_object_stream[Verdict](self._settings.max_waiting_verdicts)
        async with anyio.create_task_group() as tasks, send, receive:
            for _ in range(self._settings.verdicts_at_once):
                tasks.start_soon(self._say, receive.clone())
            while True:
                records = await self._fetch(tail)
                self._look_at_the_clock(len(records))
                for record in records:
                    if record.key is None or self._concerns(record.key):
                        await self._take(record, send)
                    else:
                        self._tools.metrics.foreign_actions.inc()
                for given, token in self._claiming:
                    note = Claim(token=token, offset=given.offset)
                    tasks.start_soon(self._tools.teller.tell, given.reference, given.partition, note)
                self._claiming.clear()

    def _look_at_the_clock(self, records: int) -> None:
        """What was just read is known to be fresh if the time before was a moment ago and left nothing."""
        now, settings = self._tools.clock.monotonic(), self._settings
        self._fresh = self._caught_up and now - self._read_at <= settings.fresh_seconds
        self._caught_up = records < settings.poll_records
        self._read_at = now

    def _concerns(self, key: bytes) -> bool:
        return self._pending.concerns(key) or self._tools.sockets.concerns(key)

    async def _fetch(self, tail: TailReader) -> Sequence[Record]:
        """The next records; none while Kafka is away."""
        try:
            return await tail.poll(max_records=self._settings.poll_records, timeout_seconds=self._settings.poll_seconds)
        except Unavailable as error:
            log.warning("poll.waits", topic="actions", error=error)
            await anyio.sleep(self._settings.poll_seconds)
            return ()

    async def _take(self, record: Record, send: MemoryObjectSendStream[Verdict]) -> None:
        try:
            if is_note(record):
                verdicts = self.noted(record.partition, *read_note(record, self._tools.tokens))
            else:
                verdicts = self.resolve(read_given(record, max_bytes=self._settings.max_record_bytes))
        except Poison:
            return  # the keeper puts it into dead letters, once
        for verdict in verdicts:
            await send.send(verdict)

    def noted(self, partition: int, reference: str, note: Note) -> list[Verdict]:
        """What is said to a question that may wait here."""
        claimed = None
        if isinstance(note, Claim):
            claimed = self._claims.read(f"{partition}-{note.offset}", note.token, self._tools.clock.monotonic())
        question = self._pending.by_token(note.token)
        if question is None or question.reference != reference or self._is_over(question):
            return []
        if isinstance(note, Attach):
            return _attach(question, given_of(note, reference))
        if isinstance(note, Claim):
            return [] if claimed is None else self._answer(question, claimed)
        if self._pending.close(question, "superseded"):
            question.waiter.end("superseded")
        return []

    def resolve(self, given: Given) -> list[Verdict]:
        """Give the actions to the question they answer. Empty: done, or not for this replica to say."""
        token = given.actions.in_reply_to
        line = self._tools.sockets.at(given.reference)
        if token is None and not self._fresh and (line is None or line.waits):
            return []  # where the provider never asks the keeper can do nothing meanwhile; else it may have begun
        said = None if line is None else self._say_at_once(line, given)
        if said is not None:
            return [said]
        if token is None:
            return self._unasked(given)
        question = self._pending.by_token(token)
        if question is None or question.reference != given.reference:
            return []  # not genuine for this session: the keeper rejects it, once
        return self._asked(question, given)

    def _asked(self, question: Question[Waiter], given: Given) -> list[Verdict]:
        match question.closed:
            case None:
                return self._answer(question, given)
            case "answered":
                return [_verdict(given, "superseded", "another_answer_came_first", question)]
            case "superseded":
                return [_verdict(given, "superseded", "newer_user_turn", question)]
            case "timed_out" | "caller_gone":
                return []  # the keeper knows another way, or that there is none

    def _unasked(self, given: Given) -> list[Verdict]:
        """Another replica may hold another question of the session: the log decides who takes it (`claims`)."""
        question = self._pending.newest_open(given.reference.encode())
        if question is None or not self._fresh:
            return []
        waiter = question.waiter
        if isinstance(waiter.provider, CanControl):
            try:
                waiter.provider.answer(waiter.heard, given.actions.actions)
            except Poison:
                return []  # no answer to this question; the keeper has it done in the live call
        self._claims.begin(given, question.token, self._tools.clock.monotonic())
        self._claiming.append((given, question.token))
        return []

    def _is_over(self, question: Question[Waiter]) -> bool:
        """Closed, or about to be: who was asleep meanwhile must not answer, for the keeper has taken it for silent."""
        return question.closed is not None or self._tools.clock.monotonic() > question.waiter.until

    def _say_at_once(self, line: Line, given: Given) -> Verdict | None:
        """Over the session's WebSocket: what nobody asked for, and what came too late. None: it goes the usual way."""
        token = given.actions.in_reply_to
        if token is None:
            question = self._pending.newest_open(given.reference.encode())
            if question is not None and line.waits:
                return None
        else:
            question = self._pending.by_token(token)
            if question is None or question.reference != given.reference or question.closed != "timed_out":
                return None
        try:
            said = line.say(given.actions.actions)
        except Poison as poison:
            return _verdict(given, "rejected", "invalid_for_provider", detail=str(poison))
        if not said:
            return None
        event_id = question.event_id if question is not None and token is not None else None
        status: ActionStatus = "delivered" if token is None else "delivered_late"
        return Verdict(given=given, status=status, event_id=event_id, delivered_by="websocket")

    def _answer(self, question: Question[Waiter], given: Given) -> list[Verdict]:
        """The provider's words for it; actions that it does not have leave the question open for better ones."""
        if self._is_over(question):
            return []
        waiter, own = question.waiter, given.actions.actions
        left_out: list[Verdict] = []
        used: tuple[Given, ...] = (*waiter.parked, given)
        try:
            answer = waiter.provider.answer(waiter.heard, own)
            if waiter.parked:
                try:
                    answer = waiter.provider.answer(waiter.heard, _together(used))
                except Poison as poison:
                    used = (given,)
                    reason, detail = "not_with_the_answer", str(poison)
                    left_out = [_verdict(each, "rejected", reason, question, detail=detail) for each in waiter.parked]
        except Poison as poison:
            return [_verdict(given, "rejected", "invalid_for_provider", question, detail=str(poison))]
        if self._pending.close(question, "answered"):
            waiter.fill(answer, used)
        return left_out

    async def _say(self, receive: MemoryObjectReceiveStream[Verdict]) -> None:
        async with receive:
            async for verdict in receive:
                await self._tools.verdicts.publish(verdict)


def _attach(question: Question[Waiter], parked: Given) -> list[Verdict]:
    """Put a record that waited in front of the answer to come; the same one only once."""
    waiter = question.waiter
    if any(each.place == parked.place for each in waiter.parked):
        return []
    try:
        waiter.parked_answer = waiter.provider.answer(waiter.heard, _together((*waiter.parked, parked)))
    except Poison as poison:
        return [_verdict(parked, "rejected", "invalid_for_provider", question, detail=str(poison))]
    waiter.parked.append(parked)
    return []


def _together(records: Sequence[Given]) -> list[Action]:
    return [action for each in records for action in each.actions.actions]


def _verdict(
    given: Given, status: ActionStatus, reason: str, question: Question[Waiter] | None = None, *, detail: str = ""
) -> Verdict:
    event_id = None if question is None else question.event_id
    return Verdict(given=given, status=status, reason=reason, event_id=event_id, detail=scrub(detail) or None)
