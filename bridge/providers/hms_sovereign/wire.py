"""HMS Sovereign's webhooks as they come: one envelope, `{"message": {...}}`, for every type of event.

Only what an event cannot be forwarded without is typed; everything else may be of any type, and unknown fields are
welcome. https://doc.hmsovereign.com/docs/webhooks/ and the SDK's types (contract 3.4).
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from bridge.model.errors import Poison
from bridge.model.scrub import describe
from bridge.model.validation import convert_json
from bridge.model.words import AnyJson, JsonObject, SessionId

NonEmpty: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class WireCall(msgspec.Struct, frozen=True):
    """`message.call`."""

    id: SessionId
    type: AnyJson = None
    status: AnyJson = None


class WireMessage(msgspec.Struct, frozen=True):
    """`message`."""

    type: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    call: WireCall
    timestamp: AnyJson = None
    phone_number: AnyJson = None
    customer: AnyJson = None
    assistant: AnyJson = None
    error: AnyJson = None
    end_reason: AnyJson = None
    duration_seconds: AnyJson = None
    summary: AnyJson = None
    recording_url: AnyJson = None
    tool_call_list: AnyJson = None


class WireBody(msgspec.Struct, frozen=True):
    """The body of a webhook."""

    message: WireMessage


class Tool(msgspec.Struct, frozen=True):
    """One tool call, read."""

    id: str
    name: str
    arguments: JsonObject


class _Function(msgspec.Struct, frozen=True):
    name: NonEmpty
    arguments: AnyJson = None


class _Tool(msgspec.Struct, frozen=True):
    id: NonEmpty
    function: _Function


class _Tools(msgspec.Struct, frozen=True):
    tool_call_list: Annotated[list[_Tool], msgspec.Meta(min_length=1)]


def tools_of(message: WireMessage) -> list[Tool]:
    """The tool calls of a `tool-calls` message.

    Raises:
        Poison: there is none, one has no id or name, or its arguments are no object.
    """
    tools = convert_json({"tool_call_list": message.tool_call_list}, _Tools, path="$.message").tool_call_list
    return [
        Tool(tool.id, tool.function.name, _arguments(tool.function.arguments, index))
        for index, tool in enumerate(tools)
    ]


def _arguments(value: object, index: int) -> JsonObject:
    if value is None:
        return {}
    if not isinstance(value, dict):
        field = f"$.message.tool_call_list[{index}].function.arguments"
        raise Poison(field, found=describe(value), allowed="an object")
    return value
