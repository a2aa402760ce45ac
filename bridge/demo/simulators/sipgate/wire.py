"""sipgate AI Flow's actions as they stand in its documentation, and how strictly an answer is read.

It promises to name each breach of the contract, and to take an answer as the vendor does: 204 is nothing, 200 is an
action or an array of them, and a 200 that is no action makes the platform stop listening. What an action does is
left to the conversation.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from bridge.demo.simulators.webhooks import Delivery

Digits: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^\+?[0-9]{3,15}$")]
_SUCCESS_WITH_CONTENT = {200, 201, 202, 203, 206}
_TAG = re.compile(r"<[^>]*>")


class BargeIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the user may interrupt a speech."""

    strategy: Literal["none", "manual", "minimum_characters", "immediate"]
    minimum_characters: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    allow_after_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0


class Azure(msgspec.Struct, frozen=True, kw_only=True, tag_field="provider", tag="azure", forbid_unknown_fields=True):
    """A voice of Azure."""

    language: str | None = None
    voice: str | None = None


class ElevenLabs(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="provider", tag="eleven_labs", forbid_unknown_fields=True
):
    """A voice of ElevenLabs; early documents have an object for its id."""

    voice: str | dict[str, str] | None = None


class _Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    session_id: str


class Speak(_Action, frozen=True, kw_only=True, tag="speak"):
    """Say `text` or `ssml`."""

    text: str | None = None
    ssml: str | None = None
    tts: Azure | ElevenLabs | None = None
    barge_in: BargeIn | None = None
    user_input_timeout_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    vad: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse both, and neither."""
        if bool(self.text) == bool(self.ssml):
            raise ValueError("exactly one of `text` and `ssml` is required")

    @property
    def words(self) -> str:
        """What is heard."""
        return self.text or _TAG.sub("", self.ssml or "")


class Audio(_Action, frozen=True, kw_only=True, tag="audio"):
    """Play a WAV, in base64."""

    audio: Annotated[str, msgspec.Meta(min_length=1)]
    barge_in: BargeIn | None = None


class MixAudio(_Action, frozen=True, kw_only=True, tag="mix_audio"):
    """Play a WAV in the background, again and again, or stop that."""

    audio: str | None = None
    volume: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    stop: bool = False

    def __post_init__(self) -> None:
        """Refuse nothing to play."""
        if not self.stop and not self.audio:
            raise ValueError("`audio` is required unless `stop` is true")


class HangUp(_Action, frozen=True, kw_only=True, tag="hangup"):
    """End the call."""


class Transfer(_Action, frozen=True, kw_only=True, tag="transfer"):
    """Connect the user with somebody else."""

    target_phone_number: Digits
    caller_id_name: str
    caller_id_number: Digits
    timeout: Annotated[int, msgspec.Meta(ge=5, le=120)] | None = None


class StopSpeech(_Action, frozen=True, kw_only=True, tag="barge_in"):
    """Stop what is being played."""


class ConfigureTranscription(_Action, frozen=True, kw_only=True, tag="configure_transcription"):
    """Change how the user is understood."""

    provider: Literal["AZURE", "DEEPGRAM", "ELEVEN_LABS"] | None = None
    languages: Annotated[list[str], msgspec.Meta(min_length=1, max_length=4)] | None = None
    custom_vocabulary: (
        Annotated[list[Annotated[str, msgspec.Meta(max_length=200)]], msgspec.Meta(max_length=100)] | None
    ) = None
    vad: dict[str, Any] | None = None


class ConfigureVoiceToVoice(_Action, frozen=True, kw_only=True, tag="configure_voice_to_voice"):
    """Let a model talk with the user directly."""

    system_prompt: str
    greeting: str | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.8
    language: str | None = None


class SendSms(_Action, frozen=True, kw_only=True, tag="send_sms"):
    """Send a text message."""

    phone_number: Digits
    message: Annotated[str, msgspec.Meta(min_length=1)]


Action: TypeAlias = (
    Speak | Audio | MixAudio | HangUp | Transfer | StopSpeech | ConfigureTranscription | ConfigureVoiceToVoice | SendSms
)
_KNOWN = {
    "speak",
    "audio",
    "mix_audio",
    "hangup",
    "transfer",
    "barge_in",
    "configure_transcription",
    "configure_voice_to_voice",
    "send_sms",
}


class Breach(msgspec.Struct, frozen=True):
    """One way in which an answer breaks the contract."""

    kind: str
    """`answer_to_session_end`, `not_an_action`, `wrong_content_type`, `empty_array`, `invalid_action`,
    `wrong_session`."""
    detail: str


class Reading(msgspec.Struct, frozen=True):
    """What an answer says."""

    actions: tuple[Action, ...] = ()
    breaches: tuple[Breach, ...] = ()
    stops_listening: bool = False


NOTHING = Reading()


def read_answer(delivery: Delivery, *, event: str, session: str) -> Reading:
    """What the platform makes of the answer to one webhook."""
    if event == "session_end" and delivery.status in _SUCCESS_WITH_CONTENT:
        return Reading(breaches=(Breach("answer_to_session_end", f"status {delivery.status} instead of 204"),))
    if delivery.status != 200:  # noqa: PLR2004 - 204 and refusals carry nothing
        return NOTHING
    try:
        value = msgspec.json.decode(delivery.body)
    except msgspec.DecodeError as error:
        return Reading(breaches=(Breach("not_an_action", f"not JSON: {error}"),), stops_listening=True)
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) and item.get("type") in _KNOWN for item in items):
        return Reading(breaches=(Breach("not_an_action", _shape(value)),), stops_listening=True)
    return _read_actions(items, session=session, content_type=delivery.content_type)


def read_frame(frame: bytes, *, session: str) -> Reading:
    """What the platform makes of a frame from the other side: an action, asked for or not (contract 1.2, 1.6)."""
    return read_answer(Delivery(200, frame, "application/json", 0.0), event="", session=session)


def _read_actions(items: list[Any], *, session: str, content_type: str) -> Reading:
    actions: list[Action] = []
    breaches: list[Breach] = []
    if not content_type.startswith("application/json"):
        breaches.append(Breach("wrong_content_type", content_type or "none"))
    if not items:
        breaches.append(Breach("empty_array", "204 says: nothing to do"))
    for item in items:
        try:
            action = msgspec.convert(item, Action)
        except msgspec.ValidationError as error:
            breaches.append(Breach("invalid_action", f"{item['type']}: {error}"))
            continue
        if action.session_id == session:
            actions.append(action)
        else:
            breaches.append(Breach("wrong_session", f"{item['type']} for another session"))
    return Reading(actions=tuple(actions), breaches=tuple(breaches))


def _shape(value: object) -> str:
    match value:
        case dict():
            return f"an object with {sorted(map(str, value))[:8]}, type {value.get('type')!r}"
        case list():
            return f"an array with something that is no action among its {len(value)}"
        case _:
            return type(value).__name__


def name(action: Action) -> str:
    """An action's type on the wire."""
    return str(action.__struct_config__.tag)
