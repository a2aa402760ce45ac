"""A command as the body of `POST /v1/Accounts/{account_sid}/Calls`, or why jambonz cannot be asked for it. Pure.

What the api server and the feature server behind it check (contract 3.1, 3.2) is checked here first, because the second
one's refusals arrive as a bare 500. The tag carries our call id under the key `callbridge`; a plain word survives the
changes that jambonz makes to strings.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import msgspec

from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison
from bridge.model.phone import E164, SipUri, parse_callee, parse_e164
from bridge.model.scrub import describe
from bridge.model.words import JsonObject
from bridge.providers.jambonz import options as given
from bridge.providers.jambonz.hooks import Hooks
from bridge.providers.jambonz.options import on_the_wire
from bridge.providers.jambonz.settings import Caller, JambonzSettings

OUR_KEY = "callbridge"
LARGEST_BODY_BYTES = 100 * 1024
"""More is a 413 (contract 3)."""

Hook: TypeAlias = str | given.Hook


class _Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    type: str
    number: str | None = None
    trunk: str | None = None
    sip_uri: str | None = None
    name: str | None = None
    tenant: str | None = None
    vmail: bool | None = None
    headers: given.Headers | None = None
    proxy: str | None = None
    auth: given.Login | None = None
    confirm_hook: Hook | None = None


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body, field by field as the contract's section 3.1 spells them."""

    from_: str = msgspec.field(name="from")
    to: _Target
    tag: JsonObject
    application_sid: str | None = None
    from_host: str | None = msgspec.field(name="fromHost", default=None)
    caller_name: str | None = msgspec.field(name="callerName", default=None)
    timeout: int | None = None
    time_limit: int | None = msgspec.field(name="timeLimit", default=None)
    headers: given.Headers = {}
    amd: JsonObject | None = None
    speech_synthesis_vendor: str | None = None
    speech_synthesis_voice: str | None = None
    speech_synthesis_language: str | None = None
    speech_recognizer_vendor: str | None = None
    speech_recognizer_language: str | None = None
    call_hook: Hook | None = None
    call_status_hook: Hook | None = None
    dialog_hook: str | None = msgspec.field(name="sipRequestWithinDialogHook", default=None)
    refer_hook: Hook | None = msgspec.field(name="referHook", default=None)
    dual_streams: bool | None = None
    notify_url: str | None = msgspec.field(name="notifyUrl", default=None)


class _Asked(NamedTuple):
    """What the parts of a body are made from."""

    command: PlaceCall
    options: given.JambonzOptions
    settings: JambonzSettings
    hooks: Hooks
    call_id: str

    @property
    def application_sid(self) -> str | None:
        return self.options.application_sid or self.settings.application_sid


def compose(
    command: PlaceCall, options: given.JambonzOptions, *, settings: JambonzSettings, hooks: Hooks, call_id: str
) -> Body:
    """The body of a command's dial.

    Raises:
        Poison: a value that the wire has no place for; `field` says which. Numbers and the callee are checked first.
    """
    asked = _Asked(command, options, settings, hooks, call_id)
    callee = parse_callee(command.to, field="$.to")
    speech = {**_speech_of(settings), **_speech_of(options)} if asked.application_sid is None else _speech_of(options)
    _check_flavour(asked, speech)
    ours = settings.flavour == "jambonz" and asked.application_sid is None
    return Body(
        from_=settings.from_ if command.from_ is None else _caller(command.from_),
        to=_target(callee, options.to),
        tag={**_tag(options.tag), OUR_KEY: {"call_id": call_id}},
        application_sid=asked.application_sid,
        from_host=options.from_host,
        caller_name=options.caller_name,
        timeout=_whole_seconds(command.ring_timeout_seconds),
        time_limit=options.time_limit_seconds,
        headers=options.headers,
        amd=None if options.amd is None else {"actionHook": hooks.url("amd", call_id), **on_the_wire(options.amd)},
        call_hook=(options.call_hook or hooks.of_call("call", call_id)) if ours else None,
        call_status_hook=(options.call_status_hook or hooks.of_call("status", call_id)) if ours else None,
        dialog_hook=options.sip_request_within_dialog_hook,
        refer_hook=options.refer_hook,
        dual_streams=options.dual_streams,
        notify_url=_notify_url(asked),
        **speech,
    )


def _notify_url(asked: _Asked) -> str | None:
    """Cognigy's own statuses go to its application; this brings them to us as well (contract 1)."""
    if asked.settings.flavour != "cognigy":
        return None
    return asked.options.notify_url or asked.hooks.url("status", asked.call_id)


_SPEECH = (
    "speech_synthesis_vendor",
    "speech_synthesis_voice",
    "speech_synthesis_language",
    "speech_recognizer_vendor",
    "speech_recognizer_language",
)


def _speech_of(source: JambonzSettings | given.JambonzOptions) -> dict[str, str]:
    if isinstance(source, JambonzSettings):
        spoken = {} if source.speech is None else msgspec.structs.asdict(source.speech)
        return {f"speech_{name}": value for name, value in spoken.items()}
    values = ((name, getattr(source, name)) for name in _SPEECH)
    return {name: value for name, value in values if value is not None}


_ONLY_JAMBONZ = ("call_hook", "call_status_hook", "sip_request_within_dialog_hook", "refer_hook", "dual_streams")
_WITHOUT_APPLICATION = ("call_hook", "call_status_hook", *_SPEECH)


def _check_flavour(asked: _Asked, speech: dict[str, str]) -> None:
    """Fields that the flavour does not have are a 500, and what an application overwrites would silently be lost."""
    options = asked.options
    if asked.settings.flavour == "cognigy":
        if asked.application_sid is None:
            raise _wrong("application_sid", found="nothing", allowed="an application: Cognigy requires one")
        _refuse(options, _ONLY_JAMBONZ, "nothing: only plain jambonz has it")
        return
    _refuse(options, ("notify_url",), "nothing: only Cognigy has it, use call_status_hook")
    if asked.application_sid is not None:
        _refuse(options, _WITHOUT_APPLICATION, "nothing beside an application, whose own value counts")
    elif missing := next((name for name in _SPEECH if name not in speech), None):
        raise _wrong(
            missing,
            found="nothing",
            allowed="application_sid, or all five of speech_synthesis_* and speech_recognizer_*",
        )


def _refuse(options: given.JambonzOptions, names: tuple[str, ...], allowed: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise _wrong(name, found="a value", allowed=allowed)


def _wrong(name: str, *, found: str, allowed: str) -> Poison:
    return Poison(f"$.options.{name}", found=found, allowed=allowed)


def _caller(text: str) -> str:
    """Whoever begins with + is a number; else it is the user part of a SIP address."""
    if text.startswith("+"):
        return parse_e164(text, field="$.from")
    try:
        return msgspec.convert(text, Caller)
    except msgspec.ValidationError:
        allowed = "a number in E.164 form, or the user part of a SIP address, at most 256 characters"
        raise Poison("$.from", found=describe(text), allowed=allowed) from None


def _target(callee: E164 | SipUri, target: given.Target | None) -> _Target:
    """The command's callee, in the form that `options.to` names or that follows from it."""
    is_sip = callee.startswith(("sip:", "sips:"))
    match target:
        case None:
            return _Target(type="sip", sip_uri=callee) if is_sip else _Target(type="phone", number=callee)
        case given.PhoneTarget() | given.TeamsTarget() if is_sip:
            raise Poison("$.to", found="a SIP URI", allowed="a number in E.164 form, for this type of options.to")
        case given.SipTarget() | given.UserTarget() if not is_sip:
            raise Poison("$.to", found="a number", allowed="a SIP URI, for this type of options.to")
        case given.PhoneTarget():
            return _Target(type="phone", number=callee, **_parts_of(target))
        case given.SipTarget():
            return _Target(type="sip", sip_uri=callee, **_parts_of(target))
        case given.TeamsTarget(tenant=tenant, vmail=vmail):
            return _Target(type="teams", number=callee, tenant=tenant, vmail=vmail)
        case given.UserTarget(name=name):
            return _user(callee, name)


def _parts_of(target: given.PhoneTarget | given.SipTarget) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(target).items() if value is not None}


def _user(callee: str, name: str) -> _Target:
    """What is dialled must be what the command says."""
    if name.partition("@")[0] != callee.partition(":")[2].partition("@")[0]:
        raise _wrong("to.name", found="another user than in $.to", allowed="the user of the command's SIP URI")
    return _Target(type="user", name=name)


def _tag(tag: JsonObject) -> JsonObject:
    if OUR_KEY in tag:
        raise _wrong(f"tag.{OUR_KEY}", found="a value", allowed="nothing: this key is ours")
    return tag


def _whole_seconds(seconds: float | None) -> int | None:
    if seconds is None:
        return None
    if not float(seconds).is_integer():
        raise Poison("$.ring_timeout_seconds", found=describe(seconds), allowed="whole seconds")
    return int(seconds)
