"""What a simulated jambonz account is made of: applications, keys, and how long things take on the platform.

Durations of telephony (ringing, speaking, pauses between retries) are in real seconds and divided by `speed`. The
deadline that the other side measures itself against (the answer cap) is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from bridge.demo.simulators.vendor import Port

DEMO_ACCOUNT = "9351f46a-678c-43f5-b8a6-d4eb58d131af"
DEMO_APPLICATION = "3b43e39f-4346-4218-8434-a53130e8be49"


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """One application of the portal. Without `call_hook` it is somebody else's, who says nothing: Cognigy.AI's."""

    sid: str = DEMO_APPLICATION
    call_hook: str | None = None
    call_status_hook: str | None = None
    login: tuple[str, str] | None = None
    """User and password of the hooks, for Basic auth; sent with WebSockets only."""


class JambonzSettings(Port, frozen=True, kw_only=True):
    """The account and the platform."""

    flavour: Literal["cognigy", "jambonz"] = "jambonz"
    """cognigy: takes `notifyUrl`, answers with `callid`; jambonz: refuses it, answers with `callId`."""
    token: str = "vg-token"  # noqa: S105 - the simulator's
    account_sid: str = DEMO_ACCOUNT
    webhook_secret: str = "wh_secret_demo"  # noqa: S105 - the simulator's
    number: str = "+16173333456"
    """Who is called by an inbound call."""
    applications: tuple[Application, ...] = (Application(),)
    refusals: Mapping[str, int] = {}
    """SIP statuses by number (digits, or digits and `*`) of callees who refuse: 486, 603, 503, …"""
    speed: float = 1.0
    answer_cap_seconds: float = 10.0
    """A hook that is answered later counts as not answered; not scaled (contract 6)."""
    seconds_per_character: float = 0.065
    shortest_speech_seconds: float = 0.3
    record_seconds: float = 3600.0
    """How long an ended call is known: 422 within it, 404 after (contract 5); real seconds."""
