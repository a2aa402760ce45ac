"""One call: the vendor's assistant speaks with the callee, tells the webhook, calls its tools, obeys commands.

It promises the documented order of webhooks (`in-progress`, tools, `ended`, report) and that nothing happens in a call
that is over. The assistant is a simple one: it says its first message, calls a tool when it hears the tool's word, says
what came of it, and leaves the callee the next turn.

Where the vendor is silent this is assumed: the callee speaks when the assistant has; a transfer ends with `transferred`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from bridge.demo.simulators import script
from bridge.demo.simulators.history import Call, History
from bridge.demo.simulators.hms_sovereign import wire
from bridge.demo.simulators.hms_sovereign.settings import HmsSettings, Tool
from bridge.demo.simulators.script import Callee, Turn
from bridge.demo.simulators.timers import Timers
from bridge.demo.simulators.webhooks import Delivery

_TRANSFER_RINGS_SECONDS = 5.0
_SHORTEST_SPEECH_SECONDS = 0.3


class Stage(Protocol):
    """What a conversation is played on."""

    @property
    def settings(self) -> HmsSettings:
        """The platform's."""
        ...

    @property
    def history(self) -> History:
        """Where everything is written down."""
        ...

    def post(self, conversation: Conversation, event: str, body: bytes) -> None:
        """Send a webhook; `Conversation.answered` is called once with what came of it."""
        ...


class Conversation:
    """From the first ringing to the report."""

    def __init__(self, stage: Stage, call: Call, *, callee: Callee, assistant: wire.Assistant, ours: str) -> None:
        """`ours`: the account's number in this call, with `+`."""
        self.call = call
        self.callee = callee
        self.assistant = assistant
        self.status = "ringing"
        self.sent: Counter[str] = Counter()
        self._ours = ours
        self._stage = stage
        self._timers = Timers(stage.settings.speed)
        self._turns: Iterator[Turn] = callee.each_turn()
        self._next: Turn | None = next(self._turns, None)
        self._tool_ids = itertools.count(1)
        self._asked: str | None = None
        self._reason: str | None = None

    # ---- the call

    def ring(self) -> None:
        """Let the telephone ring."""
        after = self.pick_up if self.callee.answers else self._nobody
        self._timers.after(self.callee.rings_seconds, "ringing", after)

    def ask_for_assistant(self) -> None:
        """Inbound: ask who is to take the call, before it is answered."""
        self._tell("assistant-request")

    def pick_up(self) -> None:
        """Somebody answers."""
        self.status = "in-progress"
        self._stage.history.call_answered(self.call)
        self._tell("status-update")
        if self.assistant.max_duration_seconds is not None:
            self._timers.after(
                self.assistant.max_duration_seconds, "limit", lambda: self.end("platform", "max_duration")
            )
        self._speak(self.assistant.first_message or "Hello.")

    def end(self, by: str, reason: str, *, state: str = "ended", status: str = "ended") -> None:
        """Hang up; `reason` as the vendor calls it."""
        if self.is_over:
            return
        self.abandon()
        self.status, self._reason = status, reason
        self._tell("status-update", end_reason=reason)
        self._stage.history.call_ends(self.call, state=state, by=by)
        if status == "ended":
            self._tell("end-of-call-report", duration_seconds=self._duration(), summary=self._summary())

    def abandon(self) -> None:
        """Forget all timers."""
        self._timers.clear()

    @property
    def is_over(self) -> bool:
        """Nothing more happens."""
        return self.call.ended is not None or self._reason is not None

    def _nobody(self) -> None:
        if self._stage.settings.unanswered == "ended-with-error":
            self.end("callee", "no-answer", state="unanswered", status="ended-with-error")
        else:
            self.status = "ended-with-error"
            self._stage.history.call_ends(self.call, state="unanswered", by="callee")

    # ---- commands

    def obey(self, command: wire.Command) -> None:
        """Do what a control command says; the call is `in-progress`."""
        self.call.actions += 1
        self._stage.history.count(f"actions.{wire.name(command)}")
        self._note("action", wire.name(command))
        match command:
            case wire.Say(content=content, end_after=end_after):
                self._speak(content, and_end=end_after)
            case wire.InjectContext(content=content, trigger_response=True):
                self._speak(f"I hear that {content}")
            case wire.InjectContext():
                pass
            case wire.EndCall(message=message):
                if message:
                    self._speak(message, and_end=True)
                else:
                    self.end("agent", "assistant_hangup")
            case wire.Transfer(message=message):
                self._timers.clear()
                if message:
                    self._stage.history.said(self.call, "agent", message)
                self._timers.after(_TRANSFER_RINGS_SECONDS, "transfer", self._transferred)

    def _transferred(self) -> None:
        if self.callee.transfer_succeeds:
            self.end("agent", "transferred", state="transferred")
        else:
            self._speak("Nobody is there.")

    # ---- talking

    def _speak(self, text: str, *, and_end: bool = False) -> None:
        self._stage.history.said(self.call, "agent", text)
        seconds = max(_SHORTEST_SPEECH_SECONDS, len(text) * self._stage.settings.seconds_per_character)
        self._timers.cancel("turn")
        after = (lambda: self.end("agent", "assistant_hangup")) if and_end else self._listen
        self._timers.after(seconds, "speech", after)

    def _listen(self) -> None:
        """The assistant has spoken: it is the callee's turn, or patience ends."""
        if self._next is None:
            self._timers.after(self.callee.patience_seconds, "turn", lambda: self.end("callee", "user_hangup"))
        else:
            self._timers.after(self._next.after_seconds, "turn", self._act)

    def _act(self) -> None:
        turn, self._next = self._next, next(self._turns, None)
        match turn:
            case script.Say(text=text) | script.Interrupt(text=text):
                self._stage.history.said(self.call, "callee", text)
                self._hear(text)
            case script.HangUp():
                self.end("callee", "user_hangup")
            case script.Press() | script.StaySilent() | None:  # the vendor tells nothing of keys and silence
                self._speak("Are you there?")

    def _hear(self, text: str) -> None:
        tool = next((each for each in self._stage.settings.tools if each.word.lower() in text.lower()), None)
        if tool is None:
            self._speak("I see.")
        else:
            self._use(tool)

    def _use(self, tool: Tool) -> None:
        self._asked = f"tool_{next(self._tool_ids)}"
        function = {"name": tool.name, "arguments": tool.arguments}
        call = {"id": self._asked, "type": "function", "function": function}
        if not self._tell("tool-calls", tool_call_list=[call]):
            self._speak("I can't look that up.")

    # ---- webhooks

    def answered(self, event: str, delivery: Delivery) -> tuple[str, ...]:
        """What came of a webhook; what it made us do."""
        if event == "tool-calls":
            return self._take_result(delivery)
        if event == "assistant-request":
            return self._take_assistant(delivery)
        return ()

    def _take_result(self, delivery: Delivery) -> tuple[str, ...]:
        result, breach = wire.read_results(delivery, self._asked or "")
        self._breach("tool_answer", breach)
        if not self.is_over:
            self._speak(f"The answer is {msgspec.json.encode(result).decode()}.")
        return ("tool_result",) if breach is None and delivery.status is not None else ()

    def _take_assistant(self, delivery: Delivery) -> tuple[str, ...]:
        choice, breach = wire.read_choice(delivery)
        self._breach("assistant_answer", breach)
        if self.is_over:
            return ()
        if choice.error is not None:
            self._stage.history.said(self.call, "agent", choice.error)
            self.end("agent", "rejected", status="ended-with-error")
            return ("reject",)
        chosen = choice.assistant or choice.assistant_override
        if choice.max_duration_seconds is not None:
            chosen = wire.Assistant(max_duration_seconds=choice.max_duration_seconds)
        if chosen is not None:
            self.assistant = merged(self.assistant, chosen)
        self.pick_up()
        return ("configure",) if chosen is not None or choice.assistant_id is not None else ()

    def _tell(self, event: str, **fields: object) -> bool:
        """Send a webhook, unless the call does not want this event."""
        wanted = self.assistant.webhook_events
        if wanted is not None and event not in wanted and event != "assistant-request":
            return False
        outbound = self.call.direction == "outbound"
        message: Mapping[str, object] = {
            "type": event,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "call": {
                "id": self.call.session,
                "type": "outbound_phone_call" if outbound else "inbound_phone_call",
                "status": self.status,
            },
            "phone_number": {"number": self._ours},
            "customer": {"number": f"+{self.call.number}"},
            "assistant": _shown(self.assistant),
            **fields,
        }
        self.sent[event] += 1
        self._stage.post(self, event, msgspec.json.encode({"message": message}))
        return True

    def _duration(self) -> float:
        call = self.call
        return round(call.ended.monotonic - call.answered.monotonic, 3) if call.ended and call.answered else 0.0

    def _summary(self) -> str:
        return f"{len(self.call.said)} lines were spoken."

    def _breach(self, kind: str, detail: str | None) -> None:
        if detail is not None:
            self._stage.history.breach(kind, detail, number=self.call.number, session=self.call.session)

    def _note(self, what: str, detail: str) -> None:
        self._stage.history.tell(what, number=self.call.number, session=self.call.session, detail=detail)


def merged(base: wire.Assistant, over: wire.Assistant) -> wire.Assistant:
    """The vendor's shallow merge: each block that is given replaces the whole block."""
    blocks = {name: value for name, value in msgspec.structs.asdict(over).items() if value is not None}
    return msgspec.structs.replace(base, **blocks)


def _shown(assistant: wire.Assistant) -> dict[str, object]:
    """The resolved configuration as webhooks show it, without the secret."""
    shown: dict[str, object] = msgspec.to_builtins(assistant)
    shown.pop("webhook_secret", None)
    return shown
