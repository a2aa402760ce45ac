"""Every action in sipgate's words, and every limit of the contract's section 1.5 with the path it is refused under.

Rendering is pure: no connection, no session but its id.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from bridge.model import actions as ours
from bridge.model.errors import Poison
from bridge.providers.catalogue import KINDS
from bridge.providers.sipgate.actions import AVAILABLE, render

SESSION = "s-1"
WAV = base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt ").decode()
VOICES = {"tts": {"provider": "azure", "language": "de-DE", "voice": "de-DE-KatjaNeural"}}
TRANSFER = {"to": "+49301234567", "caller_id_name": "Example Corp", "caller_id_number": "+4921155660"}


def decoded(**action: Any) -> ours.Action:
    """An action as a consumer sends it."""
    value: ours.Action = msgspec.convert(action, ours.Action)
    return value


def rendered(*actions: ours.Action) -> Any:
    """The body, read again."""
    answer = render(actions, session=SESSION)
    assert (answer.status, answer.content_type) == (200, b"application/json")
    return msgspec.json.decode(answer.body)


@pytest.mark.parametrize(
    ("action", "wire"),
    [
        ({"type": "speak", "text": "Grüße"}, {"type": "speak", "text": "Grüße"}),
        ({"type": "speak", "ssml": "<speak/>"}, {"type": "speak", "ssml": "<speak/>"}),
        (
            {
                "type": "speak",
                "text": "x",
                "user_input_timeout_seconds": 8,
                "options": {
                    **VOICES,
                    "barge_in": {"strategy": "minimum_characters", "minimum_characters": 100, "allow_after_ms": 0},
                    "vad": {"end_of_turn_silence_ms": 150},
                },
            },
            {
                "type": "speak",
                "text": "x",
                "user_input_timeout_seconds": 8,
                **VOICES,
                "barge_in": {"strategy": "minimum_characters", "minimum_characters": 100, "allow_after_ms": 0},
                "vad": {"end_of_turn_silence_ms": 150},
            },
        ),
        (
            {"type": "speak", "text": "x", "options": {"tts": {"provider": "eleven_labs", "voice": "v1"}}},
            {"type": "speak", "text": "x", "tts": {"provider": "eleven_labs", "voice": "v1"}},
        ),
        ({"type": "play", "audio": WAV}, {"type": "audio", "audio": WAV}),
        (
            {"type": "play", "audio": WAV, "options": {"barge_in": {"strategy": "none"}}},
            {"type": "audio", "audio": WAV, "barge_in": {"strategy": "none"}},
        ),
        (
            {"type": "play", "audio": WAV, "background": True, "volume": 0.25},
            {"type": "mix_audio", "audio": WAV, "volume": 0.25},
        ),
        ({"type": "play", "stop": True}, {"type": "mix_audio", "stop": True}),
        ({"type": "play", "stop": True, "background": True}, {"type": "mix_audio", "stop": True}),
        ({"type": "hangup"}, {"type": "hangup"}),
        ({"type": "interrupt"}, {"type": "barge_in"}),
        (
            {"type": "transfer", **TRANSFER},
            {
                "type": "transfer",
                "target_phone_number": "49301234567",
                "caller_id_name": "Example Corp",
                "caller_id_number": "4921155660",
            },
        ),
        (
            {"type": "transfer", **TRANSFER, "timeout_seconds": 5},
            {
                "type": "transfer",
                "target_phone_number": "49301234567",
                "caller_id_name": "Example Corp",
                "caller_id_number": "4921155660",
                "timeout": 5,
            },
        ),
        (
            {"type": "send_sms", "to": "+4915790000687", "text": "Hi"},
            {"type": "send_sms", "phone_number": "4915790000687", "message": "Hi"},
        ),
        (
            {
                "type": "configure",
                "options": {
                    "transcription": {
                        "provider": "DEEPGRAM",
                        "languages": ["de-DE", "en"],
                        "custom_vocabulary": ["callbridge"],
                        "vad": {"end_of_turn_silence_ms": 2000},
                    }
                },
            },
            {
                "type": "configure_transcription",
                "provider": "DEEPGRAM",
                "languages": ["de-DE", "en"],
                "custom_vocabulary": ["callbridge"],
                "vad": {"end_of_turn_silence_ms": 2000},
            },
        ),
        ({"type": "configure", "options": {"transcription": {}}}, {"type": "configure_transcription"}),
        (
            {"type": "configure", "options": {"voice_to_voice": {"system_prompt": "Be brief.", "temperature": 2}}},
            {"type": "configure_voice_to_voice", "system_prompt": "Be brief.", "temperature": 2},
        ),
        ({"type": "raw", "verb": {"type": "new", "a": [1, {}]}}, {"type": "new", "a": [1, {}]}),
        ({"type": "raw", "verb": {"type": "new", "session_id": SESSION}}, {"type": "new"}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_action_on_the_wire(action: dict[str, Any], wire: dict[str, Any]) -> None:
    """Nothing is added but the session, and no field is sent that was not asked for."""
    assert rendered(decoded(**action)) == {**wire, "session_id": SESSION}


TRANSCRIPTION = "configure", "transcription"


def configured(kind: str, **options: Any) -> dict[str, Any]:
    """A `configure` action."""
    return {"type": "configure", "options": {kind: options}}


def spoken(**options: Any) -> dict[str, Any]:
    """A `speak` action with options."""
    return {"type": "speak", "text": "x", "options": options}


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ({"type": "speak"}, ""),
        ({"type": "speak", "text": "x", "ssml": "<speak/>"}, ""),
        (spoken(voice="x"), ".options"),
        (spoken(tts={"provider": "google"}), ".options.tts.provider"),
        (spoken(tts={"voice": "x"}), ".options.tts"),
        (spoken(tts={"provider": "azure", "language": "Deutsch!"}), ".options.tts.language"),
        (spoken(tts={"provider": "eleven_labs", "voice": {"id": "x"}}), ".options.tts.voice"),
        (spoken(tts={"provider": "eleven_labs", "language": "de"}), ".options.tts"),
        (spoken(barge_in={"strategy": "sometimes"}), ".options.barge_in.strategy"),
        (spoken(barge_in={}), ".options.barge_in"),
        (spoken(barge_in={"strategy": "manual", "minimum_characters": 0}), ".options.barge_in.minimum_characters"),
        (spoken(barge_in={"strategy": "manual", "minimum_characters": 101}), ".options.barge_in.minimum_characters"),
        (spoken(barge_in={"strategy": "manual", "allow_after_ms": -1}), ".options.barge_in.allow_after_ms"),
        (spoken(barge_in={"strategy": "manual", "allow_after_ms": 10_001}), ".options.barge_in.allow_after_ms"),
        (spoken(vad={"end_of_turn_silence_ms": 149}), ".options.vad.end_of_turn_silence_ms"),
        (spoken(vad={"end_of_turn_silence_ms": 2001}), ".options.vad.end_of_turn_silence_ms"),
        ({"type": "play"}, ".audio"),
        ({"type": "play", "background": True}, ".audio"),
        ({"type": "play", "url": "https://audio.invalid/a.wav"}, ".url"),
        ({"type": "play", "audio": "%%%"}, ".audio"),
        ({"type": "play", "audio": "äöü"}, ".audio"),
        ({"type": "play", "audio": WAV[:-1]}, ".audio"),
        ({"type": "play", "audio": base64.b64encode(b"ID3 not a WAV file").decode()}, ".audio"),
        ({"type": "play", "audio": WAV, "volume": 0.5}, ".volume"),
        ({"type": "play", "audio": WAV, "background": True, "options": {"barge_in": {}}}, ".options"),
        ({"type": "play", "audio": WAV, "stop": True}, ".audio"),
        ({"type": "play", "volume": 0.5, "stop": True}, ".volume"),
        ({"type": "hangup", "options": {"reason": "x"}}, ".options"),
        ({"type": "interrupt", "options": {"x": 1}}, ".options"),
        ({"type": "transfer", **TRANSFER, "to": "49301234567"}, ".to"),
        ({"type": "transfer", **TRANSFER, "to": "sip:e2@sipgate.invalid"}, ".to"),
        ({"type": "transfer", **TRANSFER, "caller_id_name": None}, ".caller_id_name"),
        ({"type": "transfer", **TRANSFER, "caller_id_name": ""}, ".caller_id_name"),
        ({"type": "transfer", **TRANSFER, "caller_id_number": None}, ".caller_id_number"),
        ({"type": "transfer", **TRANSFER, "caller_id_number": "0211"}, ".caller_id_number"),
        ({"type": "transfer", **TRANSFER, "timeout_seconds": 4}, ".timeout_seconds"),
        ({"type": "transfer", **TRANSFER, "timeout_seconds": 121}, ".timeout_seconds"),
        ({"type": "send_sms", "to": "+4", "text": "x"}, ".to"),
        ({"type": "configure"}, ".options"),
        ({"type": "configure", "options": {"transcription": {}, "voice_to_voice": {"system_prompt": "x"}}}, ".options"),
        (configured("transcription", provider="azure"), ".options.transcription.provider"),
        (configured("transcription", languages=[]), ".options.transcription.languages"),
        (configured("transcription", languages=["de"] * 5), ".options.transcription.languages"),
        (configured("transcription", languages=["de", "?"]), ".options.transcription.languages[1]"),
        (configured("transcription", custom_vocabulary=["x"] * 101), ".options.transcription.custom_vocabulary"),
        (configured("transcription", custom_vocabulary=["x" * 201]), ".options.transcription.custom_vocabulary[0]"),
        (configured("voice_to_voice"), ".options.voice_to_voice"),
        (configured("voice_to_voice", system_prompt=""), ".options.voice_to_voice.system_prompt"),
        (configured("voice_to_voice", system_prompt="x", temperature=2.1), ".options.voice_to_voice.temperature"),
        ({"type": "raw", "verb": {}}, ".verb.type"),
        ({"type": "raw", "verb": {"type": 7}}, ".verb.type"),
        ({"type": "raw", "verb": {"type": "speak", "session_id": "another"}}, ".verb.session_id"),
        ({"type": "inject_context", "text": "x"}, ".type"),
        ({"type": "tool_result", "tool_call_id": "x", "result": 1}, ".type"),
        ({"type": "send_dtmf", "digits": "1#"}, ".type"),
    ],
    ids=lambda value: str(value)[:70],
)
def test_an_action_that_sipgate_would_not_take(action: dict[str, Any], field: str) -> None:
    """The whole record is refused, and the error says which action and where in it."""
    with pytest.raises(Poison) as caught:
        render([ours.Hangup(), decoded(**action)], session=SESSION)
    assert caught.value.field.startswith(f"$.actions[1]{field}")
    assert caught.value.field.removeprefix(f"$.actions[1]{field}") in {"", ".provider", ".strategy", ".system_prompt"}
    assert caught.value.found
    assert caught.value.allowed


def test_what_sipgate_does_not_have_is_answered_with_what_it_has() -> None:
    """The list in the error is the list of actions that render, and no more."""
    with pytest.raises(Poison) as caught:
        render([ours.SendDtmf(digits="1")], session=SESSION)
    assert caught.value.allowed == AVAILABLE
    assert caught.value.found == "'send_dtmf', which sipgate does not have"
    all_types = {str(kind.__struct_config__.tag) for kind in ours.Action.__args__}
    assert {name for name in all_types if f"'{name}'" in AVAILABLE} == all_types - {
        "inject_context",
        "tool_result",
        "send_dtmf",
    }


def test_options_are_those_of_the_catalogue() -> None:
    """What the schema shows is what is decoded: an action that is not listed takes no options."""
    assert set(KINDS["sipgate"].action_options) == {"speak", "play", "configure"}


def test_errors_do_not_repeat_what_was_said() -> None:
    """Text, numbers and sounds stay out of errors: they go to topics and logs."""
    secret_words = "my pin is four three two one"
    for action in (
        ours.Speak(text=secret_words, ssml=secret_words),
        ours.SendSms(to="0157 90000687", text=secret_words),
        ours.Play(audio=secret_words),
        ours.Speak(text="x", options={"tts": {"provider": "azure", "voice": 7, "language": secret_words}}),
    ):
        with pytest.raises(Poison) as caught:
            render([action], session=SESSION)
        assert secret_words not in str(caught.value)
        assert "90000687" not in str(caught.value)
