"""What a command becomes on the wire, field by field of the contract's sections 3.1, 3.2 and 3.4, in both flavours.

Composing is pure. What is refused in every flavour stands in tests/contract/test_jambonz.py.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bridge.model.commands import PlaceCall
from bridge.model.outcome import Refused
from bridge.providers.jambonz import client
from bridge.providers.jambonz.hooks import Hooks, read_path
from bridge.providers.jambonz.settings import JambonzSettings
from bridge.providers.protocol import Plan

APPLICATION = "3b43e39f-4346-4218-8434-a53130e8be49"
OTHER = "3b43e39f-4346-4218-8434-a53130e8be50"
PUBLIC = "https://gw.example/webhooks/demo"
RETRIED = "#rc=3&rp=ct,5xx"
SPEECH = {
    "synthesis_vendor": "google",
    "synthesis_voice": "en-US-Wavenet-C",
    "synthesis_language": "en-US",
    "recognizer_vendor": "google",
    "recognizer_language": "en-US",
}
ON_THE_WIRE = {f"speech_{name}": value for name, value in SPEECH.items()}


def check(changes: dict[str, Any], options: dict[str, Any], **settings: Any) -> Plan | Refused:
    """Check a command of these fields and options under these settings."""
    table = {
        "flavour": "cognigy",
        "base_url": "https://api.example",
        "account_sid": "9351f46a-678c-43f5-b8a6-d4eb58d131af",
        "token": {"env": "X"},
        "from": "+16173333456",
        "public_webhook_url": PUBLIC,
        "application_sid": APPLICATION,
        **settings,
    }
    kept = {name: value for name, value in table.items() if value is not None}
    command = {"command_id": "c", "connection": "demo", "to": "+15083084809", "options": options, **changes}
    decoded = msgspec.convert(kept, JambonzSettings)
    return client.check(msgspec.convert(command, PlaceCall), decoded, hooks=Hooks(PUBLIC), call_id="call_1")


def body(changes: dict[str, Any], options: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The body of a command that is fine."""
    plan = check(changes, options, **settings)
    assert isinstance(plan, Plan), plan
    assert isinstance(plan.request, client.DialRequest)
    value: dict[str, Any] = msgspec.json.decode(plan.request.content)
    return value


@pytest.mark.parametrize(
    ("changes", "options", "wire"),
    [
        ({"from": "service-desk"}, {}, {"from": "service-desk"}),
        ({"from": "+49301234567"}, {}, {"from": "+49301234567"}),
        ({"ring_timeout_seconds": 20.0}, {}, {"timeout": 20}),
        ({}, {"application_sid": OTHER}, {"application_sid": OTHER}),
        ({}, {"from_host": "cognigy.cloud"}, {"fromHost": "cognigy.cloud"}),
        ({}, {"caller_name": "Vacation Agent"}, {"callerName": "Vacation Agent"}),
        ({}, {"time_limit_seconds": 600}, {"timeLimit": 600}),
        ({}, {"headers": {"User-to-User": "UUID: 42", "X-N": 7}}, {"headers": {"User-to-User": "UUID: 42", "X-N": 7}}),
        ({}, {"tag": {"env": "app"}}, {"tag": {"env": "app", "callbridge": {"call_id": "call_1"}}}),
        ({}, {"speech_synthesis_voice": "x"}, {"speech_synthesis_voice": "x"}),
        ({}, {"notify_url": "wss://a.example/x"}, {"notifyUrl": "wss://a.example/x"}),
        ({}, {"amd": {}}, {"amd": {"actionHook": f"{PUBLIC}/amd/call_1{RETRIED}"}}),
        (
            {},
            {
                "amd": {
                    "threshold_word_count": 9,
                    "digit_count": 4,
                    "recognizer": {"vendor": "google", "alt_languages": ["de-DE"]},
                    "timers": {"no_speech_timeout_ms": 5000, "greeting_completion_timeout_ms": 2000},
                }
            },
            {
                "amd": {
                    "actionHook": f"{PUBLIC}/amd/call_1{RETRIED}",
                    "thresholdWordCount": 9,
                    "digitCount": 4,
                    "recognizer": {"vendor": "google", "altLanguages": ["de-DE"]},
                    "timers": {"noSpeechTimeoutMs": 5000, "greetingCompletionTimeoutMs": 2000},
                }
            },
        ),
        ({"to": "sip:e@x.example"}, {}, {"to": {"type": "sip", "sipUri": "sip:e@x.example"}}),
        ({"to": "sip:e@x.example"}, {"to": {"type": "sip"}}, {"to": {"type": "sip", "sipUri": "sip:e@x.example"}}),
        ({"to": "sip:e@x.example"}, {"to": {"type": "user", "name": "e"}}, {"to": {"type": "user", "name": "e"}}),
        ({"to": "sip:e@x.example"}, {"to": {"type": "user", "name": "e@y"}}, {"to": {"type": "user", "name": "e@y"}}),
        ({}, {"to": {"type": "phone"}}, {"to": {"type": "phone", "number": "+15083084809"}}),
        (
            {},
            {"to": {"type": "phone", "trunk": "my carrier"}},
            {"to": {"type": "phone", "number": "+15083084809", "trunk": "my carrier"}},
        ),
        (
            {},
            {"to": {"type": "phone", "proxy": "sip:hop.example", "confirm_hook": {"url": "https://a.example/c"}}},
            {
                "to": {
                    "type": "phone",
                    "number": "+15083084809",
                    "proxy": "sip:hop.example",
                    "confirmHook": {"url": "https://a.example/c"},
                }
            },
        ),
        (
            {"to": "sip:e@x.example"},
            {"to": {"type": "sip", "auth": {"username": "u", "password": "p"}, "headers": {"X-N": 7}}},
            {
                "to": {
                    "type": "sip",
                    "sipUri": "sip:e@x.example",
                    "auth": {"username": "u", "password": "p"},
                    "headers": {"X-N": 7},
                }
            },
        ),
        (
            {},
            {"to": {"type": "teams", "tenant": "t", "vmail": True}},
            {"to": {"type": "teams", "number": "+15083084809", "tenant": "t", "vmail": True}},
        ),
    ],
)
def test_each_field(changes: dict[str, Any], options: dict[str, Any], wire: dict[str, Any]) -> None:
    """Its place and type on the wire; and nothing else changes."""
    usual = body({}, {})
    assert body(changes, options) == {**usual, **wire}


def test_passwords_of_a_command_are_known() -> None:
    """Wherever they stand: no outcome may repeat them."""
    hook = {"url": "https://a.example/r", "username": "u", "password": "of-the-hook"}
    target = {"type": "phone", "auth": {"username": "u", "password": "of-the-callee"}}
    plan = check({}, {"refer_hook": hook, "to": target}, flavour="jambonz")
    assert isinstance(plan, Plan)
    assert isinstance(plan.request, client.DialRequest)
    assert {each.reveal() for each in plan.request.hidden} == {"of-the-hook", "of-the-callee"}


def test_types_on_the_wire() -> None:
    """A time-out must be a JSON integer: 20.0 is a 500 (contract 3.1)."""
    plan = check({"ring_timeout_seconds": 20.0}, {})
    assert isinstance(plan, Plan)
    assert isinstance(plan.request, client.DialRequest)
    assert b'"timeout":20,' in plan.request.content


def test_jambonz_without_an_application() -> None:
    """The hooks are ours, the voice is the connection's, and Cognigy's field is not there."""
    sent = body({}, {}, flavour="jambonz", application_sid=None, speech=SPEECH)
    assert sent == {
        "from": "+16173333456",
        "to": {"type": "phone", "number": "+15083084809"},
        "tag": {"callbridge": {"call_id": "call_1"}},
        "call_hook": f"{PUBLIC}/call/call_1{RETRIED}",
        "call_status_hook": f"{PUBLIC}/status/call_1{RETRIED}",
        **ON_THE_WIRE,
    }


def test_jambonz_with_an_application() -> None:
    """Its hooks would overwrite ours, so ours are left out; what only jambonz has is there."""
    options = {"dual_streams": True, "refer_hook": {"url": "https://a.example/r", "username": "u"}}
    sent = body({}, {**options, "sip_request_within_dialog_hook": "https://a.example/d"}, flavour="jambonz")
    assert sent.keys() == {
        "application_sid",
        "from",
        "to",
        "tag",
        "dual_streams",
        "referHook",
        "sipRequestWithinDialogHook",
    }
    assert sent["referHook"] == {"url": "https://a.example/r", "username": "u"}


def test_options_go_before_settings() -> None:
    """Hooks and voice of one call."""
    options = {"call_hook": "wss://a.example/c", "call_status_hook": {"url": "https://a.example/s"}}
    voice = {"speech_synthesis_voice": "another"}
    sent = body({}, {**options, **voice}, flavour="jambonz", application_sid=None, speech=SPEECH)
    assert {name: sent[name] for name in (*options, *voice)} == {**options, **voice}


@pytest.mark.parametrize(
    ("options", "settings", "field"),
    [
        ({}, {"application_sid": None}, "application_sid"),
        ({"call_status_hook": "https://a.example"}, {}, "call_status_hook"),
        ({"refer_hook": "https://a.example"}, {}, "refer_hook"),
        ({"notify_url": "https://a.example"}, {"flavour": "jambonz"}, "notify_url"),
        ({"call_hook": "https://a.example"}, {"flavour": "jambonz"}, "call_hook"),
        ({"speech_synthesis_voice": "x"}, {"flavour": "jambonz"}, "speech_synthesis_voice"),
        ({}, {"flavour": "jambonz", "application_sid": None}, "speech_synthesis_vendor"),
        ({"call_hook": "/relative"}, {"flavour": "jambonz"}, "call_hook"),
        ({"call_hook": {"url": "https://a.example", "method": "GET"}}, {"flavour": "jambonz"}, "call_hook.method"),
        ({"to": {"type": "user", "name": "mallory"}}, {}, "to.name"),
        ({"to": {"type": "sip", "auth": {"username": "u"}}}, {}, "to.auth.password"),
        ({"to": {"type": "sip", "proxy": "hop.example"}}, {}, "to.proxy"),
        ({"to": {"type": "phone", "override_to": "+15083084810"}}, {}, "to"),
    ],
)
def test_what_a_flavour_does_not_have(options: dict[str, Any], settings: dict[str, Any], field: str) -> None:
    """Refused with the option's name: the feature server would say 500, or silently take another value."""
    refused = check({"to": "sip:alice@x.example"}, options, **settings)
    assert isinstance(refused, Refused)
    assert refused.reason == "invalid_options"
    assert (refused.detail or "").startswith(f"$.options.{field}: "), refused.detail


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", ""),
        (b'{"msg":"fetch failed"}', "fetch failed"),
        (b'{"msg":7}', "an object with the fields msg"),
        (b"Too many requests", "Too many requests"),
        (
            b"<html><head><title>Error</title></head><body><pre>Cannot POST /a&amp;b</pre></body></html>",
            "Cannot POST /a&b",
        ),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "[" * 4096),
    ],
)
def test_words_of_an_error(text: bytes, words: str) -> None:
    """JSON, text, HTML, nothing, and what is none of them."""
    assert " ".join(client.words_of(text).split()) == words


@pytest.mark.parametrize("word", ["call", "status", "amd", "verb", "redirect"])
def test_what_we_ask_for_is_what_we_read(word: Any) -> None:
    """A hook's URL, as it comes back: without its fragment."""
    for call_id in ("call_abc234", None):
        url = Hooks(PUBLIC + "/").url(word, call_id)
        assert url.endswith(RETRIED)
        assert read_path(url.removeprefix(PUBLIC).removesuffix(RETRIED)) == (word, call_id)
