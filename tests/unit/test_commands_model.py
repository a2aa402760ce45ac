"""Commands as producers write them: what is taken, what is refused with its field, and when two bodies are the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.model.codec import Envelope, decode_command
from bridge.model.commands import CancelCall, PlaceCall, digest
from bridge.model.errors import Poison
from bridge.model.words import call_id_of
from tests.support.ledger_values import json_objects, place

CALL: dict[str, object] = {"type": "call.place", "command_id": "c", "connection": "demo", "to": "+49301234567"}
FIELDS = (
    "the fields command_id, connection, to, type, from, metadata, not_before, expires_at, ring_timeout_seconds, options"
)
MOMENT = "a time with its offset, such as 2026-01-31T09:30:00Z"


def read(body: dict[str, object]) -> PlaceCall:
    """The command of this body."""
    command = decode_command(Envelope(json.dumps(body).encode()))
    assert isinstance(command, PlaceCall)
    return command


def test_everything_that_may_be_said() -> None:
    """Each field is taken as it is meant."""
    body = {
        **CALL,
        "from": "+49309876543",
        "metadata": {"order": 4711, "tags": ["a"]},
        "not_before": "2026-01-31T10:30:00+01:00",
        "expires_at": "2026-01-31T10:00:00Z",
        "ring_timeout_seconds": 20,
        "options": {"flow_id": "f"},
    }
    assert read(body) == PlaceCall(
        command_id="c",
        connection="demo",
        to="+49301234567",
        from_="+49309876543",
        metadata={"order": 4711, "tags": ["a"]},
        not_before=datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
        expires_at=datetime(2026, 1, 31, 10, 0, tzinfo=UTC),
        ring_timeout_seconds=20.0,
        options={"flow_id": "f"},
    )


@pytest.mark.parametrize(
    ("change", "field", "found", "allowed"),
    [
        ({"command_id": ""}, "$.command_id", "a string of 0 characters", "a string of 1 to 128 characters"),
        ({"command_id": "x" * 129}, "$.command_id", "a string of 129 characters", "a string of 1 to 128 characters"),
        ({"command_id": 7}, "$.command_id", "the number 7", "a string of 1 to 128 characters"),
        ({"command_id": None}, "$.command_id", "null", "a string of 1 to 128 characters"),
        ({"connection": "Demo"}, "$.connection", "'Demo'", "a string matching ^[a-z0-9][a-z0-9_-]{0,62}$"),
        ({"connection": "a/b"}, "$.connection", "a string of 3 characters", None),
        ({"connection": "x" * 64}, "$.connection", None, None),
        ({"to": ""}, "$.to", "a string of 0 characters", "a string of 1 to 400 characters"),
        ({"to": 49301234567}, "$.to", "the number 4930*****67", "a string of 1 to 400 characters"),
        ({"to": ["+49301234567"]}, "$.to", "an array of 1", "a string of 1 to 400 characters"),
        ({"from": ""}, "$.from", "a string of 0 characters", "a string of 1 to 400 characters or null"),
        ({"metadata": None}, "$.metadata", "null", "an object"),
        ({"metadata": "x"}, "$.metadata", "a string of 1 characters", "an object"),
        ({"not_before": "2026-01-31T09:30:00"}, "$.not_before", "a string of 19 characters", f"{MOMENT} or null"),
        ({"not_before": "tomorrow"}, "$.not_before", "'tomorrow'", f"{MOMENT} or null"),
        ({"expires_at": 1769851800}, "$.expires_at", "the number 1769****00", f"{MOMENT} or null"),
        ({"ring_timeout_seconds": 0}, "$.ring_timeout_seconds", "the number 0", "a number from 1 to 600 or null"),
        ({"ring_timeout_seconds": 601}, "$.ring_timeout_seconds", "the number 601", None),
        ({"ring_timeout_seconds": "20"}, "$.ring_timeout_seconds", "'20'", "a number from 1 to 600 or null"),
        ({"options": []}, "$.options", "an array of 0", "an object"),
        ({"number": 1}, "$", "the unknown field number", FIELDS),
        ({"expire_at": 1}, "$", "the unknown field expire_at (did you mean expires_at?)", FIELDS),
    ],
)
def test_what_is_wrong_says_where(
    change: dict[str, object], field: str, found: str | None, allowed: str | None
) -> None:
    """An error names the field, what was found without personal data, and what is allowed."""
    with pytest.raises(Poison) as caught:
        read({**CALL, **change})
    assert caught.value.field == field
    assert found is None or caught.value.found == found
    assert allowed is None or caught.value.allowed == allowed
    assert "301234567" not in str(caught.value)


@pytest.mark.parametrize("name", ["command_id", "connection", "to"])
def test_what_is_missing_is_named(name: str) -> None:
    """Each field that a call needs is asked for by its name."""
    with pytest.raises(Poison) as caught:
        read({key: value for key, value in CALL.items() if key != name})
    assert (caught.value.field, caught.value.found) == (f"$.{name}", "nothing")


def test_a_cancel_takes_nothing_more() -> None:
    """Whatever else stands in a cancel is an error, not an option that is not heard."""
    command = decode_command(Envelope(b'{"type":"call.cancel","command_id":"a/b"}'))
    assert command == CancelCall(command_id="a/b")
    with pytest.raises(Poison) as caught:
        decode_command(Envelope(b'{"type":"call.cancel","command_id":"c","connection":"demo"}'))
    assert caught.value.found == "the unknown field connection"
    assert caught.value.allowed == "the fields command_id, type"


# -- the same command, or another one -------------------------------------------------------------------------------------------


@given(json_objects, json_objects, st.randoms(use_true_random=True))
def test_order_and_spacing_are_no_difference(
    metadata: dict[str, object], options: dict[str, object], chance: object
) -> None:
    """The digest is that of the command, however the JSON was laid out."""
    body = {**CALL, "metadata": metadata, "options": options}
    other = json.dumps(_shuffled(body, chance), indent=3, ensure_ascii=False).encode()
    command = decode_command(Envelope(other))
    assert isinstance(command, PlaceCall)
    assert digest(command) == digest(read(body))
    assert len(digest(command)) == 16


def _shuffled(value: object, chance: object) -> object:
    if isinstance(value, dict):
        items = list(value.items())
        chance.shuffle(items)  # type: ignore[attr-defined]
        return {key: _shuffled(inner, chance) for key, inner in items}
    return [_shuffled(inner, chance) for inner in value] if isinstance(value, list) else value


@given(json_objects, json_objects)
def test_other_metadata_is_another_command(one: dict[str, object], other: dict[str, object]) -> None:
    """Any difference in what is sent along is a difference."""
    assume(json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True))
    assert digest(place(metadata=one)) != digest(place(metadata=other))
    assert digest(place(options=one)) != digest(place(options=other))


def test_every_field_makes_a_difference() -> None:
    """Commands that differ in one field only have different digests."""
    moment = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    commands = [
        place(),
        place("d"),
        place(connection="other"),
        place(to="+49301234568"),
        place(from_="+49301234567"),
        place(metadata={"a": 1}),
        place(metadata={"a": "1"}),
        place(metadata={"a": [1, 2]}),
        place(metadata={"a": [2, 1]}),
        place(options={"a": 1}),
        place(not_before=moment),
        place(expires_at=moment),
        place(ring_timeout_seconds=20.0),
    ]
    assert len({digest(command) for command in commands}) == len(commands)


def test_what_is_left_out_is_what_is_meant_by_nothing() -> None:
    """A field given with its default, and a type that stands in the body or around it, are no differences."""
    spelled_out = read({**CALL, "metadata": {}, "options": {}, "from": None, "not_before": None})
    body = {name: value for name, value in CALL.items() if name != "type"}
    untyped = decode_command(Envelope(json.dumps(body).encode(), "call.place"))
    assert isinstance(untyped, PlaceCall)
    assert digest(spelled_out) == digest(read(CALL)) == digest(untyped) == digest(place())


# -- the call's own id ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(min_size=1, max_size=128), min_size=2, max_size=20, unique=True))
def test_each_command_has_its_call_id(command_ids: list[str]) -> None:
    """The same at each asking, another for each command, and plain enough for any provider's tag."""
    made = [call_id_of(command_id) for command_id in command_ids]
    assert made == [call_id_of(command_id) for command_id in command_ids]
    assert len(set(made)) == len(made)
    assert all(len(each) == 29 and each.replace("_", "").isalnum() and each.isascii() for each in made)
