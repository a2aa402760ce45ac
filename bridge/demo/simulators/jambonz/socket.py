"""jambonz as the client of its WebSocket API: one socket a call, messages with an id, acknowledgements, commands.

It promises what jambonz does (contract 10): an acknowledgement that takes 5 s counts as none, a socket that was closed
with 1000 is not opened again and any other is, up to five times, with `session:reconnect`. Assumed: what was under way
when the socket went is not sent again, and statuses wait for the socket's first message.
"""

from __future__ import annotations

import asyncio
import itertools
from base64 import b64encode
from collections.abc import Callable
from typing import NamedTuple, Protocol

import anyio.abc
import msgspec

from bridge.demo.simulators.faults import WebhookFault
from bridge.demo.simulators.history import History
from bridge.demo.simulators.jambonz import verbs
from bridge.demo.simulators.sockets import Ended, Link, Where
from bridge.demo.simulators.webhooks import Delivery

ACK_SECONDS = 5.0
_MOST_CONNECTIONS = 5
_RECONNECT_SECONDS = 0.5
_FINAL = 1000
_LARGEST_FRAME = 24 * 1024
_STATUSES = {"trying", "ringing", "early-media", "in-progress", "completed", "busy", "no-answer", "failed"}
_ACKNOWLEDGED = {"session:new", "session:redirect", "session:reconnect", "verb:hook"}


class Driven(Protocol):
    """The call that a socket drives."""

    @property
    def socket_url(self) -> str | None:
        """Where its application is."""
        ...

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password."""
        ...

    def command(self, name: str, reading: verbs.Reading, *, queued: bool) -> None:
        """Do what the application says unasked."""
        ...

    def cut_off(self) -> None:
        """The application cannot be reached any more."""
        ...


class _Waiting(NamedTuple):
    answered: Callable[[Delivery], None]
    since: float
    timer: asyncio.TimerHandle


class AppSocket:
    """The application's socket of one call."""

    def __init__(self, group: anyio.abc.TaskGroup, driven: Driven, *, sid: str, history: History) -> None:
        login = b64encode(":".join(driven.login or ()).encode()).decode()
        proof = {"Authorization": f"Basic {login}"} if login else {}
        url = (driven.socket_url or "").partition("#")[0]
        self._where = Where(url, proof, ("ws.jambonz.org",), _LARGEST_FRAME)
        self._group = group
        self._sid = sid
        self._history = history
        self._driven = driven
        self._ids = itertools.count(1)
        self._waiting: dict[str, _Waiting] = {}
        self._new: object = None
        self._connections = 0
        self._is_over = False
        self._backlog: list[Callable[[], None]] = []
        self._link: Link | None = None

    def post(
        self, name: str, hook: str, data: object, *, fault: WebhookFault | None, answered: Callable[[Delivery], None]
    ) -> None:
        """Send what would be a webhook; `answered` is called once."""
        if self._is_over:
            answered(_failed("lost"))
            return
        if self._link is None:
            self._open()
        elif self._link.is_over:  # it is about to be opened again
            self._backlog.append(lambda: self.post(name, hook, data, fault=fault, answered=answered))
            return
        self._send(_type_of(name), data, hook=hook, fault=fault, answered=answered)

    def close(self) -> None:
        """The call is over."""
        if not self._is_over and self._link is not None:
            self._link.close()
        self._is_over = True

    def _send(
        self,
        kind: str,
        data: object,
        *,
        answered: Callable[[Delivery], None],
        hook: str | None = None,
        fault: WebhookFault | None = None,
    ) -> None:
        assert self._link is not None  # noqa: S101 - post opens it
        msgid = f"{self._sid[:8]}-{next(self._ids)}"
        message: dict[str, object] = {"type": kind, "msgid": msgid, "call_sid": self._sid, "data": data}
        if hook is not None and kind in _ACKNOWLEDGED:
            message["hook"] = hook
        if kind == "session:new":
            self._new = data
        if kind in _ACKNOWLEDGED:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(ACK_SECONDS, self._answer, msgid, _failed("no_answer"))
            self._waiting[msgid] = _Waiting(answered, loop.time(), timer)
        sent = (lambda: None) if kind in _ACKNOWLEDGED else (lambda: answered(Delivery(204, b"", "", 0.0)))
        self._link.send(msgspec.json.encode(message).decode(), fault=fault, sent=sent)

    def _answer(self, msgid: str, delivery: Delivery) -> bool:
        waiting = self._waiting.pop(msgid, None)
        if waiting is None:
            return False
        waiting.timer.cancel()
        seconds = asyncio.get_running_loop().time() - waiting.since
        waiting.answered(msgspec.structs.replace(delivery, latency_seconds=seconds))
        return True

    # ---- the other side

    def _heard(self, frame: str) -> None:
        try:
            message = msgspec.json.decode(frame, type=dict[str, msgspec.Raw])
            kind = msgspec.json.decode(message["type"], type=str)
        except (msgspec.DecodeError, KeyError):
            self._history.breach("frame", "no message", session=self._sid)
            return
        self._history.count(f"frames.{kind}")
        if kind == "ack":
            msgid = msgspec.json.decode(message.get("msgid", msgspec.Raw(b'""')), type=str)
            data = bytes(message.get("data", msgspec.Raw(b"")))
            if not self._answer(msgid, Delivery(200, data, "application/json" if data else "", 0.0)):
                self._history.count("acks.late_or_unknown")
        elif kind == "command":
            self._command(message)
        else:
            self._history.breach("frame", f"the unknown type {kind}", session=self._sid)

    def _command(self, message: dict[str, msgspec.Raw]) -> None:
        name = msgspec.json.decode(message.get("command", msgspec.Raw(b'""')), type=str)
        self._history.count(f"commands.{name}")
        if "data" not in message:
            self._history.breach("command", f"{name} without data", session=self._sid)
            return
        reading = verbs.Reading()
        if name == "redirect":
            reading = verbs.read_answer(Delivery(200, bytes(message["data"]), "application/json", 0.0))
            if reading.breach is not None:
                self._history.breach("command", reading.breach, session=self._sid)
        queued = bytes(message.get("queueCommand", msgspec.Raw(b"false"))) == b"true"
        self._driven.command(name, reading, queued=queued)

    # ---- connections

    def _open(self) -> None:
        self._connections += 1
        self._history.count("sockets.opened")
        self._link = Link(self._group, self._where, on_frame=self._heard, on_end=self._ended)

    def _ended(self, how: Ended) -> None:
        self._history.count(f"sockets.{'refused' if how.code is None else 'closed'}.{how.code or how.status}")
        for msgid in list(self._waiting):
            self._answer(msgid, _failed("lost"))
        if self._is_over:
            return
        if how.code in {None, _FINAL} or self._connections >= _MOST_CONNECTIONS:
            self._is_over = True
            self._driven.cut_off()
            return
        seconds = _RECONNECT_SECONDS * self._connections
        asyncio.get_running_loop().call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        if self._is_over:
            return
        self._open()
        if self._new is not None:
            self._send("session:reconnect", self._new, answered=lambda _: self._history.count("sockets.reconnected"))
        backlog, self._backlog = self._backlog, []
        for again in backlog:
            again()


class AppSockets:
    """Those of all calls."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._open: dict[str, AppSocket] = {}

    def of(self, group: anyio.abc.TaskGroup, sid: str, driven: Driven) -> AppSocket:
        """The call's; made when it is asked for first."""
        if sid not in self._open:
            self._open[sid] = AppSocket(group, driven, sid=sid, history=self._history)
        return self._open[sid]

    def close(self, sid: str) -> None:
        """The call is over."""
        if sid in self._open:
            self._open.pop(sid).close()


def _type_of(name: str) -> str:
    if name in _STATUSES:
        return "call:status"
    return {"call_hook": "session:new", "redirect": "session:redirect"}.get(name, "verb:hook")


def _failed(why: str) -> Delivery:
    return Delivery(None, b"", "", 0.0, why)
