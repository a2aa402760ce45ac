"""One call with its callee: what the platform tells the webhook, and what it does with the answers.

It promises the vendor's order of events, and that timers of a call that is over do nothing. Everything happens in
callbacks of the loop, with no task of its own; sending is left to the stage.

Where the vendor is silent this is assumed: an interrupted speech ends without `assistant_speech_ended` and drops what
was queued behind it; speeches queue up; `barge_in` drops what was queued before it; audio announces its end only. Over
a WebSocket nobody waits for answers.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec

from bridge.demo.simulators import script
from bridge.demo.simulators.history import Call, History
from bridge.demo.simulators.script import Callee, Turn
from bridge.demo.simulators.sipgate import wire
from bridge.demo.simulators.sipgate.settings import Flow, SipgateSettings
from bridge.demo.simulators.timers import Timers
from bridge.demo.simulators.webhooks import Delivery

_BYTES_PER_SECOND = 32_000 * 4 / 3  # 16 kHz, 16 bit, mono, in base64
_SMS_FAILS_AFTER_SECONDS = 0.5
_TRANSFER_RINGS_SECONDS = 5.0


class Stage(Protocol):
    """What a conversation is played on."""

    @property
    def settings(self) -> SipgateSettings:
        """The platform's."""
        ...

    @property
    def history(self) -> History:
        """Where everything is written down."""
        ...

    def send(self, conversation: Conversation, event: str, body: bytes, *, nth: int, nth_of_all: int) -> None:
        """Post a webhook; `Conversation.answered` is called once with what came of it."""
        ...

    def over(self, conversation: Conversation) -> None:
        """Nothing more will happen in this call, but answers to what was sent may come."""
        ...

    def by_socket(self, conversation: Conversation) -> bool:
        """Whether its events go over a WebSocket."""
        ...


class Conversation:
    """From picking up to the end."""

    def __init__(self, stage: Stage, call: Call, *, callee: Callee, flow: Flow) -> None:
        self.call = call
        self.callee = callee
        self.flow = flow
        self.is_over = False
        self._stage = stage
        self._deaf = False  # the platform has stopped listening
        self._playing: wire.Speak | wire.Audio | None = None
        self._queue: deque[wire.Action] = deque()
        self._turns: Iterator[Turn] = callee.each_turn()
        self._next: Turn | None = next(self._turns, None)
        self._turns_done = 0
        self._has_turn = False  # the assistant has finished: it is the callee's turn
        self._unanswered = 0
        self._sent: Counter[str] = Counter()
        self._timers = Timers(stage.settings.speed)
        start, later = _sessions(call, flow, stage.settings)
        self._first_session, self._later_session = start, later

    # ---- the call

    def ring(self) -> None:
        """Let the telephone ring: somebody picks up, or nobody does and the webhook hears nothing."""
        if self.callee.answers:
            self._timers.after(self.callee.rings_seconds, "ringing", self.pick_up)
        else:
            self._timers.after(self.callee.rings_seconds, "ringing", self.end, "callee", state="unanswered")

    def pick_up(self) -> None:
        """The callee (or, inbound, the platform) answers."""
        self._stage.history.call_answered(self.call)
        self._emit("session_start")
        self._prompt_unasked()

    def end(self, by: str, *, state: str = "ended") -> None:
        """Hang up; `by` agent, callee or platform."""
        if self.is_over:
            return
        self.is_over = True
        self.abandon()
        if state == "ended":  # nothing is sent for a call nobody took, or after a transfer that succeeded
            self._emit("session_end")
        self._stage.history.call_ends(self.call, state=state, by=by)
        self._stage.over(self)

    def abandon(self) -> None:
        """Forget all timers."""
        self._timers.close()

    # ---- webhooks

    def _emit(self, event: str, **fields: object) -> None:
        session = self._first_session if event == "session_start" else self._later_session
        body = msgspec.json.encode({"type": event, **fields, "session": session})
        self._sent[event] += 1
        self._unanswered += 1
        if not self.is_over:
            self._timers.after(self.callee.patience_seconds, "patience", self.end, "callee")
        self._stage.send(self, event, body, nth=self._sent[event], nth_of_all=self._sent.total())

    def answered(self, event: str, delivery: Delivery) -> wire.Reading:
        """What came of a webhook; does what the answer asks for."""
        self._unanswered -= 1
        reading = wire.read_answer(delivery, event=event, session=self.call.session)
        for breach in reading.breaches:
            self._stage.history.breach(breach.kind, breach.detail, number=self.call.number, session=self.call.session)
        self._deaf = self._deaf or reading.stops_listening
        if delivery.failure == "no_answer" and self._stage.settings.unanswered == "hang_up":
            self.end("platform")
        if self.is_over:
            return reading
        self._take(reading.actions)
        self._maybe_turn()
        return reading

    def told(self, frame: bytes) -> wire.Reading:
        """Something came over the WebSocket, asked for or not."""
        reading = wire.read_frame(frame, session=self.call.session)
        for breach in reading.breaches:
            self._stage.history.breach(breach.kind, breach.detail, number=self.call.number, session=self.call.session)
        if not self.is_over:
            self._take(reading.actions)
            self._maybe_turn()
        return reading

    # ---- actions

    def _take(self, actions: tuple[wire.Action, ...]) -> None:
        if self._deaf:
            return
        for action in actions:
            self.call.actions += 1
            self._tell("action", wire.name(action))
            match action:
                case wire.StopSpeech():
                    self._queue.clear()
                    self._stop_speech()
                case wire.HangUp() if not self._stage.settings.hangup_waits_for_speech:
                    self.end("agent")
                case _:
                    self._queue.append(action)
        self._play_on()

    def _play_on(self) -> None:
        while self._queue and self._playing is None and not self.is_over:
            self._do(self._queue.popleft())

    def _do(self, action: wire.Action) -> None:
        match action:
            case wire.Speak() | wire.Audio():
                self._play(action)
            case wire.HangUp():
                self.end("agent")
            case wire.Transfer():
                self._transfer(action)
            case wire.SendSms() if not self.callee.sms_arrives:
                self._timers.after(
                    _SMS_FAILS_AFTER_SECONDS,
                    f"sms {self.call.actions}",
                    self._emit,
                    "sms_failed",
                    reason="undeliverable",
                )
            case _:  # nothing that the webhook would notice
                pass

    def _play(self, action: wire.Speak | wire.Audio) -> None:
        settings = self._stage.settings
        self._playing = action
        self._has_turn = False
        self._timers.cancel("turn", "silence")
        if isinstance(action, wire.Speak):
            seconds = max(settings.shortest_speech_seconds, len(action.words) * settings.seconds_per_character)
            self._stage.history.said(self.call, "agent", action.words)
            if settings.announces_speech:
                said = {"text": action.text} if action.text else {"ssml": action.ssml}
                started = int(time.time() * 1000)
                self._emit("assistant_speak", **said, duration_ms=round(seconds * 1000), speech_started_at=started)
        else:
            seconds = len(action.audio) / _BYTES_PER_SECOND
            self._stage.history.said(self.call, "agent", f"({seconds:.1f} s of audio)")
        self._timers.after(seconds, "playback", self._played)
        self._prepare_interruption(action, seconds)

    def _played(self) -> None:
        """The last word was heard."""
        done = self._playing
        self._stop_speech()
        self._emit("assistant_speech_ended")
        self._play_on()
        if self._playing is not None or self.is_over:
            return
        self._has_turn = True
        if isinstance(done, wire.Speak) and done.user_input_timeout_seconds is not None:
            self._timers.after(done.user_input_timeout_seconds, "silence", self._tell_webhook, "user_input_timeout")
        self._maybe_turn()

    def _stop_speech(self) -> None:
        self._playing = None
        self._timers.cancel("playback", "interruption")

    def _transfer(self, action: wire.Transfer) -> None:
        self._queue.clear()
        self._timers.cancel("turn", "silence", "patience")
        self._has_turn = False
        if self.callee.transfer_succeeds:
            self._timers.after(_TRANSFER_RINGS_SECONDS, "transfer", self.end, "agent", state="transferred")
        elif action.timeout is None:
            self._timers.after(_TRANSFER_RINGS_SECONDS, "transfer", self.end, "platform")
        else:
            self._timers.after(action.timeout, "transfer", self._emit, "session_start")

    # ---- the callee

    def _maybe_turn(self) -> None:
        """Take a turn if it is ours and, for a callee who waits for answers, everything is answered."""
        if not self._has_turn or self._next is None or "turn" in self._timers or self.is_over:
            return
        if self._unanswered and self.callee.waits_for_answers:
            return
        self._has_turn = False
        self._timers.after(self._next.after_seconds, "turn", self._act)

    def _prompt_unasked(self) -> None:
        if self._next is not None and self._next.unprompted and self._playing is None:
            self._has_turn = True
            self._maybe_turn()

    def _act(self) -> None:
        """The callee's turn."""
        match self._take_turn():
            case script.Say(text=text) | script.Interrupt(text=text):
                self._speak_up(text)
            case script.Press(digits=digits, gap_seconds=gap):
                for index, digit in enumerate(digits):
                    self._timers.after(index * gap, f"key {index}", self._tell_webhook, "dtmf_received", digit=digit)
            case script.HangUp():
                self.end("callee")
            case script.StaySilent() | None:
                pass
        self._finish_turn()

    def _take_turn(self) -> Turn | None:
        turn, self._next = self._next, next(self._turns, None)
        self._turns_done += 1
        return turn

    def _finish_turn(self) -> None:
        if self.callee.hangs_up_after_turns is not None and self._turns_done >= self.callee.hangs_up_after_turns:
            self.end("callee")
        else:
            self._prompt_unasked()

    def _speak_up(self, text: str, **fields: bool) -> None:
        self._stage.history.said(self.call, "callee", text)
        if self._stage.by_socket(self):
            self._tell_webhook("user_speech_started")
        self._tell_webhook("user_speak", text=text, **fields)

    def _prepare_interruption(self, action: wire.Speak | wire.Audio, seconds: float) -> None:
        turn, rules = self._next, action.barge_in or wire.BargeIn(strategy="minimum_characters")
        if not isinstance(turn, script.Interrupt) or rules.strategy == "none":
            return
        if rules.strategy == "minimum_characters" and len(turn.text) < rules.minimum_characters:
            return
        wanted = max(turn.after_seconds, rules.allow_after_ms / 1000)
        if wanted < seconds:
            self._timers.after(wanted, "interruption", self._interrupt, turn.text, rules.strategy)

    def _interrupt(self, text: str, strategy: str) -> None:
        self._take_turn()
        if strategy != "manual":  # else only the agent's `barge_in` stops the speech
            self._queue.clear()
            self._stop_speech()
        self._speak_up(text, barged_in=True)
        self._finish_turn()

    # ---- small things

    def _tell_webhook(self, event: str, **fields: object) -> None:
        """An event of the user's; not sent once the platform has stopped listening."""
        self._timers.cancel("silence")
        if not self._deaf:
            self._emit(event, **fields)

    def _tell(self, what: str, detail: str) -> None:
        self._stage.history.tell(what, number=self.call.number, session=self.call.session, detail=detail)


def _sessions(call: Call, flow: Flow, settings: SipgateSettings) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """`session` as it stands in the first event, and in later ones."""
    outbound = call.direction == "outbound"
    ours = flow.phone_number or ""
    usual = {
        "id": call.session,
        "account_id": settings.account_id,
        "phone_number": call.number if outbound else ours,
        "direction": call.direction,
    }
    full = usual | {
        "from_phone_number": ours if outbound else call.number,
        "to_phone_number": call.number if outbound else ours,
    }
    return full, {"full": full, "usual": usual, "id": {"id": call.session}}[settings.later_sessions]
