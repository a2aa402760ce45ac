"""The simulated Twilio: takes orders and updates, plays the calls, signs their webhooks, remembers everything.

It promises that webhooks are signed over the URL they were ordered with and the parameters they carry, and that one is
posted again only where its URL, or the vendor's default, says so. The calls' own behaviour is `conversation`'s.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Mapping
from urllib.parse import parse_qsl, urldefrag

import anyio
import msgspec

from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.courier import Address
from bridge.demo.simulators.faults import Answer, Reply
from bridge.demo.simulators.history import Call
from bridge.demo.simulators.script import matches
from bridge.demo.simulators.twilio import rest, twiml
from bridge.demo.simulators.twilio.conversation import Conversation, Posted
from bridge.demo.simulators.twilio.settings import TwilioSettings
from bridge.demo.simulators.vendor import Parcel, Said, Vendor
from bridge.demo.simulators.webhooks import Delivery, Endpoint

_JSON = {"Content-Type": "application/json"}
_RETRIED_NTH = 1_000_000
"""Retries are no `nth` webhook of their kind: faults that name one are for the first try."""


class TwilioSimulator(Vendor):
    """`async with TwilioSimulator(settings) as simulator:`; see `Vendor`."""

    def __init__(self, settings: TwilioSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self._voice_url = settings.voice_url
        self._status_callback = settings.status_callback
        self._calls: dict[str, Conversation] = {}

    # ---- steering

    def inbound(self, caller: str, *, flow_id: str | None = None) -> str:
        """Somebody calls the account's number; the new session."""
        if flow_id is not None:
            raise ValueError("the account has one number")
        order = rest.Order(
            number=caller, caller=self.settings.number, url=self._voice_url, status_callback=self._status_callback
        )
        conversation = self._conversation(order, direction="inbound")
        conversation.arrive()
        return conversation.call.session

    def point_webhooks_at(self, url: str, *, flow_id: str | None = None) -> None:
        """Set the number's Voice URL to `url/call` and its status callback to `url/status`; calls have their own."""
        if flow_id is not None:
            raise ValueError("the account has one number")
        Endpoint(url, {})  # says what is wrong with it
        self._voice_url, self._status_callback = f"{url}/call", f"{url}/status"

    # ---- requests

    def _is_dial(self, exchange: Exchange) -> bool:
        place = rest.path_of(exchange.path)
        return exchange.method == "POST" and place is not None and place[1] is None

    async def _answer(self, exchange: Exchange) -> Reply:
        refusal = rest.refuse_access(exchange, self.settings)
        if not self._is_dial(exchange):
            return refusal.answer() if refusal else self._other(exchange)
        order = refusal or rest.read_create(exchange, self.settings)
        if isinstance(order, rest.Refusal):
            number = dict(rest.read_form(exchange)).get("To", "").lstrip("+") or None
            breach = f"{order.code}: {order.message}" if order.is_breach else None
            self._refused(exchange, order.status, number=number, breach=breach)
            return order.answer()

        def ring(at_once: bool) -> tuple[Call, Answer]:
            del at_once  # `initiated` is the first webhook, and comes at once anyway
            conversation = self._conversation(order, direction="outbound")
            conversation.ring(self._refusal_of(conversation.call.number))
            return conversation.call, _json(self._shown(conversation, status="queued"), status=201)

        return await self._dialled(exchange, order.number.lstrip("+"), ring)

    def _other(self, exchange: Exchange) -> Answer:
        place = rest.path_of(exchange.path)
        conversation = self._calls.get(str(place[1])) if place else None
        if conversation is None or exchange.method not in {"GET", "POST"}:
            return rest.Refusal(404, 20404, f"The requested resource {exchange.path} was not found").answer()
        if exchange.method == "POST":
            refusal = self._update(conversation, rest.read_update(exchange))
            if refusal is not None:
                if refusal.is_breach:
                    self.history.breach("update", f"{refusal.code}: {refusal.message}")
                return refusal.answer()
        return _json(self._shown(conversation))

    def _update(self, conversation: Conversation, form: Mapping[str, str] | rest.Refusal) -> rest.Refusal | None:
        if isinstance(form, rest.Refusal):
            return form
        is_talking = conversation.status == "in-progress"
        if "Status" not in form and not is_talking:
            return rest.Refusal(400, 21220, "Call is not in-progress. Cannot redirect.", is_breach=False)
        for name in form:
            self.history.count(f"updates.{name}")
        match form:
            case {"Twiml": document}:
                conversation.take(twiml.read_document(document))
            case {"Url": url}:
                conversation.ask(url, "redirect")
            case {"Status": "completed"} if is_talking:
                conversation.end("agent")
            case _ if not is_talking:
                conversation.cancel()
            case _:
                pass  # `canceled` does nothing to a call that was answered
        return None

    def _shown(self, conversation: Conversation, *, status: str | None = None) -> dict[str, object]:
        call = conversation.call
        return {
            "sid": call.session,
            "account_sid": self.settings.account_sid,
            "status": status or conversation.status,
            "direction": "outbound-api" if call.direction == "outbound" else "inbound",
            "to": f"+{call.number}",
            "from": self.settings.number,
            "api_version": "2010-04-01",
        }

    # ---- calls

    def _conversation(self, order: rest.Order, *, direction: str) -> Conversation:
        number = order.number.lstrip("+")
        call = self.history.call_begins(f"CA{uuid.uuid4().hex}", number=number, direction=direction)
        while len(self._calls) > self.settings.history_limit:
            self._calls.pop(next(iter(self._calls)))
        conversation = Conversation(self, call, callee=self._callee(number), order=order)
        self._calls[call.session] = conversation
        return conversation

    def _refusal_of(self, number: str) -> int | None:
        refusals = self.settings.refusals
        return next((status for pattern, status in refusals.items() if matches(pattern, number)), None)

    def post(self, conversation: Conversation, posted: Posted) -> None:
        """Part of `Stage`."""
        self._try(conversation, posted, tried=0)

    def _try(self, conversation: Conversation, posted: Posted, *, tried: int) -> None:
        def done(delivery: Delivery) -> Said:
            if twiml.retry_of(posted.url).wants_more(delivery, tried=tried):
                self.history.count("webhooks.retried")
                self._group.start_soon(again)
                return Said()
            reading = posted.answered(delivery)
            return Said(tuple(verb.name for verb in reading.verbs))

        async def again() -> None:
            await anyio.sleep(self.settings.retry_seconds / self.settings.speed)
            self._try(conversation, posted, tried=tried + 1)

        parcel = Parcel(
            call=conversation.call,
            callee=conversation.callee,
            event=posted.name,
            body=posted.body,
            nth=posted.nth if tried == 0 else _RETRIED_NTH,
            nth_of_all=posted.nth_of_all if tried == 0 else _RETRIED_NTH,
            cap_seconds=self.settings.answer_cap_seconds,
            done=done,
        )
        self._send(parcel, self._address(posted))

    def _address(self, posted: Posted) -> Address | None:
        url = posted.url if self.settings.signs_fragment else urldefrag(posted.url).url
        told = url.encode() + _parameters(posted.body)

        def endpoint(secret: str) -> Endpoint:
            proof = base64.b64encode(hmac.new(secret.encode(), told, hashlib.sha1).digest()).decode()
            headers = {
                "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
                "User-Agent": "TwilioProxy/1.1",
            }
            return Endpoint(posted.url, {**headers, "X-Twilio-Signature": proof})

        try:
            return Address(endpoint(self.settings.webhook_secret), endpoint("not-the-secret"))
        except ValueError:  # nothing that can be reached
            return None

    def _abandon(self) -> None:
        for conversation in self._calls.values():
            conversation.abandon()


def _parameters(body: bytes) -> bytes:
    """What is signed of a form: names and values, sorted; of equal ones a single one."""
    return "".join(
        name + value for name, value in sorted(set(parse_qsl(body.decode(), keep_blank_values=True)))
    ).encode()


def _json(value: object, *, status: int = 200) -> Answer:
    return Answer(status=status, headers=_JSON, body=msgspec.json.encode(value).decode())
