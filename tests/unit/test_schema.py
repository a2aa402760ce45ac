"""The JSON Schemas are valid, complete in themselves, and refuse and accept what the decoder refuses and accepts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bridge.model import actions, events, results
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.schema import schemas

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
PLAIN = schemas({}, {})
SHAPES: dict[str, Any] = {
    "results": results.Result,
    "events": events.Event,
    "actions": actions.Actions,
    "action-results": actions.ActionResult,
}


class DemoOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Options of a provider."""

    flow_id: str


class SpeakOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Options of an action."""

    voice: str | None = None


BOUND = schemas({"demo": DemoOptions}, {"demo": {"speak": SpeakOptions}})


def accepts(name: str, message: object, *, by: dict[str, dict[str, Any]] = PLAIN) -> bool:
    """Whether the message's schema takes it."""
    return bool(Draft202012Validator(by[name]).is_valid(message))


def decodes(name: str, message: object) -> bool:
    """Whether msgspec takes it."""
    shapes = [PlaceCall, CancelCall] if name == "commands" else [SHAPES[name]]
    data = msgspec.json.encode(message)
    return any(_decodes(data, shape) for shape in shapes)


def _decodes(data: bytes, shape: Any) -> bool:
    try:
        msgspec.json.decode(data, type=shape)
    except msgspec.ValidationError:
        return False
    return True


def _result(kind: type[Any], **fields: object) -> Any:
    return kind(command_id="c", call_id="call_x", connection="demo", **fields)


def _event(kind: type[Any], data: object, **fields: object) -> Any:
    return kind(
        event_id="e", connection="demo", provider="demo", session="s", received_at=NOON, data=data, **fields
    )  # fmt: skip


MESSAGES = [
    ("commands", PlaceCall(command_id="c", connection="demo", to="+49301234567", from_="x", not_before=NOON)),
    ("commands", PlaceCall(command_id="c", connection="demo", to="sip:a@b", metadata={"a": [1]}, ring_timeout_seconds=3)),
    ("commands", CancelCall(command_id="c")),
    ("results", _result(results.CallInitiated, settled_by="answer", accepted_at=NOON, duration_ms=3)),
    ("results", _result(results.CallRefused, reason="busy", provider_status=486)),
    ("results", _result(results.CallExpired, expires_at=NOON)),
    ("results", _result(results.CallCancelled)),
    ("results", _result(results.CallUnknown, reason="timeout")),
    ("events", _event(events.SessionStarted, events.Parties(direction="inbound", from_="x"))),
    ("events", _event(events.UserSpoke, events.Said("hello"), raw=msgspec.Raw(b'{"a":1}'))),
    ("events", _event(events.UserSilent, events.Nothing(), reply=events.Reply("token", NOON))),
    ("events", _event(events.OtherEvent, events.Other("x"), metadata={"a": None}, occurred_at=NOON)),
    ("actions", actions.Actions(actions=[], in_reply_to="t")),
    ("actions", actions.Actions(actions=[actions.Speak(text="x"), actions.Hangup()], session="s")),
    ("actions", actions.Actions(actions=[actions.Play(url="x", volume=0.5), actions.SendDtmf(digits="1#")])),
    ("actions", actions.Actions(actions=[actions.RawAction(verb={"a": 1}), actions.ToolResult(tool_call_id="t", result=None)])),
    ("action-results", actions.ActionResult(action_id="a", status="expired", connection="c", session="s", at=NOON)),
]  # fmt: skip

PLACE = {"command_id": "c", "connection": "demo", "to": "+49301234567"}
WRONG = [
    ("commands", {**PLACE, "too": "x"}),
    ("commands", {**PLACE, "connection": "De mo"}),
    ("commands", {**PLACE, "type": "call.plaice"}),
    ("commands", {**PLACE, "ring_timeout_seconds": 0}),
    ("commands", {**PLACE, "command_id": "c" * 129}),
    ("commands", {"command_id": "c", "connection": "demo"}),
    ("commands", []),
    ("actions", {"actions": [{"type": "speek"}]}),
    ("actions", {"actions": [{"text": "x"}]}),
    ("actions", {"actions": [{"type": "speak", "text": ""}]}),
    ("actions", {"actions": [{"type": "send_dtmf", "digits": "x"}]}),
    ("actions", {"actions": [{"type": "hangup"}] * 33}),
    ("actions", {"actions": None}),
    ("results", {"type": "call.refused", "command_id": "c", "call_id": "x", "connection": "d", "reason": "tired"}),
    ("results", {"type": "call.rang", "command_id": "c", "call_id": "x", "connection": "d"}),
    ("events", {"type": "user.spoke", "event_id": "e"}),
    ("action-results", {"action_id": "a", "status": "lost", "connection": "c", "session": "s", "at": "x"}),
]


@pytest.mark.parametrize("made", [PLAIN, BOUND])
def test_schemas_are_valid_and_complete(made: dict[str, dict[str, Any]]) -> None:
    """Every schema is valid under its metaschema and refers to nothing outside itself."""
    for schema in made.values():
        Draft202012Validator.check_schema(schema)
        text = json.dumps(schema)
        references = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
        assert references <= set(schema["$defs"])


def test_every_message_has_a_schema() -> None:
    """The topics' messages, and each event, result and action in them."""
    assert sorted(PLAIN) == ["action-results", "actions", "commands", "events", "results"]
    assert {kind.__name__ for kind in get_args(events.Event)} <= set(PLAIN["events"]["$defs"])
    assert {kind.__name__ for kind in get_args(actions.Action)} <= set(PLAIN["actions"]["$defs"])


@pytest.mark.parametrize(("name", "message"), MESSAGES)
def test_what_we_encode_is_valid(name: str, message: msgspec.Struct) -> None:
    """A message as msgspec writes it is valid, and is read again."""
    written = json.loads(msgspec.json.encode(message))

    assert accepts(name, written)
    assert decodes(name, written)


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_both_refuse(name: str, message: object) -> None:
    """A wrong message is refused by the schema as well as by the decoder."""
    assert not accepts(name, message)
    assert not decodes(name, message)


_values: st.SearchStrategy[object] = st.sampled_from(
    [None, True, "", "demo", "+49301234567", "Not one", "x" * 500, 0, 5, 601, -1.5, [], {}, {"a": 1}]
)
_place = st.dictionaries(
    st.sampled_from(["command_id", "connection", "to", "type", "from", "metadata", "ring_timeout_seconds", "odd"]),
    _values,
)


@given(_place.map(lambda changes: {**PLACE, **changes}))
def test_schema_and_decoder_agree_on_commands(command: dict[str, object]) -> None:
    """Whatever fields are changed, the schema takes a command if and only if the decoder does."""
    assert accepts("commands", command) == decodes("commands", command)


_action = st.dictionaries(
    st.sampled_from(["type", "text", "ssml", "volume", "digits", "to", "options", "verb", "odd"]),
    _values | st.sampled_from(["speak", "play", "hangup", "send_dtmf", "raw", "12#"]),
)


@given(st.lists(_action, max_size=3))
def test_schema_and_decoder_agree_on_actions(wanted: list[object]) -> None:
    """The same for records of actions."""
    assert accepts("actions", {"actions": wanted}) == decodes("actions", {"actions": wanted})


def test_options_of_providers() -> None:
    """With providers, `options` must be those of one of them; an action of which none lists options takes none."""
    speak = {"type": "speak", "text": "x"}

    assert accepts("commands", {**PLACE, "options": {"flow_id": "f"}}, by=BOUND)
    assert not accepts("commands", {**PLACE, "options": {"flow": "f"}}, by=BOUND)
    assert accepts("actions", {"actions": [{**speak, "options": {"voice": "v"}}]}, by=BOUND)
    assert not accepts("actions", {"actions": [{**speak, "options": {"pitch": 1}}]}, by=BOUND)
    assert not accepts("actions", {"actions": [{"type": "hangup", "options": {"voice": "v"}}]}, by=BOUND)
    assert accepts("actions", {"actions": [{"type": "hangup"}]}, by=BOUND)
