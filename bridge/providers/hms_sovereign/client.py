"""REST out: what of a command HMS Sovereign can be asked for, and the one request that asks.

`check` is pure and complete, so that nothing is refused after an effect. `dial` asks once and gives one of the four
outcomes (the vendor's own SDK repeats this request after a 5xx, which can dial twice: contract 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison
from bridge.model.outcome import Outcome, Refused
from bridge.model.phone import is_sip_uri, parse_e164
from bridge.model.scrub import scrub
from bridge.model.validation import convert_json
from bridge.model.words import JsonObject
from bridge.providers.hms_sovereign import translate
from bridge.providers.hms_sovereign.options import RENAMED, HmsOptions
from bridge.providers.hms_sovereign.settings import HmsSettings
from bridge.providers.http import Answered, HttpClient
from bridge.providers.names import reference_name
from bridge.providers.protocol import Plan
from bridge.runtime.clock import Clock
from bridge.runtime.secrets import Secret

_PATH = "/calls/outbound"
JSON_HEADERS = {"content-type": "application/json"}


class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`POST /calls/outbound` (contract 3.1)."""

    destination: str
    number_id: str | None = None
    assistant_id: str | None = None
    assistant: JsonObject | None = None
    assistant_override: JsonObject | None = None
    first_message: str | None = None


class DialRequest(msgspec.Struct, frozen=True):
    """The request, ready to be sent."""

    content: bytes


class Caller:
    """What a connection puts into each of its requests."""

    def __init__(self, settings: HmsSettings, *, webhook_secret: Secret | None) -> None:
        """`webhook_secret`: sent along where given."""
        self._settings = settings
        self._webhook_secret = webhook_secret

    def check(self, command: PlaceCall, *, call_id: str) -> Plan | Refused:
        """The request for this command, or why HMS Sovereign cannot be asked for it."""
        if refused := _inexpressible(command):
            return refused
        try:
            options = _options(command)
        except Poison as error:
            return Refused("invalid_options", detail=str(error))
        try:
            callee = parse_e164(command.to, field="$.to")
        except Poison as error:
            return Refused("invalid_number", detail=str(error))
        settings = self._settings
        assistant_id = None if options.assistant is not None else options.assistant_id or settings.assistant_id
        if options.assistant is None and assistant_id is None:
            words = "$.options: found no assistant; allowed: assistant_id (here or in the connection) or assistant"
            return Refused("invalid_options", detail=words)
        body = _Body(
            destination=callee,
            number_id=options.number_id or settings.number_id,
            assistant_id=assistant_id,
            first_message=options.first_message,
        )
        assistant = self._with_ours(options, command, call_id)
        name = "assistant" if assistant_id is None else "assistant_override"
        if assistant:
            body = msgspec.structs.replace(body, **{name: assistant})
        request = DialRequest(msgspec.json.encode(body))
        return Plan(command=command, call_id=call_id, known_by=(reference_name(call_id),), request=request)

    def _with_ours(self, options: HmsOptions, command: PlaceCall, call_id: str) -> JsonObject:
        """The assistant as the user wants it, with where its webhooks go and what they are to bring back."""
        settings, given = self._settings, options.assistant or options.assistant_override
        assistant: JsonObject = {} if given is None else msgspec.to_builtins(given)
        if settings.public_webhook_url is not None:
            assistant["webhook_url"] = f"{settings.public_webhook_url.rstrip('/')}/{call_id}"
        if events := options.webhook_events or settings.webhook_events:
            assistant["webhook_events"] = events
        if self._webhook_secret is not None:
            assistant["webhook_secret"] = self._webhook_secret.reveal()
        if settings.reference_in_metadata:
            ours = {"call_id": call_id, "command_id": command.command_id}
            assistant["metadata"] = {**assistant.get("metadata", {}), **ours}
        return assistant


async def dial(request: DialRequest, http: HttpClient, *, secrets: Sequence[Secret], clock: Clock) -> Outcome:
    """Ask once. The outcome holds neither a secret nor a whole phone number."""
    answer = await http.send("POST", _PATH, headers=JSON_HEADERS, content=request.content)
    if not isinstance(answer, Answered):
        return answer
    return translate.outcome_of(answer, detail=detail_of(answer, secrets), now=clock.now())


def detail_of(answer: Answered, secrets: Sequence[Secret]) -> str | None:
    """What an answer says to a person, without secrets and whole numbers."""
    words = translate.words_of(answer.body)
    for secret in secrets:
        words = secret.hidden_in(words) if words else words
    return scrub(words) if words else None


def _inexpressible(command: PlaceCall) -> Refused | None:
    """What the wire has no words for: refused, because who asked for it would be deceived if it were dropped."""
    if command.ring_timeout_seconds is not None:
        return _unsupported("$.ring_timeout_seconds", "HMS Sovereign takes no ring time-out; leave it out")
    if is_sip_uri(command.to):
        return _unsupported("$.to", "HMS Sovereign calls phone numbers only; give one in E.164 form")
    if command.from_ is not None:
        return _unsupported("$.from", "the caller is chosen by options.number_id; leave `from` out")
    return None


def _unsupported(field: str, words: str) -> Refused:
    return Refused("unsupported", detail=f"{field}: {words}")


def _options(command: PlaceCall) -> HmsOptions:
    for old, new in RENAMED.items():
        if old in command.options:
            raise Poison(f"$.options.{old}", found="a deprecated name", allowed=f"{new} in place of {old}")
    return convert_json(command.options, HmsOptions, path="$.options")
