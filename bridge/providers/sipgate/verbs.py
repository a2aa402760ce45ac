"""sipgate's actions as it wants them on the wire, and what our actions' `options` may hold: types with their limits.

Pages: https://sipgate.github.io/sipgate-ai-flow-api/api/actions.html and those below it (contract 1.5). Everything is
checked here because sipgate's own errors reach nobody: an answer that it does not understand is silently lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.model.words import JsonObject

Language: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", max_length=35, description="BCP 47, such as de-DE"),
]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Word: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Prompt: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=100_000)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of an action that stands in our `options` as it does on the wire."""


class AzureVoice(_Part, frozen=True, kw_only=True, tag_field="provider", tag="azure"):
    """A voice of Azure. This provider is in lower case here and in upper case in `Transcription`: so does sipgate."""

    language: Language | None = None
    voice: Name | None = None


class ElevenLabsVoice(_Part, frozen=True, kw_only=True, tag_field="provider", tag="eleven_labs"):
    """A voice of ElevenLabs, by its id."""

    voice: Name | None = None


class BargeIn(_Part, frozen=True, kw_only=True):
    """Whether and when the user's voice stops the assistant's."""

    strategy: Literal["none", "manual", "minimum_characters", "immediate"]
    minimum_characters: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    allow_after_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None


class Vad(_Part, frozen=True, kw_only=True):
    """How long a silence ends a turn. sipgate ignores other values silently, so they are refused here."""

    end_of_turn_silence_ms: Annotated[int, msgspec.Meta(ge=150, le=2000)]


class Transcription(_Part, frozen=True, kw_only=True):
    """How the user is understood from now on. It replaces what was set, and drops 100 to 800 ms of audio."""

    provider: Literal["AZURE", "DEEPGRAM", "ELEVEN_LABS"] | None = None
    languages: Annotated[list[Language], msgspec.Meta(min_length=1, max_length=4)] | None = None
    custom_vocabulary: Annotated[list[Word], msgspec.Meta(max_length=100)] | None = None
    vad: Vad | None = None


class VoiceToVoice(_Part, frozen=True, kw_only=True):
    """Hand the conversation to sipgate's own model (needs its approval)."""

    system_prompt: Prompt
    greeting: Prompt | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    language: Language | None = None


class SpeakOptions(_Part, frozen=True, kw_only=True):
    """With which voice, and what may interrupt it."""

    tts: AzureVoice | ElevenLabsVoice | None = None
    barge_in: BargeIn | None = None
    vad: Vad | None = None


class PlayOptions(_Part, frozen=True, kw_only=True):
    """What may interrupt the audio; not for audio in the background."""

    barge_in: BargeIn | None = None


class ConfigureOptions(_Part, frozen=True, kw_only=True):
    """What to configure: exactly one."""

    transcription: Transcription | None = None
    voice_to_voice: VoiceToVoice | None = None

    def __post_init__(self) -> None:
        if (self.transcription is None) == (self.voice_to_voice is None):
            raise ValueError("exactly one of transcription and voice_to_voice")


class NoOptions(_Part, frozen=True, kw_only=True):
    """For actions that take none."""


class _Verb(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What every action on the wire has."""

    session_id: str


class Speak(_Verb, frozen=True, kw_only=True, tag="speak"):
    """Say `text` xor `ssml`."""

    text: str | None = None
    ssml: str | None = None
    tts: AzureVoice | ElevenLabsVoice | None = None
    barge_in: BargeIn | None = None
    vad: Vad | None = None
    user_input_timeout_seconds: float | None = None


class Audio(_Verb, frozen=True, kw_only=True, tag="audio"):
    """Play base64 WAV: 16 kHz, mono, 16 bit."""

    audio: str
    barge_in: BargeIn | None = None


class MixAudio(_Verb, frozen=True, kw_only=True, tag="mix_audio"):
    """Play base64 WAV as a loop in the background, or end that."""

    audio: str | None = None
    volume: float | None = None
    stop: bool = False


class Hangup(_Verb, frozen=True, kw_only=True, tag="hangup"):
    """End the call."""


class BargeInNow(_Verb, frozen=True, kw_only=True, tag="barge_in"):
    """Stop the current playback."""


class Transfer(_Verb, frozen=True, kw_only=True, tag="transfer"):
    """Connect with another number; digits without `+`."""

    target_phone_number: str
    caller_id_name: str
    caller_id_number: str
    timeout: int | None = None


class SendSms(_Verb, frozen=True, kw_only=True, tag="send_sms"):
    """Send a text message; digits without `+`."""

    phone_number: str
    message: str


class ConfigureTranscription(_Verb, frozen=True, kw_only=True, tag="configure_transcription"):
    """See `Transcription`."""

    provider: str | None = None
    languages: list[str] | None = None
    custom_vocabulary: list[str] | None = None
    vad: Vad | None = None


class ConfigureVoiceToVoice(_Verb, frozen=True, kw_only=True, tag="configure_voice_to_voice"):
    """See `VoiceToVoice`."""

    system_prompt: str
    greeting: str | None = None
    temperature: float | None = None
    language: str | None = None


Verb: TypeAlias = (
    Speak
    | Audio
    | MixAudio
    | Hangup
    | BargeInNow
    | Transfer
    | SendSms
    | ConfigureTranscription
    | ConfigureVoiceToVoice
    | JsonObject
)

ACTION_OPTIONS: Mapping[str, type[msgspec.Struct]] = {
    "speak": SpeakOptions,
    "play": PlayOptions,
    "configure": ConfigureOptions,
}
"""By our action type; the others take no options."""
