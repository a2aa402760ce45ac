"""The simulated TalkifAI: dials and keeps the request waiting, plays the call, tells and repeats its webhooks.

It promises an answer to a dial when the callee has answered or the ringing's time is over, exactly the documented
webhooks in the envelopes that are set up, and that the account's are repeated with the same `id` until one copy is
answered with 200 or the retries are used up (`webhooks.given_up` counts those). Nothing can be done in a live call.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import anyio
import msgspec

from bridge.demo.simulators import script
from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.courier import Address
from bridge.demo.simulators.faults import Answer, Reply
from bridge.demo.simulators.history import Call
from bridge.demo.simulators.script import Callee
from bridge.demo.simulators.talkifai import rest
from bridge.demo.simulators.talkifai.settings import TalkifaiSettings
from bridge.demo.simulators.timers import Timers
from bridge.demo.simulators.vendor import Parcel, Said, Vendor
from bridge.demo.simulators.webhooks import Delivery, Endpoint

_OK = 200
_SHORTEST_TURN_SECONDS = 0.3
_HEADER = "X-TalkifAI-Signature"


class _Conversation(msgspec.Struct, eq=False):
    """One call. The agent is the vendor's own: all that is heard of it is the call's length."""

    call: Call
    callee: Callee
    order: rest.Order
    room: str
    timers: Timers
    answered: asyncio.Event
    sent: Counter[str]


class TalkifaiSimulator(Vendor):
    """`async with TalkifaiSimulator(settings) as simulator:`; see `Vendor`."""

    def __init__(self, settings: TalkifaiSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self._webhook_url = settings.webhook_url
        self._conversations: set[_Conversation] = set()
        self._retries = Timers(settings.speed)
        self._events = itertools.count(1)

    # ---- steering

    def inbound(self, caller: str, *, flow_id: str | None = None) -> str:
        """Not simulated: nothing of an inbound call waits for us."""
        raise ValueError(f"inbound calls are not simulated ({len(caller)} digits, flow {flow_id})")

    def point_webhooks_at(self, url: str, *, flow_id: str | None = None) -> None:
        """Send all webhooks there from now on."""
        if flow_id is not None:
            raise ValueError("webhooks are the account's")
        Endpoint(url, {})
        self._webhook_url = url

    # ---- requests

    def _is_dial(self, exchange: Exchange) -> bool:
        return exchange.method == "POST" and exchange.path == rest.PATH

    async def _answer(self, exchange: Exchange) -> Reply:
        if not self._is_dial(exchange):
            return Answer(status=404, body='{"detail":"Not Found"}')
        order = rest.read(exchange, self.settings)
        if isinstance(order, rest.Refusal):
            breach = msgspec.json.encode(order.body).decode() if order.is_breach else None
            self._refused(exchange, order.status, number=order.number, breach=breach)
            return order.answer()
        placed: list[_Conversation] = []

        def ring(at_once: bool) -> tuple[Call, Answer]:
            conversation = self._ring(order, at_once=at_once)
            placed.append(conversation)
            return conversation.call, _success(conversation)

        reply = await self._dialled(exchange, order.to_number.lstrip("+"), ring)
        if placed and isinstance(reply, Answer) and reply.status == _OK:
            return await self._until_answered(placed[0], reply)
        return reply

    async def _until_answered(self, conversation: _Conversation, reply: Answer) -> Answer:
        """The request blocks: the callee's answer is ours."""
        limit = self.settings.ring_limit_seconds / self.settings.speed
        with anyio.move_on_after(limit):
            await conversation.answered.wait()
            return reply
        conversation.timers.clear()
        self._over(conversation, state="unanswered", by="callee")
        if self.settings.tells_no_answer:
            self._tell(conversation, "call.failed", {"status": "no_answer"})
        return Answer(status=408, body='{"detail":"Call timed out (no answer)"}')

    # ---- calls

    def _ring(self, order: rest.Order, *, at_once: bool) -> _Conversation:
        number = order.to_number.lstrip("+")
        call = self.history.call_begins(f"call_{uuid.uuid4().hex[:12]}", number=number, direction="outbound")
        conversation = _Conversation(
            call,
            self._callee(number),
            order,
            f"outbound_{order.agent.id}_{number}_{int(time.time())}",
            Timers(self.settings.speed),
            asyncio.Event(),
            Counter(),
        )
        self._conversations.add(conversation)
        if at_once:
            self._pick_up(conversation)
        elif conversation.callee.answers:
            seconds = conversation.callee.rings_seconds
            conversation.timers.after(seconds, "ringing", lambda: self._pick_up(conversation))
        return conversation

    def _pick_up(self, conversation: _Conversation) -> None:
        self.history.call_answered(conversation.call)
        conversation.answered.set()
        order = conversation.order
        data = {"direction": "outbound", "from": order.from_number, "to": order.to_number}
        self._tell(conversation, "call.started", data)
        seconds, by = self._talk(conversation)
        conversation.timers.after(seconds, "talking", lambda: self._hang_up(conversation, seconds, by))

    def _talk(self, conversation: _Conversation) -> tuple[float, str]:
        """How long the turns of the script take, and who ends the call then."""
        seconds, callee = 0.0, conversation.callee
        for turn in callee.turns:
            words = turn.text if isinstance(turn, script.Say | script.Interrupt) else ""
            if words:
                self.history.said(conversation.call, "callee", words)
            seconds += turn.after_seconds
            seconds += max(_SHORTEST_TURN_SECONDS, len(words) * self.settings.seconds_per_character)
            if isinstance(turn, script.HangUp):
                return seconds, "callee"
        return seconds + (0 if callee.turns else callee.patience_seconds), "agent" if callee.turns else "callee"

    def _hang_up(self, conversation: _Conversation, seconds: float, by: str) -> None:
        self._over(conversation, state="ended", by=by)
        reason = "user_hangup" if by == "callee" else "agent_hangup"
        data = {"duration": round(seconds), "status": "completed", "endReason": reason}
        self._tell(conversation, "call.ended", data)
        url = f"{self.base_url}/transcripts/{conversation.call.session}"
        self._tell(conversation, "transcript.ready", {"transcriptUrl": url})

    def _over(self, conversation: _Conversation, *, state: str, by: str) -> None:
        self._conversations.discard(conversation)
        self.history.call_ends(conversation.call, state=state, by=by)

    def _abandon(self) -> None:
        self._retries.clear()
        for conversation in self._conversations:
            conversation.timers.clear()

    # ---- webhooks

    def _tell(self, conversation: _Conversation, event: str, data: Mapping[str, object]) -> None:
        """One event, in each envelope that is set up. The account's has no room's name, the agent's no id."""
        agent, call = conversation.order.agent, conversation.call
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        ids = {"callId": call.session, "agentId": agent.id}
        for envelope in self.settings.envelopes:
            if envelope == "account":
                body: dict[str, object] = {
                    "id": f"evt_{next(self._events)}",
                    "type": event,
                    "created": moment,
                    "data": {**ids, **data},
                }
            else:
                own = {**ids, "agentName": agent.name, "roomName": conversation.room, **data}
                body = {"event": event, "timestamp": moment, "data": own}
            conversation.sent[event] += 1
            self._post(conversation, event, msgspec.json.encode(body), is_account=envelope == "account", retry=0)

    def _post(self, conversation: _Conversation, event: str, body: bytes, *, is_account: bool, retry: int) -> None:
        settings = self.settings

        def done(delivery: Delivery) -> Said:
            if is_account and delivery.status != _OK:
                self._again(conversation, event, body, retry)
            return Said()

        parcel = Parcel(
            call=conversation.call,
            callee=conversation.callee,
            event=event,
            body=body,
            nth=conversation.sent[event] if retry == 0 else -1,  # a script's faults are for first deliveries
            nth_of_all=conversation.sent.total() if retry == 0 else -1,
            cap_seconds=settings.account_cap_seconds if is_account else settings.agent_cap_seconds,
            done=done,
        )
        signs = is_account or settings.signs_agent_events
        url = self._webhook_url
        self._send(parcel, None if url is None else _address(url, body, settings.webhook_secret if signs else None))

    def _again(self, conversation: _Conversation, event: str, body: bytes, retry: int) -> None:
        pauses = self.settings.retries_seconds
        if retry >= len(pauses) or self._webhook_url is None:
            self.history.count("webhooks.given_up")
            return
        self.history.count("webhooks.retried")
        name = f"{conversation.call.session} {hashlib.sha256(body).hexdigest()}"
        self._retries.after(
            pauses[retry],
            name,
            lambda: self._post(conversation, event, body, is_account=True, retry=retry + 1),
        )


def _success(conversation: _Conversation) -> Answer:
    order = conversation.order
    body = {
        "success": True,
        "message": "Call initiated successfully",
        "room_name": conversation.room,
        "agent": {"id": order.agent.id, "name": order.agent.name},
        "from_number": order.from_number,
        "to_number": order.to_number,
    }
    return Answer(body=msgspec.json.encode(body).decode())


def _address(url: str, body: bytes, secret: str | None) -> Address:
    """With this body's signature, and with a wrong one."""
    forged = Endpoint(url, {_HEADER: "sha256=" + "0" * 64})
    if secret is None:
        return Address(Endpoint(url, {}), forged)
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Address(Endpoint(url, {_HEADER: f"sha256={signature}"}), forged)
