"""What a simulated TalkifAI account is made of: numbers with their agents, and how long things take.

Durations of telephony and the pauses before a webhook is repeated are in real seconds and divided by `speed`. The time
that the other side has for an answer to a webhook is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from bridge.demo.simulators.vendor import Port

DEMO_NUMBER = "+12025550177"


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """The outbound agent of a number."""

    id: str = "agent_q7"
    name: str = "Reminders"
    speaks: bool = True
    """False: a text-only agent, which cannot call (400)."""


class TalkifaiSettings(Port, frozen=True, kw_only=True):
    """The account and the platform."""

    token: str = "tf-key"  # noqa: S105 - the simulator's
    auth: Literal["bearer", "x-api-key", "either"] = "either"
    numbers: Mapping[str, Agent] = msgspec.field(default_factory=lambda: {DEMO_NUMBER: Agent()})
    """The account's numbers; a call from another is 404."""
    webhook_url: str | None = None
    """The account's. May be set later by `point_webhooks_at`."""
    webhook_secret: str | None = None
    """None: webhooks are not signed."""
    envelopes: tuple[Literal["account", "agent"], ...] = ("account",)
    """Which webhooks are set up; with both, each event of a call is told twice."""
    signs_agent_events: bool = False
    """'Coming soon', the vendor says."""
    speed: float = 1.0
    ring_limit_seconds: float = 60.0
    """After this nobody has answered: 408."""
    tells_no_answer: bool = False
    """Whether a 408 is also told by `call.failed`; the vendor does not say."""
    account_cap_seconds: float = 10.0
    agent_cap_seconds: float = 5.0
    retries_seconds: tuple[float, ...] = (30.0, 300.0, 1800.0)
    """Pauses before an account's webhook that was not answered with exactly 200 is sent again, with the same id."""
    seconds_per_character: float = 0.065
