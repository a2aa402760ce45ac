"""REST out: what of a command can be asked for, the one request that asks, and what its answer means.

`check` is pure and complete; `dial` asks once and gives one of the four outcomes. Errors are `{code, message, more_info,
status}` (contract 4), and messages repeat numbers: everything is cut and scrubbed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

import msgspec

from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison
from bridge.model.outcome import Accepted, NotSent, Outcome, RefusalReason, Refused, Unknown
from bridge.model.scrub import describe, scrub
from bridge.model.validation import convert_json
from bridge.providers.http import Answered, HttpClient, retry_after_seconds
from bridge.providers.names import reference_name
from bridge.providers.protocol import Plan
from bridge.providers.twilio.hooks import Hooks
from bridge.providers.twilio.options import TwilioOptions
from bridge.providers.twilio.order import Fields, compose
from bridge.providers.twilio.settings import TwilioSettings
from bridge.runtime.clock import Clock
from bridge.runtime.secrets import Secret

FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}


class Credentials:
    """Who asks: an account, or a key of it, by HTTP Basic. Hides itself in what Twilio says."""

    def __init__(self, user: str, secret: Secret) -> None:
        self._secrets = (secret, Secret(base64.b64encode(f"{user}:{secret.reveal()}".encode()).decode()))

    @property
    def header(self) -> str:
        """The value of `Authorization`."""
        return f"Basic {self._secrets[1].reveal()}"

    def hidden_in(self, text: str) -> str:
        """The text without the secret, as it is and as the header has it."""
        for secret in self._secrets:
            text = secret.hidden_in(text)
        return text


class DialRequest(msgspec.Struct, frozen=True):
    """The request, ready to be sent."""

    path: str
    content: bytes


class _Placed(msgspec.Struct, frozen=True):
    """201, as far as it is read."""

    sid: str


class _Error(msgspec.Struct, frozen=True):
    """What an error says. `code` is not always there."""

    message: str = ""
    code: int | None = None


def calls_path(account_sid: str, call_sid: str | None = None) -> str:
    """Where the calls of an account are, or one of them."""
    return f"/2010-04-01/Accounts/{account_sid}/Calls{f'/{call_sid}' if call_sid else ''}.json"


def encode(fields: Fields) -> bytes:
    """A form's bytes."""
    return urlencode(fields).encode("ascii")


def check(command: PlaceCall, settings: TwilioSettings, *, hooks: Hooks, call_id: str) -> Plan | Refused:
    """The request for this command, or why it cannot be asked for. `hooks`: where the call's webhooks are to go."""
    try:
        options = convert_json(command.options, TwilioOptions, path="$.options")
        fields = compose(command, options, settings=settings, hooks=hooks, call_id=call_id)
    except Poison as error:
        return Refused(_reason(error.field), detail=str(error))
    request = DialRequest(calls_path(settings.account_sid), encode(fields))
    return Plan(command=command, call_id=call_id, known_by=(reference_name(call_id),), request=request)


async def dial(request: DialRequest, http: HttpClient, *, credentials: Credentials, clock: Clock) -> Outcome:
    """Ask once. The outcome holds neither credentials nor a whole phone number."""
    answer = await http.send("POST", request.path, headers=FORM, content=request.content)
    if not isinstance(answer, Answered):
        return answer
    return outcome_of(answer, detail=detail_of(answer.body, credentials), now=clock.now())


def _reason(field: str) -> RefusalReason:
    if field in {"$.to", "$.from"}:
        return "invalid_number"
    return "invalid_options" if field.startswith("$.options") else "unsupported"


# Contract 4. All are said before anything is dialled. What is not here is not guessed.
REFUSALS: Mapping[int, RefusalReason] = {
    400: "rejected_by_provider",
    401: "unauthorized",
    402: "no_credit",
    403: "unauthorized",
    404: "not_found",
    405: "rejected_by_provider",
    413: "rejected_by_provider",
    415: "rejected_by_provider",
}
_BY_CODE: Mapping[int, RefusalReason] = {
    21211: "invalid_number",  # `To` is no phone number
    21217: "invalid_number",  # a phone number that cannot exist
    21214: "invalid_number",  # `To` cannot be reached
    20003: "unauthorized",
    20005: "unauthorized",  # the account is not active
    20404: "not_found",
}
"""What a 400, 403 or 404 means more exactly. The vendor advises against logic on codes, so it decides a word only."""
_SUCCESS, _SERVER_ERRORS, _TOO_MANY = range(200, 300), 500, 429


def outcome_of(answer: Answered, *, detail: str | None, now: datetime) -> Outcome:
    """What the answer to a dial means. Every 5xx is unknown.

    Args:
        answer: the whole answer. A success without `sid` is not one: who else said it, only a webhook can tell.
        detail: what it says to a person, scrubbed.
        now: wall time, against which a `Retry-After` date is read.
    """
    status = answer.status
    if status in _SUCCESS:
        sid = _sid(answer.body)
        return Accepted(sid, status) if sid else Unknown("unexpected_answer", status, detail)
    if status == _TOO_MANY:  # never processed (contract 4)
        wait = retry_after_seconds(answer.headers.get("retry-after"), now=now)
        return NotSent("rate_limited", detail=detail, retry_after_seconds=wait)
    if reason := REFUSALS.get(status):
        return Refused(_BY_CODE.get(error_of(answer.body).code or 0, reason), status, detail)
    return Unknown("server_error" if status >= _SERVER_ERRORS else "unexpected_answer", status, detail)


_SIP_USER = re.compile(r"(sips?:)[^@\s]*@")
_READ = 4096
_CODES = 1_000_000
"""Codes are below; what is not could be a phone number."""


def error_of(body: bytes) -> _Error:
    """Code and words of an error; of a body that is none its text."""
    try:
        return msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Error(_words(body))


def detail_of(body: bytes, credentials: Credentials) -> str | None:
    """The words for an outcome: without credentials, SIP users, and anything that looks like a number."""
    error = error_of(body)
    words = error.message or _words(body)
    said = scrub(_SIP_USER.sub(r"\1***@", credentials.hidden_in(words)))
    is_code = error.code is not None and 0 < error.code < _CODES
    return (f"code {error.code}: {said}" if is_code else said) or None


def _words(body: bytes) -> str:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body[:_READ].decode("utf-8", "replace").strip()
    return describe(value)


def _sid(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_Placed).sid or None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
