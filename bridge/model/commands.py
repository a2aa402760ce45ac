"""Commands: what producers put on `calls.commands`.

Strict: an unknown field is an error that names it. `type` stands in the body, or in the CloudEvents header `ce_type`.
The digest tells a repeated command from another one under the same id.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.model.words import CommandId, ConnectionName, JsonObject

Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class PlaceCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Place one call. The same `command_id` must always be sent with the same record key.

    `to` is E.164 with `+`, or a SIP URI where the provider takes one. `metadata` comes back on every result and event
    of the call. `options` are the provider's own (`callbridge schema` prints them).
    """

    command_id: CommandId
    connection: ConnectionName
    to: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
    type: Literal["call.place"] = "call.place"
    from_: Annotated[str, msgspec.Meta(min_length=1, max_length=400)] | None = msgspec.field(name="from", default=None)
    metadata: JsonObject = {}
    not_before: Moment | None = None
    expires_at: Moment | None = None
    ring_timeout_seconds: Annotated[float, msgspec.Meta(ge=1, le=600)] | None = None
    options: JsonObject = {}


class CancelCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Do not place the call of this command, if it has not been dialled yet."""

    command_id: CommandId
    type: Literal["call.cancel"] = "call.cancel"


Command: TypeAlias = PlaceCall | CancelCall

_canonical = msgspec.json.Encoder(order="sorted")


def digest(command: PlaceCall) -> bytes:
    """16 bytes that are equal for equal commands, however they were written: order, spacing, defaults, place of the type.

    What says nothing is left out, so that a field added in a later version changes no digest.
    """
    said = {name: value for name, value in msgspec.structs.asdict(command).items() if value and name != "type"}
    return hashlib.sha256(_canonical.encode(said)).digest()[:16]
