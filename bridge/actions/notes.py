"""Notes: what the bridge tells itself, on the actions topic, so that it comes in order and reaches every replica.

`attach`: this record of actions waited for a question of its session; it is to go into the answer of that one. `void`:
a newer turn of the user has made this question's answer stale. `claim`, of a replica: an action that names no question
is to answer this one. A note carries a proof over all that it says, made with
the secrets of the reply tokens: no consumer can write one. One that nobody can use is lost by design; the keeper hears
no verdict and goes on from there.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from bridge.actions.given import Given
from bridge.actions.tokens import Tokens
from bridge.bus.protocol import Headers, Record
from bridge.model.actions import Actions
from bridge.model.codec import JSON, Envelope, encoder
from bridge.model.errors import Poison

HEADER = "callbridge_note"
"""Its value is the proof."""


class Attach(msgspec.Struct, frozen=True, kw_only=True, tag="attach"):
    """A record of actions, and the question it is to answer. `action_id` is the one its verdict will name."""

    token: str
    topic: str
    partition: int
    offset: int
    action_id: str
    actions: Actions
    trace: tuple[tuple[str, str], ...] = ()


class Void(msgspec.Struct, frozen=True, kw_only=True, tag="void"):
    """A question whose answer is not wanted any more."""

    token: str


class Claim(msgspec.Struct, frozen=True, kw_only=True, tag="claim"):
    """A question that takes the unasked action at this place of the same partition. The first claim counts."""

    token: str
    offset: int


Note: TypeAlias = Attach | Void | Claim

_decoder = msgspec.json.Decoder(Note)


def attach(given: Given, token: str) -> Attach:
    """The note that gives these actions to this question."""
    return Attach(
        token=token,
        topic=given.topic,
        partition=given.partition,
        offset=given.offset,
        action_id=given.action_id,
        actions=given.actions,
        trace=tuple((name, value.decode("utf-8", "replace")) for name, value in given.envelope.trace),
    )


def given_of(note: Attach, reference: str) -> Given:
    """The record that waited, as it was read at its own place."""
    connection, _, session = reference.partition("/")
    return Given(
        topic=note.topic,
        partition=note.partition,
        offset=note.offset,
        connection=connection,
        session=session,
        actions=msgspec.structs.replace(note.actions, action_id=note.action_id),
        envelope=Envelope(b"", trace=tuple((name, value.encode()) for name, value in note.trace)),
    )


def write_note(note: Note, reference: str, tokens: Tokens) -> tuple[bytes, Headers]:
    """A note's value and headers; its record's key is the session's reference."""
    value = encoder.encode(note)
    return value, [(HEADER, tokens.sign(reference, value)), ("content-type", JSON)]


def is_note(record: Record) -> bool:
    """Whether this says of itself that it is one."""
    return any(name == HEADER for name, _ in record.headers)


def read_note(record: Record, tokens: Tokens) -> tuple[str, Note]:
    """The session's reference, and the note.

    Raises:
        Poison: it is not the bridge's own.
    """
    reference = (record.key or b"").decode("utf-8", "replace")
    proof = next((value for name, value in record.headers if name == HEADER), b"") or b""
    if record.value is None or not tokens.signed(proof, reference, record.value):
        raise Poison(f"header {HEADER}", found="no proof of the bridge's own", allowed="only what the bridge writes")
    try:
        return reference, _decoder.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Poison(f"header {HEADER}", found="a note of another version", allowed="attach, void, claim") from None
