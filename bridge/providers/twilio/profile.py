"""What Twilio can do, for `callbridge providers`; the modules beside it work by the same."""

from __future__ import annotations

from bridge.providers.capabilities import Profile, Question
from bridge.providers.twilio.actions import Answerable
from bridge.providers.twilio.control import Controllable
from bridge.providers.twilio.provider import Twilio
from bridge.providers.twilio.settings import LONGEST_REPLY_SECONDS, TwilioReply
from bridge.providers.twilio.statuses import WAITING

PROFILE = Profile(
    title="Twilio Programmable Voice",
    adapter=Twilio,
    callees=("number", "sip"),
    fields={
        "from": "a number of the account's; `client:NAME` or a SIP URI to a SIP URI",
        "ring_timeout_seconds": "whole seconds",
    },
    id_in_answer="sid",
    reference="in the path of each webhook's URL",
    proof="HMAC in `X-Twilio-Signature` over URL and parameters, without a time",
    questions=dict.fromkeys(
        WAITING,
        Question(
            usual_seconds=TwilioReply().deadline_seconds,
            longest_seconds=LONGEST_REPLY_SECONDS,
            takes=Answerable,
        ),
    ),
    controls=Controllable,
)
