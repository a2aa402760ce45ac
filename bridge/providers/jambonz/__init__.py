"""jambonz, and Cognigy Voice Gateway, which is built on it: dial by REST, hear by signed webhooks, answer with verbs.

One adapter for two flavours of one wire (contract 1): `flavour` in the settings says which fields a dial may have.
`settings` and `options` are what may be configured and asked for, `body` and `client` dial, `webhook` (over
`statuses` and `hooks`) believes and reads, `actions` (over `verbs`) and `replies` answer, `control` acts unasked, and
`dialogue` is the same over its WebSocket API.

No `CanFind`: lists and look-ups of calls hold no tag and no time (contract 4), and a call to the same number may be
somebody else's, so nothing found would be proof. The evidence of a call is its `trying` webhook, which carries our tag.
"""

from __future__ import annotations

from bridge.providers.jambonz.options import JambonzOptions
from bridge.providers.jambonz.profile import PROFILE
from bridge.providers.jambonz.provider import NAME, build
from bridge.providers.jambonz.settings import JambonzSettings
from bridge.providers.jambonz.verbs import ACTION_OPTIONS
from bridge.providers.protocol import ProviderKind

KIND = ProviderKind(
    name=NAME,
    settings=JambonzSettings,
    options=JambonzOptions,
    action_options=ACTION_OPTIONS,
    build=build,
    profile=PROFILE,
)
