"""sipgate behind the provider protocol: one connection, put together from its settings.

Everything an operator can get wrong is found while it is built, secrets and the rendering of fallbacks included; a
running connection has nothing left to be misconfigured.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec

from bridge.model.actions import Action
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
from bridge.providers.protocol import (
    Answer,
    ConnectionContext,
    Heard,
    Plan,
    Provider,
    Verified,
    Webhook,
)
from bridge.providers.reply_table import refuse_actions
from bridge.providers.settings import AccountLimits, Place, own_number
from bridge.providers.sipgate import client
from bridge.providers.sipgate.actions import NOTHING, render
from bridge.providers.sipgate.dialogue import SipgateDialogue
from bridge.providers.sipgate.replies import Replies
from bridge.providers.sipgate.settings import SipgateSettings, check_settings
from bridge.providers.sipgate.webhook import SharedSecrets, parse
from bridge.runtime.clock import Clock, SystemClock
from bridge.runtime.secrets import Secret

NAME = "sipgate"


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
        return await client.dial(request_of(plan, client.DialRequest), self._http, token=self._token, clock=self._clock)


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
        whole = msgspec.structs.replace(settings, flow_number=own_number(settings.flow_number, place, "flow_number"))
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
        if not heard.waits:
            refuse_actions(actions, provider="sipgate", event=heard.provider_type)
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
    settings, place = settings_of(context, SipgateSettings)
    token = header_token(settings.token, place)
    secrets = all_resolved(settings.webhook_secrets, place, "webhook_secrets")
    http = http_client(settings.base_url, settings.http, place, headers=bearer(token))
    provider = Sipgate(settings, place, http=http, token=token, secrets=secrets)
    async with http:
        yield provider
