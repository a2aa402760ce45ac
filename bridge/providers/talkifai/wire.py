"""TalkifAI's webhooks as they come: two envelopes, of the account and of an agent, made one.

The account's has `id`, `type`, `created` and `data`; an agent's has `event`, `timestamp` and `data`, and no id
(contract 2.3). Only what an event cannot be forwarded without is typed, and unknown fields are welcome.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from bridge.model.errors import Poison
from bridge.model.scrub import describe
from bridge.model.words import AnyJson, JsonObject, SessionId
from bridge.providers.values import text_of

ACCOUNT_SESSION = "account"
"""The session of events that belong to no call, such as `credit.low`."""
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_LONGEST_EVENT_ID = 256


class WireEnvelope(msgspec.Struct, frozen=True):
    """Either of the two."""

    data: JsonObject
    type: _Name | None = None
    event: _Name | None = None
    id: AnyJson = None
    created: AnyJson = None
    timestamp: AnyJson = None

    @property
    def name(self) -> str:
        """The event's name in either envelope.

        Raises:
            Poison: neither has one.
        """
        found = self.type or self.event
        if found is None:
            raise Poison("$.type", found="nothing", allowed="the name of an event, here or in $.event")
        return found

    @property
    def is_of_agent(self) -> bool:
        """Whether this is an agent's envelope."""
        return self.type is None

    @property
    def event_id(self) -> str | None:
        """The account's envelope has one, which its retries repeat."""
        text = None if self.is_of_agent else text_of(self.id)
        return text if text is not None and len(text) <= _LONGEST_EVENT_ID else None

    @property
    def moment(self) -> str | None:
        """When it happened, as it is written."""
        return text_of(self.timestamp if self.is_of_agent else self.created)

    def session(self, *, required: bool) -> str:
        """`callId`, else the room's name, else the account.

        Raises:
            Poison: `required`, and there is no `callId` that could be one.
        """
        for name in ("callId", "roomName"):
            value = self.data.get(name)
            if _is_session(value):
                return str(value)
            if required and name == "callId":
                raise Poison("$.data.callId", found=describe(value), allowed="an id without white space and /")
        return ACCOUNT_SESSION

    @property
    def room(self) -> str | None:
        """The name that the answer to the dial gave; agents' envelopes carry it."""
        value = self.data.get("roomName")
        return str(value) if _is_session(value) else None


def _is_session(value: object) -> bool:
    try:
        msgspec.convert(value, SessionId)
    except msgspec.ValidationError:
        return False
    return True
