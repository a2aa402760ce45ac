"""The simulated sipgate: takes requests to dial, plays the calls, sends their webhooks, remembers everything.

It promises that the history has each request it saw, begun or whole, and that `wait_for` wakes on events. The calls'
own behaviour is left to `conversation`, the wire to `http1` and `courier`, faults to the script.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

import anyio.abc

from bridge.demo.simulators import control, http1
from bridge.demo.simulators.background import background_tasks
from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.courier import Address, Courier, Report
from bridge.demo.simulators.faults import Answer, AnswerLate, Reply, ReplyFault, WebhookFault, acts
from bridge.demo.simulators.history import Call, Dial, History, Moment, Webhook
from bridge.demo.simulators.script import Director, Script
from bridge.demo.simulators.sipgate import rest, wire
from bridge.demo.simulators.sipgate.conversation import Conversation
from bridge.demo.simulators.sipgate.settings import Flow, SipgateSettings
from bridge.demo.simulators.sockets import Ended, Link, Where
from bridge.demo.simulators.webhooks import Delivery, Endpoint, WebhookClient

_USER_AGENT = "sipgate-ai-flow-simulator/1"
_LONGEST_OVERTAKING_SECONDS = 10.0
_PLACED = Answer(status=201)


class SipgateSimulator:
    """`async with SipgateSimulator(settings) as simulator:`; at the end every call and connection is dropped.

    Attributes:
        settings: of the account and the platform.
        history: what happened so far; `history.observe` for a timeline.
        server: the provider's port; `server.faults`, `server.refuse()`, `server.listen()` for what a script can't say.
        client: sends the webhooks.
    """

    server: http1.Http1Server
    client: WebhookClient

    def __init__(self, settings: SipgateSettings) -> None:
        self.settings = settings
        self.history = History(limit=settings.history_limit)
        self.control_url: str | None = None
        self._director = Director(settings.script)
        self._flows: dict[str, Flow] = {flow.id: flow for flow in settings.flows}
        self._addresses: dict[str, Address] = {}
        self._sockets: dict[str, Where] = {}
        self._links: dict[str, Link] = {}
        for flow in settings.flows:
            if flow.webhook_url is not None:
                self.point_webhooks_at(flow.webhook_url, flow_id=flow.id)
        self._dials: dict[Exchange, Dial] = {}
        self._calls: dict[str, Conversation] = {}
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
        """Somebody calls the flow's number (the first flow's without an id); the session."""
        flow = self._flows.get(flow_id or self.settings.flows[0].id)
        if flow is None:
            raise ValueError("no such flow")
        return self._ring(caller.lstrip("+"), flow, direction="inbound", at_once=True).session

    def play(self, new: Script) -> None:
        """Follow this script from now on; its rules count from here."""
        self._director = Director(new)

    def point_webhooks_at(self, url: str, *, flow_id: str | None = None) -> None:
        """Send this flow's events (every flow's without an id) there from now on; `ws://` for a WebSocket a call."""
        if flow_id is not None and flow_id not in self._flows:
            raise ValueError("no such flow")
        for flow in self._flows.values():
            if flow_id in {None, flow.id}:
                proof = {} if flow.webhook_secret is None else {"X-API-TOKEN": flow.webhook_secret}
                common = {"User-Agent": _USER_AGENT}
                forged = {"X-API-TOKEN": "not-the-secret"}
                self._sockets.pop(flow.id, None)
                if url.startswith("ws://"):
                    self._sockets[flow.id] = Where(url, common | proof)
                    continue
                self._addresses[flow.id] = Address(Endpoint(url, common | proof), Endpoint(url, common | forged))

    def release(self) -> None:
        """End every hang and delay that is under way."""
        self.server.release()

    # ---- requests to dial

    def _begins(self, exchange: Exchange) -> None:
        if rest.is_dial(exchange.path):
            self._dials[exchange] = self.history.dial_begins(exchange.connection, exchange.path)

    def _ends(self, exchange: Exchange) -> None:
        dial = self._dials.pop(exchange, None)
        if dial is not None:
            dial.ended = exchange.ended
            self.history.count(f"dials.ended.{exchange.ended}")

    async def _handle(self, exchange: Exchange) -> Reply:
        if exchange.path.startswith(control.PREFIX):
            return control.handle(self, exchange)
        order = rest.read(exchange, token=self.settings.token, flows=self._flows)
        dial = self._dials.get(exchange)
        if isinstance(order, rest.Refusal) or dial is None:
            return self._refuse(order, dial) if isinstance(order, rest.Refusal) else Answer(status=404)
        fault = self._director.for_dial(order.number)
        places = fault is None or acts(fault)
        self.history.dial_received(dial, number=order.number, decided=_name(fault), places=places)
        if places:
            call = self._ring(order.number, order.flow, direction="outbound", at_once=isinstance(fault, AnswerLate))
            dial.session = call.session
            if isinstance(fault, AnswerLate):
                await self._first_answer(call)
        return _PLACED if fault is None or isinstance(fault, AnswerLate) else fault

    async def _handle_control(self, exchange: Exchange) -> Reply:
        return control.handle(self, exchange)

    def _refuse(self, refusal: rest.Refusal, dial: Dial | None) -> Answer:
        if dial is not None:
            self.history.dial_received(dial, number=refusal.number, decided=str(refusal.status), places=False)
        if refusal.is_breach:
            self.history.breach("dial_request", f"{refusal.status}: {refusal.reason}", number=refusal.number)
        return refusal.answer()

    # ---- calls

    def _ring(self, number: str, flow: Flow, *, direction: str, at_once: bool) -> Call:
        call = self.history.call_begins(str(uuid.uuid4()), number=number, direction=direction)
        callee = self._director.script.callee(number)
        conversation = Conversation(self, call, callee=callee, flow=flow)
        self._calls[call.session] = conversation
        if at_once:
            conversation.pick_up()
        else:
            conversation.ring()
        return call

    async def _first_answer(self, call: Call) -> None:
        """Until the call's first webhook has been answered, or has failed."""
        with contextlib.suppress(TimeoutError):
            await self.history.wait_for(lambda _: call.answers > 0, timeout_seconds=_LONGEST_OVERTAKING_SECONDS)

    def over(self, conversation: Conversation) -> None:
        """Part of `Stage`."""
        self._calls.pop(conversation.call.session, None)
        self._links.pop(conversation.call.session, None)

    def by_socket(self, conversation: Conversation) -> bool:
        """Part of `Stage`."""
        return conversation.call.session in self._links or conversation.flow.id in self._sockets

    def _send_frame(self, conversation: Conversation, event: str, body: bytes, fault: WebhookFault | None) -> None:
        """An event as a frame: it is over when it has left, because nobody waits for an answer."""
        call, sent = conversation.call, Moment.now()

        def done(failure: str | None = None) -> None:
            conversation.answered(event, Delivery(None, b"", "", 0.0, failure))
            call.answers += 1
            tag = None if fault is None else str(fault.__struct_config__.tag)
            self.history.webhook_done(
                Webhook(call.session, call.number, event, sent, 0.0, status=None, failure=failure, fault=tag)
            )

        self.history.tell("frame", number=call.number, session=call.session, detail=event)
        link = self._link(conversation)
        if link.is_over:
            done("lost")
            return
        link.send(body.decode(), fault=fault, sent=done)
        if event == "session_end":
            link.close()

    def _link(self, conversation: Conversation) -> Link:
        session = conversation.call.session
        if session not in self._links:

            def told(frame: str) -> None:
                for action in conversation.told(frame.encode()).actions:
                    self.history.count(f"actions.{wire.name(action)}")

            def ended(how: Ended) -> None:
                self.history.count(f"sockets.{'refused' if how.code is None else 'closed'}.{how.code or how.status}")
                conversation.end("platform")  # assumed: a call whose socket is gone cannot go on

            self.history.count("sockets.opened")
            where = self._sockets[conversation.flow.id]
            self._links[session] = Link(self._group, where, on_frame=told, on_end=ended)
        return self._links[session]

    def send(self, conversation: Conversation, event: str, body: bytes, *, nth: int, nth_of_all: int) -> None:
        """Part of `Stage`."""
        if self.by_socket(conversation):
            fault = self._director.for_webhook(conversation.callee, event=event, nth=nth, nth_of_all=nth_of_all)
            self._send_frame(conversation, event, body, fault)
            return
        fault = self._director.for_webhook(conversation.callee, event=event, nth=nth, nth_of_all=nth_of_all)
        fault_name = None if fault is None else str(fault.__struct_config__.tag)
        call = conversation.call

        def done(report: Report) -> None:
            delivery = report.delivery
            if report.is_first:
                reading = conversation.answered(event, delivery)
                call.answers += 1
            else:
                reading = wire.read_answer(delivery, event=event, session=call.session)
            self.history.webhook_done(
                Webhook(
                    session=call.session,
                    number=call.number,
                    event=event,
                    sent=report.sent,
                    latency_seconds=delivery.latency_seconds,
                    status=delivery.status,
                    failure=delivery.failure,
                    actions=tuple(wire.name(action) for action in reading.actions),
                    violations=tuple(breach.kind for breach in reading.breaches),
                    fault=fault_name,
                )
            )

        self.history.tell("webhook", number=call.number, session=call.session, detail=event)
        address = self._addresses.get(conversation.flow.id)
        if address is None:
            done(Report(Delivery(None, b"", "", 0.0, "no_webhook_url"), Moment.now(), is_first=True))
        else:
            self._courier.send(address, body, fault=fault, done=done)

    # ---- life

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        settings = self.settings
        async with contextlib.AsyncExitStack() as stack:
            group = await stack.enter_async_context(background_tasks())
            self._group = group
            self.client = WebhookClient()
            stack.callback(self.client.close)
            self._courier = Courier(group, self.client, cap_seconds=settings.answer_cap_seconds)
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
            return str(_PLACED.status)
        case Answer(status=status):
            return str(status)
        case _:
            return str(fault.__struct_config__.tag)
