"""REST out: what of a command sipgate can be asked for, and the one request that asks.

`check` is pure and complete, so that nothing is refused after an effect. `dial` asks once and gives one of the four
outcomes; the words of sipgate's errors are scrubbed and hold no secret.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison
from bridge.model.outcome import Outcome, Refused
from bridge.model.phone import is_sip_uri, parse_callee, parse_e164
from bridge.model.scrub import scrub
from bridge.model.validation import convert_json
from bridge.providers.http import Answered, HttpClient
from bridge.providers.names import callee_name
from bridge.providers.protocol import Plan
from bridge.providers.sipgate import translate
from bridge.providers.sipgate.settings import SipgateOptions, SipgateSettings
from bridge.runtime.clock import Clock
from bridge.runtime.secrets import Secret

_JSON = {"content-type": "application/json"}


class _Body(msgspec.Struct, frozen=True, rename="camel"):
    """https://api.sipgate.com, `POST /v3/ai-flows/{aiFlowId}/call` (contract 1.1); no other field is documented."""

    billing_device: str
    to_phone_number: str


class DialRequest(msgspec.Struct, frozen=True):
    """The request, ready to be sent."""

    path: str
    content: bytes


def check(command: PlaceCall, settings: SipgateSettings, *, call_id: str) -> Plan | Refused:
    """The request for this command, or why sipgate cannot be asked for it. `settings.flow_number` is E.164 or None."""
    if refused := _inexpressible(command, settings):
        return refused
    try:
        options = convert_json(command.options, SipgateOptions, path="$.options")
    except Poison as error:
        return Refused("invalid_options", detail=str(error))
    try:
        callee = parse_e164(command.to, field="$.to")
    except Poison as error:
        return Refused("invalid_number", detail=str(error))
    flow_id = options.flow_id or settings.flow_id
    body = _Body(options.billing_device or settings.billing_device, translate.wire_number(callee))
    request = DialRequest(f"/v3/ai-flows/{quote(flow_id, safe='')}/call", msgspec.json.encode(body))
    return Plan(command=command, call_id=call_id, known_by=(callee_name(callee),), request=request)


async def dial(request: DialRequest, http: HttpClient, *, token: Secret, clock: Clock) -> Outcome:
    """Ask once. The outcome holds neither the token nor a whole phone number."""
    answer = await http.send("POST", request.path, headers=_JSON, content=request.content)
    if not isinstance(answer, Answered):
        return answer
    words = translate.words_of(answer.body)
    detail = scrub(token.hidden_in(words)) if words else None
    return translate.outcome_of(answer, detail=detail, now=clock.now())


def _inexpressible(command: PlaceCall, settings: SipgateSettings) -> Refused | None:
    """What the wire has no words for: refused, because who asked for it would be deceived if it were dropped."""
    if command.ring_timeout_seconds is not None:
        return _unsupported("$.ring_timeout_seconds", "sipgate takes no ring time-out; leave it out")
    if is_sip_uri(command.to):
        return _unsupported("$.to", "sipgate calls phone numbers only; give one in E.164 form")
    if command.from_ is None:
        return None
    return _refuse_from(command.from_, command, settings)


def _refuse_from(caller: str, command: PlaceCall, settings: SipgateSettings) -> Refused | None:
    try:
        number = parse_callee(caller, field="$.from")
    except Poison as error:
        return Refused("invalid_number", detail=str(error))
    if number == settings.flow_number and "flow_id" not in command.options:
        return None
    how = "the caller is always the number of the flow; leave `from` out, or let it be the connection's flow_number"
    return _unsupported("$.from", how)


def _unsupported(field: str, words: str) -> Refused:
    return Refused("unsupported", detail=f"{field}: {words}")
