"""HMS Sovereign behind the provider protocol: one connection, put together from its settings.

Everything an operator can get wrong is found while it is built, secrets and fallbacks included; a running connection
has nothing left to be misconfigured.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from bridge.model.actions import Action
from bridge.model.commands import PlaceCall
from bridge.model.outcome import Outcome, Refused
from bridge.providers.building import all_resolved, bearer, header_token, http_client, request_of, settings_of
from bridge.providers.hms_sovereign import answers, client
from bridge.providers.hms_sovereign.control import Control
from bridge.providers.hms_sovereign.look_up import look_up
from bridge.providers.hms_sovereign.replies import Replies
from bridge.providers.hms_sovereign.settings import HmsSettings, check_settings
from bridge.providers.hms_sovereign.webhook import Signatures, parse
from bridge.providers.http import HttpClient
from bridge.providers.protocol import (
    Answer,
    CanControl,
    CanLookUp,
    ConnectionContext,
    Heard,
    Plan,
    Provider,
    Standing,
    Verified,
    Webhook,
)
from bridge.providers.settings import AccountLimits, Place
from bridge.runtime.clock import Clock, SystemClock
from bridge.runtime.secrets import Secret

NAME = "hms_sovereign"


class HmsSovereign(Replies, CanControl, CanLookUp):
    """One account; what it answers is inherited. Implements `Provider` as well."""

    def __init__(
        self, settings: HmsSettings, place: Place, *, http: HttpClient, token: Secret, secrets: Sequence[Secret]
    ) -> None:
        """Put together what was resolved.

        Raises:
            Misconfigured: what no single value shows; see `check_settings` and `Replies`.
        """
        check_settings(settings, place)
        super().__init__(settings.reply, place)
        self._settings = settings
        self._signatures = Signatures(secrets)
        self._caller = client.Caller(settings, webhook_secret=secrets[0] if settings.send_webhook_secret else None)
        self._http = http
        self._clock: Clock = SystemClock()
        self._hidden = (token, *secrets)
        self._control = Control(http, secrets=self._hidden, clock=self._clock)

    @property
    def name(self) -> str:
        """`hms_sovereign`."""
        return NAME

    @property
    def match_window_seconds(self) -> float:
        """As long as a session: webhooks carry our own reference, which never means another call."""
        return self._settings.session_ttl_seconds

    @property
    def late_webhook_seconds(self) -> float:
        """0: our reference comes back, and is known for as long as the call."""
        return 0.0

    @property
    def limits(self) -> AccountLimits:
        """From the settings."""
        return self._settings.limits

    @property
    def session_ttl_seconds(self) -> float:
        """From the settings: delivery of webhooks is not promised (contract 3.4)."""
        return self._settings.session_ttl_seconds

    def check(self, command: PlaceCall, *, call_id: str) -> Plan | Refused:
        """Whether HMS Sovereign can be asked for this; see `client.Caller.check`."""
        return self._caller.check(command, call_id=call_id)

    async def dial(self, plan: Plan) -> Outcome:
        """Ask once."""
        return await client.dial(
            request_of(plan, client.DialRequest), self._http, secrets=self._hidden, clock=self._clock
        )

    async def control(self, session: str, actions: Sequence[Action]) -> None:
        """One command each; see `Control.do`."""
        await self._control.do(session, actions)

    async def look_up(self, session: str) -> Standing:
        """Ask for the call's record; see `look_up`."""
        return await look_up(session, self._http, secrets=self._hidden)

    def verify(self, webhook: Webhook) -> Verified:
        """By signature and timestamp, against each live secret."""
        return self._signatures.verify(webhook)

    def parse(self, verified: Verified) -> Sequence[Heard]:
        """The one event of a body."""
        return parse(verified)

    def acknowledge(self, heard: Heard) -> Answer:
        """200 with an empty object; any 2xx would do (contract 3.4)."""
        del heard
        return answers.NOTHING


@asynccontextmanager
async def build(context: ConnectionContext) -> AsyncGenerator[Provider]:
    """Resolve the secrets, open the HTTP client, and give the connection; closed on the way out.

    Raises:
        Misconfigured: a secret cannot be had, or something in the settings does not fit together.
    """
    settings, place = settings_of(context, HmsSettings)
    token = header_token(settings.token, place)
    secrets = all_resolved(settings.webhook_secrets, place, "webhook_secrets")
    http = http_client(settings.base_url, settings.http, place, headers=bearer(token))
    provider = HmsSovereign(settings, place, http=http, token=token, secrets=secrets)
    async with http:
        yield provider
