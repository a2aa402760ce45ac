"""The ledger's bytes: what is written is read again, and no two records that differ in kind, id or attempt share a key."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ledger import records
from bridge.ledger.records import Deferred, Fence, KeyParts, Record, Sending, Settled, Unsure
from tests.support.ledger_values import all_records, deferred, ids, not_sent, sending, settled, unsure


class Name(NamedTuple):
    """What a key must stand for, said without a key."""

    kind: str
    command_id: str | None
    attempt: int
    owner: str | None = None


def name_of(record: Record) -> Name:
    """By the record's own fields."""
    match record:
        case Fence():
            return Name("fence", None, 0, record.owner)
        case Deferred():
            return Name("deferred", record.command_id, 0)
        case Sending() | Settled() | Unsure():
            if isinstance(record, Settled) and record.is_decision:
                return Name("decided", record.command_id, record.epoch)
            is_proof = isinstance(record, Settled) and record.result is None
            kind = "unsent" if is_proof else type(record).__name__.lower()
            return Name(kind, record.command_id, record.attempt)


AWKWARD = [
    "/",
    "//",
    "a/b",
    "/a",
    "a/",
    "fence",
    "fence/",
    "fence/0123",
    "deferred",
    "/deferred",
    "x/deferred",
    "deferred/deferred",
    "sending",
    "sending/1",
    "x/sending/1",
    "x/settled/2/sending/1",
    "x/unsent/1",
    "unsent",
    "x/unsure/1/deferred",
    "unsure/٣",
    "1",
    "☎/sending/1",
    "\x00",
    "a\nb",
    " ",
]


@given(all_records)
def test_a_record_survives_its_bytes(record: Record) -> None:
    """Whatever a record holds is read from its bytes as it was."""
    assert records.decode(records.encode(record)) == record


@given(all_records)
def test_a_key_is_taken_apart_as_it_was_made(record: Record) -> None:
    """A key names the kind, the command and the attempt of its record, whatever characters the id holds."""
    parts = records.parts_of(records.key_of(record))
    name = name_of(record)
    assert parts == KeyParts(name.command_id, name.kind, name.attempt)


@pytest.mark.parametrize("command_id", AWKWARD)
def test_a_key_with_an_awkward_id_is_taken_apart(command_id: str) -> None:
    """Ids that look like parts of a key, or hold slashes, stay whole."""
    for record in (sending(command_id, 12), settled(command_id, 0), not_sent(command_id, 7), unsure(command_id, 3)):
        expected = KeyParts(command_id, name_of(record).kind, record.attempt)
        assert records.parts_of(records.key_of(record)) == expected
    assert records.parts_of(records.key_of(deferred(command_id))) == KeyParts(command_id, "deferred")


@given(all_records, all_records)
def test_different_names_have_different_keys(one: Record, other: Record) -> None:
    """Compaction never lets one kind, command, attempt or owner erase another."""
    assert (records.key_of(one) == records.key_of(other)) == (name_of(one) == name_of(other))


def test_awkward_ids_never_share_a_key() -> None:
    """Over all ids that look like keys: every record has a key of its own."""
    made: dict[bytes, Name] = {records.key_of(Fence("0123", 0)): Name("fence", None, 0, "0123")}
    for command_id in AWKWARD:
        for attempt in (0, 1, 2, 12):
            made_of = (sending(command_id, attempt), settled(command_id, attempt), not_sent(command_id, attempt))
            for record in (*made_of, unsure(command_id, attempt)):
                assert made.setdefault(records.key_of(record), name_of(record)) == name_of(record)
        record_of_time = deferred(command_id)
        assert made.setdefault(records.key_of(record_of_time), name_of(record_of_time)) == name_of(record_of_time)
    assert len(made) == 1 + len(AWKWARD) * (4 * 4 + 1)


@pytest.mark.parametrize(
    "key",
    [b"", b"c", b"c/sending", b"c/sending/", b"c/sending/x", b"c/sending/-1", b"c/sent/1", b"fences/a", b"c/1/sending"],
)
def test_a_key_that_is_not_the_ledgers(key: bytes) -> None:
    """It names nothing, so a tombstone under it erases nothing."""
    assert records.parts_of(key) is None


@given(ids, st.sampled_from(["sending", "settled", "unsent", "unsure"]), st.integers(0, 10_000))
def test_a_key_spelt_by_hand_is_the_records(command_id: str, kind: str, attempt: int) -> None:
    """`id/kind/attempt`, as an operator and the sweep spell it."""
    made: dict[str, Record] = {
        "sending": sending(command_id, attempt),
        "settled": settled(command_id, attempt),
        "unsent": not_sent(command_id, attempt),
        "unsure": unsure(command_id, attempt),
    }
    assert records.key_of(made[kind]) == f"{command_id}/{kind}/{attempt}".encode()


@pytest.mark.parametrize(
    "value",
    [b"", b"null", b"[]", b'{"kind":"other"}', b'{"kind":"fence"}', b'{"kind":"sending","command_id":"c"}', b"\xff{}"],
)
def test_bytes_of_another_program_are_no_record(value: bytes) -> None:
    """They are an error, never a record with something made up."""
    with pytest.raises(msgspec.DecodeError):
        records.decode(value)
