"""The ledger's records and their bytes: what is remembered of each command, under which key.

Each kind has a key of its own, so that compaction never lets one kind erase another. Values carry everything that is
needed to publish a result without the command itself, because after a crash there may be nothing else left of it.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from bridge.model.commands import PlaceCall
from bridge.model.outcome import Accepted, NotSentReason, Outcome, Refused
from bridge.model.results import Result
from bridge.model.words import JsonObject

_SAID_BY_THE_PROVIDER = (Accepted, Refused)


class Fence(msgspec.Struct, frozen=True, tag_field="kind", tag="fence"):
    """A new owner of the partition. The offset of this record is the owner's epoch."""

    owner: str
    at_ms: int


class Sending(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="sending", omit_defaults=True):
    """The claim: the request may leave once this record is acknowledged and counts."""

    command_id: str
    attempt: int
    epoch: int
    at_ms: int
    digest: bytes
    key: bytes | None
    """The command's record key, under which its result is published."""
    connection: str
    provider: str
    not_sent: tuple[NotSentReason, ...] = ()
    """Why the attempts before this one did not dial."""
    metadata: JsonObject = {}
    trace: tuple[tuple[str, bytes], ...] = ()


class Settled(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="settled", omit_defaults=True):
    """Knowledge of what an attempt came to. With a `result` the command is finished; without, it may be tried again.

    The two have keys of their own (`settled`, `unsent`): a proof that comes late must not let compaction take a result.
    So has each owner's decision (`decided`, with its epoch): one that was never told must not take one that was.
    Attempt 0 is a command that ended before any claim: refused, expired, cancelled. `owed`: the command's offset may be
    committed already, so nothing but this record leads to the publication of its result; once it is published, the
    record is written again without.
    """

    @property
    def is_decision(self) -> bool:
        """An end without a dial: no knowledge, but a decision of the owner, void where a later owner has a claim."""
        return self.result is not None and not isinstance(self.outcome, _SAID_BY_THE_PROVIDER)

    command_id: str
    attempt: int
    epoch: int
    at_ms: int
    digest: bytes
    key: bytes | None
    outcome: Outcome | None = None
    result: Result | None = None
    owed: bool = False
    trace: tuple[tuple[str, bytes], ...] = ()


class Unsure(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="unsure", omit_defaults=True):
    """Nobody knows what the attempt came to: `call.unknown` is published, or `owed`. Knowledge may still follow."""

    command_id: str
    attempt: int
    epoch: int
    at_ms: int
    digest: bytes
    key: bytes | None
    result: Result
    owed: bool = False
    trace: tuple[tuple[str, bytes], ...] = ()


class Deferred(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="deferred", omit_defaults=True):
    """A command that is not due yet. It lives here, so that its offset need not wait for the clock."""

    command_id: str
    epoch: int
    at_ms: int
    due_ms: int
    digest: bytes
    key: bytes | None
    command: PlaceCall
    trace: tuple[tuple[str, bytes], ...] = ()


Record: TypeAlias = Fence | Sending | Settled | Unsure | Deferred
CommandRecord: TypeAlias = Sending | Settled | Unsure | Deferred

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()


def encode(record: Record) -> bytes:
    """The value."""
    return _encoder.encode(record)


def decode(value: bytes) -> Record:
    """The record.

    Raises:
        msgspec.ValidationError: it was not written by this program, or by a version that knew other kinds.
    """
    return _decoder.decode(value)


def key_of(record: Record) -> bytes:
    """The key: kind and attempt are its end, so that a command id may hold any character."""
    match record:
        case Fence():
            return f"fence/{record.owner}".encode()
        case Deferred():
            return f"{record.command_id}/deferred".encode()
        case Sending():
            return f"{record.command_id}/sending/{record.attempt}".encode()
        case Settled():
            if record.is_decision:
                return f"{record.command_id}/decided/{record.epoch}".encode()
            kind = "unsent" if record.result is None else "settled"
            return f"{record.command_id}/{kind}/{record.attempt}".encode()
        case Unsure():
            return f"{record.command_id}/unsure/{record.attempt}".encode()


class KeyParts(msgspec.Struct, frozen=True):
    """A key taken apart, for tombstones: `command_id` is None for a fence; `attempt` is an epoch for a decision."""

    command_id: str | None
    kind: str
    attempt: int = 0


def parts_of(key: bytes) -> KeyParts | None:
    """What a key names; None for a key that is not the ledger's."""
    text = key.decode("utf-8", "replace")
    if text.endswith("/deferred"):
        return KeyParts(text.removesuffix("/deferred"), "deferred")
    pieces = text.rsplit("/", 2)
    match pieces:
        case [command_id, "sending" | "settled" | "decided" | "unsent" | "unsure" as kind, number] if (
            number.isdecimal()
        ):
            return KeyParts(command_id, kind, int(number))
        case ["fence", _]:
            return KeyParts(None, "fence")
        case _:
            return None
