"""REST out: what of a command can be asked for, the one request that asks, and what its answer means.

`check` is pure and complete; `dial` asks once and gives one of the four outcomes. Error bodies come as JSON, text, HTML
or nothing (contract 3.3) and one of them repeats the callee: it is cut, and everything is scrubbed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from html import unescape

import msgspec

from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison
from bridge.model.outcome import Accepted, NotSent, NotSentReason, Outcome, RefusalReason, Refused, Unknown
from bridge.model.scrub import describe, scrub
from bridge.model.validation import convert_json
from bridge.providers.http import Answered, HttpClient, retry_after_seconds
from bridge.providers.jambonz.body import LARGEST_BODY_BYTES, compose
from bridge.providers.jambonz.hooks import Hooks
from bridge.providers.jambonz.options import JambonzOptions, passwords_in
from bridge.providers.jambonz.settings import JambonzSettings
from bridge.providers.names import reference_name
from bridge.providers.protocol import Plan
from bridge.runtime.clock import Clock
from bridge.runtime.secrets import Secret

JSON = {"content-type": "application/json", "accept": "application/json"}

_encoder = msgspec.json.Encoder()


class DialRequest(msgspec.Struct, frozen=True):
    """The request, ready to be sent."""

    path: str
    content: bytes
    hidden: tuple[Secret, ...] = ()
    """What stands in it and in no message of ours."""


class _Placed(msgspec.Struct, frozen=True):
    """201. Only `sid` is in every description (contract 3.3); the SIP call id is `callId` here and `callid` there."""

    sid: str


def calls_path(account_sid: str) -> str:
    """Where the calls of an account are, below the base URL."""
    return f"/v1/Accounts/{account_sid}/Calls"


def check(command: PlaceCall, settings: JambonzSettings, *, hooks: Hooks, call_id: str) -> Plan | Refused:
    """The request for this command, or why it cannot be asked for. `hooks`: where the call's webhooks are to go."""
    try:
        options = convert_json(command.options, JambonzOptions, path="$.options")
        body = compose(command, options, settings=settings, hooks=hooks, call_id=call_id)
    except Poison as error:
        return Refused(_reason(error.field), detail=str(error))
    content = _encoder.encode(body)
    if len(content) > LARGEST_BODY_BYTES:
        detail = f"$.options: found a request of {len(content)} bytes; allowed: at most {LARGEST_BODY_BYTES}"
        return Refused("invalid_options", detail=detail)
    request = DialRequest(calls_path(settings.account_sid), content, (*hooks.secrets, *passwords_in(options)))
    return Plan(command=command, call_id=call_id, known_by=(reference_name(call_id),), request=request)


async def dial(request: DialRequest, http: HttpClient, *, token: Secret, clock: Clock) -> Outcome:
    """Ask once. The outcome holds neither the token nor a whole phone number."""
    answer = await http.send("POST", request.path, headers=JSON, content=request.content)
    if not isinstance(answer, Answered):
        return answer
    detail = detail_of(answer.body, token, *request.hidden)
    return outcome_of(answer, words=words_of(answer.body), detail=detail, now=clock.now())


def _reason(field: str) -> RefusalReason:
    if field in {"$.to", "$.from"}:
        return "invalid_number"
    return "invalid_options" if field.startswith("$.options") else "unsupported"


# Contract 3.3. 422 is the api server's own, made before it asks a feature server. What is not here is not guessed.
REFUSALS: Mapping[int, RefusalReason] = {
    400: "rejected_by_provider",
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    413: "rejected_by_provider",
    422: "rejected_by_provider",
}
_REFUSED_WITH_WORDS: Mapping[str, RefusalReason] = {
    "application_sid not found": "not_found",
    "unauthorized": "unauthorized",  # a key of a service provider
}
"""What a 400 means more exactly, by how its words begin."""
_SUCCESS = range(200, 300)
_NOT_EXECUTED: Mapping[int, NotSentReason] = {429: "rate_limited", 480: "unavailable"}
"""480: no feature server is there. It is said before the request is looked at, so nothing was dialled (contract 3.3)."""
_BAD_REQUEST, _SERVER_ERRORS = 400, 500


def outcome_of(answer: Answered, *, words: str, detail: str | None, now: datetime) -> Outcome:
    """What the answer to a dial means. Every 5xx is unknown: some refuse for good, some have dialled (contract 3.3).

    Args:
        answer: the whole answer. A success without `sid` is not one: who else said it, only a webhook can tell.
        words: what its body says, as it came.
        detail: the same, scrubbed.
        now: wall time, against which a `Retry-After` date is read.
    """
    status = answer.status
    if status in _SUCCESS:
        sid = _sid(answer.body)
        return Accepted(sid, status) if sid else Unknown("unexpected_answer", status, detail)
    if not_executed := _NOT_EXECUTED.get(status):
        wait = retry_after_seconds(answer.headers.get("retry-after"), now=now)
        return NotSent(not_executed, detail=detail, retry_after_seconds=wait)
    if reason := REFUSALS.get(status):
        more = (exact for start, exact in _REFUSED_WITH_WORDS.items() if words.startswith(start))
        return Refused(next(more, reason) if status == _BAD_REQUEST else reason, status, detail)
    return Unknown("server_error" if status >= _SERVER_ERRORS else "unexpected_answer", status, detail)


_ECHO = re.compile(r"(invalid to property:).*", re.DOTALL)
_MARKUP = re.compile(r"<(?:style|script|title)\b.*?</[^>]*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_SIP_USER = re.compile(r"(sips?:)[^@\s]*@")
_READ = 4096


def words_of(body: bytes) -> str:
    """What an error's body says to a person, not yet scrubbed; empty where it says nothing."""
    text = body[:_READ].decode("utf-8", "replace")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return unescape(_MARKUP.sub(" ", text)).strip()
    if isinstance(value, dict) and isinstance(value.get("msg"), str):
        return str(value["msg"])
    return describe(value)


def detail_of(body: bytes, *secrets: Secret) -> str | None:
    """The words for an outcome: without secrets, the callee, and anything that looks like a number."""
    words = words_of(body)
    for secret in secrets:
        words = secret.hidden_in(words)
    words = _SIP_USER.sub(r"\1***@", _ECHO.sub(r"\1 (the callee)", words))
    return scrub(words) or None


def _sid(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_Placed).sid or None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
