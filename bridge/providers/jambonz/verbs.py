"""What our actions' `options` may hold for jambonz, and the verbs that it has: types with their limits.

jambonz refuses a whole array for one unknown verb or property and tells only its log (contract 8), so everything is
checked here. Names are the verbs' own, in snake case; `options.on_the_wire` writes them as the wire does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.providers.jambonz.options import Headers, Part, Recognizer
from bridge.providers.jambonz.settings import Word

Digits: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=64)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Input: TypeAlias = Annotated[list[Literal["speech", "digits"]], msgspec.Meta(min_length=1, max_length=2)]
Loop: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=100)]
WebUrl: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s]+$", max_length=2048)]


class Synthesizer(Part, frozen=True, kw_only=True):
    """A voice."""

    vendor: Word
    language: Word | None = None
    voice: Word | None = None
    label: Word | None = None
    engine: Literal["standard", "neural"] | None = None
    gender: Literal["MALE", "FEMALE", "NEUTRAL"] | None = None


class _Listening(Part, frozen=True, kw_only=True):
    """What is listened for."""

    input: Input | None = None
    finish_on_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9*#]$")] | None = None
    num_digits: Digits | None = None
    min_digits: Digits | None = None
    max_digits: Digits | None = None
    inter_digit_timeout: Seconds | None = None
    dtmf_bargein: bool | None = None
    min_bargein_word_count: Digits | None = None


class Gather(_Listening, frozen=True, kw_only=True):
    """Listen while and after something is said or played; without `input` for speech and keys.

    How long is `user_input_timeout_seconds` of the action. What was understood comes as `user.spoke`, keys as
    `verb.finished`, silence as `user.silent`.
    """

    bargein: bool | None = None
    listen_during_prompt: bool | None = None
    speech_timeout: Seconds | None = None
    recognizer: Recognizer | None = None


class SpeakOptions(Part, frozen=True, kw_only=True):
    """With which voice, how often, and whether to listen."""

    synthesizer: Synthesizer | None = None
    loop: Loop | None = None
    gather: Gather | None = None


class PlayOptions(Part, frozen=True, kw_only=True):
    """How often, and whether to listen."""

    loop: Loop | None = None
    gather: Gather | None = None


class TransferOptions(Part, frozen=True, kw_only=True):
    """How the other party is called: `trunk` names a carrier."""

    trunk: Word | None = None
    answer_on_bridge: bool | None = None
    dial_music: WebUrl | None = None
    time_limit_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    headers: Headers | None = None


class SendDtmfOptions(Part, frozen=True, kw_only=True):
    """How long each tone is."""

    duration_ms: Annotated[int, msgspec.Meta(ge=50, le=2000)] | None = None


class BargeIn(_Listening, frozen=True, kw_only=True):
    """Listen in the background from now on; what is understood comes as the answer of a gather would."""

    enable: bool
    sticky: bool | None = None


class ConfigureOptions(Part, frozen=True, kw_only=True):
    """What holds for the rest of the session."""

    synthesizer: Synthesizer | None = None
    recognizer: Recognizer | None = None
    barge_in: BargeIn | None = None
    notify_events: bool | None = None


class NoOptions(Part, frozen=True, kw_only=True):
    """For actions that take none."""


ACTION_OPTIONS: Mapping[str, type[msgspec.Struct]] = {
    "speak": SpeakOptions,
    "play": PlayOptions,
    "transfer": TransferOptions,
    "send_dtmf": SendDtmfOptions,
    "configure": ConfigureOptions,
}
"""By our action type; the others take no options."""

KNOWN = frozenset(
    [
        "answer",
        "alert",
        "config",
        "conference",
        "dequeue",
        "dial",
        "dialogflow",
        "dtmf",
        "dub",
        "enqueue",
        "gather",
        "hangup",
        "leave",
        "lex",
        "listen",
        "stream",
        "llm",
        "s2s",
        "message",
        "pause",
        "play",
        "rasa",
        "redirect",
        "say",
        "sip:decline",
        "sip:refer",
        "sip:request",
        "tag",
        "transcribe",
    ]
)
"""Contract 8."""
LAST = frozenset({"hangup", "redirect", "sip:decline"})
"""Behind these nothing is done any more."""
