"""The only home of the HTTP client: one request out, one of three values back, never an exception.

Exceptions become outcomes once, here. `NotSent` is given only with proof: httpcore2 tells each step of a request to its
`trace` extension, and as long as nothing but `connection.*` (name, TCP, TLS handshake) was told, no byte of the request
was written; everything else is `Unknown`. What a status means is each provider's own to say, in its `translate`.

Why the trace and not the exception's type: the type tells what failed, not when. The one place that writes a request
is `AsyncHTTP11Connection`, which announces `http11.send_request_headers.started` before it; a TLS error may also come
after the request (`ssl.SSLError` leaves httpx2 unmapped when a record is garbled or a TLS 1.3 server refuses late).
Read in httpcore2 2.16.2; held by tests/contract/test_http_outcomes.py and test_http_tls.py; costs 13 µs of a request's 430.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import quote, urlencode

import anyio
import anyio.to_thread
import httpx2
import msgspec

from bridge.model.outcome import NotSent, NotSentReason, Unknown, UnknownReason
from bridge.model.scrub import scrub
from bridge.providers.protocol import on_sent
from bridge.providers.settings import HttpSettings

for _name in ("httpx2", "httpcore2"):  # on DEBUG they would print headers, and with them credentials
    logging.getLogger(_name).setLevel(logging.WARNING)

_LONGEST_RETRY_AFTER_SECONDS = 24 * 60 * 60
_SECONDS = re.compile(r"[0-9]{1,9}")


class Answered(msgspec.Struct, frozen=True):
    """A whole answer. Header names are lower case; several headers of one name are joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Exchange: TypeAlias = Answered | NotSent | Unknown


class HttpClient:
    """One connection's client: HTTP/1.1, no redirects, no retries, no cookies, no proxies from the environment.

    At most `max_connections` requests are on their way; others wait in front for `pool_timeout_seconds`, which counts
    as not sent. `total_timeout_seconds` bounds all of it, waiting included. Enter it before the first `send`.
    """

    def __init__(
        self,
        base_url: str,
        settings: HttpSettings,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            base_url: scheme, host, port and the path that goes in front of every request's.
            settings: time-outs in seconds, limits.
            headers: sent with every request.
            tls: whom to trust; None: the system's certificates.

        Raises:
            ValueError: the base URL is not an absolute http or https URL without query and user.
        """
        self._base = _parse_base(base_url)
        self._prefix = self._base.raw_path.rstrip(b"/")
        self._settings = settings
        self._timeouts = {
            "connect": settings.connect_timeout_seconds,
            "write": settings.write_timeout_seconds,
            "read": settings.read_timeout_seconds,
            "pool": settings.pool_timeout_seconds,
        }
        self._headers = {"accept-encoding": "identity", "user-agent": "callbridge", **(headers or {})}
        self._tls = tls
        self._slots = anyio.Semaphore(settings.max_connections, fast_acquire=True)
        self._transport: httpx2.AsyncHTTPTransport | None = None

    async def __aenter__(self) -> Self:
        # Loading certificates takes tens of milliseconds and reads files: not on the loop.
        tls = await anyio.to_thread.run_sync(ssl.create_default_context) if self._tls is None else self._tls
        kept = self._settings.max_connections if self._settings.keep_alive_seconds > 0 else 0
        self._transport = httpx2.AsyncHTTPTransport(
            verify=tls,
            trust_env=False,
            http1=True,
            http2=False,
            retries=0,
            limits=httpx2.Limits(
                max_connections=self._settings.max_connections,
                max_keepalive_connections=kept,
                keepalive_expiry=self._settings.keep_alive_seconds,
            ),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        read_timeout_seconds: float | None = None,
    ) -> Exchange:
        """Ask once and read the whole answer. Cancelled, nobody knows whether the request was sent.

        Args:
            method: such as `POST`.
            path: what follows the base URL, beginning with `/` and percent-encoded by the caller.
            query: percent-encoded here; `+` becomes `%2B`.
            headers: in addition to the client's own.
            content: the body.
            read_timeout_seconds: longest silence before and within the answer, where it differs from the settings'.

        Returns:
            `Answered` whatever its status; `NotSent` with proof that no byte of the request was written; else
            `Unknown`, also for an answer that was cut off or is longer than `max_response_bytes`.
        """
        request = self._request(method, path, query=query, headers=headers, content=content, read=read_timeout_seconds)
        course = request.extensions["trace"] = _Course()
        with anyio.move_on_after(self._settings.total_timeout_seconds):
            if not await self._take_slot():
                return NotSent("pool_timeout", detail="all of max_connections are busy")
            try:
                return await self._exchange(request, course)
            # AttributeError: anyio asks uvloop for the peer of a socket that was reset as soon as it was connected.
            except (httpx2.HTTPError, OSError, AttributeError) as error:
                return course.outcome_of(error)
            finally:
                self._slots.release()
        return course.out_of_time()

    async def _take_slot(self) -> bool:
        with anyio.move_on_after(self._settings.pool_timeout_seconds):
            await self._slots.acquire()
            return True
        return False

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        content: bytes,
        read: float | None,
    ) -> httpx2.Request:
        raw = self._prefix + path.encode("ascii")
        if query:
            raw += b"?" + urlencode(query, quote_via=quote).encode("ascii")
        timeouts = self._timeouts if read is None else {**self._timeouts, "read": read}
        return httpx2.Request(
            method,
            self._base.copy_with(raw_path=raw),
            headers={**self._headers, **(headers or {})},
            content=content,
            extensions={"timeout": timeouts},
        )

    async def _exchange(self, request: httpx2.Request, course: _Course) -> Answered | Unknown:
        if self._transport is None:
            raise RuntimeError("the client is not open")
        response = await self._transport.handle_async_request(request)
        course.status = response.status_code
        longest = self._settings.max_response_bytes
        body = bytearray()
        try:
            async with aclosing(response.aiter_raw()) as parts:
                async for part in parts:
                    body += part
                    if len(body) > longest:
                        return course.unknown("garbled_answer", f"an answer of more than {longest} bytes")
        finally:
            await response.aclose()
        return Answered(response.status_code, dict(response.headers.items()), bytes(body))


class _Course:
    """How far one request came, as httpcore2 tells it: the proof behind `NotSent`."""

    __slots__ = ("_cause", "_step", "may_have_left", "status")

    def __init__(self) -> None:
        self.may_have_left = False
        self.status: int | None = None
        self._step = ""
        self._cause: BaseException | None = None

    async def __call__(self, name: str, info: Mapping[str, Any]) -> None:
        """One step begins, succeeded or failed; httpcore2 awaits this before it does what it announces."""
        if not name.startswith("connection."):
            self.may_have_left = True
        elif name.endswith(".started"):
            self._step = name
        if name == "http11.send_request_body.complete":
            on_sent.get()()
        if self._cause is None and name.endswith(".failed"):
            self._cause = _root_cause(info["exception"])  # now: the pool strips causes on the way up

    def outcome_of(self, error: Exception) -> NotSent | Unknown:
        """What an exception means, given how far the request came."""
        detail = _said(self._cause or error)
        if self.may_have_left:
            return self.unknown(self._unknown_reason(error), detail)
        return NotSent(self._not_sent_reason(error), detail=detail)

    def out_of_time(self) -> NotSent | Unknown:
        """What it means that `total_timeout_seconds` have passed."""
        detail = "total_timeout_seconds have passed"
        if self.may_have_left:
            return self.unknown("timeout", detail)
        return NotSent("connect_timeout" if self._step else "pool_timeout", detail=detail)

    def unknown(self, reason: UnknownReason, detail: str) -> Unknown:
        """The request may have been read; with the status, where the head of an answer has come."""
        return Unknown(reason, provider_status=self.status, detail=detail)

    def _unknown_reason(self, error: Exception) -> UnknownReason:
        if isinstance(error, httpx2.TimeoutException):
            return "timeout"
        # With a cause it is the parser's; without one httpcore2's own: the connection ended before an answer began.
        if isinstance(error, httpx2.RemoteProtocolError) and self._cause is not None:
            return "garbled_answer"
        return "connection_lost"

    def _not_sent_reason(self, error: Exception) -> NotSentReason:
        if isinstance(error, httpx2.PoolTimeout):
            return "pool_timeout"
        if isinstance(self._cause, socket.gaierror):
            return "name_not_resolved"
        if isinstance(error, httpx2.TimeoutException):
            return "connect_timeout"
        return "tls_failed" if self._step == "connection.start_tls.started" else "connection_refused"


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """How long a `Retry-After` header asks to wait, at most one day; None where there is none or it cannot be read.

    Args:
        value: seconds, or a date as HTTP writes it (RFC 9110, 10.2.3). A moment that has passed is 0.
        now: wall time with its zone.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _LONGEST_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # how `-0000` is read
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)


def _parse_base(base_url: str) -> httpx2.URL:
    allowed = "an absolute http or https URL without user, query and fragment"
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise ValueError(allowed) from error
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(allowed)
    return url


def _root_cause(error: BaseException) -> BaseException | None:
    cause = error.__cause__
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause


def _said(cause: BaseException) -> str:
    """The words of the system; of a parser's error only its name, because it quotes what the provider sent."""
    name = type(cause).__name__
    return scrub(f"{name}: {cause}") if isinstance(cause, OSError) else name
