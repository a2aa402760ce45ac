"""A record of actions: for whom it is, by its key and its body, and by which name its verdict will be known."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.actions.given import Given, read_given
from bridge.bus.protocol import Headers, Record
from bridge.model.actions import Hangup
from bridge.model.errors import Poison

HANGUP = [{"type": "hangup"}]
KEY = b"demo/s-1"


def record(key: bytes | None = KEY, *, headers: Headers = (), **fields: object) -> Record:
    """A record of the actions topic."""
    return Record("calls.actions", 3, 41, key, json.dumps({"actions": HANGUP, **fields}).encode(), headers)


def read(given_record: Record) -> Given:
    """With a limit that is far away."""
    return read_given(given_record, max_bytes=10_000)


def poison(given_record: Record, *, max_bytes: int = 10_000) -> Poison:
    """What is wrong with a record."""
    with pytest.raises(Poison) as caught:
        read_given(given_record, max_bytes=max_bytes)
    return caught.value


@pytest.mark.parametrize(
    "found",
    [
        record(),
        record(connection="demo"),
        record(session="s-1"),
        record(connection="demo", session="s-1"),
        record(None, connection="demo", session="s-1"),
    ],
)
def test_whose_it_is(found: Record) -> None:
    """The key says it; the body may say the same, and must where there is no key."""
    given_actions = read(found)
    assert (given_actions.connection, given_actions.session) == ("demo", "s-1")
    assert given_actions.reference == "demo/s-1"
    assert given_actions.actions.actions == [Hangup()]


@pytest.mark.parametrize(
    ("found", "field", "said", "allowed"),
    [
        (record(b"demo"), "record key", "'demo'", "connection/session, as the event's key"),
        (record(b""), "record key", "a string of 0 characters", None),
        (record(b"/s-1"), "record key", "a string of 0 characters", None),
        (record(b"demo/"), "record key", "'demo'", None),
        (record(connection="other"), "$.connection", "'other'", "'demo', as the record key says"),
        (record(session="s-2"), "$.session", "'s-2'", "'s-1', as the record key says"),
        (record(session="4930123456789"), "$.session", "a string of 13 characters", None),
        (record(None), "$.connection", "nothing, and no record key", "the session's key (connection/session)"),
        (record(None, session="s-1"), "$.connection", "nothing, and no record key", None),
        (record(None, connection="demo"), "$.session", "nothing, and no record key", None),
        (record(session="a/b"), "$.session", None, None),
        (record(session=""), "$.session", "a string of 0 characters", None),
        (record(actions=[{"type": "dance"}]), "$.actions[0].type", "'dance'", None),
        (record(actions=[{"type": "hangup"}] * 33), "$.actions", "an array of 33", "an array of at most 32 entries"),
        (record()._replace(value=None), "$", "no value (a tombstone)", "a JSON object"),
        (record()._replace(value=b"\xff"), "$", "bytes that are not UTF-8, at line 1, column 1", None),
    ],
)
def test_what_is_for_nobody(found: Record, field: str, said: str | None, allowed: str | None) -> None:
    """A key without both parts, a body that contradicts it, or neither: the field is named, nobody's data shown."""
    error = poison(found)
    assert error.field == field
    assert said is None or error.found == said
    assert allowed is None or error.allowed == allowed


def test_too_large_is_not_even_read() -> None:
    """The limit is looked at before the content, and what fits exactly fits."""
    garbage = record()._replace(value=b"x" * 101)
    assert (poison(garbage, max_bytes=100).found, poison(garbage, max_bytes=100).allowed) == (
        "101 bytes",
        "at most 100 bytes",
    )
    assert poison(garbage, max_bytes=101).allowed == "a JSON value in UTF-8"


@pytest.mark.parametrize(
    ("found", "action_id"),
    [
        (record(action_id="mine", headers=[("ce_id", b"event")]), "mine"),
        (record(headers=[("ce_id", b"event")]), "event"),
        (record(), "calls.actions-3-41"),
        (record(headers=[("ce_id", b"")]), "calls.actions-3-41"),
    ],
)
def test_the_name_of_the_verdict(found: Record, action_id: str) -> None:
    """The consumer's own id, else the CloudEvents id, else the record's place, which is always known."""
    given_actions = read(found)
    assert given_actions.action_id == action_id
    assert given_actions.place == "calls.actions-3-41"


def test_the_trace_rides_along() -> None:
    """What becomes of an action is part of its trace."""
    given_actions = read(record(headers=[("traceparent", b"00-1-2-01")]))
    assert given_actions.envelope.trace == (("traceparent", b"00-1-2-01"),)


@given(st.binary(max_size=30), st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(key: bytes, value: bytes) -> None:
    """No key and no value break the reader."""
    for made in (Record("t", 0, 0, key, value), Record("t", 0, 0, KEY, value), record(key)):
        try:
            found = read(made)
        except Poison:
            continue
        assert found.connection
        assert found.session
