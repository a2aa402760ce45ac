"""jambonz behind the provider protocol: one connection, put together from its settings.

Everything an operator can get wrong is found while it is built, secrets and the rendering of fallbacks included; a
running connection has nothing left to be misconfigured. Nothing is remembered between two webhooks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from bridge.model.actions import Action
from bridge.model.commands import PlaceCall
from bridge.model.errors import Unverified
from bridge.model.outcome import Outcome, Refused
from bridge.providers.building import all_resolved, bearer, header_token, http_client, request_of, settings_of
from bridge.providers.http import HttpClient
from bridge.providers.jambonz import client
from bridge.providers.jambonz.actions import NOTHING, Way
from bridge.providers.jambonz.control import Control, WayToUs
from bridge.providers.jambonz.dialogue import BasicAuth, JambonzDialogue
from bridge.providers.jambonz.hooks import Hooks
from bridge.providers.jambonz.look_up import look_up
from bridge.providers.jambonz.replies import Replies
from bridge.providers.jambonz.settings import JambonzSettings, check_settings
from bridge.providers.jambonz.webhook import Signatures, parse
from bridge.providers.protocol import Answer, ConnectionContext, Heard, Plan, Provider, Standing, Verified, Webhook
from bridge.providers.settings import AccountLimits, Place
from bridge.runtime.clock import Clock, SystemClock
from bridge.runtime.secrets import Secret

NAME = "jambonz"


class _Rest:
    """The REST side of one account: dials and control; and what the settings say."""

    def __init__(
        self, settings: JambonzSettings, *, http: HttpClient, token: Secret, passwords: Sequence[Secret]
    ) -> None:
        self._settings = settings
        by_socket = settings.websocket is not None and settings.websocket.dial
        user = "" if settings.websocket is None else settings.websocket.username
        self._hooks = Hooks(settings.public_webhook_url, socket=(user, passwords[0]) if by_socket else None)
        self._auth = BasicAuth(user, passwords)
        self._token = token
        self._http = http
        self._control = Control(http, account_sid=settings.account_sid, token=token, way_to_us=self._way_to_us())
        self._clock: Clock = SystemClock()

    def _way_to_us(self) -> WayToUs | None:
        """Cognigy's own application talks and never asks us; with jambonz the next hook comes by itself."""
        if self._settings.flavour != "cognigy":
            return None
        return WayToUs(
            self._hooks.url("redirect", None), Way(self._hooks.url("verb", None), self._settings.hold_seconds)
        )

    @property
    def name(self) -> str:
        """`jambonz`, for both flavours."""
        return NAME

    @property
    def match_window_seconds(self) -> float:
        """From the settings: the first webhook with our reference may be that of the answer."""
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
        """Whether jambonz can be asked for this; see `client.check`."""
        return client.check(command, self._settings, hooks=self._hooks, call_id=call_id)

    async def dial(self, plan: Plan) -> Outcome:
        """Ask once."""
        return await client.dial(request_of(plan, client.DialRequest), self._http, token=self._token, clock=self._clock)

    async def control(self, session: str, actions: Sequence[Action]) -> None:
        """Hang up, press keys, or a raw PUT; see `control`."""
        await self._control.do(session, actions)

    async def look_up(self, session: str) -> Standing:
        """Ask for the call's record; see `look_up`."""
        return await look_up(session, self._http, account_sid=self._settings.account_sid, token=self._token)


class Jambonz(_Rest):
    """One account, its webhooks included.

    Implements `Provider`, `AnswersQuestions`, `CanControl`, `CanLookUp` and `SpeaksWebSocket`.
    """

    def __init__(
        self,
        settings: JambonzSettings,
        place: Place,
        *,
        http: HttpClient,
        token: Secret,
        secrets: Sequence[Secret],
        passwords: Sequence[Secret] = (),
    ) -> None:
        """Put together what was resolved.

        Raises:
            Misconfigured: what no single value shows; see `check_settings` and `Replies`.
        """
        check_settings(settings, place)
        super().__init__(settings, http=http, token=token, passwords=passwords)
        self._replies = Replies(settings, self._hooks, place)
        self._signatures = Signatures(secrets)

    def verify(self, webhook: Webhook) -> Verified:
        """By `Jambonz-Signature`, against each live secret."""
        return self._signatures.verify(webhook)

    def welcome(self, upgrade: Webhook) -> JambonzDialogue:
        """A socket, by the Basic auth of its hook: it carries no signature (contract 9)."""
        if self._settings.websocket is None and not self._settings.allow_unverified_webhooks:
            raise Unverified("no password for WebSockets is configured")
        self._auth.verify(upgrade)
        return JambonzDialogue(self._replies, hold_seconds=self._settings.hold_seconds)

    def parse(self, verified: Verified) -> Sequence[Heard]:
        """The one thing that a body says."""
        return parse(verified)

    def acknowledge(self, heard: Heard) -> Answer:
        """204 without JSON: the answer to a status is not read, and with a JSON type an empty one is an error."""
        del heard
        return NOTHING

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """The actions as an array of verbs that asks again at its end; none hold the call."""
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
    settings, place = settings_of(context, JambonzSettings)
    token = header_token(settings.token, place)
    secrets = all_resolved(settings.webhook_secrets, place, "webhook_secrets")
    socket_passwords = [] if settings.websocket is None else settings.websocket.passwords
    passwords = all_resolved(socket_passwords, place, "websocket.passwords")
    http = http_client(settings.base_url, settings.http, place, headers=bearer(token))
    provider = Jambonz(settings, place, http=http, token=token, secrets=secrets, passwords=passwords)
    async with http:
        yield provider
