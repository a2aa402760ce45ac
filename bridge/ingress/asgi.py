"""The few words of raw ASGI that our request handlers speak: types, reading a body, answering, noticing a hang-up.

A body is read whole or not at all, an answer is written whole with its length, and a caller that went away is an
exception (`Disconnected`) while reading and a plain return (`until_disconnect`) while waiting.
Paths, authentication, status codes and deadlines are the router's; connections and their limits are `guarded`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Literal, NotRequired, TypedDict

from bridge.ingress.websocket import Upgrade

Header = tuple[bytes, bytes]


class Scope(TypedDict):
    """One request without its body. Header names are lower case; `client` is the peer of the socket.

    `upgrade` is there if the request asks for a WebSocket: accept it, or answer as to any other request.
    """

    type: Literal["http"]
    http_version: str
    method: str
    scheme: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: Sequence[Header]
    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    upgrade: NotRequired[Upgrade]


class RequestBody(TypedDict):
    """A piece of the request's body."""

    type: Literal["http.request"]
    body: bytes
    more_body: bool


class Disconnect(TypedDict):
    """The peer is gone, or its answer is complete."""

    type: Literal["http.disconnect"]


class ResponseStart(TypedDict):
    """Status and headers of the answer."""

    type: Literal["http.response.start"]
    status: int
    headers: Sequence[Header]


class ResponseBody(TypedDict):
    """The answer's body, or a piece of it."""

    type: Literal["http.response.body"]
    body: bytes
    more_body: NotRequired[bool]


Receive = Callable[[], Awaitable[RequestBody | Disconnect]]
Send = Callable[[ResponseStart | ResponseBody], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_WITHOUT_LENGTH = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Disconnected(Exception):
    """The caller went away before its request was complete: nobody is left to answer."""


class TooLarge(Exception):
    """The body is longer than this handler takes: answer 413."""


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        Disconnected: the caller went away, or the server refused the rest of its request.
        TooLarge: the body passed `max_bytes`; what follows of it is not read.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        size += len(message["body"])
        if size > max_bytes:
            raise TooLarge
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


async def respond(send: Send, status: int, body: bytes = b"", headers: Iterable[Header] = ()) -> None:
    """Hand the answer to the socket, with its length. If the caller is gone this does nothing."""
    length = () if status in _WITHOUT_LENGTH else ((b"content-length", b"%d" % len(body)),)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


async def until_disconnect(receive: Receive) -> None:
    """Return when the caller is gone. Call it after `read_body`: it discards what else arrives."""
    while (await receive())["type"] != "http.disconnect":
        pass
