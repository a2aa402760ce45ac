"""What an operator configures for one TalkifAI account; a command has no options of its own.

Shapes and single values are checked where the file is decoded; what depends on several values or on secrets is checked
when the connection is built, so that every mistake ends the start and none a call.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from bridge.providers.settings import AccountLimits, HttpSettings, Place, Seconds, check_proof
from bridge.runtime.secrets import SecretSource

CALLEE_SECONDS = 60.0
"""How long TalkifAI itself waits for the callee before it answers 408 (contract 2.1)."""


class TalkifaiHttp(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As everywhere, but patient: a dial is answered when the callee has answered, or after 60 s."""

    read_timeout_seconds: Seconds = 75.0
    total_timeout_seconds: Seconds = 80.0
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 64


class TalkifaiSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account."""

    token: SecretSource
    auth: Literal["bearer", "x-api-key"] = "bearer"
    """In which header the token goes: TalkifAI's pages name both (contract 2.1)."""
    from_number: str | None = None
    """For commands without `from`: one of the account's numbers, which chooses the agent."""
    webhook_secrets: list[SecretSource] = []
    """Each of them is accepted as the key of `X-TalkifAI-Signature`: to rotate, add, change it there, remove the old."""
    allow_unverified_webhooks: bool = False
    """Believe every webhook. For local use; only without `webhook_secrets`."""
    allow_unsigned_agent_events: bool = False
    """Believe agent-level webhooks without a signature: signing them is 'coming soon' (contract 2.3). Whoever finds the
    address can then send such events; a signature that is there must be right."""
    base_url: str = "https://api.talkifai.dev"
    match_window_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 120
    """How long after dialling a call to the same callee may begin, by TalkifAI's own time, to be taken for this one; more
    than the 60 s of ringing."""
    late_webhook_seconds: Annotated[float, msgspec.Meta(ge=0, le=24 * 3600)] = 2160
    """By how much later `call.started` may come: a webhook that fails is repeated after 30 s, 5 min and 30 min
    (contract 2.3). Without a `created` it must come within the match window. 0: arrival is the time."""
    session_ttl_seconds: Annotated[float, msgspec.Meta(gt=0, le=7 * 24 * 3600)] = 4 * 3600
    """When a call is forgotten. Its end does not end it: transcript and analysis come later."""
    limits: AccountLimits = AccountLimits()
    http: TalkifaiHttp = TalkifaiHttp()


class TalkifaiOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None: the two numbers are all that TalkifAI takes."""


def check_settings(settings: TalkifaiSettings, place: Place) -> None:
    """What no single value shows.

    Raises:
        Misconfigured: webhooks are neither verified nor explicitly unverified, or a dial would be given up while
            TalkifAI still waits for the callee.
    """
    check_proof(settings.webhook_secrets, allow_unverified_webhooks=settings.allow_unverified_webhooks, place=place)
    for name in ("read_timeout_seconds", "total_timeout_seconds"):
        seconds = getattr(settings.http, name)
        if seconds <= CALLEE_SECONDS:
            allowed = f"more than {CALLEE_SECONDS:g}: TalkifAI answers when the callee has, or after that"
            raise place.wrong(f"http.{name}", found=f"{seconds:g}", allowed=allowed)
