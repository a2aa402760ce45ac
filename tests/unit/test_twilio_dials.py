"""A command as Twilio's form: each option under the name and with the value that the wire has for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bridge.model.commands import PlaceCall
from bridge.model.validation import convert_json
from bridge.providers.names import call_id_in
from bridge.providers.twilio.hooks import Hooks, read_path
from bridge.providers.twilio.options import TwilioOptions
from bridge.providers.twilio.order import compose
from bridge.providers.twilio.settings import TwilioSettings

HOOKS = Hooks("https://gw.example/webhooks/demo/")
SETTINGS = msgspec.convert(
    {
        "account_sid": "AC" + "0" * 32,
        "token": {"env": "X"},
        "public_webhook_url": "https://gw.example/webhooks/demo",
        "from": "+14155550100",
    },
    TwilioSettings,
)
USUAL = {
    "From": "+14155550100",
    "Method": "POST",
    "StatusCallback": HOOKS.url("status", "call_1"),
    "StatusCallbackMethod": "POST",
    "To": "+4915790000687",
    "Url": HOOKS.url("call", "call_1"),
}


def form(options: dict[str, Any], **changes: Any) -> dict[str, str]:
    """What is asked for, without the events."""
    command = PlaceCall(command_id="c", connection="demo", to="+4915790000687", options=options)
    command = msgspec.structs.replace(command, **changes)
    fields = compose(command, convert_json(options, TwilioOptions), settings=SETTINGS, hooks=HOOKS, call_id="call_1")
    return {name: value for name, value in fields if name != "StatusCallbackEvent"}


@pytest.mark.parametrize(
    ("options", "changes", "more"),
    [
        ({}, {}, {}),
        ({}, {"ring_timeout_seconds": 20.0}, {"Timeout": "20"}),
        ({}, {"from_": "+14155550101"}, {"From": "+14155550101"}),
        ({}, {"to": "sip:a@b.example", "from_": "client:alice"}, {"To": "sip:a@b.example", "From": "client:alice"}),
        ({}, {"to": "+49 1579 0000687"}, {}),
        ({"url": "https://other.example/x?a=1&b"}, {}, {"Url": "https://other.example/x?a=1&b"}),
        ({"time_limit_seconds": 600}, {}, {"TimeLimit": "600"}),
        ({"send_digits": "wW12#"}, {}, {"SendDigits": "wW12#"}),
        ({"caller_id": "+14155550199"}, {}, {"CallerId": "+14155550199"}),
        ({"call_reason": "Your order"}, {}, {"CallReason": "Your order"}),
        ({"byoc": "BY" + "a" * 32}, {}, {"Byoc": "BY" + "a" * 32}),
        (
            {"amd": {}},
            {},
            {
                "MachineDetection": "Enable",
                "AsyncAmd": "true",
                "AsyncAmdStatusCallback": HOOKS.url("amd", "call_1"),
                "AsyncAmdStatusCallbackMethod": "POST",
            },
        ),
        (
            {
                "amd": {
                    "mode": "detect_message_end",
                    "blocks_call": True,
                    "timeout_seconds": 20,
                    "speech_threshold_ms": 2400,
                    "speech_end_threshold_ms": 1200,
                    "silence_timeout_ms": 5000,
                }
            },
            {},
            {
                "MachineDetection": "DetectMessageEnd",
                "MachineDetectionTimeout": "20",
                "MachineDetectionSpeechThreshold": "2400",
                "MachineDetectionSpeechEndThreshold": "1200",
                "MachineDetectionSilenceTimeout": "5000",
            },
        ),
        (
            {"record": {"channels": "dual", "track": "both", "trim": "do-not-trim"}},
            {},
            {
                "Record": "true",
                "RecordingStatusCallback": HOOKS.url("recording", "call_1"),
                "RecordingStatusCallbackMethod": "POST",
                "RecordingChannels": "dual",
                "RecordingTrack": "both",
                "Trim": "do-not-trim",
            },
        ),
    ],
)
def test_each_option_has_its_field(options: dict[str, Any], changes: dict[str, Any], more: dict[str, str]) -> None:
    """And nothing else is in the form."""
    assert form(options, **changes) == USUAL | more


def test_twiml_takes_the_place_of_the_question() -> None:
    """No URL then: Twilio would ignore the TwiML."""
    document = "<Response><Say>Hi</Say></Response>"
    expected = {name: value for name, value in USUAL.items() if name not in {"Url", "Method"}} | {"Twiml": document}
    assert form({"twiml": document}) == expected


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/call/call_1", ("call", "call_1")),
        ("/verb", ("verb", None)),
        ("/recording/call_1/", ("recording", "call_1")),
        ("", (None, None)),
        ("/calls/call_1", (None, None)),
        ("/call/call_1/more", (None, None)),
        ("/call/a b", (None, None)),
        ("/call/" + "x" * 65, (None, None)),
    ],
)
def test_a_path_says_which_webhook_of_which_call(path: str, found: tuple[str | None, str | None]) -> None:
    """Or nothing at all."""
    assert read_path(path) == found


def test_a_url_and_its_path_say_the_same() -> None:
    """What Twilio is told to ask is what is read when it asks; the fragment stays with Twilio."""
    assert HOOKS.url("gather", "call_1") == "https://gw.example/webhooks/demo/gather/call_1#rc=3&rp=ct,5xx"
    assert HOOKS.url("gather", None) == "https://gw.example/webhooks/demo/gather#rc=3&rp=ct,5xx"
    assert call_id_in(("ref/call_1",)) == "call_1"
    assert call_id_in(()) is None
