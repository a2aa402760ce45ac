"""Notes among the actions: the keeper's own are read as they were written, and nobody else can write one."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.actions.given import read_given
from bridge.actions.notes import HEADER, Attach, Void, attach, given_of, is_note, read_note, write_note
from bridge.actions.tokens import Tokens
from bridge.bus.protocol import Record
from bridge.model.errors import Poison

TOKENS = Tokens([b"one secret of all replicas, long enough"])
KEY = b"demo/s-1"
BODY = {"actions": [{"type": "speak", "text": "hello"}, {"type": "hangup"}], "in_reply_to": "t0", "action_id": "mine"}
PARKED = read_given(
    Record("calls.actions", 3, 41, KEY, json.dumps(BODY).encode(), [("traceparent", b"00-1-2-01")]), max_bytes=10_000
)


def record(note: Attach | Void, *, key: bytes = KEY, tokens: Tokens = TOKENS) -> Record:
    """A note as it stands on the topic."""
    value, headers = write_note(note, key.decode(), tokens)
    return Record("calls.actions", 3, 99, key, value, headers)


def test_what_was_parked_comes_back_whole() -> None:
    """Its place, its name, its own question, its actions and its trace: all that its verdict needs."""
    reference, note = read_note(record(attach(PARKED, "t1")), TOKENS)
    assert (reference, note.token) == ("demo/s-1", "t1")
    assert isinstance(note, Attach)
    back = given_of(note, reference)
    assert (back.place, back.action_id, back.reference) == (PARKED.place, "mine", "demo/s-1")
    assert (back.actions, back.envelope.trace) == (PARKED.actions, PARKED.envelope.trace)


def test_a_record_without_an_id_keeps_the_name_of_its_place() -> None:
    """The verdict on it names the record, not the note."""
    body = json.dumps({"actions": []}).encode()
    parked = read_given(Record("calls.actions", 3, 41, KEY, body), max_bytes=10_000)
    _, note = read_note(record(attach(parked, "t1")), TOKENS)
    assert isinstance(note, Attach)
    assert given_of(note, "demo/s-1").action_id == "calls.actions-3-41"


def test_a_void_note() -> None:
    """Only names its question."""
    assert read_note(record(Void(token="t1")), TOKENS) == ("demo/s-1", Void(token="t1"))


def test_what_is_no_note() -> None:
    """A consumer's record is none, whatever its body says."""
    value = record(Void(token="t1")).value
    assert not is_note(Record("calls.actions", 3, 99, KEY, value))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_an_altered_one_is_refused(place: int, by: int) -> None:
    """Any byte of it changed."""
    whole = record(attach(PARKED, "t1"))
    assert whole.value is not None
    altered = bytearray(whole.value)
    altered[place % len(altered)] ^= by
    with pytest.raises(Poison):
        read_note(whole._replace(value=bytes(altered)), TOKENS)


@given(st.binary(max_size=40))
def test_a_forged_proof_is_refused(proof: bytes) -> None:
    """And one without any."""
    whole = record(Void(token="t1"))
    assume(proof != dict(whole.headers)[HEADER])
    with pytest.raises(Poison):
        read_note(whole._replace(headers=[(HEADER, proof)]), TOKENS)


def test_another_sessions_is_refused() -> None:
    """A copy under another key; one by another secret; one with a token for a proof."""
    whole = record(Void(token="t1"))
    token = TOKENS.mint("demo/s-1").encode()
    for forged in (
        whole._replace(key=b"demo/s-2"),
        whole._replace(key=None),
        whole._replace(value=None),
        record(Void(token="t1"), tokens=Tokens([b"another secret"])),
        whole._replace(headers=[(HEADER, token)]),
    ):
        with pytest.raises(Poison) as caught:
            read_note(forged, TOKENS)
        assert caught.value.field == f"header {HEADER}"


def test_secrets_are_rotated() -> None:
    """A note by the older secret is still ours."""
    both = Tokens([b"the new one", b"one secret of all replicas, long enough"])
    assert read_note(record(Void(token="t1")), both) == ("demo/s-1", Void(token="t1"))
