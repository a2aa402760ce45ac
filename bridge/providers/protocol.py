"""What a voice provider must be able to do, and what it may be able to do.

The mandatory part is small: check a command before any effect, dial once, verify and parse its webhooks. Everything
else is a capability of one or two methods that the flows ask for with `isinstance`: never a flag, never a method that
raises NotImplementedError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from datetime import datetime
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from bridge.model.actions import Action
from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison
from bridge.model.events import Ended, Event
from bridge.model.outcome import Outcome, Refused
from bridge.providers.capabilities import Profile
from bridge.providers.settings import AccountLimits

on_sent: ContextVar[Callable[[], None]] = ContextVar("on_sent", default=lambda: None)
"""Called by the HTTP client when a request of this context has been written whole. An account's pace counts from then:
on a busy machine a request leaves tens of milliseconds after it was begun."""


class Plan(msgspec.Struct, frozen=True):
    """A checked command: everything `dial` needs, decided before any effect.

    `known_by` holds the names by which a webhook may refer to this call before the provider has given it an id, such
    as `callee/+49301234567`; they are written to the index before the request leaves.
    """

    command: PlaceCall
    call_id: str
    known_by: tuple[str, ...]
    request: object
    """The adapter's own, opaque to others."""


class Webhook(msgspec.Struct, frozen=True):
    """A request as it came in, not yet believed. Header names are lower case."""

    connection: str
    method: str
    path: str
    """What follows `/webhooks/{connection}`, without query; empty or beginning with `/`."""
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    received_at: datetime


class Verified(msgspec.Struct, frozen=True):
    """A webhook whose proof was checked. Only `Provider.verify` makes one; `parse` takes nothing else."""

    webhook: Webhook


class NotThisWay(Poison):
    """An action that the provider takes as the answer to a question, but not in a live call; nothing was sent."""


class Rejected(Exception):
    """The provider refused a control command; the message is scrubbed and goes into the action result."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a webhook says, in our vocabulary; the flow adds what only it knows and publishes it."""

    session: str
    kind: Callable[..., Event]
    """The event's class (`bridge.model.events.UserSpoke`, …)."""
    data: msgspec.Struct
    raw: bytes
    """The JSON of this event, as it came."""
    provider_type: str
    """The provider's own name of the event."""
    event_id: str | None = None
    """The provider's id of the event, where it has one that survives its retries."""
    occurred_at: datetime | None = None
    known_by: tuple[str, ...] = ()
    """Names under which the index may know the command of this call (see `Plan.known_by`)."""
    waits: bool = False
    """The provider waits for an answer to this one."""
    starts_session: bool = False
    ends_session: bool = False

    @property
    def event_type(self) -> str:
        """Our type of the event, such as `user.spoke`; empty where `kind` is no event's class."""
        config = getattr(self.kind, "__struct_config__", None)
        return "" if config is None else str(config.tag)


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"


class Provider(Protocol):
    """One connection to one provider: an account with its credentials and settings."""

    @property
    def name(self) -> str:
        """The provider's name in the configuration, such as `sipgate`."""
        ...

    @property
    def match_window_seconds(self) -> float:
        """How long after a dial a webhook that names only the callee is taken to be of this call."""
        ...

    @property
    def late_webhook_seconds(self) -> float:
        """By how much later than what it tells of a webhook may come, because it is repeated; 0: arrival is the time.

        Names of a dial are kept for so much longer, and mean it only if `Heard.occurred_at` is within the match window.
        """
        ...

    @property
    def limits(self) -> AccountLimits:
        """What the provider grants this account."""
        ...

    @property
    def session_ttl_seconds(self) -> float:
        """When a session of which no end is heard is forgotten."""
        ...

    def check(self, command: PlaceCall, *, call_id: str) -> Plan | Refused:
        """Whether this command can be placed here; pure, and complete: what can be refused is refused now."""
        ...

    async def dial(self, plan: Plan) -> Outcome:
        """Ask the provider once to place the call. Never retries, never raises for what the provider or net does.

        Cancelled in flight, the outcome is unknown to the caller.
        """
        ...

    def verify(self, webhook: Webhook) -> Verified:
        """Check the proof on the raw bytes, in constant time, against each live secret.

        Raises:
            Unverified: no proof, or a wrong one.
        """
        ...

    def parse(self, verified: Verified) -> Sequence[Heard]:
        """What the webhook says. An unknown type of event becomes `other`.

        Raises:
            Poison: the body is not what this provider sends.
        """
        ...

    def acknowledge(self, heard: Heard) -> Answer:
        """The answer to an event that asks for nothing."""
        ...


@runtime_checkable
class CanFind(Protocol):
    """The provider can be asked what became of a call, by our reference."""

    async def find(self, call_id: str, *, since: datetime) -> Outcome:
        """What is known of the call. `Unknown` where nothing is found: that is no proof that nothing was dialled."""
        ...


class Live(msgspec.Struct, frozen=True):
    """The call goes on: it is being set up, rings, or somebody speaks."""


class Over(msgspec.Struct, frozen=True):
    """The provider says that the call has ended, how, and when (where it says when)."""

    ended: Ended
    at: datetime | None = None


class NoRecord(msgspec.Struct, frozen=True):
    """The provider knows no such call (any more), or says of it what we cannot read: no proof of anything.

    jambonz forgets a call an hour after it was answered, also one that still goes on (contract 4).
    """


Standing: TypeAlias = Live | Over | NoRecord
"""How a call stands, as its provider says."""


@runtime_checkable
class CanLookUp(Protocol):
    """The provider can be asked how a call of its own stands. The watchdog asks after long silence."""

    async def look_up(self, session: str) -> Standing:
        """How the call stands that the provider calls `session` (the id of its webhooks, or of its answer to the dial).

        One request, never retried. Changes nothing, so it may be asked as often as the provider's limits allow.

        Raises:
            Unavailable: no answer, 429, 5xx, or refused credentials; the message is scrubbed.
        """
        ...


@runtime_checkable
class CanControl(Protocol):
    """Actions can be done in a live call without being asked for."""

    async def control(self, session: str, actions: Sequence[Action]) -> None:
        """Have the actions done, in order, now. Returns when the provider has taken all of them.

        Raises:
            NotThisWay: an action that this provider takes in an answer only. Nothing was done; the provider may have
                been told to ask.
            Poison: an action this provider does not have, or with fields it would not take. Nothing was sent.
            Rejected: the provider refused (the call is over, or the limit of commands is reached).
            Unavailable: the provider did not answer; an action may or may not have been done.
        """
        ...


@runtime_checkable
class AnswersQuestions(Protocol):
    """The provider's webhooks wait for actions."""

    def answer(self, heard: Heard, actions: Sequence[Action]) -> Answer:
        """The actions in the provider's words, as the answer to this webhook. No actions: nothing to do.

        Raises:
            Poison: an action that this provider does not have, or with fields it would not take. Nothing was sent.
        """
        ...

    def reply_seconds(self, heard: Heard) -> float:
        """How long to wait for the consumer's action, counted from arrival; 0 where the answer is given at once."""
        ...

    def fallback(self, heard: Heard) -> Answer:
        """What is answered when no action came in time."""
        ...


class Spoken(Answer, frozen=True, kw_only=True):
    """An answer over a WebSocket: these text frames, in order; none says nothing."""

    status: int = 200
    frames: tuple[bytes, ...] = ()


@runtime_checkable
class Dialogue(Protocol):
    """The language of one open WebSocket. It also has the methods of `AnswersQuestions`, whose answers are `Spoken`."""

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the peer must offer; None: none is agreed on."""
        ...

    @property
    def waits(self) -> bool:
        """The provider waits for answers here: an action without a token answers the open question, if there is one.

        Otherwise such an action is said at once, and the question stays open.
        """
        ...

    def read(self, frame: bytes, *, received_at: datetime) -> Sequence[Heard]:
        """What a text frame says. It is as proven as the request that opened its socket.

        Raises:
            Poison: the frame is not what this provider sends.
        """
        ...

    def acknowledge(self, heard: Heard) -> Spoken:
        """What is said when the event is stored, if it asks for nothing."""
        ...

    def unasked(self, session: str, actions: Sequence[Action]) -> Spoken:
        """The actions, to be done now although nothing was asked.

        Raises:
            Poison: an action that this provider does not do unasked, or with fields it would not take.
        """
        ...

    def lost(self, session: str, *, code: int) -> Heard | None:
        """What the end of the socket means for a session whose end was not heard; `code` is that of the close frame."""
        ...


@runtime_checkable
class SpeaksWebSocket(Protocol):
    """The provider may come by WebSocket in place of webhooks."""

    def welcome(self, upgrade: Webhook) -> Dialogue:
        """Check the proof of the request for a socket; it has headers and no body.

        Raises:
            Unverified: no proof, or a wrong one.
        """
        ...


class ProviderKind(msgspec.Struct, frozen=True):
    """One row of the catalogue: how a kind of provider is configured, and how a connection of it is made."""

    name: str
    settings: type[msgspec.Struct]
    """Decoded strictly from `[connections.NAME]` (without `provider`)."""
    options: type[msgspec.Struct]
    """Decoded strictly from a command's `options`."""
    action_options: Mapping[str, type[msgspec.Struct]]
    """By action type: decoded strictly from an action's `options`. What is not listed takes none."""
    build: Callable[[ConnectionContext], AbstractAsyncContextManager[Provider]]
    """Open a connection: resolve secrets (`Misconfigured`), make the HTTP client, give the provider; close after."""
    profile: Profile
    """What it can do: printed by `callbridge providers`, and held to by the adapter's own code and tests."""


class ConnectionContext(msgspec.Struct, frozen=True):
    """What a connection is built from."""

    connection: str
    settings: msgspec.Struct
    config_file: str
    """For error messages: where the settings were read."""
