"""One call with its callee: the statuses and requests that Twilio posts, and what it does with the TwiML it is given.

It promises the vendor's order of statuses with their `SequenceNumber` (delivery may mix them, a script decides), that a
call whose verbs run out or whose application fails is hung up, and that timers of a call that is over do nothing.

Simplified: the callee speaks, presses keys and stays silent only while a `Gather` listens, and interrupts a prompt only
there; `Dial` makes one leg without statuses; a verb that is not simulated takes no time.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Protocol
from urllib.parse import urlencode, urljoin

import msgspec

from bridge.demo.simulators import script
from bridge.demo.simulators.history import Call, History
from bridge.demo.simulators.script import Callee, Turn
from bridge.demo.simulators.timers import Timers
from bridge.demo.simulators.twilio import twiml
from bridge.demo.simulators.twilio.rest import Order
from bridge.demo.simulators.twilio.settings import TwilioSettings
from bridge.demo.simulators.twilio.twiml import Reading, Verb
from bridge.demo.simulators.webhooks import Delivery

_RINGING = 0.1  # of the time until the callee acts
_CLIP_SECONDS, _LEG_RINGS_SECONDS, _RECORD_SECONDS = 2.0, 3.0, 3.0
_SILENCE_SECONDS = 5.0
_BUSY = {486, 600, 603}


class Posted(msgspec.Struct, frozen=True):
    """One webhook to send: where, under which name scripts and the history know it, and what it says."""

    url: str
    name: str
    body: bytes
    nth: int
    nth_of_all: int
    answered: Callable[[Delivery], Reading]
    """Called once, with what came of it."""


class Stage(Protocol):
    """What a conversation is played on."""

    @property
    def settings(self) -> TwilioSettings:
        """The platform's."""
        ...

    @property
    def history(self) -> History:
        """Where everything is written down."""
        ...

    def post(self, conversation: Conversation, posted: Posted) -> None:
        """Send a webhook, again where its URL asks for that."""
        ...


class Conversation:
    """From the first signal to the end."""

    def __init__(self, stage: Stage, call: Call, *, callee: Callee, order: Order) -> None:
        self.call = call
        self.callee = callee
        self.status = "queued"
        self._stage = stage
        self._order = order
        self._document = order.url or ""
        self._verbs: deque[Verb] = deque()
        self._turns: Iterator[Turn] = callee.each_turn()
        self._turns_done = 0
        self._sequence = itertools.count()
        self._asked = 0
        self._sent: Counter[str] = Counter()
        self._timers = Timers(stage.settings.speed)

    # ---- the call

    @property
    def is_over(self) -> bool:
        """Nothing more happens."""
        return self.call.ended is not None

    def ring(self, refusal: int | None) -> None:
        """The call leaves; the callee answers, refuses with this SIP status, or does nothing until time is up."""
        self._tell("initiated")
        patience = float(self._order.timeout_seconds)
        rings = min(self.callee.rings_seconds, patience)
        self._timers.after(rings * _RINGING, "ringing", lambda: self._tell("ringing"))
        if refusal is not None:
            self._timers.after(rings, "answer", lambda: self.end("callee", sip_status=refusal))
        elif self.callee.answers and self.callee.rings_seconds <= patience:
            self._timers.after(rings, "answer", self.pick_up)
        else:
            self._timers.after(patience, "answer", lambda: self.end("platform", sip_status=487))

    def arrive(self) -> None:
        """Somebody calls the account's number: it rings until there is TwiML, unless that refuses."""
        self.status = "ringing"
        self._live()
        self._begin({})

    def pick_up(self) -> None:
        """The callee answers."""
        self._timers.cancel("ringing")
        self._stage.history.call_answered(self.call)
        self._tell("in-progress", wanted="answered")
        self._live()
        found = {"AnsweredBy": "machine_start" if self.callee.is_machine else "human"}
        if self._order.detects and self._order.detection_callback is None:
            self._timers.after(self._stage.settings.detection_seconds, "verb", lambda: self._begin(found))
            return
        if self._order.detection_callback is not None:
            self._timers.after(self._stage.settings.detection_seconds, "detection", lambda: self._detected(found))
        self._begin({})

    def cancel(self) -> None:
        """By us, while it rings."""
        self.end("agent", status="canceled", sip_status=487)

    def end(self, by: str, *, sip_status: int = 200, status: str | None = None) -> None:
        """Hang up, or never be answered; `by` agent, callee or platform."""
        if self.is_over:
            return
        self._timers.close()
        was_answered = self.call.answered is not None
        seconds = self._duration()
        final = status or ("completed" if was_answered else self._unanswered(sip_status))
        minutes = str(-(-seconds // 60))
        fields = {"Duration": minutes, "CallDuration": str(seconds), "SipResponseCode": str(sip_status)}
        self._tell(final, wanted="completed", **fields)
        if was_answered and self._order.recording_callback is not None:
            self._recorded(self._order.recording_callback, seconds)
        self._stage.history.call_ends(self.call, state="ended" if was_answered else "unanswered", by=by)

    def abandon(self) -> None:
        """Forget all timers."""
        self._timers.close()

    @staticmethod
    def _unanswered(sip_status: int) -> str:
        if sip_status in _BUSY:
            return "busy"
        return "no-answer" if sip_status == 487 else "failed"  # noqa: PLR2004 - Request Terminated

    def _duration(self) -> int:
        began = self.call.answered
        return 0 if began is None else max(1, round((time.monotonic() - began.monotonic) * self._stage.settings.speed))

    def _live(self) -> None:
        """The callee bears only so long that nothing happens."""
        self._timers.after(self.callee.patience_seconds, "patience", lambda: self.end("callee"))

    # ---- webhooks

    def _begin(self, fields: Mapping[str, str]) -> None:
        if self._order.twiml is not None:
            self.take(twiml.read_document(self._order.twiml))
        elif self._order.url is not None:
            self.ask(self._order.url, "call", **fields)
        else:
            self.end("platform")

    def ask(self, url: str, name: str, **fields: str) -> None:
        """Ask an application what to do next; an answer that something else has overtaken counts no more."""
        self._timers.cancel("verb")
        self._asked += 1
        asked, target = self._asked, urljoin(self._document, url)
        self._document = target

        def answered(delivery: Delivery) -> Reading:
            reading = twiml.read_answer(delivery)
            self._note(reading, name)
            if self.is_over or asked != self._asked:
                return reading
            if reading.failed:
                self._stage.history.count("calls.application_errors")
                self.end("platform")
            else:
                self.take(reading)
            return reading

        self._post(target, name, answered, fields)

    def take(self, reading: Reading) -> None:
        """Do this from now on, in place of what is being done."""
        self._asked += 1
        self._timers.cancel("verb")
        if self.call.answered is None and not (reading.verbs and reading.verbs[0].name == "Reject"):
            self._stage.history.call_answered(self.call)
            self._tell("in-progress", wanted="answered")
        self._verbs = deque(reading.verbs)
        self.call.actions += len(reading.verbs)
        self._step()

    def _tell(self, status: str, *, wanted: str | None = None, **fields: str) -> None:
        self.status = status
        number = str(next(self._sequence))
        if self._order.status_callback is None or (wanted or status) not in self._order.status_events:
            return
        moment = format_datetime(datetime.now(UTC))
        told = {"CallbackSource": "call-progress-events", "SequenceNumber": number, "Timestamp": moment}
        self._post(self._order.status_callback, status, self._heard_of, {**told, **fields})

    def _heard_of(self, delivery: Delivery) -> Reading:
        """The answer to a status is not read; a refusal of ours is still wrong."""
        is_ours = delivery.status is not None and 400 <= delivery.status < 500  # noqa: PLR2004 - errors of the client
        reading = Reading(breach=f"status {delivery.status}" if is_ours else None)
        self._note(reading, "status")
        return reading

    def _note(self, reading: Reading, name: str) -> None:
        if reading.breach is not None:
            told = f"{name}: {reading.breach}"
            self._stage.history.breach("answer", told, number=self.call.number, session=self.call.session)

    def _detected(self, found: Mapping[str, str]) -> None:
        took = {"MachineDetectionDuration": str(round(self._stage.settings.detection_seconds * 1000))}
        self._post(str(self._order.detection_callback), "amd", self._heard_of, {**found, **took}, bare=True)

    def _recorded(self, url: str, seconds: int) -> None:
        fields = {"RecordingStatus": "completed", "RecordingDuration": str(seconds), "RecordingSource": "OutboundAPI"}
        self._post(url, "recording", self._heard_of, {**self._recording(), **fields}, bare=True)

    def _recording(self) -> dict[str, str]:
        sid = f"RE{uuid.uuid4().hex}"
        url = f"https://api.twilio.com/2010-04-01/Accounts/{self._stage.settings.account_sid}/Recordings/{sid}"
        return {"RecordingSid": sid, "RecordingUrl": url}

    def _post(
        self,
        url: str,
        name: str,
        answered: Callable[[Delivery], Reading],
        fields: Mapping[str, str],
        *,
        bare: bool = False,
    ) -> None:
        base = {"AccountSid": self._stage.settings.account_sid, "CallSid": self.call.session}
        body = urlencode({**base, **({} if bare else self._parties()), **fields}).encode()
        self._sent[name] += 1
        self._stage.post(self, Posted(url, name, body, self._sent[name], self._sent.total(), answered))

    def _parties(self) -> dict[str, str]:
        outbound = self.call.direction == "outbound"
        theirs, ours = self._order.number, self._order.caller
        caller, called = (ours, theirs) if outbound else (theirs, ours)
        return {
            "ApiVersion": "2010-04-01",
            "CallStatus": self.status,
            "Direction": "outbound-api" if outbound else "inbound",
            "From": caller,
            "Caller": caller,
            "To": called,
            "Called": called,
            "ToCity": "",
        }

    # ---- verbs

    def _step(self) -> None:
        """Begin the next verb; without one the call is over."""
        if self.is_over:
            return
        self._live()
        if not self._verbs:
            self._stage.history.count("calls.ran_out_of_verbs")
            self.end("platform")
            return
        verb = self._verbs.popleft()
        self._stage.history.tell("verb", number=self.call.number, session=self.call.session, detail=verb.name)
        self._do(verb)

    def _do(self, verb: Verb) -> None:
        match verb.name:
            case "Say" | "Play":
                self._timers.after(self._heard(verb), "verb", self._step)
            case "Pause":
                self._timers.after(float(verb.attributes.get("length", "1")), "verb", self._step)
            case "Redirect":
                self.ask(verb.text, "redirect")
            case "Hangup" | "Reject":
                self.end("agent", sip_status=200 if verb.name == "Hangup" else 486)
            case "Gather":
                self._gather(verb)
            case "Dial":
                self._dial(verb)
            case "Record":
                asked = {**self._recording(), "RecordingDuration": "3", "Digits": "#"}
                self._then(_RECORD_SECONDS, verb, "record", asked)
            case _:
                self._timers.after(0, "verb", self._step)

    def _heard(self, verb: Verb) -> float:
        """Write down what is said or played; how long it takes."""
        settings = self._stage.settings
        if verb.name == "Pause":
            return float(verb.attributes.get("length", "1"))
        if verb.name == "Play":
            what = verb.text or verb.attributes.get("digits", "")
            self._stage.history.said(self.call, "agent", f"(plays {what})")
            return _CLIP_SECONDS
        self._stage.history.said(self.call, "agent", verb.text)
        return max(settings.shortest_speech_seconds, len(verb.text) * settings.seconds_per_character)

    def _gather(self, verb: Verb) -> None:
        seconds = sum(map(self._heard, verb.inner))
        turn = next(self._turns, script.StaySilent())
        silence = float(verb.attributes.get("timeout", _SILENCE_SECONDS))
        interrupts = isinstance(turn, script.Interrupt) and verb.attributes.get("bargeIn") != "false"
        if interrupts and turn.after_seconds < seconds:
            wait = turn.after_seconds
        else:
            wait = seconds + (silence if isinstance(turn, script.StaySilent) else turn.after_seconds)
        self._timers.after(wait, "verb", lambda: self._act(turn, verb))

    def _act(self, turn: Turn, gather: Verb) -> None:
        """The callee's turn, as the gather understands it."""
        self._turns_done += 1
        ends = self.callee.hangs_up_after_turns is not None and self._turns_done >= self.callee.hangs_up_after_turns
        if isinstance(turn, script.HangUp) or ends:
            self.end("callee")
            return
        understood = self._understood(turn, gather)
        if understood is None and gather.attributes.get("actionOnEmptyResult") != "true":
            self._step()
        else:
            self.ask(gather.attributes.get("action", self._document), "gather", **(understood or {"Digits": ""}))

    def _understood(self, turn: Turn, gather: Verb) -> dict[str, str] | None:
        listens_for = gather.attributes.get("input", "dtmf").split()
        match turn:
            case script.Say(text=text) | script.Interrupt(text=text) if "speech" in listens_for:
                self._stage.history.said(self.call, "callee", text)
                return {"SpeechResult": text, "Confidence": "0.93", "Language": "en-US"}
            case script.Press(digits=digits) if "dtmf" in listens_for:
                ends_with = gather.attributes.get("finishOnKey", "#")
                typed = digits.partition(ends_with)[0] if ends_with else digits
                return {"Digits": typed[: int(gather.attributes.get("numDigits", len(typed)))]}
            case _:
                return None

    def _dial(self, verb: Verb) -> None:
        """One leg; the action is asked when it is over, and without one the next verb is done."""
        succeeds = self.callee.transfer_succeeds
        seconds = _LEG_RINGS_SECONDS if succeeds else float(verb.attributes.get("timeout", _LEG_RINGS_SECONDS))
        bridged = "true" if succeeds else "false"
        told = {"DialCallStatus": "completed" if succeeds else "no-answer", "DialBridged": bridged}
        self._then(seconds, verb, "dial", {**told, "DialCallSid": f"CA{uuid.uuid4().hex}"})

    def _then(self, seconds: float, verb: Verb, name: str, fields: dict[str, str]) -> None:
        action = verb.attributes.get("action")
        self._timers.after(seconds, "verb", self._step if action is None else lambda: self.ask(action, name, **fields))
