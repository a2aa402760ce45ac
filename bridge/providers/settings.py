"""Settings that every provider's connection has: the HTTP client's limits and how long answers are waited for.

Each provider's own settings struct (in its folder) includes these by composition; the catalogue decodes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec

from bridge.model.actions import Action
from bridge.model.errors import Misconfigured, Poison
from bridge.model.phone import E164, parse_e164
from bridge.runtime.secrets import SecretSource

Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=600)]
SecondsOrZero: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=600)]


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one connection's HTTP client. `total_timeout_seconds` bounds a request whatever trickles in."""

    connect_timeout_seconds: Seconds = 3.0
    write_timeout_seconds: Seconds = 5.0
    read_timeout_seconds: Seconds = 10.0
    pool_timeout_seconds: Seconds = 1.0
    total_timeout_seconds: Seconds = 15.0
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    keep_alive_seconds: SecondsOrZero = 0.0
    """How long an idle connection is kept; 0 opens one for each request, which costs 1.2 ms of CPU with TLS (measured)
    and turns most faults of the network into proof that nothing was sent. A kept connection that the provider closes at
    the same instant cannot be told from one that it closed after reading a request; and bytes that a server sent too
    much after one answer would be taken for the answer to the next request (httpcore2 2.16.2)."""
    max_response_bytes: Annotated[int, msgspec.Meta(ge=1024, le=16 * 1024 * 1024)] = 256 * 1024


class EventReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs for one type of event."""

    deadline_seconds: SecondsOrZero | None = None
    fallback: list[Action] | None = None


class ReplySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the consumer may take, and what is answered when it took longer. `events` is keyed by our type."""

    deadline_seconds: SecondsOrZero
    fallback: list[Action] = []
    events: dict[str, EventReply] = {}


class AccountLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the provider grants the account, held over all replicas. Each is divided over the commands' partitions."""

    calls_per_second: Annotated[float, msgspec.Meta(gt=0, le=10_000)] | None = None
    """Dials in any rolling second."""
    calls_in_flight: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    """Dials that wait for the provider's answer at once. Not fewer than the commands topic has partitions."""


class Place(msgspec.Struct, frozen=True):
    """Where settings stand, for errors: the file, and the connection's table in it."""

    file: str
    connection: str

    def path(self, tail: str) -> str:
        """The path of a setting of this connection in the file."""
        return f"connections.{self.connection}.{tail}"

    def wrong(self, tail: str, *, found: str, allowed: str) -> Misconfigured:
        """The error to raise about a setting."""
        return Misconfigured(self.file, self.path(tail), found=found, allowed=allowed)


def check_proof(secrets: Sequence[SecretSource], *, allow_unverified_webhooks: bool, place: Place) -> None:
    """Webhooks are verified, or it is said that they are not.

    Raises:
        Misconfigured: neither, or both.
    """
    if allow_unverified_webhooks == bool(secrets):
        wanted = "at least one secret, or none and allow_unverified_webhooks = true (every webhook is believed)"
        found = f"{len(secrets)} secrets with allow_unverified_webhooks = {str(allow_unverified_webhooks).lower()}"
        raise place.wrong("webhook_secrets", found=found, allowed=wanted)


def own_number(number: str | None, place: Place, tail: str) -> E164 | None:
    """A number of the account's, where the setting `tail` has one.

    Raises:
        Misconfigured: no such number can exist.
    """
    if number is None:
        return None
    try:
        return parse_e164(number)
    except Poison as error:
        raise place.wrong(tail, found=error.found, allowed=error.allowed) from error


def check_caller(caller: str, place: Place) -> None:
    """A caller that looks like E.164 is one; others are the provider's matter.

    Raises:
        Misconfigured: no such number can exist.
    """
    if caller.startswith("+"):
        own_number(caller, place, "from")


def check_deadlines(reply: ReplySettings, place: Place, *, longest_seconds: float, allowed: str) -> None:
    """No consumer is given more time than the provider gives us.

    Raises:
        Misconfigured: a deadline is longer.
    """
    deadlines = {"deadline_seconds": reply.deadline_seconds}
    for event, own in reply.events.items():
        if own.deadline_seconds is not None:
            deadlines[f'events."{event}".deadline_seconds'] = own.deadline_seconds
    for tail, seconds in deadlines.items():
        if seconds > longest_seconds:
            raise place.wrong(f"reply.{tail}", found=f"{seconds:g}", allowed=allowed)
