"""What our actions' `options` may hold for Twilio, and the verbs of TwiML: types with their limits.

Twilio leaves out what it does not understand and tells only its log (contract 9), so everything is checked here. Names
are TwiML's attributes, in snake case; `attributes` writes them as TwiML does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.providers.twilio.settings import Word

Loop: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=100)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=64)]
WholeSeconds: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=3600)]
Keys: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-DwW*#]{1,32}$")]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of options, a command's or an action's."""


class Gather(Part, frozen=True, kw_only=True):
    """Listen while and after something is said or played; without `input` for speech and keys.

    How long is `user_input_timeout_seconds` of a `speak`, `timeout_seconds` of a `play`. What was understood comes as
    `user.spoke`, one key as `user.dtmf`, several as `verb.finished`, silence as `user.silent`.
    """

    input: Annotated[list[Literal["speech", "dtmf"]], msgspec.Meta(min_length=1, max_length=2)] | None = None
    timeout_seconds: WholeSeconds | None = None
    speech_timeout: WholeSeconds | Literal["auto"] | None = None
    finish_on_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9*#]?$")] | None = None
    num_digits: Count | None = None
    language: Word | None = None
    hints: Annotated[list[Word], msgspec.Meta(max_length=500)] | None = None
    speech_model: Word | None = None
    profanity_filter: bool | None = None
    barge_in: bool | None = None


class SpeakOptions(Part, frozen=True, kw_only=True):
    """With which voice, how often, and whether to listen."""

    voice: Word | None = None
    language: Word | None = None
    loop: Loop | None = None
    gather: Gather | None = None


class PlayOptions(Part, frozen=True, kw_only=True):
    """How often, and whether to listen."""

    loop: Loop | None = None
    gather: Gather | None = None


class TransferOptions(Part, frozen=True, kw_only=True):
    """How the other party is called."""

    answer_on_bridge: bool | None = None
    hangup_on_star: bool | None = None
    time_limit_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    send_digits: Keys | None = None
    """Pressed when a number (no SIP URI) has answered, before the parties hear each other."""


class NoOptions(Part, frozen=True, kw_only=True):
    """For actions that take none."""


ACTION_OPTIONS: Mapping[str, type[msgspec.Struct]] = {
    "speak": SpeakOptions,
    "play": PlayOptions,
    "transfer": TransferOptions,
}
"""By our action type; the others take no options."""

KNOWN = frozenset(
    [
        "Connect",
        "Dial",
        "Echo",
        "Enqueue",
        "Gather",
        "Hangup",
        "Leave",
        "Pause",
        "Pay",
        "Play",
        "Prompt",
        "Queue",
        "Record",
        "Redirect",
        "Refer",
        "Reject",
        "Say",
        "Sms",
        "Start",
        "Stop",
    ]
)
"""What may stand in a `Response` (contract 9)."""
LAST = frozenset({"Hangup", "Redirect", "Reject", "Leave"})
"""Behind these nothing is done any more."""


def attributes(part: Part, *, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """What is set, as attributes of a TwiML element."""
    given = msgspec.structs.asdict(part).items()
    return {_camel(name): _written(value) for name, value in given if value is not None and name not in without}


def _written(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _camel(name: str) -> str:
    first, *rest = name.removesuffix("_seconds").split("_")
    return first + "".join(word.title() for word in rest)
