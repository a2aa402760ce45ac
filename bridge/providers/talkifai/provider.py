"""TalkifAI behind the provider protocol: one connection, put together from its settings.

Everything an operator can get wrong is found while it is built, secrets included; a running connection has nothing
left to be misconfigured.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from bridge.model.commands import PlaceCall
from bridge.model.outcome import Outcome, Refused
from bridge.providers.building import (
    all_resolved,
    bearer,
    header_token,
    http_client,
    request_of,
    settings_of,
)
from bridge.providers.http import HttpClient
from bridge.providers.protocol import Answer, ConnectionContext, Heard, Plan, Provider, Verified, Webhook
from bridge.providers.settings import AccountLimits, Place, own_number
from bridge.providers.talkifai import client
from bridge.providers.talkifai.settings import TalkifaiSettings, check_settings
from bridge.providers.talkifai.webhook import Signatures, parse
from bridge.runtime.clock import Clock, SystemClock
from bridge.runtime.secrets import Secret

NAME = "talkifai"
ACKNOWLEDGED = Answer(status=200)
"""Exactly 200: anything else is delivered again (contract 2.3)."""


class Talkifai(Provider):
    """One account."""

    def __init__(
        self, settings: TalkifaiSettings, place: Place, *, http: HttpClient, token: Secret, secrets: Sequence[Secret]
    ) -> None:
        """Put together what was resolved.

        Raises:
            Misconfigured: what no single value shows; see `check_settings`.
        """
        check_settings(settings, place)
        self._settings = settings
        self._from_number = own_number(settings.from_number, place, "from_number")
        self._signatures = Signatures(secrets, unsigned_agent_events=settings.allow_unsigned_agent_events)
        self._token = token
        self._http = http
        self._clock: Clock = SystemClock()

    @property
    def name(self) -> str:
        """`talkifai`."""
        return NAME

    @property
    def match_window_seconds(self) -> float:
        """From the settings: the account's webhooks name the callee, not the room."""
        return self._settings.match_window_seconds

    @property
    def late_webhook_seconds(self) -> float:
        """From the settings: a webhook that fails comes again after 30 s, 5 min and 30 min."""
        return self._settings.late_webhook_seconds

    @property
    def limits(self) -> AccountLimits:
        """From the settings."""
        return self._settings.limits

    @property
    def session_ttl_seconds(self) -> float:
        """From the settings: after the end of a call its transcript and analysis come."""
        return self._settings.session_ttl_seconds

    def check(self, command: PlaceCall, *, call_id: str) -> Plan | Refused:
        """Whether TalkifAI can be asked for this; see `client.check`."""
        return client.check(command, from_number=self._from_number, call_id=call_id)

    async def dial(self, plan: Plan) -> Outcome:
        """Ask once; returns when the callee has answered, or nobody has for 60 s."""
        return await client.dial(request_of(plan, client.DialRequest), self._http, token=self._token, clock=self._clock)

    def verify(self, webhook: Webhook) -> Verified:
        """By the body's signature, against each live secret."""
        return self._signatures.verify(webhook)

    def parse(self, verified: Verified) -> Sequence[Heard]:
        """The one event of a body, in either envelope."""
        return parse(verified)

    def acknowledge(self, heard: Heard) -> Answer:
        """200 without a body."""
        del heard
        return ACKNOWLEDGED


@asynccontextmanager
async def build(context: ConnectionContext) -> AsyncGenerator[Provider]:
    """Resolve the secrets, open the HTTP client, and give the connection; closed on the way out.

    Raises:
        Misconfigured: a secret cannot be had, or something in the settings does not fit together.
    """
    settings, place = settings_of(context, TalkifaiSettings)
    token = header_token(settings.token, place)
    secrets = all_resolved(settings.webhook_secrets, place, "webhook_secrets")
    headers = bearer(token) if settings.auth == "bearer" else {"x-api-key": token.reveal()}
    http = http_client(settings.base_url, settings.http, place, headers=headers)
    provider = Talkifai(settings, place, http=http, token=token, secrets=secrets)
    async with http:
        yield provider
