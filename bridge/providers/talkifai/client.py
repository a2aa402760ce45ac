"""REST out: what of a command TalkifAI can be asked for, and the one request that asks.

`check` is pure and complete, so that nothing is refused after an effect. `dial` asks once and may take more than a
minute, because TalkifAI answers when the callee has; the words of its errors are scrubbed and hold no secret.
"""

from __future__ import annotations

import msgspec

from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison
from bridge.model.outcome import Outcome, Refused
from bridge.model.phone import E164, is_sip_uri, parse_e164
from bridge.model.scrub import scrub
from bridge.model.validation import convert_json
from bridge.providers.http import Answered, HttpClient
from bridge.providers.names import callee_name
from bridge.providers.protocol import Plan
from bridge.providers.talkifai import translate
from bridge.providers.talkifai.settings import TalkifaiOptions
from bridge.runtime.clock import Clock
from bridge.runtime.secrets import Secret

_PATH = "/telephony/outbound-call"


class DialRequest(msgspec.Struct, frozen=True):
    """The request's query: `to_number` and `from_number`, both E.164 with `+` (seed 004). It has no body."""

    to_number: str
    from_number: str


def check(command: PlaceCall, *, from_number: E164 | None, call_id: str) -> Plan | Refused:
    """The request for this command, or why TalkifAI cannot be asked for it. `from_number`: where the command has none."""
    if command.ring_timeout_seconds is not None:
        return _unsupported("$.ring_timeout_seconds", "TalkifAI rings for 60 s always; leave it out")
    if is_sip_uri(command.to):
        return _unsupported("$.to", "TalkifAI calls phone numbers only; give one in E.164 form")
    try:
        convert_json(command.options, TalkifaiOptions, path="$.options")
    except Poison as error:
        return Refused("invalid_options", detail=str(error))
    try:
        callee = parse_e164(command.to, field="$.to")
        caller = from_number if command.from_ is None else parse_e164(command.from_, field="$.from")
    except Poison as error:
        return Refused("invalid_number", detail=str(error))
    if caller is None:
        words = "$.from: found nothing; allowed: one of the account's numbers (here, or from_number of the connection)"
        return Refused("invalid_number", detail=words)
    return Plan(
        command=command,
        call_id=call_id,
        known_by=(callee_name(callee),),
        request=DialRequest(to_number=callee, from_number=caller),
    )


async def dial(request: DialRequest, http: HttpClient, *, token: Secret, clock: Clock) -> Outcome:
    """Ask once. The outcome holds neither the token nor a whole phone number."""
    answer = await http.send("POST", _PATH, query=msgspec.structs.asdict(request))
    if not isinstance(answer, Answered):
        return answer
    words = translate.words_of(answer.body)
    detail = scrub(token.hidden_in(words)) if words else None
    return translate.outcome_of(answer, detail=detail, now=clock.now())


def _unsupported(field: str, words: str) -> Refused:
    return Refused("unsupported", detail=f"{field}: {words}")
