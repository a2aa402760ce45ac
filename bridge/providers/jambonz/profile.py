"""What jambonz and Cognigy Voice Gateway can do, for `callbridge providers`; the modules beside it work by the same."""

from __future__ import annotations

from bridge.providers.capabilities import Profile, Question
from bridge.providers.jambonz.actions import Answerable
from bridge.providers.jambonz.control import Controllable
from bridge.providers.jambonz.provider import Jambonz
from bridge.providers.jambonz.settings import LONGEST_REPLY_SECONDS, JambonzReply
from bridge.providers.jambonz.statuses import WAITING

PROFILE = Profile(
    title="jambonz; Cognigy Voice Gateway, as `flavour`",
    adapter=Jambonz,
    callees=("number", "sip", "sip user", "teams"),
    fields={"from": "a number, or a SIP user", "ring_timeout_seconds": "whole seconds"},
    id_in_answer="sid",
    reference="`tag`, which comes back as `customerData`",
    proof="HMAC in `Jambonz-Signature`, at most 300 s old; of a WebSocket Basic auth",
    questions=dict.fromkeys(
        WAITING,
        Question(
            usual_seconds=JambonzReply().deadline_seconds,
            longest_seconds=LONGEST_REPLY_SECONDS,
            takes=Answerable,
        ),
    ),
    controls=Controllable,
    websocket=Answerable,
)
