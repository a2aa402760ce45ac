"""What an operator configures for one HMS Sovereign account.

Shapes and single values are checked where the file is decoded; what depends on several values, on secrets or on the
rendering of actions is checked when the connection is built, so that every mistake ends the start and none a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import msgspec

from bridge.providers.settings import AccountLimits, HttpSettings, Place, ReplySettings, SecondsOrZero, check_proof
from bridge.runtime.secrets import SecretSource

TOOLS, ASSISTANT = "tool.requested", "assistant.requested"
LONGEST_REPLY_SECONDS: Mapping[str, float] = {TOOLS: 10.0, ASSISTANT: 5.0}
"""When HMS Sovereign stops waiting, by our type of the event (contract 3.4)."""
ASSISTANT_REPLY_SECONDS = 4.0
"""How long `assistant.requested` waits unless the settings say otherwise: HMS Sovereign goes on after 5 s."""

Id: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$", description="an id as the dashboard shows it, such as a UUID")
]
EventName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9.-]{1,64}$")]
WebhookUrl: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        max_length=1000,
        description="our own address without user, query and fragment: https://HOST/webhooks/CONNECTION",
    ),
]


class HmsReply(ReplySettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long consumers may take: `tool.requested` at most 10 s, `assistant.requested` at most 5 s.

    `assistant.requested` waits 4 s unless `events` says otherwise, and alone may have a fallback there: one `configure`.
    """

    deadline_seconds: SecondsOrZero = 8.0


class HmsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account. `assistant_id` and `number_id` are for commands that do not name their own."""

    token: SecretSource
    assistant_id: Id | None = None
    number_id: Id | None = None
    """Which of the account's numbers calls. Without one HMS Sovereign takes any: wrong for resellers (seed 003)."""
    webhook_secrets: list[SecretSource] = []
    """Each of them is accepted as the key of `X-Webhook-Signature`: to rotate, add, change it there, remove the old."""
    allow_unverified_webhooks: bool = False
    """Believe every webhook. For local use; only without `webhook_secrets`."""
    public_webhook_url: WebhookUrl | None = None
    """Our address as HMS Sovereign reaches it. Each call is then given `<this>/<call_id>` as its `webhook_url`."""
    webhook_events: tuple[EventName, ...] = ("status-update", "tool-calls", "end-of-call-report")
    """What each call is to tell us. Empty: what the assistant or the account is set to."""
    send_webhook_secret: bool = False
    """Give each call the first of `webhook_secrets` as its `webhook_secret`. Needed where an assistant without a saved
    one has none; HMS Sovereign may repeat it in the assistant of its webhooks, and so in `raw` on the events topic."""
    reference_in_metadata: bool = True
    """Put our `call_id` and the `command_id` into the assistant's metadata, which comes back in its webhooks. With a
    saved assistant this replaces that assistant's own metadata: its merge is shallow (contract 3.1)."""
    base_url: str = "https://api.hmsovereign.com/api/v1"
    session_ttl_seconds: Annotated[float, msgspec.Meta(gt=0, le=7 * 24 * 3600)] = 4 * 3600
    """When a call of which no end is heard is forgotten, and how long our reference is understood after the dial."""
    limits: AccountLimits = AccountLimits()
    http: HttpSettings = HttpSettings()
    reply: HmsReply = HmsReply()


def check_settings(settings: HmsSettings, place: Place) -> None:
    """What no single value shows.

    Raises:
        Misconfigured: webhooks are neither verified nor explicitly unverified, a secret is to be sent and there is
            none, or calls would carry no reference of ours.
    """
    check_proof(settings.webhook_secrets, allow_unverified_webhooks=settings.allow_unverified_webhooks, place=place)
    if settings.send_webhook_secret and not settings.webhook_secrets:
        raise place.wrong("send_webhook_secret", found="true without webhook_secrets", allowed="a secret to send")
    if not settings.reference_in_metadata and settings.public_webhook_url is None:
        allowed = "true, or a public_webhook_url: one of them tells whose call a webhook is about"
        raise place.wrong("reference_in_metadata", found="false", allowed=allowed)
