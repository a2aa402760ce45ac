"""What a simulated Twilio account is made of: credentials, a number, and how long things take on the platform.

Durations of telephony (ringing, speaking, pauses between retries) are in real seconds and divided by `speed`. The
deadline that the other side measures itself against (the answer cap) is not.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.demo.simulators.vendor import Port

DEMO_ACCOUNT = "AC00000000000000000000000000000000"
DEMO_NUMBER = "+14155550100"


class TwilioSettings(Port, frozen=True, kw_only=True):
    """The account and the platform."""

    account_sid: str = DEMO_ACCOUNT
    user: str | None = None
    """Who asks by Basic: the sid of an API key; without one the account."""
    token: str = "tw-token"  # noqa: S105 - the simulator's
    webhook_secret: str = "tw-auth-token"  # noqa: S105 - the simulator's
    """The account's auth token, which signs webhooks; on the platform it is `token` too, unless an API key asks."""
    number: str = DEMO_NUMBER
    """The account's: who may call, and who is called by an inbound call."""
    voice_url: str | None = None
    status_callback: str | None = None
    """Of the number, for inbound calls."""
    signs_fragment: bool = False
    """Whether a URL is signed with its connection overrides; the vendor does not say."""
    refusals: Mapping[str, int] = {}
    """SIP statuses by number (digits, or digits and `*`) of callees who refuse: 486, 603, 503, …"""
    speed: float = 1.0
    answer_cap_seconds: float = 15.0
    """A webhook that is answered later counts as not answered; not scaled (contract 6)."""
    retry_seconds: float = 0.5
    """Between the tries of a webhook whose URL asks for more than one; the vendor does not say."""
    seconds_per_character: float = 0.065
    shortest_speech_seconds: float = 0.3
    detection_seconds: float = 2.4
    """How long answering machine detection takes."""
