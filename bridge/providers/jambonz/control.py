"""Act on a live call without being asked: `PUT /v1/Accounts/{account_sid}/Calls/{call_sid}`, one control a request.

Possible: hang up, press keys, and `raw` with any documented body (contract 5). A PUT takes no verbs: who is to speak, play
or transfer unasked is kept by the keeper until the next hook asks. jambonz' own calls ask again by themselves; a call of
Cognigy's application never does, so it is sent to our hook by `call_hook`, asks there at once, and gets what was kept.
From then on it is ours: what the application was doing is over.
202 says that jambonz took it, not that it was done: what is impossible in the call's state is ignored silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, TypeAlias, assert_never
from urllib.parse import quote

import msgspec

from bridge.model import actions as ours
from bridge.model.errors import Poison, Unavailable
from bridge.model.validation import convert_json
from bridge.model.words import JsonObject
from bridge.providers.capabilities import one_of
from bridge.providers.http import Answered, HttpClient
from bridge.providers.jambonz import client, verbs
from bridge.providers.jambonz.actions import Answerable, Way, options_of, verbs_for
from bridge.providers.jambonz.options import Hook
from bridge.providers.protocol import NotThisWay, Rejected
from bridge.runtime.secrets import Secret

Controllable: TypeAlias = ours.Hangup | ours.SendDtmf | ours.RawAction
"""What can be done unasked."""
AVAILABLE = f"{one_of(Controllable)}: jambonz takes the others only as the answer to a hook"

Pausing: TypeAlias = Literal["pause", "silence", "resume"]
HookField: TypeAlias = str | Hook
Url: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]


class Dtmf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key; `duration` in milliseconds."""

    digit: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-D*#]$")]
    duration: Annotated[int, msgspec.Meta(ge=50, le=2000)] = 250


class SipRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request within the dialogue; only in an answered call."""

    method: Url
    content_type: Url
    content: str
    headers: JsonObject = {}


class Update(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a PUT: the fields that this api server knows (contract 5)."""

    call_status: Literal["completed", "no-answer"] | None = None
    call_hook: HookField | None = None
    child_call_hook: HookField | None = None
    call_status_hook: HookField | None = None
    mute_status: Literal["mute", "unmute"] | None = None
    listen_status: Pausing | None = None
    transcribe_status: Pausing | None = None
    whisper: JsonObject | list[JsonObject] | None = None
    record: JsonObject | None = None
    conf_mute_status: Literal["mute", "unmute"] | None = None
    conf_hold_status: Literal["hold", "unhold"] | None = None
    wait_hook: HookField | None = msgspec.field(name="waitHook", default=None)
    participant: JsonObject | None = msgspec.field(name="conferenceParticipantAction", default=None)
    sip_request: SipRequest | None = None
    dtmf: Dtmf | None = None
    tag: JsonObject | None = None
    dub: JsonObject | None = None
    boost: str | int | float | None = msgspec.field(name="boostAudioSignal", default=None)
    media_path: Literal["no-media", "partial-media", "full-media"] | None = None


_TOGETHER = (
    frozenset({"call_hook", "child_call_hook", "call_status_hook"}),
    frozenset({"conf_hold_status", "waitHook"}),
)
_NEVER_ALONE = frozenset({"call_status_hook", "waitHook"})

_encoder = msgspec.json.Encoder()
_GONE = 404
_WRONG_STATE = 422
_SUCCESS, _SERVER_ERRORS = range(200, 300), 500


class _Said(Exception):
    """jambonz refused one request."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class WayToUs(NamedTuple):
    """How a call of somebody else's application is brought to ask us: by this hook; and how it goes on from there."""

    hook: str
    way: Way


class Control:
    """The live calls of one account."""

    def __init__(self, http: HttpClient, *, account_sid: str, token: Secret, way_to_us: WayToUs | None) -> None:
        self._http = http
        self._token = token
        self._way_to_us = way_to_us
        self._calls = client.calls_path(account_sid)

    async def do(self, session: str, actions: Sequence[ours.Action]) -> None:
        """One request after the other, in order; see `CanControl`."""
        try:
            bodies = [
                each for index, action in enumerate(actions) for each in requests_for(action, f"$.actions[{index}]")
            ]
        except NotThisWay:
            if self._way_to_us is not None:
                verbs_for(actions, self._way_to_us.way)  # what no answer could have is refused now
                await self._do_all(session, [{"call_hook": self._way_to_us.hook}])
            raise
        await self._do_all(session, bodies)

    async def _do_all(self, session: str, bodies: Sequence[JsonObject]) -> None:
        for body in bodies:
            try:
                await self._put_or_cancel(session, body)
            except _Said as refusal:
                raise Rejected(_explained(refusal)) from None

    async def _put_or_cancel(self, session: str, body: JsonObject) -> None:
        """Hanging up an answered call and one that rings are different words; which it is, only jambonz knows."""
        try:
            await self._put(session, body)
        except _Said as refusal:
            if body != HANG_UP or refusal.status != _WRONG_STATE or "is gone" in str(refusal):
                raise
            await self._put(session, CANCEL)

    async def _put(self, session: str, body: JsonObject) -> None:
        path = f"{self._calls}/{quote(session, safe='')}"
        answer = await self._http.send("PUT", path, headers=client.JSON, content=_encoder.encode(body))
        if not isinstance(answer, Answered):
            raise Unavailable(f"jambonz did not answer: {answer.reason}")
        detail = client.detail_of(answer.body, self._token) or f"status {answer.status}"
        if answer.status >= _SERVER_ERRORS:
            raise Unavailable(f"jambonz: status {answer.status}: {detail}")
        if answer.status not in _SUCCESS:
            raise _Said(answer.status, detail)


HANG_UP: JsonObject = {"call_status": "completed"}
CANCEL: JsonObject = {"call_status": "no-answer"}


def requests_for(action: ours.Action, path: str) -> list[JsonObject]:
    """The bodies of the requests for one action; `path` is where it stands in its record.

    Raises:
        NotThisWay: an action that jambonz takes only as an answer.
        Poison: an action that it does not have, or a body that it would refuse.
    """
    if isinstance(action, Answerable) and not isinstance(action, Controllable):
        raise NotThisWay(f"{path}.type", found=f"'{ours.action_type(action)}'", allowed=AVAILABLE)
    if not isinstance(action, Controllable):
        raise Poison(f"{path}.type", found=f"'{ours.action_type(action)}'", allowed=AVAILABLE)
    match action:
        case ours.Hangup():
            options_of(action, verbs.NoOptions, path)
            return [HANG_UP]
        case ours.SendDtmf():
            duration = options_of(action, verbs.SendDtmfOptions, path).duration_ms or 250
            return [{"dtmf": {"digit": digit, "duration": duration}} for digit in action.digits]
        case ours.RawAction():
            options_of(action, verbs.NoOptions, path)
            return [_checked(action.verb, f"{path}.verb")]
        case _:
            assert_never(action)


def _checked(body: JsonObject, path: str) -> JsonObject:
    convert_json(body, Update, path=path)
    fields = frozenset(body)
    if not fields - _NEVER_ALONE:
        raise Poison(path, found="no control", allowed="one documented field of a PUT on a call")
    rest = fields - {"whisper"}
    if len(rest) > 1 and not any(rest <= together for together in _TOGETHER):
        allowed = (
            "one control a request; call_hook with child_call_hook and call_status_hook, whisper with any one other"
        )
        raise Poison(path, found=f"{len(fields)} controls", allowed=allowed)
    return body


def _explained(refusal: _Said) -> str:
    if refusal.status == _GONE:
        return "jambonz has no record of this call: it is over, or was answered more than an hour ago"
    return f"status {refusal.status}: {refusal}"
