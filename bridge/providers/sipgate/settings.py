"""What an operator configures for one sipgate account and flow, and what a command may change of it.

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
    check_deadlines,
    check_proof,
)
from bridge.runtime.secrets import SecretSource

LONGEST_REPLY_SECONDS = 4.0
"""sipgate's own app works with 4 s of about 5 s that it observed (contract 1.6); later the call may be gone."""

FlowId: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[^\s/]{1,128}$", description="id of the AI flow, as in its address")
]
BillingDevice: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="device suffix such as e2, from sipgate's support")
]


class SipgateReply(ReplySettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long consumers may take. sipgate wants an answer within a second; more than 4 s is refused at start.

    `fallback` answers `session.started`, `user.spoke`, `user.dtmf`, `user.silent` and `sms.failed` unless `events` says
    otherwise. `assistant.speaking` and `assistant.finished` have none but their own: words spoken there would be
    followed by the same event again, and so for ever. `assistant.speaking` is answered at once unless `events` says
    otherwise, because it usually asks for nothing (contract 1.3).
    """

    deadline_seconds: SecondsOrZero = 0.9
    websocket_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 30.0
    """Over a WebSocket nobody waits: for so long an action can name the event that it answers. Later ones are said too,
    and reported as late."""


class SipgateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account and its flow. `flow_number` is the flow's own number, the only `from` that a command may name."""

    token: SecretSource
    flow_id: FlowId
    billing_device: BillingDevice
    flow_number: str | None = None
    webhook_secrets: list[SecretSource] = []
    """Each of them is accepted in `X-API-TOKEN`: to rotate, add the new one, change it at sipgate, remove the old."""
    allow_unverified_webhooks: bool = False
    """Believe every webhook. For local use; only without `webhook_secrets`."""
    base_url: str = "https://api.sipgate.com"
    match_window_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 120
    """How long after dialling a session with the same callee is taken to be this call: it begins when someone answers."""
    session_ttl_seconds: Annotated[float, msgspec.Meta(gt=0, le=7 * 24 * 3600)] = 4 * 3600
    """When a session without an end is forgotten: after a successful transfer sipgate says nothing more."""
    limits: AccountLimits = AccountLimits()
    http: HttpSettings = HttpSettings()
    reply: SipgateReply = SipgateReply()


class SipgateOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one command may set in place of the connection's: another flow, another device to bill."""

    flow_id: FlowId | None = None
    billing_device: BillingDevice | None = None


def check_settings(settings: SipgateSettings, place: Place) -> None:
    """What no single value shows.

    Raises:
        Misconfigured: webhooks are neither verified nor explicitly unverified, or a deadline is beyond sipgate's.
    """
    check_proof(settings.webhook_secrets, allow_unverified_webhooks=settings.allow_unverified_webhooks, place=place)
    check_deadlines(
        settings.reply,
        place,
        longest_seconds=LONGEST_REPLY_SECONDS,
        allowed=f"0 to {LONGEST_REPLY_SECONDS} (sipgate hangs up on later answers)",
    )
