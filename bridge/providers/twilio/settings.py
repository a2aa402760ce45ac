"""What an operator configures for one account of Twilio Programmable Voice.

Shapes and single values are checked where the file is decoded; what depends on several values, on secrets or on the
rendering of actions is checked when the connection is built, so that every mistake ends the start and none a call.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from bridge.providers.settings import (
    AccountLimits,
    HttpSettings,
    Place,
    ReplySettings,
    SecondsOrZero,
    check_caller,
    check_deadlines,
    check_proof,
)
from bridge.runtime.secrets import SecretSource

LONGEST_REPLY_SECONDS = 14.0
"""Twilio waits 15 s for TwiML (docs/contracts-twilio.md 6); the rest is for the net."""

AccountSid: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^AC[0-9a-fA-F]{32}$", description="as the console shows")]
KeySid: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^SK[0-9a-fA-F]{32}$", description="as the console shows")]
Word: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Caller: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\+[0-9]{2,15}|client:[^\s<>]{1,200}|sips?:[^\s@<>]{1,128}@[^\s@<>]{1,255})$",
        description="a number in E.164 form, client:NAME, or a SIP URI",
    ),
]
WebUrl: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?$", max_length=1024, description="http(s), no query")
]


class TwilioReply(ReplySettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long consumers may take to answer a request for TwiML; more than 14 s is refused at start.

    Without actions in `fallback` the call is held: a pause of `hold_seconds`, and then the question again.
    """

    deadline_seconds: SecondsOrZero = 10.0


class TwilioSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account. `token` is the auth token, or the secret of the API key that `api_key_sid` names."""

    account_sid: AccountSid
    token: SecretSource
    public_webhook_url: WebUrl
    """How Twilio reaches this connection: `https://gateway.example/webhooks/NAME`. Signatures cover it, so it must be
    the address that Twilio is given, whatever proxies make of it (contract 5)."""
    from_: Caller = msgspec.field(name="from")
    """Who calls, unless a command says so: a number of the account's."""
    base_url: str = "https://api.twilio.com"
    """Another one for a region or an edge, such as `https://api.dublin.ie1.twilio.com`."""
    api_key_sid: KeySid | None = None
    webhook_secrets: list[SecretSource] = []
    """Auth tokens of the account, each of which may sign: to rotate, add the secondary one, promote it, remove the old.
    An API key's secret signs nothing."""
    allow_unverified_webhooks: bool = False
    """Believe every webhook; only without `webhook_secrets`."""
    voice: Word | None = None
    """Who speaks, unless an action says so, such as `Polly.Vicki-Neural`."""
    language: Word | None = None
    """What is spoken and understood, unless an action says so, such as `de-DE`."""
    match_window_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 900
    """How long after dialling a webhook may be the first to carry our reference. Calls beyond the account's calls per
    second wait in a queue of Twilio's, so be generous."""
    session_ttl_seconds: Annotated[float, msgspec.Meta(gt=0, le=7 * 24 * 3600)] = 24 * 3600
    """When a session without an end is forgotten."""
    hold_seconds: Annotated[int, msgspec.Meta(ge=1, le=60)] = 1
    """How long a call is held before its question is asked again."""
    limits: AccountLimits = AccountLimits()
    http: HttpSettings = HttpSettings()
    reply: TwilioReply = TwilioReply()


def check_settings(settings: TwilioSettings, place: Place) -> None:
    """What no single value shows.

    Raises:
        Misconfigured: webhooks are neither verified nor explicitly unverified, a deadline is beyond the provider's, or
            the caller's number cannot exist.
    """
    check_proof(settings.webhook_secrets, allow_unverified_webhooks=settings.allow_unverified_webhooks, place=place)
    check_caller(settings.from_, place)
    allowed = f"0 to {LONGEST_REPLY_SECONDS:g} (Twilio waits 15 s)"
    check_deadlines(settings.reply, place, longest_seconds=LONGEST_REPLY_SECONDS, allowed=allowed)
