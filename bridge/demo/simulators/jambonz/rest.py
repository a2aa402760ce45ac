"""jambonz' REST API as far as it is simulated: create a call, and steer one by PUT; what is taken and what refused.

Two layers as in the real one (contract 3): A, the api server, whose 400s have words; B, the feature server behind it,
every refusal of which is a bare 500. An adapter that earns one of either has broken the contract.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.jambonz.settings import Application, JambonzSettings
from bridge.demo.simulators.jambonz.verbs import Object

_PATH = re.compile(r"(?:/[a-z]+)?/v1/Accounts/([^/]+)/Calls(?:/([^/]+))?")
_SPEECH = (
    "speech_synthesis_vendor",
    "speech_synthesis_language",
    "speech_synthesis_voice",
    "speech_recognizer_vendor",
    "speech_recognizer_language",
)
_LARGEST = 102_400


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A call to place, with nothing wrong about it."""

    number: str
    caller: str
    application_sid: str | None
    call_hook: str | None
    status_hooks: tuple[str, ...]
    tag: Object | None
    amd_hook: str | None
    timeout_seconds: int
    login: tuple[str, str] | None = None
    """User and password of `call_hook`."""


class Refusal(msgspec.Struct, frozen=True):
    """A request that is not taken. `is_breach`: the adapter is wrong, not its configuration."""

    status: int
    reason: str
    number: str | None = None
    is_breach: bool = True

    def answer(self) -> Answer:
        """As said on the wire: `{msg}`, but 401 and 500 are text (contract 3.3)."""
        if self.status == 401:  # noqa: PLR2004
            return Answer(status=401, body="Unauthorized", headers={"WWW-Authenticate": 'Bearer realm="Users"'})
        if self.status == 500:  # noqa: PLR2004
            return Answer(status=500, body="Internal Server Error", headers={"Content-Type": "text/plain"})
        return Answer(status=self.status, body=msgspec.json.encode({"msg": self.reason}).decode())


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _Hook(_Strict, kw_only=True):
    url: str
    method: str = "POST"
    username: str | None = None
    password: str | None = None


class _To(_Strict, kw_only=True):
    type: Literal["phone", "sip", "user", "teams"]
    number: str | None = None
    sip_uri: str | None = msgspec.field(name="sipUri", default=None)
    name: str | None = None
    trunk: str | None = None
    tenant: str | None = None
    vmail: bool | None = None


class _Timers(_Strict, kw_only=True, rename="camel"):
    no_speech_timeout_ms: float | None = None
    decision_timeout_ms: float | None = None
    tone_timeout_ms: float | None = None
    greeting_completion_timeout_ms: float | None = None


class _Amd(_Strict, kw_only=True, rename="camel"):
    action_hook: str | _Hook
    threshold_word_count: float | None = None
    digit_count: float | None = None
    recognizer: Object | None = None
    timers: _Timers | None = None


class _Body(_Strict, kw_only=True):
    """Layer B's idea of a call (contract 3.1)."""

    from_: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="from")
    to: _To
    application_sid: str | None = None
    from_host: str | None = msgspec.field(name="fromHost", default=None)
    caller_name: str | None = msgspec.field(name="callerName", default=None)
    timeout: int = 60
    time_limit: int | None = msgspec.field(name="timeLimit", default=None)
    tag: Object | None = None
    headers: dict[str, str | float] | None = None
    amd: _Amd | None = None
    speech_synthesis_vendor: str | None = None
    speech_synthesis_voice: str | None = None
    speech_synthesis_language: str | None = None
    speech_recognizer_vendor: str | None = None
    speech_recognizer_language: str | None = None
    call_hook: str | _Hook | None = None
    call_status_hook: str | _Hook | None = None
    dialog_hook: str | None = msgspec.field(name="sipRequestWithinDialogHook", default=None)
    refer_hook: str | _Hook | None = msgspec.field(name="referHook", default=None)
    dual_streams: bool | None = None
    notify_url: str | _Hook | None = msgspec.field(name="notifyUrl", default=None)


def path_of(path: str) -> tuple[str, str | None] | None:
    """Account and, for one call, its sid; None for another path."""
    found = _PATH.fullmatch(path)
    return (found[1], found[2]) if found else None


def refuse_access(exchange: Exchange, settings: JambonzSettings) -> Refusal | None:
    """Who may not ask at all: 401 for an unknown key, 403 for another account."""
    presented = exchange.headers.get("authorization", "")
    if not hmac.compare_digest(presented.encode(), f"Bearer {settings.token}".encode()):
        return Refusal(401, "Unauthorized", is_breach=False)
    place = path_of(exchange.path)
    if place is None or place[0] != settings.account_sid:
        return Refusal(403, "insufficient permissions", is_breach=False)
    return None


def read_create(exchange: Exchange, settings: JambonzSettings, apps: Mapping[str, Application]) -> Order | Refusal:
    """What a POST asks for: layer A, then layer B."""
    if len(exchange.body) > _LARGEST:
        return Refusal(413, "request entity too large")
    try:
        value = msgspec.json.decode(exchange.body or b"{}")
    except msgspec.DecodeError as error:
        return Refusal(400, str(error))
    is_json = exchange.headers.get("content-type", "").startswith("application/json")
    raw: Object = value if isinstance(value, dict) and is_json else {}
    if refusal := _layer_a(raw, apps):
        return refusal
    return _layer_b(raw, settings, apps)


def _layer_a(raw: Object, apps: Mapping[str, Application]) -> Refusal | None:
    if not raw.get("from"):
        return Refusal(400, "missing from parameter")
    to = raw.get("to")
    needed = {"phone": "number", "teams": "number", "sip": "sipUri", "user": "name"}
    kind = to.get("type") if isinstance(to, dict) else None
    if not isinstance(to, dict) or kind not in needed or not isinstance(to.get(needed[kind]), str):
        return Refusal(400, f"missing or invalid to property: {msgspec.json.encode(to).decode()}")
    application = raw.get("application_sid")
    if application is not None:
        return (
            None if application in apps else Refusal(400, f"application_sid not found {application}", is_breach=False)
        )
    if not all(raw.get(name) for name in _SPEECH):
        return Refusal(400, f"either application_sid or set of {', '.join(_SPEECH)} required")
    if not raw.get("call_hook"):
        return Refusal(400, "either call_hook or application_sid required")
    for name in ("call_hook", "call_status_hook"):
        if not re.match(r"(https?|wss?)://", _url(raw.get(name)) or ""):
            return Refusal(400, f"{name} url be an absolute url")
    return None


def _layer_b(raw: Object, settings: JambonzSettings, apps: Mapping[str, Application]) -> Order | Refusal:
    number = str(raw["to"].get("number") or raw["to"].get("sipUri") or raw["to"].get("name"))
    try:
        body = msgspec.convert({name: value for name, value in raw.items() if value is not None}, _Body)
    except msgspec.ValidationError as error:
        return Refusal(500, f"layer B: {error}", number.lstrip("+"))
    if body.notify_url is not None and settings.flavour == "jambonz":
        return Refusal(500, "layer B: notifyUrl is Cognigy's", number.lstrip("+"))
    app = apps.get(body.application_sid or "")
    hooks = (app.call_status_hook if app else _url(body.call_status_hook), _url(body.notify_url))
    return Order(
        number=number,
        caller=body.from_,
        application_sid=body.application_sid,
        call_hook=app.call_hook if app else _url(body.call_hook),
        status_hooks=tuple(hook for hook in hooks if hook),
        tag=body.tag,
        amd_hook=None if body.amd is None else _url(body.amd.action_hook),
        timeout_seconds=body.timeout,
        login=app.login if app else _login(body.call_hook),
    )


def _login(hook: str | _Hook | None) -> tuple[str, str] | None:
    return (hook.username, hook.password) if isinstance(hook, _Hook) and hook.username and hook.password else None


def _url(hook: object) -> str | None:
    match hook:
        case str():
            return hook
        case _Hook(url=url) | {"url": str() as url}:
            return url
        case _:
            return None


_CONTROLS: Mapping[str, frozenset[str]] = {
    "call_status": frozenset({"completed", "no-answer"}),
    "mute_status": frozenset({"mute", "unmute"}),
    "listen_status": frozenset({"pause", "silence", "resume"}),
}
_KNOWN_CONTROLS = {
    *_CONTROLS,
    *("call_hook", "child_call_hook", "call_status_hook", "transcribe_status", "whisper", "record", "sip_request"),
    *("conf_mute_status", "conf_hold_status", "waitHook", "conferenceParticipantAction", "dtmf", "tag", "dub"),
    *("boostAudioSignal", "media_path"),
}
_RIDES_ALONG = {"call_status_hook", "waitHook", "whisper", "child_call_hook"}


def read_update(exchange: Exchange) -> Object | Refusal:
    """What a PUT asks for; checked before the call is looked up (contract 5)."""
    try:
        body = msgspec.json.decode(exchange.body, type=Object)
    except msgspec.DecodeError as error:
        return Refusal(400, str(error))
    given = body.keys() & _KNOWN_CONTROLS
    if not given:
        return Refusal(400, "no valid options supplied to updateCall")
    if len(given - _RIDES_ALONG) > 1:
        return Refusal(400, "multiple options are not allowed in updateCall")
    for name, allowed in _CONTROLS.items():
        if name in body and body[name] not in allowed:
            return Refusal(400, f"invalid {name}")
    if "dtmf" in body and not (isinstance(body["dtmf"], dict) and body["dtmf"].get("digit")):
        return Refusal(400, "invalid dtmf")
    return body
