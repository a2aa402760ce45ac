"""sipgate behind the provider protocol: one connection, put together from its settings.

Everything an operator can get wrong is found while it is built, secrets and the rendering of fallbacks included; a
running connection has nothing left to be misconfigured.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec

from bridge.model.actions import Action
from bridge.model.commands import PlaceCall
from bridge.model.errors import Broken, Poison
from bridge.model.outcome import Outcome, Refused
from bridge.model.phone import parse_e164
from bridge.providers.http import HttpClient
from bridge.providers.protocol import (
    Answer,
    ConnectionContext,
    Heard,
    Plan,
    Provider,
    Verified,
    Webhook,
)
from bridge.providers.settings import AccountLimits, Place
from bridge.providers.sipgate import client
from bridge.providers.sipgate.actions import NOTHING, render
from bridge.providers.sipgate.dialogue import SipgateDialogue
from bridge.providers.sipgate.replies import Replies
from bridge.providers.sipgate.settings import SipgateSettings, check_settings
from bridge.providers.sipgate.webhook import SharedSecrets, parse
from bridge.runtime.clock import Clock, SystemClock
from bridge.runtime.secrets import Secret

NAME = "sipgate"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, 2.1. Anything else could not be put into a header, which would only show in the first call."""

_USER_IN_URL = re.compile(r"//[^/]*@")


class _Rest:
    """The REST side of one account and flow, and what the settings say."""

    def __init__(self, settings: SipgateSettings, *, http: HttpClient, token: Secret) -> None:
        self._settings = settings
        self._token = token
        self._http = http
        self._clock: Clock = SystemClock()

    @property
    def name(self) -> str:
        """`sipgate`."""
        return NAME

    @property
    def match_window_seconds(self) -> float:
        """From the settings: the session begins when somebody answers."""
        return self._settings.match_window_seconds

    @property
    def late_webhook_seconds(self) -> float:
        """0: sipgate repeats nothing."""
        return 0.0

    @property
    def limits(self) -> AccountLimits:
        """From the settings."""
        return self._settings.limits

    @property
    def session_ttl_seconds(self) -> float:
        """From the settings: after a successful transfer sipgate says nothing more (contract 1.8)."""
        return self._settings.session_ttl_seconds

    def check(self, command: PlaceCall, *, call_id: str) -> Plan | Refused:
        """Whether sipgate can be asked for this; see `client.check`."""
        return client.check(command, self._settings, call_id=call_id)

    async def dial(self, plan: Plan) -> Outcome:
        """Ask once."""
        if not isinstance(plan.request, client.DialRequest):
            raise Broken("the plan was made by another provider")
        return await client.dial(plan.request, self._http, token=self._token, clock=self._clock)


class Sipgate(_Rest):
    """One account and flow, its webhooks included. Implements `Provider`, `AnswersQuestions` and `SpeaksWebSocket`."""

    def __init__(
        self, settings: SipgateSettings, place: Place, *, http: HttpClient, token: Secret, secrets: Sequence[Secret]
    ) -> None:
        """Put together what was resolved.

        Raises:
            Misconfigured: what no single value shows; see `check_settings` and `Replies`.
        """
        check_settings(settings, place)
        whole = msgspec.structs.replace(settings, flow_number=_flow_number(settings, place))
        super().__init__(whole, http=http, token=token)
        self._replies = Replies(settings.reply, place)
        self._secrets = SharedSecrets(secrets)

    def verify(self, webhook: Webhook) -> Verified:
        """By `X-API-TOKEN`, against each live secret."""
        return self._secrets.verify(webhook)

    def parse(self, verified: Verified) -> Sequence[Heard]:
        """The one event of a body."""
        return parse(verified)

    def welcome(self, upgrade: Webhook) -> SipgateDialogue:
        """A socket, by the same header as a webhook: sipgate's own app checks it there (contract 1.2)."""
        longest = self._settings.reply.websocket_seconds
        return SipgateDialogue(
            self.verify(upgrade), reply_seconds=lambda heard: longest if self._replies.seconds(heard) else 0.0
        )

    def acknowledge(self, heard: Heard) -> Answer:
        """204: a 200 without an action would make sipgate stop listening (contract 1.4)."""
        del heard
        return NOTHING

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """The actions as an object, several as an array, none as 204."""
        if actions and not heard.waits:
            raise Poison(
                "$.actions", found="actions", allowed=f"none: sipgate takes no answer to {heard.provider_type}"
            )
        return render(actions, session=heard.session)

    def reply_seconds(self, heard: Heard) -> float:
        """From `reply` of the settings; 0 for what takes no answer."""
        return self._replies.seconds(heard)

    def fallback(self, heard: Heard) -> Answer:
        """From `reply` of the settings; 204 where nothing is set."""
        return self._replies.fallback(heard)


@asynccontextmanager
async def build(context: ConnectionContext) -> AsyncGenerator[Provider]:
    """Resolve the secrets, open the HTTP client, and give the connection; closed on the way out.

    Raises:
        Misconfigured: a secret cannot be had, or something in the settings does not fit together.
    """
    settings = context.settings
    if not isinstance(settings, SipgateSettings):
        raise Broken(f"settings of another provider: {type(settings).__name__}")
    place = Place(context.config_file, context.connection)
    token = _token(settings, place)
    secrets = [
        source.resolve(config_file=place.file, path=place.path(f"webhook_secrets[{index}]"))
        for index, source in enumerate(settings.webhook_secrets)
    ]
    http = _http_client(settings, place, token)
    provider = Sipgate(settings, place, http=http, token=token, secrets=secrets)
    async with http:
        yield provider


def _token(settings: SipgateSettings, place: Place) -> Secret:
    token = settings.token.resolve(config_file=place.file, path=place.path("token"))
    if not _TOKEN.fullmatch(token.reveal()):
        found = "a secret with characters that a bearer token cannot have"
        raise place.wrong("token", found=found, allowed="letters, digits and ._~+/-, with = at the end (RFC 6750)")
    return token


def _http_client(settings: SipgateSettings, place: Place, token: Secret) -> HttpClient:
    headers = {"authorization": f"Bearer {token.reveal()}"}
    try:
        return HttpClient(settings.base_url, settings.http, headers=headers)
    except ValueError as error:
        shown = _USER_IN_URL.sub("//***@", settings.base_url)
        raise place.wrong("base_url", found=f"'{shown}'", allowed=str(error)) from error


def _flow_number(settings: SipgateSettings, place: Place) -> str | None:
    if settings.flow_number is None:
        return None
    try:
        return parse_e164(settings.flow_number)
    except Poison as error:
        raise place.wrong("flow_number", found=error.found, allowed=error.allowed) from error
