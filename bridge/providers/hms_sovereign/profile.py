"""What HMS Sovereign can do, for `callbridge providers`; what it says is what the modules beside it work by."""

from __future__ import annotations

from bridge.model.actions import Configure, ToolResult
from bridge.providers.capabilities import Profile, Question
from bridge.providers.hms_sovereign.control import Controllable
from bridge.providers.hms_sovereign.provider import HmsSovereign
from bridge.providers.hms_sovereign.settings import (
    ASSISTANT,
    ASSISTANT_REPLY_SECONDS,
    LONGEST_REPLY_SECONDS,
    TOOLS,
    HmsReply,
)

PROFILE = Profile(
    title="HMS Sovereign (VoiceDock)",
    adapter=HmsSovereign,
    callees=("number",),
    id_in_answer="call_id",
    reference="the assistant's `metadata`, and the path of each call's `webhook_url`",
    proof="HMAC in `X-Webhook-Signature`, at most 300 s old",
    questions={
        TOOLS: Question(
            usual_seconds=HmsReply().deadline_seconds, longest_seconds=LONGEST_REPLY_SECONDS[TOOLS], takes=ToolResult
        ),
        ASSISTANT: Question(
            usual_seconds=ASSISTANT_REPLY_SECONDS, longest_seconds=LONGEST_REPLY_SECONDS[ASSISTANT], takes=Configure
        ),
    },
    controls=Controllable,
)
