"""The simulated HMS Sovereign: takes orders and commands, plays the calls, signs their webhooks, remembers everything.

It promises documented statuses and error shapes, and that a call has its own webhook address, events and secret where
the order gave them. The calls' own behaviour is left to `conversation`, the words to `wire`.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections import deque
from urllib.parse import unquote

import msgspec

from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.courier import Address
from bridge.demo.simulators.faults import Answer, Reply
from bridge.demo.simulators.history import Call
from bridge.demo.simulators.hms_sovereign import wire
from bridge.demo.simulators.hms_sovereign.conversation import Conversation, merged
from bridge.demo.simulators.hms_sovereign.settings import HmsSettings
from bridge.demo.simulators.vendor import Parcel, Said, Vendor
from bridge.demo.simulators.webhooks import Endpoint

_DIAL = "/calls/outbound"
_MINUTE = 60.0


class _Refusal(Exception):
    """An answer that is no success. `breach`: only a wrong adapter asks like this."""

    def __init__(self, status: int, reason: str, *, breach: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.breach = reason if breach else None

    def answer(self) -> Answer:
        """Flat as in the reference, nested as on the page of error codes for 401."""
        said: object = {"error": "refused", "message": str(self)}
        if self.status == 401:  # noqa: PLR2004 - Unauthorized
            said = {"error": {"code": "unauthorized", "message": str(self), "param": None, "type": "auth_error"}}
        return _json(said, status=self.status)


class HmsSimulator(Vendor):
    """`async with HmsSimulator(settings) as simulator:`; see `Vendor`."""

    def __init__(self, settings: HmsSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self._webhook_url = settings.webhook_url
        self._calls: dict[str, Conversation] = {}
        self._commands: dict[str, deque[float]] = {}

    # ---- steering

    def inbound(self, caller: str, *, flow_id: str | None = None) -> str:
        """Somebody calls the account's number; the new session. `flow_id`: of the assistant, else the first."""
        assistant_id = flow_id or next(iter(self.settings.assistants))
        if assistant_id not in self.settings.assistants:
            raise ValueError("no such assistant")
        saved = msgspec.convert(self.settings.assistants[assistant_id], wire.Assistant)
        call = self.history.call_begins(str(uuid.uuid4()), number=caller.lstrip("+"), direction="inbound")
        conversation = self._conversation(call, saved, next(iter(self.settings.numbers.values())))
        conversation.ask_for_assistant()
        return call.session

    def point_webhooks_at(self, url: str, *, flow_id: str | None = None) -> None:
        """Send the account's webhooks there from now on; calls with an address of their own keep it."""
        if flow_id is not None:
            raise ValueError("webhooks are the account's, not an assistant's")
        Endpoint(url, {})
        self._webhook_url = url

    # ---- requests

    def _is_dial(self, exchange: Exchange) -> bool:
        return exchange.method == "POST" and exchange.path == _DIAL

    async def _answer(self, exchange: Exchange) -> Reply:
        if not self._is_dial(exchange):
            try:
                return self._other(exchange)
            except _Refusal as refusal:
                return refusal.answer()
        try:
            order = self._order(exchange)
            assistant = self._assistant(order)
            ours = self._number(order)
        except _Refusal as refusal:
            self._refused(exchange, refusal.status, number=_destination(exchange.body), breach=refusal.breach)
            return refusal.answer()
        number = order.destination.removeprefix("+")

        def ring(at_once: bool) -> tuple[Call, Answer]:
            return self._ring(number, assistant, ours, at_once=at_once)

        return await self._dialled(exchange, number, ring)

    def _order(self, exchange: Exchange) -> wire.Order:
        self._authorize(exchange)
        try:
            return msgspec.json.decode(exchange.body, type=wire.Order)
        except msgspec.DecodeError as error:
            raise _Refusal(400, str(error), breach=True) from error

    def _assistant(self, order: wire.Order) -> wire.Assistant:
        if order.assistant is not None:
            found = order.assistant
        elif order.assistant_id in self.settings.assistants:
            saved = msgspec.convert(self.settings.assistants[order.assistant_id or ""], wire.Assistant)
            found = merged(saved, order.assistant_override or wire.Assistant())
        else:
            raise _Refusal(404, "Assistant not found")
        if order.first_message is not None:
            found = merged(found, wire.Assistant(first_message=order.first_message))
        return found

    def _number(self, order: wire.Order) -> str:
        if order.number_id is None:
            return next(iter(self.settings.numbers.values()))
        if order.number_id not in self.settings.numbers:
            raise _Refusal(404, "Number not found")
        return self.settings.numbers[order.number_id]

    def _other(self, exchange: Exchange) -> Answer:
        self._authorize(exchange)
        match exchange.method, exchange.path.strip("/").split("/"):
            case "POST", ["calls", call_id, "control"]:
                return self._control(unquote(call_id), exchange.body)
            case "GET", ["calls", call_id]:
                return _json(self._shown(self._find(unquote(call_id))))
            case _:
                raise _Refusal(404, "no such endpoint")

    def _authorize(self, exchange: Exchange) -> None:
        presented = exchange.headers.get("authorization", "")
        if not hmac.compare_digest(presented.encode(), f"Bearer {self.settings.token}".encode()):
            raise _Refusal(401, "Invalid API key")

    def _find(self, call_id: str) -> Conversation:
        if call_id not in self._calls:
            raise _Refusal(404, "Call not found")
        return self._calls[call_id]

    def _shown(self, conversation: Conversation) -> dict[str, object]:
        call = conversation.call
        return {"id": call.session, "status": conversation.status, "direction": call.direction}

    # ---- commands

    def _control(self, call_id: str, body: bytes) -> Answer:
        conversation = self._find(call_id)
        self._spend(conversation.call)
        try:
            command = msgspec.json.decode(body, type=wire.Command)
        except msgspec.DecodeError as error:
            self.history.breach("command", str(error), session=conversation.call.session)
            raise _Refusal(400, str(error)) from error
        if conversation.status != "in-progress" or conversation.is_over:
            raise _Refusal(400, "Call is not active")
        conversation.obey(command)
        return _json({"success": True, "message": "Command sent"})

    def _spend(self, call: Call) -> None:
        now = time.monotonic()
        spent = self._commands.setdefault(call.session, deque())
        while spent and spent[0] <= now - _MINUTE:
            spent.popleft()
        if len(spent) >= self.settings.commands_a_minute:
            self.history.breach("rate_limit", "too many commands to one call in a minute", session=call.session)
            raise _Refusal(429, "Too many commands")
        spent.append(now)

    # ---- calls

    def _ring(self, number: str, assistant: wire.Assistant, ours: str, *, at_once: bool) -> tuple[Call, Answer]:
        session = str(uuid.uuid4())
        call_id = session if self.settings.same_ids else f"call-outbound-{uuid.uuid4().hex[:12]}"
        call = self.history.call_begins(session, number=number, direction="outbound")
        conversation = self._calls[call_id] = self._conversation(call, assistant, ours)
        if at_once:
            conversation.pick_up()
        else:
            conversation.ring()
        return call, _json({"success": True, "call_id": call_id, "status": "dialing"})

    def _conversation(self, call: Call, assistant: wire.Assistant, ours: str) -> Conversation:
        callee = self._callee(call.number)
        while len(self._calls) > 2 * self.settings.history_limit:  # each call is there under two ids
            forgotten = self._calls.pop(next(iter(self._calls)))
            self._commands.pop(forgotten.call.session, None)
        found = self._calls[call.session] = Conversation(self, call, callee=callee, assistant=assistant, ours=ours)
        return found

    def post(self, conversation: Conversation, event: str, body: bytes) -> None:
        """Part of `Stage`."""
        settings = self.settings
        caps = {"tool-calls": settings.tool_cap_seconds, "assistant-request": settings.assistant_cap_seconds}
        url = conversation.assistant.webhook_url or self._webhook_url
        secret = conversation.assistant.webhook_secret or settings.webhook_secret
        parcel = Parcel(
            call=conversation.call,
            callee=conversation.callee,
            event=event,
            body=body,
            nth=conversation.sent[event],
            nth_of_all=conversation.sent.total(),
            cap_seconds=caps.get(event, settings.answer_cap_seconds),
            done=lambda delivery: Said(conversation.answered(event, delivery)),
        )
        self._send(parcel, None if url is None else _address(url, event, body, secret))

    def _abandon(self) -> None:
        for conversation in self._calls.values():
            conversation.abandon()


def _address(url: str, event: str, body: bytes, secret: str | None) -> Address:
    """With the signature of this body at this moment, and with a wrong one."""
    stamp = str(int(time.time()))
    common = {"X-Webhook-Event": event, "X-Webhook-Timestamp": stamp}
    if secret is None:
        return Address(Endpoint(url, common), Endpoint(url, common))
    signed = {
        key: f"sha256={hmac.new(key.encode(), f'{stamp}.'.encode() + body, hashlib.sha256).hexdigest()}"
        for key in (secret, "not-the-secret")
    }
    honest, forged = (Endpoint(url, common | {"X-Webhook-Signature": signature}) for signature in signed.values())
    return Address(honest, forged)


def _destination(body: bytes) -> str | None:
    """The number that a bad order names, as far as it names one."""
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    found = value.get("destination") if isinstance(value, dict) else None
    return found.lstrip("+") if isinstance(found, str) else None


def _json(value: object, *, status: int = 200) -> Answer:
    return Answer(status=status, body=msgspec.json.encode(value).decode())
