"""sipgate AI Flow: dial with `POST /v3/ai-flows/{flow}/call`, hear events by webhook, act in their answers.

The answer to a dial carries no id, so a call is recognised by the callee of the session that begins; a call that
nobody answers is silent. `settings` is what is configured, `client` dials, `webhook` believes and reads, `actions`
(over `verbs`) answers, `dialogue` is the same over a WebSocket, `translate` holds the tables, `provider` puts all of it
behind `bridge.providers.protocol`.
"""

from __future__ import annotations

from bridge.providers.protocol import ProviderKind
from bridge.providers.sipgate.profile import PROFILE
from bridge.providers.sipgate.provider import NAME, build
from bridge.providers.sipgate.settings import SipgateOptions, SipgateSettings
from bridge.providers.sipgate.verbs import ACTION_OPTIONS

KIND = ProviderKind(
    name=NAME,
    settings=SipgateSettings,
    options=SipgateOptions,
    action_options=ACTION_OPTIONS,
    build=build,
    profile=PROFILE,
)
