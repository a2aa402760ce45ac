"""What one command may ask of jambonz or Cognigy beyond the common fields: the allow-list of the contract's section 3.1.

Everything is strictly typed, because an unknown field or a wrong type is an opaque 500 of which nobody can say whether
a phone rings (contract 3.3). Names are ours, in snake case; `body` writes them as the wire does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.model.words import JsonObject
from bridge.providers.jambonz.settings import Sid, Word
from bridge.runtime.secrets import Secret

HookUrl: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^(https?|wss?)://[^\s]+$", max_length=2048, description="an absolute URL")
]
HeaderName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.!%*_+`'~-]{1,64}$")]
HeaderValue: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[^\r\n]*$", max_length=1024)] | int | float
Headers: TypeAlias = Annotated[dict[HeaderName, HeaderValue], msgspec.Meta(max_length=32)]
Milliseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=600_000)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1000)]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of options, ours or an action's."""


class Hook(Part, frozen=True, kw_only=True):
    """A hook that is not ours. By GET this version of jambonz sends no fields at all (contract 6): POST only."""

    url: HookUrl
    method: Literal["POST"] = "POST"
    username: Word | None = None
    password: Word | None = None


class Login(Part, frozen=True, kw_only=True):
    """What the callee's side may ask for before it takes the call."""

    username: Word
    password: Word


class _Routed(Part, frozen=True, kw_only=True):
    """How the call gets there. `proxy`: the SIP URI of a next hop."""

    headers: Headers | None = None
    proxy: Annotated[str, msgspec.Meta(pattern=r"^sips?:[^\s<>]+$", max_length=256)] | None = None
    auth: Login | None = None


class PhoneTarget(_Routed, frozen=True, kw_only=True, tag_field="type", tag="phone"):
    """The command's number, by a named carrier. An unknown name is no error when the call is placed (contract 3.2).

    `confirm_hook` is asked when the callee has answered, before the two are connected.
    """

    trunk: Word | None = None
    confirm_hook: HookUrl | Hook | None = None


class SipTarget(_Routed, frozen=True, kw_only=True, tag_field="type", tag="sip"):
    """The command's SIP URI. What a SIP URI becomes anyway."""


class UserTarget(Part, frozen=True, kw_only=True, tag_field="type", tag="user"):
    """A registered user: `name`, or `name@realm` where it is not the account's. The command's `to` is `sip:name@...`."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[^\s<>@]{1,128}(@[^\s<>@]{1,255})?$")]


class TeamsTarget(Part, frozen=True, kw_only=True, tag_field="type", tag="teams"):
    """The command's number, in Microsoft Teams."""

    tenant: Word | None = None
    vmail: bool | None = None


Target: TypeAlias = PhoneTarget | SipTarget | UserTarget | TeamsTarget


class AmdTimers(Part, frozen=True, kw_only=True):
    """Times of answering machine detection; what is left out is jambonz's: 5, 15, 20 and 2 s."""

    no_speech_timeout_ms: Milliseconds | None = None
    decision_timeout_ms: Milliseconds | None = None
    tone_timeout_ms: Milliseconds | None = None
    greeting_completion_timeout_ms: Milliseconds | None = None


class Recognizer(Part, frozen=True, kw_only=True):
    """How speech is understood; what vendors add of their own can be set by a `raw` verb."""

    vendor: Word
    language: Word | None = None
    label: Word | None = None
    hints: Annotated[list[Word], msgspec.Meta(max_length=500)] | None = None
    hints_boost: float | None = None
    alt_languages: Annotated[list[Word], msgspec.Meta(max_length=10)] | None = None
    profanity_filter: bool | None = None
    punctuation: bool | None = None
    model: Word | None = None


class Amd(Part, frozen=True, kw_only=True):
    """Tell man from machine (contract 3.4). Its events come to us, as `call.amd`."""

    threshold_word_count: Count | None = None
    digit_count: Count | None = None
    recognizer: Recognizer | None = None
    timers: AmdTimers | None = None


class JambonzOptions(Part, frozen=True, kw_only=True):
    """Options of a `call.place`. `tag` comes back at the top of `customerData`, beside our own key `callbridge`.

    jambonz trims the strings in a tag and rewrites those that are URLs (contract 3.1); nested values are kept.
    `notify_url` is Cognigy's: where call statuses are posted in place of to us. `call_hook`, `call_status_hook` and the
    fields below them are plain jambonz's; the two hooks and the recognizer only without an application.
    """

    application_sid: Sid | None = None
    from_host: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.:\[\]-]{1,255}$")] | None = None
    caller_name: Annotated[str, msgspec.Meta(pattern=r"""^[^\r\n"<>]{1,128}$""")] | None = None
    to: Target | None = None
    time_limit_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    tag: JsonObject = {}
    headers: Headers = {}
    amd: Amd | None = None
    speech_synthesis_vendor: Word | None = None
    speech_synthesis_voice: Word | None = None
    speech_synthesis_language: Word | None = None
    speech_recognizer_vendor: Word | None = None
    speech_recognizer_language: Word | None = None
    notify_url: HookUrl | None = None
    call_hook: HookUrl | Hook | None = None
    call_status_hook: HookUrl | Hook | None = None
    sip_request_within_dialog_hook: HookUrl | None = None
    refer_hook: HookUrl | Hook | None = None
    dual_streams: bool | None = None


def passwords_in(part: Part) -> Iterator[Secret]:
    """What may stand in the request and in no message of ours."""
    for field in part.__struct_fields__:
        value = getattr(part, field)
        if isinstance(value, Part):
            yield from passwords_in(value)
        elif field == "password" and value is not None:
            yield Secret(value)


def on_the_wire(part: Part) -> JsonObject:
    """What is set, with jambonz's camel-case names."""
    return {_camel(name): _value(value) for name, value in msgspec.structs.asdict(part).items() if value is not None}


def _value(value: object) -> object:
    return on_the_wire(value) if isinstance(value, Part) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
