"""What one command may ask of Twilio beyond the common fields: the allow-list of the contract's section 3.

Twilio ignores parameters that it does not know, so a misspelt one would be lost in silence; here it is an error. Names
are ours, in snake case; `order` writes them as the wire does. What would lead webhooks past us is not here:
`ApplicationSid` (which overrules URLs), `StatusCallback`, methods.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from bridge.providers.twilio.settings import Word
from bridge.providers.twilio.verbs import Keys, Part


class Amd(Part, frozen=True, kw_only=True):
    """Tell man from machine; the verdict comes as `call.amd` (contract 8).

    `mode` `detect_message_end` waits for the end of a machine's greeting. Unless `blocks_call`, the call goes on
    meanwhile.
    """

    mode: Literal["enable", "detect_message_end"] = "enable"
    blocks_call: bool = False
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=120)] | None = None
    speech_threshold_ms: Annotated[int, msgspec.Meta(ge=1000, le=6000)] | None = None
    speech_end_threshold_ms: Annotated[int, msgspec.Meta(ge=500, le=5000)] | None = None
    silence_timeout_ms: Annotated[int, msgspec.Meta(ge=2000, le=10_000)] | None = None


class Recording(Part, frozen=True, kw_only=True):
    """Record the call; where the recording is comes as `call.report`."""

    channels: Literal["mono", "dual"] | None = None
    track: Literal["inbound", "outbound", "both"] | None = None
    trim: Literal["trim-silence", "do-not-trim"] | None = None


class TwilioOptions(Part, frozen=True, kw_only=True):
    """Options of a `call.place`.

    `twiml` is done when the call is answered in place of asking us (at most 4,000 characters); `url` asks somebody else.
    With either there is no `session.started`. `send_digits` and `amd` exclude each other.
    """

    twiml: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)] | None = None
    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s]+$", max_length=2048)] | None = None
    time_limit_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    send_digits: Keys | None = None
    caller_id: Word | None = None
    call_reason: Annotated[str, msgspec.Meta(min_length=1, max_length=50)] | None = None
    byoc: Annotated[str, msgspec.Meta(pattern=r"^BY[0-9a-fA-F]{32}$")] | None = None
    amd: Amd | None = None
    record: Recording | None = None
