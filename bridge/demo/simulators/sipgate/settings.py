"""What a simulated sipgate account is made of: flows, tokens, and how long things take on the platform.

Durations of telephony (ringing, speaking, reacting) are in real seconds and divided by `speed`. Deadlines that the
other side measures itself against (the answer cap, delays in faults) are not.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bridge.demo.simulators.vendor import Port

DEMO_FLOW = "7b0f0c52-2f0e-4a57-9c0f-1d6f3e1a9b10"
DEMO_NUMBER = "49211700010"


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One AI flow as configured in the vendor's dashboard."""

    id: str = DEMO_FLOW
    phone_number: str | None = DEMO_NUMBER
    """The caller's number; without one the flow can't place calls (400)."""
    webhook_url: str | None = None
    """None: nobody is told anything. May be set later by `point_webhooks_at`."""
    webhook_secret: str | None = None


class SipgateSettings(Port, frozen=True, kw_only=True):
    """The account and the platform."""

    token: str = "sg-token"  # noqa: S105 - the simulator's
    account_id: str = "acc-4410"
    flows: tuple[Flow, ...] = (Flow(),)
    speed: float = 1.0
    answer_cap_seconds: float = 4.0
    """A webhook that is answered later counts as not answered; not scaled."""
    seconds_per_character: float = 0.065
    shortest_speech_seconds: float = 0.3
    hangup_waits_for_speech: bool = True
    """`[speak, hangup]`: whether the words are heard before the line goes; the vendor does not say."""
    announces_speech: bool = True
    """Whether `assistant_speak` is sent; for some voices it is not."""
    later_sessions: Literal["full", "usual", "id"] = "usual"
    """What `session` holds after `session_start`: all, all but the two numbers, or the id alone."""
    unanswered: Literal["go_on", "hang_up"] = "go_on"
    """What a call does when a webhook was not answered in time; the vendor's pages disagree."""
