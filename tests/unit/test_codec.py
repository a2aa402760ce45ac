"""Bytes to values: CloudEvents in both modes or none, and errors that name the field."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from bridge.ledger import records
from bridge.model.codec import (
    Envelope,
    cloudevents_headers,
    decode_actions,
    decode_command,
    encoder,
    open_envelope,
    rfc3339,
)
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.errors import Poison
from bridge.model.results import CallExpired, CallRefused, Result, result_event_id, result_type
from bridge.model.words import call_id_of
from tests.support.ledger_values import cancelled, deferred, initiated, place, unsure

PLACE = b'{"type":"call.place","command_id":"c","connection":"demo","to":"+49301234567"}'
UNTYPED = b'{"command_id":"c","connection":"demo","to":"+49301234567"}'
CANCEL = b'{"type":"call.cancel","command_id":"c"}'
STRUCTURED = ("content-type", b"application/cloudevents+json")
COMMAND = PlaceCall(command_id="c", connection="demo", to="+49301234567")
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def structured(**fields: object) -> bytes:
    """A CloudEvent in structured mode; a field that is None is left out."""
    event = {"specversion": "1.0", "id": "e1", "source": "/test", "type": "call.place", **fields}
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


def poison(value: bytes | None, headers: list[tuple[str, bytes]]) -> Poison:
    """What is wrong with a record."""
    with pytest.raises(Poison) as caught:
        decode_command(open_envelope(value, headers))
    return caught.value


# -- the three ways in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (PLACE, []),
        (PLACE, [("content-type", b"application/json")]),
        (PLACE, [("content-type", b"text/plain"), ("x", b"\xff")]),
        (PLACE, [("ce_type", b"call.place"), ("ce_id", b"e1")]),
        (UNTYPED, [("ce_type", b"call.place")]),
        (UNTYPED, [("CE_Type", b"call.place")]),
        (structured(data=json.loads(PLACE)), [STRUCTURED]),
        (structured(data=json.loads(UNTYPED)), [STRUCTURED]),
        (structured(data=json.loads(UNTYPED)), [("Content-Type", b"Application/CloudEvents+JSON; charset=utf-8")]),
        (structured(data=json.loads(UNTYPED), datacontenttype="application/json", extension=1), [STRUCTURED]),
        (b" \n" + PLACE + b"\n", []),
    ],
)
def test_a_command_in_any_clothes(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    """Binary, structured and plain records of one command are the same command."""
    assert decode_command(open_envelope(value, headers)) == COMMAND


def test_a_cancel() -> None:
    """The other command is told by its type, in the body or around it."""
    assert decode_command(open_envelope(CANCEL, [])) == CancelCall(command_id="c")
    body = b'{"command_id":"c"}'
    assert decode_command(open_envelope(body, [("ce_type", b"call.cancel")])) == CancelCall(command_id="c")


def test_what_stands_around_a_message_is_kept() -> None:
    """Type, id and trace come from the headers in binary mode and from the attributes in structured mode."""
    trace = (("traceparent", TRACE), ("tracestate", b"a=1"))
    around = [("ce_type", b"call.place"), ("ce_id", b"e1"), ("traceparent", TRACE), ("tracestate", b"a=1")]
    assert open_envelope(UNTYPED, around) == Envelope(UNTYPED, "call.place", "e1", trace)
    event = structured(data={"a": 1}, traceparent=TRACE.decode(), tracestate="a=1")
    assert open_envelope(event, [STRUCTURED, ("traceparent", b"of the carrier")]) == Envelope(
        b'{"a": 1}', "call.place", "e1", trace
    )
    assert open_envelope(PLACE, []) == Envelope(PLACE)
    assert open_envelope(PLACE, [("ce_id", b""), ("ce_type", b"")]) == Envelope(PLACE)


def test_headers_that_are_no_text_do_no_harm() -> None:
    """A CloudEvents id of any bytes becomes text, because it is only repeated."""
    assert open_envelope(PLACE, [("ce_id", b"\xff1")]).id == "\ufffd1"


# -- what cannot be read ----------------------------------------------------------------------------------------------------------


def test_a_tombstone_is_no_command() -> None:
    """A record without a value is named as such."""
    error = poison(None, [])
    assert (error.field, error.found, error.allowed) == ("$", "no value (a tombstone)", "a JSON object")


@pytest.mark.parametrize(
    ("value", "headers", "field", "found", "allowed"),
    [
        (PLACE, [("ce_type", b"call.cancel")], "$.type", "'call.place'", "'call.cancel', as the header ce_type says"),
        (structured(type="call.cancel", data=json.loads(PLACE)), [STRUCTURED], "$.type", "'call.place'", None),
        (UNTYPED, [], "$.type", "nothing", "'call.place' or 'call.cancel'"),
        (b'{"type":null}', [], "$.type", "nothing", "'call.place' or 'call.cancel'"),
        (b'{"type":"call.dial"}', [], "$.type", "'call.dial'", "'call.place' or 'call.cancel'"),
        (b'{"type":7}', [], "$.type", "the number 7", None),
        (UNTYPED, [("ce_type", b"com.acme.call")], "$.type", "'com.acme.call'", "'call.place' or 'call.cancel'"),
        (b"", [], "$", "nothing (0 bytes)", None),
        (b"[]", [], "$", "an array of 0", None),
        (b'"call.place"', [], "$", None, None),
        (PLACE[:-1], [], "$", "JSON that ends too early, after 77 bytes", "a JSON value in UTF-8"),
        (PLACE.replace(b'"c"', b'"\xff"'), [], "$", "bytes that are not UTF-8, at line 1, column 36", None),
        (PLACE.replace(b'"c"', b'"\\ud800"'), [], "$", None, "a JSON value in UTF-8"),
        (PLACE[:-1] + b',"tp":1}', [], "$", "the unknown field tp (did you mean type?)", None),
        (PLACE[:-1] + b',"metadata":[]}', [], "$.metadata", "an array of 0", "an object"),
        (b"{}", [STRUCTURED], "$.specversion", "nothing", None),
        (structured(id=None, data={}), [STRUCTURED], "$.id", "nothing", None),
        (structured(data=None), [STRUCTURED], "$.data", "nothing", None),
        (structured(data_base64="e30="), [STRUCTURED], "$.data", "nothing", None),
        (PLACE, [STRUCTURED], "$.specversion", "nothing", None),
        (b"no json", [STRUCTURED], "$", None, "a JSON value in UTF-8"),
    ],
)
def test_what_cannot_be_read_says_where(
    value: bytes, headers: list[tuple[str, bytes]], field: str, found: str | None, allowed: str | None
) -> None:
    """Every fault names its field, what stood there and what may stand there."""
    error = poison(value, headers)
    assert error.field == field
    assert found is None or error.found == found
    assert allowed is None or error.allowed == allowed
    assert error.found
    assert error.allowed


def test_actions_are_read_as_strictly() -> None:
    """An action that does not exist is named by its place in the list."""
    actions = decode_actions(Envelope(b'{"actions":[{"type":"hangup"}]}'))
    assert len(actions.actions) == 1
    with pytest.raises(Poison) as caught:
        decode_actions(Envelope(b'{"actions":[{"type":"hangup"},{"type":"hang_up"}]}'))
    assert caught.value.field == "$.actions[1].type"
    assert "'hangup'" in caught.value.allowed


def test_what_was_read_can_be_written() -> None:
    """However deep its metadata, a command that decodes can be kept in the ledger, from a deeper stack too."""
    command = deepest()

    def keep(frames: int) -> bytes:
        return keep(frames - 1) if frames else records.encode(msgspec.structs.replace(deferred(), command=command))

    failure: Exception | None = None
    try:
        keep(20)
    except RecursionError as error:
        failure = error
    assert failure is None


def deepest() -> PlaceCall:
    """A command with metadata that are nested as deeply as can be read here."""
    for depth in range(1200, 1, -1):
        nested = b'{"a":' * depth + b"1" + b"}" * depth
        with contextlib.suppress(Poison):
            command = decode_command(Envelope(PLACE[:-1] + b',"metadata":' + nested + b"}"))
            assert isinstance(command, PlaceCall)
            return command
    pytest.fail("nothing decodes")


# -- what is written --------------------------------------------------------------------------------------------------------------


def test_the_headers_of_what_is_written() -> None:
    """Binary mode: every attribute that CloudEvents asks for, in UTF-8, and the trace as it came."""
    headers = cloudevents_headers(
        event_id="e1",
        source="/callbridge",
        event_type="call.initiated",
        time=datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
        subject="köln-1",
        trace=[("traceparent", TRACE)],
    )
    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e1"),
        ("ce_source", b"/callbridge"),
        ("ce_type", b"call.initiated"),
        ("ce_time", b"2026-01-31T09:30:00.000Z"),
        ("ce_subject", "köln-1".encode()),
        ("content-type", b"application/json"),
        ("traceparent", TRACE),
    ]


def test_what_is_written_is_read_again() -> None:
    """A command encoded by us, with our headers, is the same command."""
    command = place(metadata={"order": 4711}, not_before=datetime(2026, 1, 31, 9, 30, tzinfo=UTC))
    headers = cloudevents_headers(
        event_id="e1", source="/s", event_type="call.place", time=datetime.now(UTC), subject="c"
    )
    assert decode_command(open_envelope(encoder.encode(command), headers)) == command


def test_a_result_is_json_without_what_is_not_known() -> None:
    """Fields that say nothing are left out, so that a reader sees what there is."""
    assert json.loads(encoder.encode(initiated())) == {
        "type": "call.initiated",
        "command_id": "c",
        "call_id": initiated().call_id,
        "attempts": 1,
        "settled_by": "answer",
    }


@pytest.mark.parametrize(
    ("result", "event_type", "suffix"),
    [
        (initiated(), "call.initiated", "result"),
        (initiated(settles_unknown=True), "call.initiated", "settlement"),
        (unsure().result, "call.unknown", "result"),
        (cancelled(), "call.cancelled", "result"),
        (CallExpired(command_id="c", call_id=call_id_of("c")), "call.expired", "result"),
        (CallRefused(command_id="c", call_id=call_id_of("c"), reason="busy"), "call.refused", "result"),
        (
            CallRefused(command_id="c", call_id=call_id_of("c"), reason="busy", settles_unknown=True),
            "call.refused",
            "settlement",
        ),
        (CallRefused(command_id="c", call_id=call_id_of("c"), reason="command_id_reused"), "call.refused", "reused"),
        (CallRefused(command_id="c", call_id=call_id_of("c"), reason="too_late_to_cancel"), "call.refused", "cancel"),
    ],
)
def test_the_id_of_a_result(result: Result, event_type: str, suffix: str) -> None:
    """The same for each copy; what does not end the command has another than what does, and so has a settlement."""
    assert result_type(result) == event_type
    assert result_event_id(result) == f"{call_id_of('c')}.{suffix}"


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 31, 9, 30, 1, 999_999, tzinfo=UTC), "2026-01-31T09:30:01.999Z"),
        (datetime(2026, 1, 31, 9, 30, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T07:30:00.000Z"),
    ],
)
def test_times_are_in_utc(moment: datetime, text: str) -> None:
    """Whatever the offset was, with milliseconds that are never rounded up into the future."""
    assert rfc3339(moment) == text
