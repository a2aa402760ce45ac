"""Results: what became of a command, on `calls.results` under the command's key.

Exactly one terminal result a command, published at least once and always under the same `ce_id`. `call.unknown` may be
followed by one settlement, when evidence came late; it has a `ce_id` of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from bridge.model.outcome import NotSentReason, RefusalReason
from bridge.model.words import JsonObject

SettledBy: TypeAlias = Literal["answer", "webhook", "lookup"]


class _Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What every result says."""

    command_id: str
    call_id: str
    connection: str | None = None
    provider: str | None = None
    attempts: int = 0
    not_sent: tuple[NotSentReason, ...] = ()
    """Why each earlier attempt did not dial, the first one first."""
    metadata: JsonObject = {}


class CallInitiated(_Result, frozen=True, kw_only=True, tag="call.initiated"):
    """The provider dials. `provider_call_id` where it gave a handle; `duration_ms` is how long its answer took."""

    provider_call_id: str | None = None
    accepted_at: datetime | None = None
    duration_ms: int | None = None
    settled_by: SettledBy = msgspec.field()
    settles_unknown: bool = False


class CallRefused(_Result, frozen=True, kw_only=True, tag="call.refused"):
    """The call was not placed and will not be: `reason` from a closed list, `detail` for the person who must act."""

    reason: RefusalReason
    provider_status: int | None = None
    detail: str | None = None
    duration_ms: int | None = None
    settled_by: SettledBy | None = None
    settles_unknown: bool = False


class CallExpired(_Result, frozen=True, kw_only=True, tag="call.expired"):
    """`expires_at` had passed before the call could be placed."""

    expires_at: datetime | None = None


class CallCancelled(_Result, frozen=True, kw_only=True, tag="call.cancelled"):
    """A `call.cancel` came before the call was placed."""


class CallUnknown(_Result, frozen=True, kw_only=True, tag="call.unknown"):
    """The request may have dialled and nobody can say. It is never repeated; later evidence is published."""

    reason: str
    provider_status: int | None = None
    detail: str | None = None
    duration_ms: int | None = None


Result: TypeAlias = CallInitiated | CallRefused | CallExpired | CallCancelled | CallUnknown


def result_type(result: Result) -> str:
    """The CloudEvents type of a result."""
    return str(result.__struct_config__.tag)


def result_event_id(result: Result) -> str:
    """The `ce_id`: the same for each copy of the same result; a settlement after an unknown has its own."""
    match result:
        case CallInitiated(settles_unknown=True) | CallRefused(settles_unknown=True):
            return f"{result.call_id}.settlement"
        case CallRefused(reason="command_id_reused"):
            return f"{result.call_id}.reused"
        case CallRefused(reason="too_late_to_cancel"):
            return f"{result.call_id}.cancel"
        case _:
            return f"{result.call_id}.result"
