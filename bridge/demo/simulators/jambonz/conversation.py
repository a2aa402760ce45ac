"""One call with its callee: the statuses and hooks that jambonz posts, and what it does with the verbs it is given.

It promises the vendor's order of events (delivery may mix it, a script decides), that a webhook call whose verbs run out
is hung up, and that timers of a call that is over do nothing. Everything happens in callbacks of the loop.

Simplified: the callee speaks, presses keys and stays silent only while a `gather` listens, and interrupts a prompt only
where it has `bargein`; `dial` makes one leg that is answered or not; a verb that is not simulated takes no time.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol
from urllib.parse import urljoin

import msgspec

from bridge.demo.simulators import script
from bridge.demo.simulators.history import Call, History
from bridge.demo.simulators.jambonz import verbs
from bridge.demo.simulators.jambonz.rest import Order
from bridge.demo.simulators.jambonz.settings import JambonzSettings
from bridge.demo.simulators.jambonz.verbs import Object, Verb
from bridge.demo.simulators.script import Callee, Turn
from bridge.demo.simulators.timers import Timers
from bridge.demo.simulators.webhooks import Delivery

_RINGING = 0.1  # of the time until the callee acts
_CLIP_SECONDS = 2.0
_LEG_RINGS_SECONDS = 3.0
_SILENCE_SECONDS = 5.0
_REASONS: Mapping[int, str] = {100: "Trying", 180: "Trying", 200: "OK", 486: "Busy Here", 487: "Request Terminated"}
_ENDINGS: Mapping[int, str] = {486: "busy", 600: "busy", 603: "busy", 487: "no-answer"}


class Posted(msgspec.Struct, frozen=True):
    """One webhook to send: to which hook, under which name scripts and the history know it, and what it says."""

    hook: str
    name: str
    body: bytes
    nth: int
    nth_of_all: int


Answered = Callable[[Delivery], verbs.Reading]


class Stage(Protocol):
    """What a conversation is played on."""

    @property
    def settings(self) -> JambonzSettings:
        """The platform's."""
        ...

    @property
    def history(self) -> History:
        """Where everything is written down."""
        ...

    def send(self, conversation: Conversation, posted: Posted, answered: Answered) -> None:
        """Post a webhook, again where its hook asks for that; `answered` is called once with what came of it."""
        ...

    def over(self, conversation: Conversation) -> None:
        """Nothing more will happen in this call, but answers to what was sent may come."""
        ...


class Conversation:
    """From the INVITE to the end."""

    def __init__(self, stage: Stage, call: Call, *, callee: Callee, order: Order) -> None:
        self.call = call
        self.callee = callee
        self.is_over = False
        self.is_answered = False
        self.tag = order.tag
        self.record: Mapping[str, object] = {}
        """What a look-up shows: the last status, without nested values (the tag is one) and without times (contract 4)."""
        self._stage = stage
        self._order = order
        self._sip_call_id = str(uuid.uuid4())
        self._verbs: deque[Verb] = deque()
        self._turns: Iterator[Turn] = callee.each_turn()
        self._turns_done = 0
        self._sent: Counter[str] = Counter()
        self._timers = Timers(stage.settings.speed)

    @property
    def sip_call_id(self) -> str:
        """The `callId` of the 201."""
        return self._sip_call_id

    @property
    def socket_url(self) -> str | None:
        """Where the application is reached by WebSocket; None: by webhooks."""
        hook = self._order.call_hook or ""
        return hook if hook.startswith("ws") else None

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password of the application's hook."""
        return self._order.login

    def command(self, name: str, reading: verbs.Reading, *, queued: bool) -> None:
        """Something that the application says over its WebSocket without being asked."""
        if self.is_over or name != "redirect" or not reading.verbs:
            return
        self.call.actions += len(reading.verbs)
        if queued:
            self._verbs.extend(reading.verbs)
        else:
            self._timers.cancel("verb")
            self._verbs = deque(reading.verbs)
        self._step()

    def cut_off(self) -> None:
        """The application's WebSocket is gone for good."""
        self.end("platform")

    # ---- the call

    def ring(self, refusal: int | None) -> None:
        """The INVITE leaves; the callee answers, refuses with this SIP status, or does nothing until time is up."""
        self._status("trying", 100)
        rings = min(self.callee.rings_seconds, float(self._order.timeout_seconds))
        self._timers.after(rings * _RINGING, "ringing", self._status, "ringing", 180)
        if refusal is not None:
            self._timers.after(rings, "answer", self.end, "callee", refusal)
        elif self.callee.answers and self.callee.rings_seconds <= self._order.timeout_seconds:
            self._timers.after(rings, "answer", self.pick_up)
        else:
            self._timers.after(float(self._order.timeout_seconds), "answer", self.end, "platform", 487)

    def pick_up(self) -> None:
        """The callee (or, inbound, the platform) answers."""
        self.is_answered = True
        self._timers.cancel("ringing")
        self._stage.history.call_answered(self.call)
        self._status("in-progress", 200)
        if self._order.amd_hook is not None:
            self._detect(self._order.amd_hook)
        self._live()
        if self._order.call_hook is not None:
            label = {"vendor": "google", "language": "en-US"}
            self.ask(self._order.call_hook, "call_hook", defaults={"synthesizer": label, "recognizer": label})
        elif self.callee.turns:  # somebody else's application: they talk for a while
            self._timers.after(sum(turn.after_seconds for turn in self.callee.turns), "verb", self.end, "callee")

    def end(self, by: str, sip_status: int = 200) -> None:
        """Hang up, or never be answered; `by` agent, callee or platform."""
        if self.is_over:
            return
        self.is_over = True
        self.abandon()
        if self.is_answered:
            who = "caller" if by == "callee" else "jambonz"
            self._status("completed", 200, call_termination_by=who, duration=self._duration())
        else:
            self._status(_ENDINGS.get(sip_status, "failed"), sip_status)
        self._stage.history.call_ends(self.call, state="ended" if self.is_answered else "unanswered", by=by)
        self._stage.over(self)

    def abandon(self) -> None:
        """Forget all timers."""
        self._timers.close()

    def _duration(self) -> int:
        began = self.call.answered
        return 0 if began is None else max(1, round((time.monotonic() - began.monotonic) * self._stage.settings.speed))

    def _live(self) -> None:
        """The callee bears only so long that nothing happens."""
        self._timers.after(self.callee.patience_seconds, "patience", self.end, "callee")

    # ---- webhooks

    def ask(self, hook: str, name: str, **fields: object) -> None:
        """Post to a hook that answers with verbs."""
        is_first = name == "call_hook"

        def answered(delivery: Delivery) -> verbs.Reading:
            reading = verbs.read_answer(delivery)
            self._note(reading, name)
            if self.is_over:
                return reading
            if reading.failed and is_first:
                self.end("platform")
            else:
                self._take(reading)
            return reading

        self._post(hook, name, answered, **fields)

    def _take(self, reading: verbs.Reading) -> None:
        if reading.breach is not None and not reading.failed:
            self._status("in-progress", 200, error="invalid verbs", reason=reading.breach)
        if not reading.failed:
            self._timers.cancel("verb")  # of a redirect from outside: what is being done ends
        if reading.verbs:  # else: carry on with what is left
            self._verbs = deque(reading.verbs)
            self.call.actions += len(reading.verbs)
        self._step()

    def _status(self, status: str, sip_status: int, **fields: object) -> None:
        facts = {"call_status": status, "sip_status": sip_status, "sip_reason": _REASONS.get(sip_status, "Failed")}
        if "call_sid" not in fields and "error" not in fields:
            told = {**self._base(), **facts, **fields}
            self.record = {name: value for name, value in told.items() if isinstance(value, str | int)}
        for hook in self._order.status_hooks:
            self._post(hook, status, self._told, **(facts | fields))

    def _told(self, delivery: Delivery) -> verbs.Reading:
        """The body of an answer to a status is ignored, but 201, redirects and JSON without JSON are wrong (contract 6)."""
        reading = verbs.read_answer(delivery)
        self._note(reading, "status")
        return msgspec.structs.replace(reading, verbs=())

    def _note(self, reading: verbs.Reading, name: str) -> None:
        if reading.breach is not None:
            self._stage.history.breach(
                "answer", f"{name}: {reading.breach}", number=self.call.number, session=self.call.session
            )

    def _detect(self, hook: str) -> None:
        found, reason = ("human", "short greeting") if not self.callee.is_machine else ("machine", "long greeting")
        kind = f"amd_{found}_detected"
        self._post(hook, kind, self._told, type=kind, reason=reason, greeting="hello")
        self._post(hook, "amd_stopped", self._told, type="amd_stopped")

    def _post(self, hook: str, name: str, answered: Answered, **fields: object) -> None:
        body = self._base() | fields
        self._sent[name] += 1
        url = hook if self.socket_url else urljoin(self._order.call_hook or "", hook)
        nth, nth_of_all = self._sent[name], self._sent.total()
        self._stage.send(self, Posted(url, name, msgspec.json.encode(body), nth, nth_of_all), answered)

    def _base(self) -> dict[str, object]:
        settings, order = self._stage.settings, self._order
        outbound = self.call.direction == "outbound"
        optional = {"application_sid": order.application_sid, "customerData": self.tag}
        return {
            "call_sid": self.call.session,
            "direction": self.call.direction,
            "from": order.caller if outbound else order.number,
            "to": order.number if outbound else settings.number,
            "call_id": self._sip_call_id,
            "sip_status": 200,
            "sip_reason": "OK",
            "call_status": "in-progress",
            "account_sid": settings.account_sid,
            "trace_id": uuid.uuid4().hex,
            **{name: value for name, value in optional.items() if value is not None},
        }

    # ---- verbs

    def _step(self) -> None:
        """Begin the next verb; without one the call is over."""
        if self.is_over or "verb" in self._timers:
            return
        self._live()
        if not self._verbs:
            if self.socket_url:
                return  # it waits for commands
            self._stage.history.count("calls.ran_out_of_verbs")
            self.end("platform")
            return
        verb = self._verbs.popleft()
        self._stage.history.tell("verb", number=self.call.number, session=self.call.session, detail=verb.name)
        self._do(verb)

    def redirect(self, hook: str) -> None:
        """A PUT `call_hook`: what that hook answers replaces what is being done."""
        self.ask(hook, "redirect")

    def _do(self, verb: Verb) -> None:
        match verb.name:
            case "say" | "play":
                self._timers.after(self._heard(verb.name, verb.properties), "verb", self._step)
            case "pause":
                self._timers.after(float(verb.properties["length"]), "verb", self._step)
            case "redirect":
                self.ask(str(_url(verb.properties["actionHook"])), "redirect")
            case "hangup":
                self.end("agent")
            case "gather":
                self._gather(verb.properties)
            case "dial":
                self._dial(verb.properties)
            case "tag":
                self.tag = verb.properties["data"]
                self._timers.after(0, "verb", self._step)
            case _:
                self._timers.after(0, "verb", self._step)

    def _heard(self, name: str, properties: Object) -> float:
        """Write down what is said or played; how long it takes."""
        settings = self._stage.settings
        text = str(properties.get("text", ""))
        self._stage.history.said(self.call, "agent", text or f"({name} {properties.get('url')})")
        if name == "play":
            return _CLIP_SECONDS
        return max(settings.shortest_speech_seconds, len(text) * settings.seconds_per_character)

    def _gather(self, properties: Object) -> None:
        prompt = next((name for name in ("say", "play") if name in properties), None)
        seconds = self._heard(prompt, properties[prompt]) if prompt else 0.0
        turn = next(self._turns, script.StaySilent())
        if isinstance(turn, script.Interrupt) and properties.get("bargein") and turn.after_seconds < seconds:
            self._timers.after(turn.after_seconds, "verb", lambda: self._act(turn, properties))
        elif isinstance(turn, script.StaySilent):
            silence = float(properties.get("timeout") or _SILENCE_SECONDS)
            self._timers.after(seconds + silence, "verb", lambda: self._act(turn, properties))
        else:
            self._timers.after(seconds + turn.after_seconds, "verb", lambda: self._act(turn, properties))

    def _act(self, turn: Turn, gather: Object) -> None:
        """The callee's turn, as the gather understands it."""
        self._turns_done += 1
        hook = _url(gather.get("actionHook"))
        ends = self.callee.hangs_up_after_turns is not None and self._turns_done >= self.callee.hangs_up_after_turns
        if isinstance(turn, script.HangUp) or ends:
            self.end("callee")
        elif hook is None:
            self._step()
        else:
            self.ask(hook, "gather", **self._understood(turn, gather.get("input") or ["digits"]))

    def _understood(self, turn: Turn, listens_for: list[str]) -> dict[str, object]:
        match turn:
            case script.Say(text=text) | script.Interrupt(text=text) if "speech" in listens_for:
                self._stage.history.said(self.call, "callee", text)
                best = {"transcript": text, "confidence": 0.93}
                speech = {"language_code": "en-US", "channel_tag": 1, "is_final": True, "alternatives": [best]}
                return {"reason": "speechDetected", "speech": speech}
            case script.Press(digits=digits) if "digits" in listens_for:
                return {"reason": "dtmfDetected", "digits": digits}
            case _:
                return {"reason": "timeout"}

    def _dial(self, properties: Object) -> None:
        """One leg, with statuses of its own; our hook is asked when it is over."""
        leg, hook = str(uuid.uuid4()), _url(properties.get("actionHook"))
        answers = self.callee.transfer_succeeds
        self._leg(leg, "trying", 100)
        seconds = _LEG_RINGS_SECONDS if answers else float(properties.get("timeout") or _LEG_RINGS_SECONDS)

        def over() -> None:
            self._leg(leg, "completed" if answers else "no-answer", 200 if answers else 487)
            if hook is None:
                self._step()
                return
            result = {"dial_call_status": "completed" if answers else "no-answer", "dial_call_sid": leg}
            self.ask(hook, "dial", **result, dial_sip_status=200 if answers else 487)

        self._timers.after(seconds, "verb", over)

    def _leg(self, leg: str, status: str, sip_status: int) -> None:
        self._status(status, sip_status, call_sid=leg, parent_call_sid=self.call.session)


def _url(hook: object) -> str | None:
    if isinstance(hook, dict):
        hook = hook.get("url")
    return hook if isinstance(hook, str) else None
