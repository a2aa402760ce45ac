"""The simulated jambonz: takes requests to dial and to steer, plays the calls, posts their hooks, remembers everything.

It promises that the history has each request to dial, begun or whole, that hooks are signed over the bytes that are
sent, and that a hook is posted again only where its URL asks for that. The calls' own behaviour is `conversation`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
import msgspec

from bridge.demo.simulators import control, http1
from bridge.demo.simulators.background import background_tasks
from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.courier import Address, Courier, Report
from bridge.demo.simulators.faults import Answer, AnswerLate, Reply, ReplyFault, WebhookFault, acts
from bridge.demo.simulators.history import Call, Dial, History, Moment, Webhook
from bridge.demo.simulators.jambonz import rest, verbs
from bridge.demo.simulators.jambonz.conversation import Answered, Conversation, Posted
from bridge.demo.simulators.jambonz.settings import Application, JambonzSettings
from bridge.demo.simulators.jambonz.socket import AppSockets
from bridge.demo.simulators.script import Director, Script, matches
from bridge.demo.simulators.webhooks import Delivery, Endpoint, WebhookClient

_LONGEST_OVERTAKING_SECONDS = 10.0
_TEXT = {"Content-Type": "text/plain"}
_ENDPOINTS = {("POST", True), ("PUT", False), ("GET", False)}
"""Method, and whether it is for all calls."""
_HTML = {"Content-Type": "text/html"}


class _Parcel(msgspec.Struct, frozen=True):
    """A webhook on its way."""

    call: Call
    posted: Posted
    answered: Answered
    fault: str | None


class JambonzSimulator:
    """`async with JambonzSimulator(settings) as simulator:`; at the end every call and connection is dropped.

    Attributes:
        settings: of the account and the platform.
        history: what happened so far; `updates.NAME` counts the controls that were taken.
        server: the provider's port; `server.faults`, `server.refuse()`, `server.listen()` for what a script can't say.
        client: sends the webhooks.
    """

    server: http1.Http1Server
    client: WebhookClient

    def __init__(self, settings: JambonzSettings) -> None:
        self.settings = settings
        self.history = History(limit=settings.history_limit)
        self.control_url: str | None = None
        self._director = Director(settings.script)
        self._apps: dict[str, Application] = {app.sid: app for app in settings.applications}
        self._dials: dict[Exchange, Dial] = {}
        self._calls: dict[str, Conversation] = {}
        self._ended: dict[str, tuple[float, Mapping[str, object]]] = {}
        self._sockets = AppSockets(self.history)
        self._courier: Courier
        self._group: anyio.abc.TaskGroup
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._running())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return bool(await self._stack.__aexit__(kind, error, traceback))

    @property
    def base_url(self) -> str:
        """The provider's port."""
        return self.server.base_url

    async def wait_for(self, predicate: Callable[[History], bool], timeout_seconds: float) -> None:
        """Until the predicate holds for the history; TimeoutError if it does not in time."""
        await self.history.wait_for(predicate, timeout_seconds=timeout_seconds)

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

    def play(self, new: Script) -> None:
        """Follow this script from now on; its rules count from here."""
        self._director = Director(new)

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

    def release(self) -> None:
        """End every hang and delay that is under way."""
        self.server.release()

    # ---- requests

    def _begins(self, exchange: Exchange) -> None:
        if exchange.method == "POST" and rest.path_of(exchange.path):
            self._dials[exchange] = self.history.dial_begins(exchange.connection, exchange.path)

    def _ends(self, exchange: Exchange) -> None:
        dial = self._dials.pop(exchange, None)
        if dial is not None:
            dial.ended = exchange.ended
            self.history.count(f"dials.ended.{exchange.ended}")

    async def _handle(self, exchange: Exchange) -> Reply:
        if exchange.path.startswith(control.PREFIX):
            return control.handle(self, exchange)
        dial = self._dials.get(exchange)
        place = rest.path_of(exchange.path)
        if place is None or (exchange.method, place[1] is None) not in _ENDPOINTS:
            return Answer(status=404, headers=_HTML, body=f"<pre>Cannot {exchange.method} {exchange.path}</pre>")
        refusal = rest.refuse_access(exchange, self.settings)
        if refusal is not None:
            return self._refuse(refusal, dial)
        if exchange.method == "GET":
            return self._shown(str(place[1]))
        return self._update(exchange, str(place[1])) if dial is None else await self._create(exchange, dial)

    async def _create(self, exchange: Exchange, dial: Dial) -> Reply:
        order = rest.read_create(exchange, self.settings, self._apps)
        if isinstance(order, rest.Refusal):
            return self._refuse(order, dial)
        number = order.number.lstrip("+")
        fault = self._director.for_dial(number)
        places = fault is None or acts(fault)
        self.history.dial_received(dial, number=number, decided=_name(fault), places=places)
        placed: Answer | None = None
        if places:
            conversation = self._begin(order, direction="outbound")
            dial.session = conversation.call.session
            conversation.ring(self._refusal_of(number))
            placed = self._placed(conversation)
            if isinstance(fault, AnswerLate):
                await self._first_answer(conversation)
        if placed is not None and (fault is None or isinstance(fault, AnswerLate)):
            return placed
        return Answer(status=500) if fault is None or isinstance(fault, AnswerLate) else fault

    async def _handle_control(self, exchange: Exchange) -> Reply:
        return control.handle(self, exchange)

    def _placed(self, conversation: Conversation) -> Answer:
        spelt = "callid" if self.settings.flavour == "cognigy" else "callId"
        body = {"sid": conversation.call.session, spelt: conversation.sip_call_id}
        return Answer(status=201, body=msgspec.json.encode(body).decode())

    def _refuse(self, refusal: rest.Refusal, dial: Dial | None) -> Answer:
        if dial is not None:
            self.history.dial_received(dial, number=refusal.number, decided=str(refusal.status), places=False)
        if refusal.is_breach:
            kind = "update" if dial is None else "dial_request"
            self.history.breach(kind, f"{refusal.status}: {refusal.reason}", number=refusal.number)
        return refusal.answer()

    def _update(self, exchange: Exchange, sid: str) -> Answer:
        body = rest.read_update(exchange)
        if isinstance(body, rest.Refusal):
            return self._refuse(body, None)
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
        conversation = Conversation(self, call, callee=self._director.script.callee(number), order=order)
        self._calls[call.session] = conversation
        return conversation

    def _refusal_of(self, number: str) -> int | None:
        refusals = self.settings.refusals
        return next((status for pattern, status in refusals.items() if matches(pattern, number)), None)

    async def _first_answer(self, conversation: Conversation) -> None:
        """Until the call's first webhook has been answered, or has failed."""
        with contextlib.suppress(TimeoutError):
            answered = conversation.call
            await self.history.wait_for(lambda _: answered.answers > 0, timeout_seconds=_LONGEST_OVERTAKING_SECONDS)

    def over(self, conversation: Conversation) -> None:
        """Part of `Stage`."""
        session = conversation.call.session
        self._calls.pop(session, None)
        self._ended[session] = time.monotonic(), conversation.record
        self._sockets.close(session)

    def send(self, conversation: Conversation, posted: Posted, answered: Answered) -> None:
        """Part of `Stage`."""
        call = conversation.call
        fault = self._director.for_webhook(
            conversation.callee, event=posted.name, nth=posted.nth, nth_of_all=posted.nth_of_all
        )
        self.history.tell("webhook", number=call.number, session=call.session, detail=posted.name)
        fault_name = None if fault is None else str(fault.__struct_config__.tag)
        parcel = _Parcel(call, posted, answered, fault_name)
        if conversation.socket_url and not posted.hook.startswith("http"):
            sent = Moment.now()

            def arrived(delivery: Delivery) -> None:
                self._arrived(parcel, Report(delivery, sent, is_first=True))

            socket = self._sockets.of(call.session, conversation)
            socket.post(posted.name, posted.hook, msgspec.Raw(posted.body), fault=fault, answered=arrived)
            return
        try:
            address = self._address(posted)
        except ValueError:  # a WebSocket, or nothing that can be reached
            failed = Delivery(None, b"", "", 0.0, "no_webhook_url")
            self._arrived(parcel, Report(failed, Moment.now(), is_first=True))
            return
        self._try(parcel, address, fault, tried=0)

    def _address(self, posted: Posted) -> Address:
        moment = str(int(time.time()))
        signed = f"{moment}.".encode() + posted.body

        def endpoint(secret: str) -> Endpoint:
            proof = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
            headers = {"User-Agent": "jambonz", "Jambonz-Signature": f"t={moment},v1={proof}"}
            return Endpoint(posted.hook, headers)

        return Address(endpoint(self.settings.webhook_secret), endpoint("not-the-secret"))

    def _try(self, parcel: _Parcel, address: Address, fault: WebhookFault | None, *, tried: int) -> None:
        retry = verbs.retry_of(parcel.posted.hook)

        def done(report: Report) -> None:
            wait = retry.wait_seconds(report.delivery, tried=tried) if report.is_first else None
            if wait is None:
                self._arrived(parcel, report)
                return
            self.history.count("webhooks.retried")
            self._group.start_soon(again, wait / self.settings.speed)

        async def again(seconds: float) -> None:
            await anyio.sleep(seconds)
            self._try(parcel, address, None, tried=tried + 1)

        self._courier.send(address, parcel.posted.body, fault=fault, done=done)

    def _arrived(self, parcel: _Parcel, report: Report) -> None:
        call, delivery = parcel.call, report.delivery
        reading = verbs.read_answer(delivery)
        if report.is_first:
            reading = parcel.answered(delivery)
            call.answers += 1
        self.history.webhook_done(
            Webhook(
                session=call.session,
                number=call.number,
                event=parcel.posted.name,
                sent=report.sent,
                latency_seconds=delivery.latency_seconds,
                status=delivery.status,
                failure=delivery.failure,
                actions=tuple(verb.name for verb in reading.verbs),
                violations=() if reading.breach is None else (reading.breach,),
                fault=parcel.fault,
            )
        )

    # ---- life

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        settings = self.settings
        async with contextlib.AsyncExitStack() as stack:
            self._group = self._sockets.group = await stack.enter_async_context(background_tasks())
            self.client = WebhookClient()
            stack.callback(self.client.close)
            self._courier = Courier(self._group, self.client, cap_seconds=settings.answer_cap_seconds)
            self.server = await stack.enter_async_context(
                http1.serve(
                    self._handle,
                    address=(settings.host, settings.port),
                    on_begin=self._begins,
                    on_end=self._ends,
                    choose_fault=lambda _: self._director.for_connection(),
                )
            )
            if settings.control_port is not None:
                address = (settings.host, settings.control_port)
                extra = await stack.enter_async_context(http1.serve(self._handle_control, address=address))
                self.control_url = extra.base_url
            stack.callback(self._abandon)
            yield

    def _abandon(self) -> None:
        for conversation in self._calls.values():
            conversation.abandon()


def _name(fault: ReplyFault | None) -> str:
    match fault:
        case None:
            return "201"
        case Answer(status=status):
            return str(status)
        case _:
            return str(fault.__struct_config__.tag)
