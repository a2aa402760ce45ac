"""Twilio behind the provider protocol: one connection, put together from its settings.

Everything an operator can get wrong is found while it is built, secrets and the rendering of fallbacks included; a
running connection has nothing left to be misconfigured. Nothing is remembered between two webhooks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from bridge.model.actions import Action
from bridge.model.commands import PlaceCall
from bridge.model.outcome import Outcome, Refused
from bridge.providers.building import all_resolved, http_client, request_of, resolved, settings_of
from bridge.providers.http import HttpClient
from bridge.providers.protocol import Answer, ConnectionContext, Heard, Plan, Provider, Standing, Verified, Webhook
from bridge.providers.settings import AccountLimits, Place
from bridge.providers.twilio import client
from bridge.providers.twilio.actions import NOTHING
from bridge.providers.twilio.control import Control
from bridge.providers.twilio.hooks import Hooks
from bridge.providers.twilio.look_up import look_up
from bridge.providers.twilio.replies import Replies, way_of
from bridge.providers.twilio.settings import TwilioSettings, check_settings
from bridge.providers.twilio.webhook import Signatures, parse
from bridge.runtime.clock import Clock, SystemClock
from bridge.runtime.secrets import Secret

NAME = "twilio"


class _Rest:
    """The REST side of one account: dials and control; and what the settings say."""

    def __init__(self, settings: TwilioSettings, *, http: HttpClient, credentials: client.Credentials) -> None:
        self._settings = settings
        self._hooks = Hooks(settings.public_webhook_url)
        self._credentials = credentials
        self._http = http
        way = way_of(settings, self._hooks, None)
        self._control = Control(http, account_sid=settings.account_sid, credentials=credentials, way=way)
        self._clock: Clock = SystemClock()

    @property
    def name(self) -> str:
        """`twilio`."""
        return NAME

    @property
    def match_window_seconds(self) -> float:
        """From the settings: a call may wait in Twilio's queue before its first webhook."""
        return self._settings.match_window_seconds

    @property
    def late_webhook_seconds(self) -> float:
        """0: our reference comes back, in whichever order."""
        return 0.0

    @property
    def limits(self) -> AccountLimits:
        """From the settings."""
        return self._settings.limits

    @property
    def session_ttl_seconds(self) -> float:
        """From the settings: a final status that was lost is not sent again (contract 6)."""
        return self._settings.session_ttl_seconds

    def check(self, command: PlaceCall, *, call_id: str) -> Plan | Refused:
        """Whether Twilio can be asked for this; see `client.check`."""
        return client.check(command, self._settings, hooks=self._hooks, call_id=call_id)

    async def dial(self, plan: Plan) -> Outcome:
        """Ask once."""
        return await client.dial(
            request_of(plan, client.DialRequest), self._http, credentials=self._credentials, clock=self._clock
        )

    async def control(self, session: str, actions: Sequence[Action]) -> None:
        """Replace what the call is doing, or hang up; see `control`."""
        await self._control.do(session, actions)

    async def look_up(self, session: str) -> Standing:
        """Ask for the call's record; see `look_up`."""
        account_sid = self._settings.account_sid
        return await look_up(session, self._http, account_sid=account_sid, credentials=self._credentials)


class Twilio(_Rest):
    """One account, its webhooks included. Implements `Provider`, `AnswersQuestions`, `CanControl` and `CanLookUp`."""

    def __init__(
        self,
        settings: TwilioSettings,
        place: Place,
        *,
        http: HttpClient,
        credentials: client.Credentials,
        secrets: Sequence[Secret],
    ) -> None:
        """Put together what was resolved.

        Raises:
            Misconfigured: what no single value shows; see `check_settings` and `Replies`.
        """
        check_settings(settings, place)
        super().__init__(settings, http=http, credentials=credentials)
        self._replies = Replies(settings, self._hooks, place)
        self._signatures = Signatures(secrets, public_url=settings.public_webhook_url)

    def verify(self, webhook: Webhook) -> Verified:
        """By `X-Twilio-Signature`, against each live auth token."""
        return self._signatures.verify(webhook)

    def parse(self, verified: Verified) -> Sequence[Heard]:
        """What a form says."""
        return parse(verified)

    def acknowledge(self, heard: Heard) -> Answer:
        """204: Twilio does not read the answer to a status."""
        del heard
        return NOTHING

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """The actions as TwiML that asks again at its end; none hold the call."""
        return self._replies.answer(heard, actions)

    def reply_seconds(self, heard: Heard) -> float:
        """From `reply` of the settings; 0 for what does not wait."""
        return self._replies.seconds(heard)

    def fallback(self, heard: Heard) -> Answer:
        """From `reply` of the settings; held where nothing is set."""
        return self._replies.fallback(heard)


@asynccontextmanager
async def build(context: ConnectionContext) -> AsyncGenerator[Provider]:
    """Resolve the secrets, open the HTTP client, and give the connection; closed on the way out.

    Raises:
        Misconfigured: a secret cannot be had, or something in the settings does not fit together.
    """
    settings, place = settings_of(context, TwilioSettings)
    token = resolved(settings.token, place, "token")
    secrets = all_resolved(settings.webhook_secrets, place, "webhook_secrets")
    credentials = client.Credentials(settings.api_key_sid or settings.account_sid, token)
    http = http_client(settings.base_url, settings.http, place, headers={"authorization": credentials.header})
    provider = Twilio(settings, place, http=http, credentials=credentials, secrets=secrets)
    async with http:
        yield provider
