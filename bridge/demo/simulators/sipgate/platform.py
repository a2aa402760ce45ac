"""The simulated sipgate: takes requests to dial, plays the calls, sends their webhooks, remembers everything.

It promises that the history has each request it saw, begun or whole, and that `wait_for` wakes on events. The calls'
own behaviour is left to `conversation`, the wire to `http1` and `courier`, faults to the script.
"""

from __future__ import annotations

import uuid

from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.courier import Address, Report
from bridge.demo.simulators.faults import Answer, Reply
from bridge.demo.simulators.history import Call, Moment
from bridge.demo.simulators.sipgate import rest, wire
from bridge.demo.simulators.sipgate.conversation import Conversation
from bridge.demo.simulators.sipgate.settings import Flow, SipgateSettings
from bridge.demo.simulators.sockets import Ended, Link, Where
from bridge.demo.simulators.vendor import Parcel, Said, Vendor
from bridge.demo.simulators.webhooks import Delivery, Endpoint

_USER_AGENT = "sipgate-ai-flow-simulator/1"
_PLACED = Answer(status=201)


class SipgateSimulator(Vendor):
    """`async with SipgateSimulator(settings) as simulator:`; see `Vendor`."""

    _placed_as = str(_PLACED.status)

    def __init__(self, settings: SipgateSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self._flows: dict[str, Flow] = {flow.id: flow for flow in settings.flows}
        self._addresses: dict[str, Address] = {}
        self._sockets: dict[str, Where] = {}
        self._links: dict[str, Link] = {}
        self._calls: dict[str, Conversation] = {}
        for flow in settings.flows:
            if flow.webhook_url is not None:
                self.point_webhooks_at(flow.webhook_url, flow_id=flow.id)

    # ---- steering

    def inbound(self, caller: str, *, flow_id: str | None = None) -> str:
        """Somebody calls the flow's number (the first flow's without an id); the session."""
        flow = self._flows.get(flow_id or self.settings.flows[0].id)
        if flow is None:
            raise ValueError("no such flow")
        return self._ring(caller.lstrip("+"), flow, direction="inbound", at_once=True).session

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

    # ---- requests to dial

    def _is_dial(self, exchange: Exchange) -> bool:
        return rest.is_dial(exchange.path)

    async def _answer(self, exchange: Exchange) -> Reply:
        order = rest.read(exchange, token=self.settings.token, flows=self._flows)
        if isinstance(order, rest.Refusal):
            self._refused(exchange, order.status, number=order.number, breach=order.reason if order.is_breach else None)
            return order.answer()

        def ring(at_once: bool) -> tuple[Call, Answer]:
            return self._ring(order.number, order.flow, direction="outbound", at_once=at_once), _PLACED

        return await self._dialled(exchange, order.number, ring)

    # ---- calls

    def _ring(self, number: str, flow: Flow, *, direction: str, at_once: bool) -> Call:
        call = self.history.call_begins(str(uuid.uuid4()), number=number, direction=direction)
        conversation = Conversation(self, call, callee=self._callee(number), flow=flow)
        self._calls[call.session] = conversation
        if at_once:
            conversation.pick_up()
        else:
            conversation.ring()
        return call

    def over(self, conversation: Conversation) -> None:
        """Part of `Stage`."""
        self._calls.pop(conversation.call.session, None)
        self._links.pop(conversation.call.session, None)

    def by_socket(self, conversation: Conversation) -> bool:
        """Part of `Stage`."""
        return conversation.call.session in self._links or conversation.flow.id in self._sockets

    def _send_frame(self, conversation: Conversation, parcel: Parcel) -> None:
        """An event as a frame: it is over when it has left, because nobody waits for an answer."""
        fault, sent = self._leaves(parcel, what="frame"), Moment.now()

        def done(failure: str | None = None) -> None:
            self._arrived(parcel, Report(Delivery(None, b"", "", 0.0, failure), sent, is_first=True), fault)

        link = self._link(conversation)
        if link.is_over:
            done("lost")
            return
        link.send(parcel.body.decode(), fault=fault, sent=done)
        if parcel.event == "session_end":
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
        session = conversation.call.session
        parcel = Parcel(
            call=conversation.call,
            callee=conversation.callee,
            event=event,
            body=body,
            nth=nth,
            nth_of_all=nth_of_all,
            cap_seconds=self.settings.answer_cap_seconds,
            done=lambda delivery: _said(conversation.answered(event, delivery)),
            repeated=lambda delivery: _said(wire.read_answer(delivery, event=event, session=session)),
        )
        if self.by_socket(conversation):
            self._send_frame(conversation, parcel)
        else:
            self._send(parcel, self._addresses.get(conversation.flow.id))

    def _abandon(self) -> None:
        for conversation in self._calls.values():
            conversation.abandon()


def _said(reading: wire.Reading) -> Said:
    return Said(tuple(map(wire.name, reading.actions)), tuple(breach.kind for breach in reading.breaches))
