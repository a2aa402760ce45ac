"""What a simulated HMS Sovereign account is made of: assistants, numbers, tools, and how long things take.

Durations of telephony (ringing, speaking, reacting) are in real seconds and divided by `speed`. Deadlines that the
other side measures itself against (answers to webhooks, the window of the rate limit) are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from bridge.demo.simulators.vendor import Port

DEMO_ASSISTANT = "17a0cb75-fa09-4bdd-9a44-92a70d829c88"
DEMO_NUMBER_ID = "5d3f6a20-5b0e-4e0d-9a55-0f3b4d5c6e70"


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool of the assistant's: called when the callee says the word."""

    word: str
    name: str
    arguments: Mapping[str, object] = {}


class HmsSettings(Port, frozen=True, kw_only=True):
    """The account and the platform."""

    token: str = "fl_live_demo"  # noqa: S105 - the simulator's
    webhook_url: str | None = None
    """The account's; a call may have its own. May be set later by `point_webhooks_at`."""
    webhook_secret: str | None = None
    """The account's; a call may have its own. None: webhooks are not signed."""
    assistants: Mapping[str, Mapping[str, object]] = msgspec.field(
        default_factory=lambda: {DEMO_ASSISTANT: {"first_message": "Hello, this is the clinic."}}
    )
    """Saved assistants by id."""
    numbers: Mapping[str, str] = msgspec.field(default_factory=lambda: {DEMO_NUMBER_ID: "+31850001122"})
    """The account's numbers by id."""
    tools: tuple[Tool, ...] = (Tool(word="tuesday", name="find_slot", arguments={"day": "Tue"}),)
    speed: float = 1.0
    tool_cap_seconds: float = 10.0
    assistant_cap_seconds: float = 5.0
    answer_cap_seconds: float = 10.0
    """For webhooks whose answer is not used; the vendor says nothing about it."""
    commands_a_minute: int = 10
    """To each live call."""
    seconds_per_character: float = 0.065
    same_ids: bool = False
    """Whether the `call_id` that the dial gives is also `call.id` of the webhooks: the vendor's samples differ."""
    unanswered: Literal["silent", "ended-with-error"] = "silent"
    """What is told of a call that nobody takes; the vendor does not say."""
