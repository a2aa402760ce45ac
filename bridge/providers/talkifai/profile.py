"""What TalkifAI can do, for `callbridge providers`: it dials and tells; nothing waits for an answer."""

from __future__ import annotations

from bridge.providers.capabilities import Profile
from bridge.providers.talkifai.provider import Talkifai
from bridge.providers.talkifai.settings import CALLEE_SECONDS

PROFILE = Profile(
    title="TalkifAI",
    adapter=Talkifai,
    callees=("number",),
    fields={"from": "one of the account's numbers"},
    dial_seconds=CALLEE_SECONDS,
    id_in_answer="room_name",
    reference=None,
    proof="HMAC in `X-TalkifAI-Signature`",
)
