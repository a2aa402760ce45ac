"""Every action in jambonz' verbs, and every body of live control, with the paths that refusals name.

Rendering is pure: no connection, no call but its hook. The verbs' fields are those of the contract's sections 5 and 8.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bridge.model import actions as ours
from bridge.model.errors import Poison
from bridge.providers.jambonz.actions import Way, render
from bridge.providers.jambonz.control import requests_for

HOOK = "https://gw.example/webhooks/demo/verb/call_1#rc=3&rp=ct,5xx"
TAIL = {"verb": "redirect", "actionHook": HOOK}
LISTEN = {"verb": "gather", "input": ["speech", "digits"], "actionHook": HOOK}


def decoded(action: dict[str, Any]) -> ours.Action:
    """An action as a consumer sends it."""
    value: ours.Action = msgspec.convert(action, ours.Action)
    return value


def rendered(*actions: dict[str, Any]) -> Any:
    """The body, read again."""
    answer = render([decoded(action) for action in actions], Way(HOOK, 1))
    assert (answer.status, answer.content_type) == (200, b"application/json")
    return msgspec.json.decode(answer.body)


@pytest.mark.parametrize(
    ("action", "wire"),
    [
        ({"type": "speak", "text": "Grüße"}, {"verb": "say", "text": "Grüße"}),
        ({"type": "speak", "ssml": "<speak>x</speak>"}, {"verb": "say", "text": "<speak>x</speak>"}),
        (
            {"type": "speak", "text": "x", "options": {"synthesizer": {"vendor": "google", "voice": "v"}, "loop": 2}},
            {"verb": "say", "text": "x", "synthesizer": {"vendor": "google", "voice": "v"}, "loop": 2},
        ),
        (
            {"type": "speak", "text": "x", "user_input_timeout_seconds": 8},
            {**LISTEN, "say": {"text": "x"}, "timeout": 8},
        ),
        (
            {
                "type": "speak",
                "text": "x",
                "options": {
                    "gather": {
                        "input": ["digits"],
                        "bargein": True,
                        "dtmf_bargein": True,
                        "num_digits": 4,
                        "finish_on_key": "#",
                        "inter_digit_timeout": 3,
                        "min_bargein_word_count": 2,
                        "recognizer": {"vendor": "google", "language": "de-DE"},
                    }
                },
            },
            {
                **LISTEN,
                "input": ["digits"],
                "bargein": True,
                "dtmfBargein": True,
                "numDigits": 4,
                "finishOnKey": "#",
                "interDigitTimeout": 3,
                "minBargeinWordCount": 2,
                "recognizer": {"vendor": "google", "language": "de-DE"},
                "say": {"text": "x"},
            },
        ),
        ({"type": "play", "url": "https://a.example/x.wav"}, {"verb": "play", "url": "https://a.example/x.wav"}),
        (
            {"type": "play", "url": "https://a.example/x.wav", "options": {"loop": 3, "gather": {}}},
            {**LISTEN, "play": {"url": "https://a.example/x.wav", "loop": 3}},
        ),
        (
            {"type": "transfer", "to": "+49301234567"},
            {"verb": "dial", "target": [{"type": "phone", "number": "+49301234567"}], "actionHook": HOOK},
        ),
        (
            {
                "type": "transfer",
                "to": "sip:a@x.example",
                "caller_id_number": "+4921155660",
                "caller_id_name": "Desk",
                "timeout_seconds": 20,
                "options": {"answer_on_bridge": True, "time_limit_seconds": 60, "headers": {"X-A": "b"}},
            },
            {
                "verb": "dial",
                "target": [{"type": "sip", "sipUri": "sip:a@x.example"}],
                "actionHook": HOOK,
                "callerId": "+4921155660",
                "callerName": "Desk",
                "timeout": 20,
                "answerOnBridge": True,
                "timeLimit": 60,
                "headers": {"X-A": "b"},
            },
        ),
        (
            {"type": "transfer", "to": "+49301234567", "options": {"trunk": "mine"}},
            {
                "verb": "dial",
                "target": [{"type": "phone", "number": "+49301234567", "trunk": "mine"}],
                "actionHook": HOOK,
            },
        ),
        ({"type": "send_dtmf", "digits": "12#"}, {"verb": "dtmf", "dtmf": "12#"}),
        (
            {"type": "send_dtmf", "digits": "1", "options": {"duration_ms": 100}},
            {"verb": "dtmf", "dtmf": "1", "duration": 100},
        ),
        (
            {
                "type": "configure",
                "options": {
                    "synthesizer": {"vendor": "google"},
                    "recognizer": {"vendor": "google", "hints": ["yes"]},
                    "barge_in": {"enable": True, "sticky": True},
                    "notify_events": True,
                },
            },
            {
                "verb": "config",
                "synthesizer": {"vendor": "google"},
                "recognizer": {"vendor": "google", "hints": ["yes"]},
                "bargeIn": {"enable": True, "sticky": True, "input": ["speech", "digits"], "actionHook": HOOK},
                "notifyEvents": True,
            },
        ),
        ({"type": "raw", "verb": {"verb": "sip:refer", "referTo": "x"}}, {"verb": "sip:refer", "referTo": "x"}),
    ],
)
def test_a_verb(action: dict[str, Any], wire: dict[str, Any]) -> None:
    """In jambonz' words, with the question behind it."""
    assert rendered(action) == [wire, TAIL]


@pytest.mark.parametrize(
    "last",
    [
        {"type": "hangup"},
        {"type": "raw", "verb": {"verb": "redirect", "actionHook": "https://a.example"}},
        {"type": "raw", "verb": {"verb": "sip:decline", "status": 486}},
    ],
)
def test_nothing_stands_behind_the_end(last: dict[str, Any]) -> None:
    """What ends the array itself is not followed by the question."""
    array = rendered({"type": "speak", "text": "x"}, last)
    assert [verb["verb"] for verb in array[:-1]] == ["say"]
    assert array[-1] != TAIL


@pytest.mark.parametrize(
    ("action", "path", "words"),
    [
        ({"type": "speak"}, "", "neither text nor ssml"),
        ({"type": "speak", "text": "a", "ssml": "b"}, "", "text and ssml"),
        ({"type": "speak", "text": "a", "options": {"tts": 1}}, ".options", "tts"),
        (
            {"type": "speak", "text": "a", "options": {"gather": {"input": ["dtmf"]}}},
            ".options.gather.input[0]",
            "speech",
        ),
        ({"type": "play", "audio": "UklGRg=="}, ".url", "nothing"),
        ({"type": "play", "url": "file:///x"}, ".url", "another URL"),
        ({"type": "play", "url": "https://a.example", "background": True}, ".background", "a value"),
        ({"type": "play", "url": "https://a.example", "stop": True}, ".stop", "a value"),
        ({"type": "transfer", "to": "0301234567"}, ".to", "E.164"),
        ({"type": "transfer", "to": "+49301234567", "caller_id_number": "x"}, ".caller_id_number", "E.164"),
        ({"type": "interrupt"}, ".type", "nothing to interrupt"),
        ({"type": "inject_context", "text": "x"}, ".type", "'inject_context'"),
        ({"type": "tool_result", "tool_call_id": "x", "result": 1}, ".type", "'tool_result'"),
        ({"type": "send_sms", "to": "+49301234567", "text": "x"}, ".type", "'send_sms'"),
        ({"type": "configure"}, ".options", "nothing"),
        ({"type": "hangup", "options": {"headers": {}}}, ".options", "headers"),
        ({"type": "raw", "verb": {"verb": "shout"}}, ".verb.verb", "'shout'"),
        ({"type": "raw", "verb": {"say": {"text": "x"}}}, ".verb.verb", "null"),
    ],
)
def test_what_jambonz_does_not_take(action: dict[str, Any], path: str, words: str) -> None:
    """With the path in the record, what was found and what is allowed; and nothing of the record is rendered."""
    with pytest.raises(Poison) as caught:
        rendered({"type": "hangup"}, action)
    assert caught.value.field == f"$.actions[1]{path}"
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        {"call_status": "completed"},
        {"call_hook": "/relative"},
        {"call_hook": {"url": "https://a.example"}, "child_call_hook": "https://a.example", "call_status_hook": "x"},
        {"conf_hold_status": "hold", "waitHook": "https://a.example"},
        {"whisper": [{"verb": "say", "text": "x"}], "mute_status": "mute"},
        {"whisper": {"verb": "play", "url": "x"}},
        {"sip_request": {"method": "INFO", "content_type": "text/plain", "content": "x"}},
        {"tag": {"a": 1}},
        {"record": {"action": "startCallRecording", "recordingID": "r", "type": "cloud"}},
        {"dub": {"action": "sayOnTrack", "track": "t", "say": "x"}},
        {"listen_status": "silence"},
        {"transcribe_status": "resume"},
        {"conf_mute_status": "unmute"},
        {"boostAudioSignal": "+6 dB"},
        {"media_path": "no-media"},
        {"conferenceParticipantAction": {"action": "mute"}},
    ],
)
def test_raw_control(body: dict[str, Any]) -> None:
    """Every documented body goes as it is."""
    assert requests_for(ours.RawAction(verb=body), "$.actions[0]") == [body]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, ".verb"),
        ({"verb": "say", "text": "x"}, ".verb"),
        ({"call_status_hook": "https://a.example"}, ".verb"),
        ({"waitHook": "https://a.example"}, ".verb"),
        ({"mute_status": "mute", "listen_status": "pause"}, ".verb"),
        ({"whisper": {}, "mute_status": "mute", "dtmf": {"digit": "1"}}, ".verb"),
        ({"call_hook": "x", "mute_status": "mute"}, ".verb"),
        ({"call_status": "busy"}, ".verb.call_status"),
        ({"dtmf": {"digit": "12"}}, ".verb.dtmf.digit"),
        ({"sip_request": {"method": "INFO"}}, ".verb.sip_request.content_type"),
        ({"stream_status": "pause"}, ".verb"),
    ],
)
def test_what_control_does_not_take(body: dict[str, Any], path: str) -> None:
    """One control a request, of those that this api server knows (contract 5)."""
    with pytest.raises(Poison) as caught:
        requests_for(ours.RawAction(verb=body), "$.actions[0]")
    assert caught.value.field == f"$.actions[0]{path}"
