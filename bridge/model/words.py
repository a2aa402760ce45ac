"""Small shared types: JSON objects, ids, and what their text may look like.

Constraints are stated once, as msgspec annotations, so that validation and JSON Schema agree. `Any` stands here for
the two places where a user's free JSON rides through untouched (metadata, options).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Any, TypeAlias

import msgspec

JsonObject: TypeAlias = dict[str, Any]
AnyJson: TypeAlias = Any
"""What a provider sends where its contract leaves open what; looked at before it is used."""

CommandId: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=128, description="the caller's idempotency key")
]
ConnectionName: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="a provider account named in the configuration"),
]
SessionId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[^/\s]+$")]


def call_id_of(command_id: str) -> str:
    """Our id of the call: derived from the command id, so that it is the same over retries and replicas."""
    digest = hashlib.sha256(b"call/" + command_id.encode()).digest()
    return "call_" + base64.b32encode(digest[:15]).decode().lower()


def session_reference(connection: str, session: str) -> str:
    """The key of everything that belongs to one session: `connection/session`."""
    return f"{connection}/{session}"
