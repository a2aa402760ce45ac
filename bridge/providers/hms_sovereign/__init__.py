"""HMS Sovereign (VoiceDock): dial with `POST /calls/outbound`, hear events by webhook, answer its tools, steer live calls.

The answer to a dial has a `call_id`, and our own reference comes back in the assistant's metadata and in the webhook's
path, so a call is recognised without guessing. `settings` and `options` are what may be configured and asked for,
`client` dials, `control` acts in live calls, `webhook` believes and reads, `answers` replies, `translate` holds the tables.

There is no `CanFind`: `GET /calls` lists calls without metadata (contract 3.2), so none could be proven to be ours, and
`GET /calls/{id}` wants the very id that is missing when an outcome is unknown: it only serves `CanLookUp`, for calls that
have fallen silent. A webhook with our reference settles what is unknown.
"""

from __future__ import annotations

from bridge.providers.hms_sovereign.options import ACTION_OPTIONS, HmsOptions
from bridge.providers.hms_sovereign.profile import PROFILE
from bridge.providers.hms_sovereign.provider import NAME, build
from bridge.providers.hms_sovereign.settings import HmsSettings
from bridge.providers.protocol import ProviderKind

KIND = ProviderKind(
    name=NAME, settings=HmsSettings, options=HmsOptions, action_options=ACTION_OPTIONS, build=build, profile=PROFILE
)
