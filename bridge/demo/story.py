"""What records and the simulator's doings mean: each becomes a line for the timeline and counts as a fact.

It promises that nothing is shown with a phone number in clear, and that what cannot be read is shown as trouble rather
than left out. Reading the sources is `sources`' part, judging the facts is `summary`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from bridge.bus.protocol import Record
from bridge.demo.simulators.history import Happening
from bridge.demo.timeline import Line, Step
from bridge.ledger import records
from bridge.model.actions import Action, ActionResult, InjectContext, Play, Speak, action_type
from bridge.model.codec import decode_actions, decode_command, open_envelope
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.errors import Poison
from bridge.model.events import (
    Detected,
    Ended,
    Event,
    Parties,
    Pressed,
    Progress,
    Said,
    ToolCalls,
    VerbResult,
    event_type,
)
from bridge.model.results import CallInitiated, CallRefused, CallUnknown, Result, result_type
from bridge.model.scrub import mask_number, scrub
from bridge.runtime.settings import Topics

_LONGEST_WORDS = 70
_event = msgspec.json.Decoder(Event)
_result = msgspec.json.Decoder(Result)
_verdict = msgspec.json.Decoder(ActionResult)
_happening = msgspec.json.Decoder(Happening)


class Story:
    """Everything that happened so far.

    Attributes:
        counts: `dials`, `webhooks`, `answers`, `events`, `events.ours`, `questions`, `actions`, `actions.unasked`,
            `verdicts`, `verdicts.delivered`, `delivered.answer`, `delivered.control`, `calls.over`.
        owned: the partitions of the ledger that a lane has fenced.
        results: by command id, the latest.
        troubles: what should not happen in a demo.
    """

    def __init__(self, topics: Topics, *, command_id: str) -> None:
        """`command_id`: whose events are `events.ours`, if they bring its metadata back."""
        self._command_id = command_id
        self.counts: Counter[str] = Counter()
        self.owned: set[int] = set()
        self.results: dict[str, Result] = {}
        self.troubles: list[str] = []
        self._ends: Counter[int] = Counter()
        self._readers: dict[str, Callable[[Record], tuple[Step, str] | None]] = {
            topics.commands.name: self._command,
            topics.ledger.name: self._ledger,
            topics.results.name: self._result,
            topics.events.name: self._event,
            topics.actions.name: self._actions,
            topics.action_results.name: self._verdict,
            topics.dead_letters.name: self._dead_letter,
        }

    @property
    def topics(self) -> Sequence[str]:
        """Those whose records tell the story."""
        return tuple(self._readers)

    def record(self, record: Record) -> Line | None:
        """Take in a record of one of the topics."""
        try:
            told = self._readers[record.topic](record)
        except (Poison, msgspec.DecodeError) as error:  # the bridge says what it thinks of it in dead letters
            told = Step.TROUBLE, f"{record.topic}: cannot be read: {scrub(str(error))}"
        if told is None:
            return None
        return Line(record.timestamp_ms / 1000, *told, is_start=told[0] is Step.COMMAND)

    def line(self, text: str) -> Line | None:
        """Take in one line of the simulator's output; what is no happening is passed over."""
        if not text.startswith("{"):
            return None
        happening = _happening.decode(text)
        told = self._told(happening)
        return None if told is None else Line(happening.at, *told)

    # -- topics -----------------------------------------------------------------------------------------------------

    def _command(self, record: Record) -> tuple[Step, str]:
        match decode_command(open_envelope(record.value, record.headers)):
            case PlaceCall() as place:
                whom = f"{mask_number(place.to)} through connection {place.connection}"
                return Step.COMMAND, f"{place.type} {place.command_id}: call {whom}"
            case CancelCall() as cancel:
                return Step.COMMAND, f"{cancel.type} {cancel.command_id}"

    def _ledger(self, record: Record) -> tuple[Step, str] | None:
        is_next = record.offset == self._ends[record.partition]
        self._ends[record.partition] = record.offset + 1
        if record.value is None:
            return None
        entry = records.decode(record.value)
        where = f"{records.key_of(entry).decode()} at offset {record.offset}"
        match entry:
            case records.Fence():
                self.owned.add(record.partition)
                return None
            case records.Sending():
                return Step.CLAIM, f"{'claim counted' if is_next else 'claim, behind a gap'}: {where}"
            case records.Settled(outcome=outcome) if outcome is not None:
                return Step.SETTLED, f"settled, {outcome.__struct_config__.tag}: {where}"
            case records.Settled():
                return Step.SETTLED, f"settled without a dial: {where}"
            case records.Unsure():
                return Step.SETTLED, f"nobody knows whether it was dialled: {where}"
            case records.Deferred():
                return Step.SETTLED, f"not due yet: {where}"

    def _result(self, record: Record) -> tuple[Step, str]:
        result = _result.decode(record.value or b"")
        self.results[result.command_id] = result
        match result:
            case CallInitiated():
                said = f"attempt {result.attempts}, answered in {result.duration_ms or 0} ms"
            case CallRefused() | CallUnknown():
                said = ": ".join(filter(None, (result.reason, result.detail)))
            case _:
                said = "not dialled"
        return Step.RESULT, f"{result_type(result)} {result.command_id}: {said}"

    def _event(self, record: Record) -> tuple[Step, str]:
        event = _event.decode(record.value or b"")
        self.counts["events"] += 1
        self.counts["events.ours"] += event.command_id == self._command_id and bool(event.metadata)
        said = _said(event)
        if event.reply is None:
            return Step.EVENT, f"{event_type(event)}{said}"
        self.counts["questions"] += 1
        seconds = (event.reply.by - event.received_at).total_seconds()
        return Step.EVENT, f"{event_type(event)}{said}; waits {seconds:g} s for an action"

    def _actions(self, record: Record) -> tuple[Step, str]:
        given = decode_actions(open_envelope(record.value, record.headers))
        self.counts["actions"] += 1
        self.counts["actions.unasked"] += given.in_reply_to is None
        return Step.ACTION, ", ".join(map(_action, given.actions)) or "nothing to do"

    def _verdict(self, record: Record) -> tuple[Step, str]:
        verdict = _verdict.decode(record.value or b"")
        self.counts["verdicts"] += 1
        self.counts[f"verdicts.{verdict.status}"] += 1
        self.counts[f"{verdict.status}.{verdict.delivered_by}"] += 1
        why = (
            f"by {verdict.delivered_by}"
            if verdict.delivered_by
            else ": ".join(filter(None, (verdict.reason, verdict.detail)))
        )
        return Step.VERDICT, f"{verdict.status} {why}".rstrip()

    def _dead_letter(self, record: Record) -> tuple[Step, str]:
        known = {name: value.decode("utf-8", "replace") for name, value in record.headers}
        source, field, found, allowed = (
            known.get(f"dlq_{name}", "?") for name in ("source", "field", "found", "allowed")
        )
        return self._trouble(f"dead letter from {source}: {field}: found {found}; allowed: {allowed}")

    # -- simulator --------------------------------------------------------------------------------------------------

    def _told(self, happening: Happening) -> tuple[Step, str] | None:
        detail = happening.detail or ""
        match happening.what:
            case "dial received":
                self.counts["dials"] += 1
                number = mask_number(f"+{happening.number}")
                return Step.DIAL, f"provider dials {number}, answers {'that it does' if detail == 'placed' else detail}"
            case "answered":
                return Step.PHONE, "somebody picks up"
            case "agent says" | "callee says" as what:
                return Step.PHONE, f"{what} {_words(detail)}"
            case "webhook":
                self.counts["webhooks"] += 1
                return Step.WEBHOOK, detail
            case "webhook answered":
                self.counts["answers"] += 1
                return Step.ANSWER, detail
            case "call over":
                self.counts["calls.over"] += 1
                return Step.OVER, f"call over: {detail}"
            case "violation":
                return self._trouble(f"the provider's contract is broken: {scrub(detail)}")
            case _:  # `action`: what the answer says as well
                return None

    def _trouble(self, text: str) -> tuple[Step, str]:
        self.troubles.append(text)
        return Step.TROUBLE, text


def _said(event: Event) -> str:
    """What is worth reading of an event, behind its type."""
    match event.data:
        case Parties(direction=direction) | Progress(direction=direction):
            return f" ({direction}, command {event.command_id or 'unknown'})"
        case Said(text=text):
            return f" {_words(text)}"
        case Pressed(digit=digit):
            return f" {digit}"
        case ToolCalls(calls=calls):
            return f" {', '.join(call.name for call in calls)}"
        case VerbResult(digits=str() as digits):
            return f" {digits}"
        case Detected(verdict=verdict):
            return f" {verdict}"
        case Ended(reason=reason):
            return f" ({reason})"
        case _:
            return ""


def _action(action: Action) -> str:
    match action:
        case Speak(text=text, ssml=ssml):
            return f"speak {_words(text or ssml or '')}"
        case Play():
            return "play audio"
        case InjectContext(text=text):
            return f"inject_context {_words(text)}"
        case _:
            return action_type(action)


def _words(text: str) -> str:
    return f'"{scrub(text, longest=_LONGEST_WORDS)}"'
