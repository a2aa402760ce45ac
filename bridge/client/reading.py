"""Records of the bridge's topics as values.

Promises to tell of an event what it is before it is decoded, so that what nobody handles costs next to nothing. What
cannot be read is `Poison`; what a later version of the bridge has added is skipped by its type.
"""

from __future__ import annotations

from typing import get_args

import msgspec

from bridge.bus.protocol import Headers, Record
from bridge.model.actions import ActionResult
from bridge.model.codec import open_envelope
from bridge.model.events import Event
from bridge.model.results import Result
from bridge.model.validation import decode_json

KINDS: dict[bytes, type[Event]] = {str(kind.__struct_config__.tag).encode(): kind for kind in get_args(Event)}

_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_action_result = msgspec.json.Decoder(ActionResult)
_result: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)


def kind_of(record: Record) -> bytes | None:
    """The event's type as its header says it; None where there is none."""
    return next((content for name, content in record.headers if name == "ce_type"), None)


def trace_of(record: Record) -> Headers:
    """The trace that a record belongs to."""
    return [each for each in record.headers if each[0] in {"traceparent", "tracestate"}]


def read_event(record: Record) -> Event:
    """The event.

    Raises:
        Poison: it is not one.
    """
    return decode_json(open_envelope(record.value, record.headers).data, Event, _event)


def read_action_result(record: Record) -> ActionResult:
    """What became of a record of actions.

    Raises:
        Poison: it is no action result.
    """
    return decode_json(open_envelope(record.value, record.headers).data, ActionResult, _action_result)


def read_result(record: Record) -> Result:
    """What became of a command.

    Raises:
        Poison: it is no result.
    """
    return decode_json(open_envelope(record.value, record.headers).data, Result, _result)
