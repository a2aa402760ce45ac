"""TalkifAI: dial with `POST /telephony/outbound-call`, which waits for the callee; hear events by webhook.

The answer to a dial is a result in itself (a room name, or 408: nobody answered within 60 s); the agent is chosen by
the number that calls. Nothing can be done in a live call and no webhook waits for an answer, so there is neither
`CanControl` nor `AnswersQuestions`; there is no `CanFind`, because no look-up takes a reference of ours (contract 2.2).
"""

from __future__ import annotations

from bridge.providers.protocol import ProviderKind
from bridge.providers.talkifai.profile import PROFILE
from bridge.providers.talkifai.provider import NAME, build
from bridge.providers.talkifai.settings import TalkifaiOptions, TalkifaiSettings

KIND = ProviderKind(
    name=NAME, settings=TalkifaiSettings, options=TalkifaiOptions, action_options={}, build=build, profile=PROFILE
)
