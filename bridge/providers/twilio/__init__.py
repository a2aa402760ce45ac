"""Twilio Programmable Voice: dial by REST, hear by signed form webhooks, answer with TwiML (docs/contracts-twilio.md).

`settings` and `options` are what may be configured and asked for, `order` and `client` dial, `webhook` (over `form`,
`statuses` and `hooks`) believes and reads, `actions` (over `verbs` and `twiml`) and `replies` answer, `control` acts
unasked, `look_up` asks how a call stands.

No `CanFind`: a call is looked up by its own sid, which is what is missing when an outcome is unknown; a list of calls
holds nothing of ours, so none could be proven to be ours. The evidence of a call is its first webhook, whose URL has our
call id.
"""

from __future__ import annotations

from bridge.providers.protocol import ProviderKind
from bridge.providers.twilio.options import TwilioOptions
from bridge.providers.twilio.profile import PROFILE
from bridge.providers.twilio.provider import NAME, build
from bridge.providers.twilio.settings import TwilioSettings
from bridge.providers.twilio.verbs import ACTION_OPTIONS

KIND = ProviderKind(
    name=NAME,
    settings=TwilioSettings,
    options=TwilioOptions,
    action_options=ACTION_OPTIONS,
    build=build,
    profile=PROFILE,
)
