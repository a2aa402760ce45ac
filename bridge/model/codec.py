"""Bytes to values and back: the only encoder and decoders of messages.

What is read may be a CloudEvents record in binary mode (headers `ce_*`), in structured mode (content type
`application/cloudevents+json`), or plain JSON without headers. What is written is always binary mode. Everything that
cannot be read raises `Poison`, which names the field, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

import msgspec

from bridge.model.actions import Actions
from bridge.model.commands import CancelCall, Command, PlaceCall
from bridge.model.errors import Poison
from bridge.model.scrub import describe
from bridge.model.validation import decode_json

Headers: TypeAlias = Sequence[tuple[str, bytes]]
T = TypeVar("T")

JSON = b"application/json"
_STRUCTURED = b"application/cloudevents+json"
_SPEC_VERSION = b"1.0"

MAX_DEPTH = 64

encoder = msgspec.json.Encoder()


class Envelope(msgspec.Struct, frozen=True):
    """What stood around a message: CloudEvents attributes where there were any, and the trace."""

    data: bytes
    type: str | None = None
    id: str | None = None
    trace: tuple[tuple[str, bytes], ...] = ()


class _Structured(msgspec.Struct, frozen=True):
    specversion: str
    id: str
    source: str
    type: str
    data: msgspec.Raw
    traceparent: str | None = None
    tracestate: str | None = None


class _Peek(msgspec.Struct, frozen=True):
    type: str | None = None


_structured = msgspec.json.Decoder(_Structured)
_peek = msgspec.json.Decoder(_Peek)
_place = msgspec.json.Decoder(PlaceCall)
_cancel = msgspec.json.Decoder(CancelCall)
_actions = msgspec.json.Decoder(Actions)


def open_envelope(value: bytes | None, headers: Headers) -> Envelope:
    """Take a record's value out of its CloudEvents clothes, whichever they are.

    Raises:
        Poison: there is no value, or a structured event that is not one.
    """
    if value is None:
        raise Poison("$", found="no value (a tombstone)", allowed="a JSON object")
    known = {name.lower(): content for name, content in headers}
    if known.get("content-type", b"").split(b";")[0].strip().lower() == _STRUCTURED:
        event = decode_json(value, _Structured, _structured)
        pairs = (("traceparent", event.traceparent), ("tracestate", event.tracestate))
        trace = tuple((name, text.encode()) for name, text in pairs if text)
        return Envelope(bytes(event.data), event.type, event.id, trace)
    trace = tuple((name, known[name]) for name in ("traceparent", "tracestate") if name in known)
    return Envelope(value, _text(known, "ce_type"), _text(known, "ce_id"), trace)


def decode_command(envelope: Envelope) -> Command:
    """A command; its `type` from the body or the CloudEvents type, which must agree where both are given.

    Raises:
        Poison: not JSON, no type, an unknown type, or a field that is missing, unknown or not as it should be.
    """
    kind = _one_type(decode_json(envelope.data, _Peek, _peek).type, envelope.type)
    match kind:
        case "call.place":
            command = decode_json(envelope.data, PlaceCall, _place)
            check_depth(command.metadata, "$.metadata")
            check_depth(command.options, "$.options")
            return command
        case "call.cancel":
            return decode_json(envelope.data, CancelCall, _cancel)
        case _:
            found = "nothing" if kind is None else describe(kind)
            raise Poison("$.type", found=found, allowed="'call.place' or 'call.cancel'")


def decode_actions(envelope: Envelope) -> Actions:
    """A record of actions.

    Raises:
        Poison: not JSON, or a field that is missing, unknown or not as it should be.
    """
    actions = decode_json(envelope.data, Actions, _actions)
    check_depth(msgspec.structs.asdict(actions), "$")
    return actions


def check_depth(value: object, field: str) -> None:
    """Refuse what is nested so deeply that it could be read but not be written again.

    Raises:
        Poison: deeper than `MAX_DEPTH`.
    """
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return
    raise Poison(field, found="a value nested more deeply", allowed=f"{MAX_DEPTH} levels of arrays and objects")


def _inside(value: object) -> Iterable[object]:
    match value:
        case dict():
            return value.values()
        case list() | tuple():
            return value
        case msgspec.Struct():
            return msgspec.structs.asdict(value).values()
        case _:
            return ()


def cloudevents_headers(
    *,
    event_id: str,
    source: str,
    event_type: str,
    time: datetime,
    subject: str,
    trace: Headers = (),
) -> list[tuple[str, bytes]]:
    """The headers of a record in binary mode."""
    return [
        ("ce_specversion", _SPEC_VERSION),
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", event_type.encode()),
        ("ce_time", rfc3339(time).encode()),
        ("ce_subject", subject.encode()),
        ("content-type", JSON),
        *trace,
    ]


def rfc3339(moment: datetime) -> str:
    """A moment in UTC with milliseconds and `Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _one_type(in_body: str | None, in_header: str | None) -> str | None:
    if in_body is not None and in_header is not None and in_body != in_header:
        raise Poison("$.type", found=describe(in_body), allowed=f"{describe(in_header)}, as the header ce_type says")
    return in_body if in_body is not None else in_header


def _text(headers: dict[str, bytes], name: str) -> str | None:
    content = headers.get(name)
    return content.decode("utf-8", "replace") if content else None
