"""What simulated vendors have in common: a port, a script, a memory, webhooks on their way, and an end.

It promises that the history has each request to dial it saw, begun or whole, with what the script had in store for it,
and each webhook once for each copy. What a vendor's requests and webhooks say is left to its package.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import NamedTuple, Self

import anyio.abc
import msgspec

from bridge.demo.simulators import control, http1
from bridge.demo.simulators.background import background_tasks
from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.courier import Address, Courier, Done, Report
from bridge.demo.simulators.faults import Answer, AnswerLate, Reply, ReplyFault, WebhookFault, acts
from bridge.demo.simulators.history import Call, Dial, History, Moment, Webhook
from bridge.demo.simulators.script import Callee, Director, Script
from bridge.demo.simulators.webhooks import Delivery, WebhookClient

_LONGEST_OVERTAKING_SECONDS = 10.0


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """What every vendor's settings say of the process."""

    host: str = http1.LOOPBACK
    port: int = 0
    control_port: int | None = None
    """A port of its own for `/_sim`, untouched by connection faults; 0: a free one."""
    script: Script = Script()
    history_limit: int = 20_000


class Said(NamedTuple):
    """What the answer to a webhook says, in the history's words."""

    actions: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()


class Parcel(msgspec.Struct, frozen=True):
    """A webhook on its way."""

    call: Call
    callee: Callee
    event: str
    body: bytes
    nth: int
    """Of its kind in its call, from 1."""
    nth_of_all: int
    cap_seconds: float
    """A later answer counts as none; not scaled."""
    done: Callable[[Delivery], Said]
    """Hears of the first copy that ends, and does what its answer says."""
    repeated: Callable[[Delivery], Said] = lambda _: Said()
    """Hears of each copy behind that one; their answers are only written down."""


class Vendor(ABC):
    """`async with` a subclass; at the end every call and connection is dropped.

    Attributes:
        history: what happened so far; `history.observe` for a timeline.
        server: the vendor's port; `server.faults`, `server.refuse()`, `server.listen()` for what a script can't say.
        client: sends the webhooks.
    """

    server: http1.Http1Server
    client: WebhookClient
    _placed_as = "placed"
    """What the history says was decided where nothing goes wrong."""

    def __init__(self, port: Port) -> None:
        self.history = History(limit=port.history_limit)
        self.control_url: str | None = None
        self._port = port
        self._director = Director(port.script)
        self._dials: dict[Exchange, Dial] = {}
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
        """The vendor's port."""
        return self.server.base_url

    async def wait_for(self, predicate: Callable[[History], bool], timeout_seconds: float) -> None:
        """Until the predicate holds for the history; TimeoutError if it does not in time."""
        await self.history.wait_for(predicate, timeout_seconds=timeout_seconds)

    # ---- steering

    @abstractmethod
    def inbound(self, caller: str, *, flow_id: str | None = None) -> str:
        """Somebody calls; the new session. ValueError where the vendor's calls cannot come in like this."""

    @abstractmethod
    def point_webhooks_at(self, url: str, *, flow_id: str | None = None) -> None:
        """Send webhooks there from now on. An unusable URL or an unknown `flow_id` is a ValueError."""

    def play(self, new: Script) -> None:
        """Follow this script from now on; its rules count from here."""
        self._director = Director(new)

    def release(self) -> None:
        """End every hang and delay that is under way."""
        self.server.release()

    # ---- a vendor's own

    @abstractmethod
    def _is_dial(self, exchange: Exchange) -> bool:
        """Whether this request asks to dial, as far as its head tells."""

    @abstractmethod
    async def _answer(self, exchange: Exchange) -> Reply:
        """One request to the vendor's API."""

    @abstractmethod
    def _abandon(self) -> None:
        """The end: forget every timer."""

    # ---- requests to dial

    def _callee(self, number: str) -> Callee:
        return self._director.script.callee(number)

    async def _dialled(self, exchange: Exchange, number: str, ring: Callable[[bool], tuple[Call, Answer]]) -> Reply:
        """A good request to dial: count it, and answer it as the script wants.

        `ring` places the call, at once or after it rang, and gives it with the answer that says so.
        """
        fault = self._director.for_dial(number)
        places = fault is None or acts(fault)
        dial = self._dials[exchange]
        self.history.dial_received(dial, number=number, decided=_decided(fault) or self._placed_as, places=places)
        success = Answer()
        if places:
            call, success = ring(isinstance(fault, AnswerLate))
            dial.session = call.session
            if isinstance(fault, AnswerLate):
                with contextlib.suppress(TimeoutError):
                    await self.wait_for(lambda _: call.answers > 0, _LONGEST_OVERTAKING_SECONDS)
        return success if fault is None or isinstance(fault, AnswerLate) else fault

    def _refused(
        self, exchange: Exchange, status: int, *, number: str | None, breach: str | None, kind: str = "dial_request"
    ) -> None:
        """Count a bad request, as one to dial if it began so; `breach` says what only a wrong adapter would send."""
        if exchange in self._dials:
            self.history.dial_received(self._dials[exchange], number=number, decided=str(status), places=False)
        if breach is not None:
            self.history.breach(kind, f"{status}: {breach}", number=number)

    # ---- webhooks

    def _send(self, parcel: Parcel, address: Address | None) -> None:
        """Have a webhook brought, with the fault that the script has for it; without an address it gets nowhere."""
        fault = self._leaves(parcel)
        if address is None:
            nowhere = Delivery(None, b"", "", 0.0, "no_webhook_url")
            self._arrived(parcel, Report(nowhere, Moment.now(), is_first=True), fault)
        else:
            self._bring(parcel, address, fault, lambda report: self._arrived(parcel, report, fault))

    def _leaves(self, parcel: Parcel, *, what: str = "webhook") -> WebhookFault | None:
        """Count a webhook; the fault that the script has for it."""
        call = parcel.call
        call.webhooks += 1
        self.history.tell(what, number=call.number, session=call.session, detail=parcel.event)
        return self._director.for_webhook(
            parcel.callee, event=parcel.event, nth=parcel.nth, nth_of_all=parcel.nth_of_all
        )

    def _bring(self, parcel: Parcel, address: Address, fault: WebhookFault | None, done: Done) -> None:
        """Post it; `done` hears of each copy. A vendor that tries again does so here."""
        courier = Courier(self._group, self.client, cap_seconds=parcel.cap_seconds)
        courier.send(address, parcel.body, fault=fault, done=done)

    def _arrived(self, parcel: Parcel, report: Report, fault: WebhookFault | None) -> None:
        """Do what the answer to a copy says, and write it down."""
        call, delivery = parcel.call, report.delivery
        if report.is_first:
            said = parcel.done(delivery)
            call.answers += 1
        else:
            said = parcel.repeated(delivery)
        self.history.webhook_done(
            Webhook(
                session=call.session,
                number=call.number,
                event=parcel.event,
                sent=report.sent,
                latency_seconds=delivery.latency_seconds,
                status=delivery.status,
                failure=delivery.failure,
                actions=said.actions,
                violations=said.violations,
                fault=None if fault is None else str(fault.__struct_config__.tag),
            )
        )

    # ---- life

    def _begins(self, exchange: Exchange) -> None:
        if self._is_dial(exchange):
            self._dials[exchange] = self.history.dial_begins(exchange.connection, exchange.path)

    def _ends(self, exchange: Exchange) -> None:
        dial = self._dials.pop(exchange, None)
        if dial is not None:
            dial.ended = exchange.ended
            self.history.count(f"dials.ended.{exchange.ended}")

    async def _handle(self, exchange: Exchange) -> Reply:
        if exchange.path.startswith(control.PREFIX):
            return control.handle(self, exchange)
        return await self._answer(exchange)

    async def _handle_control(self, exchange: Exchange) -> Reply:
        return control.handle(self, exchange)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        port = self._port
        async with contextlib.AsyncExitStack() as stack:
            self._group = await stack.enter_async_context(background_tasks())
            self.client = WebhookClient()
            stack.callback(self.client.close)
            self.server = await stack.enter_async_context(
                http1.serve(
                    self._handle,
                    address=(port.host, port.port),
                    on_begin=self._begins,
                    on_end=self._ends,
                    choose_fault=lambda _: self._director.for_connection(),
                )
            )
            if port.control_port is not None:
                address = (port.host, port.control_port)
                extra = await stack.enter_async_context(http1.serve(self._handle_control, address=address))
                self.control_url = extra.base_url
            stack.callback(self._abandon)
            yield


def _decided(fault: ReplyFault | None) -> str | None:
    match fault:
        case None:
            return None
        case Answer(status=status):
            return str(status)
        case _:
            return str(fault.__struct_config__.tag)
