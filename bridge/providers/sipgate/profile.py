"""What sipgate can do, for `callbridge providers`; what it says is what the modules beside it work by."""

from __future__ import annotations

from bridge.providers.capabilities import Profile, Question
from bridge.providers.sipgate import replies
from bridge.providers.sipgate.actions import Answerable
from bridge.providers.sipgate.provider import Sipgate
from bridge.providers.sipgate.settings import LONGEST_REPLY_SECONDS, SipgateReply

PROFILE = Profile(
    title="sipgate AI Flow",
    adapter=Sipgate,
    callees=("number",),
    fields={"from": "the flow's own number"},
    id_in_answer=None,
    reference=None,
    proof="shared secret in `X-API-TOKEN`",
    questions={
        event: Question(
            usual_seconds=replies.seconds_for(SipgateReply(), event),
            longest_seconds=LONGEST_REPLY_SECONDS,
            takes=Answerable,
        )
        for event in replies.WAITING
    },
    websocket=Answerable,
)
