"""The simulated jambonz: takes requests to dial and to steer, plays the calls, posts their hooks, remembers everything.

It promises that the history has each request to dial, begun or whole, that hooks are signed over the bytes that are
sent, and that a hook is posted again only where its URL asks for that. The calls' own behaviour is `conversation`'s.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from collections.abc import Mapping

import anyio
import msgspec

from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.courier import Address, Done, Report
from bridge.demo.simulators.faults import Answer, Reply, WebhookFault
from bridge.demo.simulators.history import Call, Moment
from bridge.demo.simulators.jambonz import rest, verbs
from bridge.demo.simulators.jambonz.conversation import Answered, Conversation, Posted
from bridge.demo.simulators.jambonz.settings import Application, JambonzSettings
from bridge.demo.simulators.jambonz.socket import AppSockets
from bridge.demo.simulators.script import matches
from bridge.demo.simulators.vendor import Parcel, Said, Vendor
from bridge.demo.simulators.webhooks import Delivery, Endpoint

_TEXT = {"Content-Type": "text/plain"}
_ENDPOINTS = {("POST", True), ("PUT", False), ("GET", False)}
"""Method, and whether it is for all calls."""
_HTML = {"Content-Type": "text/html"}


class JambonzSimulator(Vendor):
    """`async with JambonzSimulator(settings) as simulator:`; see `Vendor`.

    `history.counts` has `updates.NAME` for the controls that were taken.
    """

    _placed_as = "201"

    def __init__(self, settings: JambonzSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self._apps: dict[str, Application] = {app.sid: app for app in settings.applications}
        self._calls: dict[str, Conversation] = {}
        self._ended: dict[str, tuple[float, Mapping[str, object]]] = {}
        self._sockets = AppSockets(self.history)

    # ---- steering

    def inbound(self, caller: str, *, flow_id: str | None = None) -> str:
        """Somebody calls an application's number (`flow_id`: its sid; else the first one's); the call's sid."""
        app = self._apps.get(flow_id or next(iter(self._apps)))
        if app is None:
            raise ValueError("no such application")
        order = rest.Order(
            number=caller,
            caller=self.settings.number,
            application_sid=app.sid,
            call_hook=app.call_hook,
            status_hooks=(app.call_status_hook,) if app.call_status_hook else (),
            tag=None,
            amd_hook=None,
            timeout_seconds=60,
            login=app.login,
        )
        conversation = self._begin(order, direction="inbound")
        conversation.pick_up()
        return conversation.call.session

    def point_webhooks_at(self, url: str, *, flow_id: str | None = None) -> None:
        """Set the hooks of this application (of all without a sid) to `url/call` and `url/status`, or to one `ws://`."""
        if flow_id is not None and flow_id not in self._apps:
            raise ValueError("no such application")
        by_socket = url.startswith("ws://")
        if not by_socket:
            Endpoint(url, {})  # says what is wrong with it
        call, status = (url, url) if by_socket else (f"{url}/call", f"{url}/status")
        for app in list(self._apps.values()):
            if flow_id in {None, app.sid}:
                hooks = msgspec.structs.replace(app, call_hook=call, call_status_hook=status)
                self._apps[app.sid] = hooks

    # ---- requests

    def _is_dial(self, exchange: Exchange) -> bool:
        return exchange.method == "POST" and rest.path_of(exchange.path) is not None

    async def _answer(self, exchange: Exchange) -> Reply:
        place = rest.path_of(exchange.path)
        if place is None or (exchange.method, place[1] is None) not in _ENDPOINTS:
            return Answer(status=404, headers=_HTML, body=f"<pre>Cannot {exchange.method} {exchange.path}</pre>")
        refusal = rest.refuse_access(exchange, self.settings)
        if refusal is not None:
            return self._refuse(exchange, refusal)
        if exchange.method == "GET":
            return self._shown(str(place[1]))
        return self._update(exchange, str(place[1])) if exchange.method == "PUT" else await self._create(exchange)

    async def _create(self, exchange: Exchange) -> Reply:
        order = rest.read_create(exchange, self.settings, self._apps)
        if isinstance(order, rest.Refusal):
            return self._refuse(exchange, order)

        def ring(at_once: bool) -> tuple[Call, Answer]:
            del at_once  # `trying` is the first webhook, and comes at once anyway
            conversation = self._begin(order, direction="outbound")
            conversation.ring(self._refusal_of(conversation.call.number))
            return conversation.call, self._placed(conversation)

        return await self._dialled(exchange, order.number.lstrip("+"), ring)

    def _placed(self, conversation: Conversation) -> Answer:
        spelt = "callid" if self.settings.flavour == "cognigy" else "callId"
        body = {"sid": conversation.call.session, spelt: conversation.sip_call_id}
        return Answer(status=201, body=msgspec.json.encode(body).decode())

    def _refuse(self, exchange: Exchange, refusal: rest.Refusal) -> Answer:
        kind = "dial_request" if self._is_dial(exchange) else "update"
        breach = refusal.reason if refusal.is_breach else None
        self._refused(exchange, refusal.status, number=refusal.number, breach=breach, kind=kind)
        return refusal.answer()

    def _update(self, exchange: Exchange, sid: str) -> Answer:
        body = rest.read_update(exchange)
        if isinstance(body, rest.Refusal):
            return self._refuse(exchange, body)
        conversation = self._calls.get(sid)
        if conversation is None:
            if self._record_of(sid) is None:
                return Answer(status=404, headers=_TEXT, body="Not Found")
            return Answer(status=422, headers=_HTML, body=f"call session is gone for call_sid {sid}")
        if not self._do(conversation, body):
            words = f"current call state is incompatible with requested action for call_sid {sid}"
            return Answer(status=422, headers=_HTML, body=words)
        for name in body:
            self.history.count(f"updates.{name}")
        if "sip_request" in body:
            return Answer(status=200, body='{"status":200,"reason":"OK"}')
        return Answer(status=202, headers=_TEXT, body="Accepted")

    def _shown(self, sid: str) -> Answer:
        record = self._record_of(sid)
        if record is None:
            return Answer(status=404, headers=_TEXT, body="Not Found")
        self.history.count("look_ups")
        return Answer(status=200, body=msgspec.json.encode(record).decode())

    def _record_of(self, sid: str) -> Mapping[str, object] | None:
        """Of a call that goes on, or ended not too long ago."""
        if sid in self._calls:
            return self._calls[sid].record
        ended, record = self._ended.get(sid, (0.0, None))
        return record if time.monotonic() - ended <= self.settings.record_seconds else None

    def _do(self, conversation: Conversation, body: verbs.Object) -> bool:
        """Whether the call's state allows it; what is impossible otherwise is taken and ignored (contract 5)."""
        match body:
            case {"call_status": status}:
                if (status == "completed") is not conversation.is_answered:
                    return False
                conversation.end("agent", 487)
            case {"call_hook": str() as hook} | {"call_hook": {"url": str() as hook}}:
                conversation.redirect(hook)
            case {"tag": dict() as tag}:
                conversation.tag = tag
            case _:
                pass
        return True

    # ---- calls

    def _begin(self, order: rest.Order, *, direction: str) -> Conversation:
        number = order.number.lstrip("+")
        call = self.history.call_begins(str(uuid.uuid4()), number=number, direction=direction)
        conversation = Conversation(self, call, callee=self._callee(number), order=order)
        self._calls[call.session] = conversation
        return conversation

    def _refusal_of(self, number: str) -> int | None:
        refusals = self.settings.refusals
        return next((status for pattern, status in refusals.items() if matches(pattern, number)), None)

    def over(self, conversation: Conversation) -> None:
        """Part of `Stage`."""
        session = conversation.call.session
        self._calls.pop(session, None)
        self._ended[session] = time.monotonic(), conversation.record
        self._sockets.close(session)

    def send(self, conversation: Conversation, posted: Posted, answered: Answered) -> None:
        """Part of `Stage`."""
        parcel = Parcel(
            call=conversation.call,
            callee=conversation.callee,
            event=posted.name,
            body=posted.body,
            nth=posted.nth,
            nth_of_all=posted.nth_of_all,
            cap_seconds=self.settings.answer_cap_seconds,
            done=lambda delivery: _said(answered(delivery)),
            repeated=lambda delivery: _said(verbs.read_answer(delivery)),
        )
        if conversation.socket_url and not posted.hook.startswith("http"):
            self._send_message(conversation, parcel, posted.hook)
        else:
            self._send(parcel, self._address(posted))

    def _send_message(self, conversation: Conversation, parcel: Parcel, hook: str) -> None:
        fault, sent = self._leaves(parcel), Moment.now()

        def answered(delivery: Delivery) -> None:
            self._arrived(parcel, Report(delivery, sent, is_first=True), fault)

        socket = self._sockets.of(self._group, conversation.call.session, conversation)
        socket.post(parcel.event, hook, msgspec.Raw(parcel.body), fault=fault, answered=answered)

    def _address(self, posted: Posted) -> Address | None:
        moment = str(int(time.time()))
        signed = f"{moment}.".encode() + posted.body

        def endpoint(secret: str) -> Endpoint:
            proof = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
            headers = {"User-Agent": "jambonz", "Jambonz-Signature": f"t={moment},v1={proof}"}
            return Endpoint(posted.hook, headers)

        try:
            return Address(endpoint(self.settings.webhook_secret), endpoint("not-the-secret"))
        except ValueError:  # a WebSocket, or nothing that can be reached
            return None

    def _bring(
        self, parcel: Parcel, address: Address, fault: WebhookFault | None, done: Done, *, tried: int = 0
    ) -> None:
        """Again where the hook asks for that; only the last try is heard of."""
        retry = verbs.retry_of(address.honest.url)

        def tried_once(report: Report) -> None:
            wait = retry.wait_seconds(report.delivery, tried=tried) if report.is_first else None
            if wait is None:
                done(report)
                return
            self.history.count("webhooks.retried")
            self._group.start_soon(again, wait / self.settings.speed)

        async def again(seconds: float) -> None:
            await anyio.sleep(seconds)
            self._bring(parcel, address, None, done, tried=tried + 1)

        super()._bring(parcel, address, fault, tried_once)

    def _abandon(self) -> None:
        for conversation in self._calls.values():
            conversation.abandon()


def _said(reading: verbs.Reading) -> Said:
    return Said(tuple(verb.name for verb in reading.verbs), () if reading.breach is None else (reading.breach,))
