"""What an operator configures for one account of jambonz or Cognigy Voice Gateway.

Shapes and single values are checked where the file is decoded; what depends on several values, on secrets or on the
rendering of actions is checked when the connection is built, so that every mistake ends the start and none a call.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.providers.settings import (
    AccountLimits,
    HttpSettings,
    Place,
    ReplySettings,
    SecondsOrZero,
    check_caller,
    check_deadlines,
    check_proof,
)
from bridge.runtime.secrets import SecretSource

LONGEST_REPLY_SECONDS = 9.5
"""jambonz gives a hook 10 s for its answer's headers (`JAMBONES_HTTP_TIMEOUT`, contract 6); the rest is for the net."""

LONGEST_ACKNOWLEDGEMENT_SECONDS = 4.5
"""Over a WebSocket it gives 5 s (`JAMBONES_WS_API_MSG_RESPONSE_TIMEOUT`, contract 10)."""

Flavour: TypeAlias = Literal["cognigy", "jambonz"]
Sid: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$", description="a UUID, as the portal shows it"
    ),
]
Caller: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"""^[^\s@<>"]{1,256}$""", description="user part of the SIP From: a number in E.164 form, or a name"
    ),
]
Word: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
WebUrl: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?$", max_length=1024, description="http(s), no query")
]


class JambonzReply(ReplySettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long consumers may take to answer a hook; more than 9.5 s is refused at start.

    Without actions in `fallback` the call is held: a pause of `hold_seconds`, and then the question again.
    """

    deadline_seconds: SecondsOrZero = 8.0


class Speech(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Voice and understanding of a call without an application (contract 3.1: all five are needed)."""

    synthesis_vendor: Word
    synthesis_voice: Word
    synthesis_language: Word
    recognizer_vendor: Word
    recognizer_language: Word


class JambonzWebSocket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Its WebSocket API: hooks that begin with `wss://`. A socket is proven by Basic auth, which its hook has to carry.

    jambonz gives an acknowledgement 5 s (contract 10), so questions wait for at most 4.5 s, whatever `reply` says.
    """

    passwords: Annotated[list[SecretSource], msgspec.Meta(min_length=1)]
    """Each is accepted; the first goes into the hooks of the calls that we place."""
    username: Annotated[str, msgspec.Meta(pattern=r"^[^\s:]{1,64}$")] = "callbridge"
    dial: bool = False
    """Calls that we place without an application use it."""


class JambonzSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account. `flavour` says whose api server it is: a field that the other one has ends a dial in an opaque 500."""

    flavour: Flavour
    base_url: str
    """Where the REST API is, with its path and without `/v1`: `https://jambonz.example/api` (contract 2)."""
    account_sid: Sid
    token: SecretSource
    public_webhook_url: WebUrl
    """Where the provider reaches us: `https://gateway.example/webhooks/NAME`, with this connection's name."""
    from_: Caller = msgspec.field(name="from")
    """Who calls, unless a command says so."""
    application_sid: Sid | None = None
    """Whose hooks and voice a call has, unless a command says so. Cognigy needs one; jambonz can do without."""
    speech: Speech | None = None
    """Only for jambonz without `application_sid`."""
    webhook_secrets: list[SecretSource] = []
    """Each may sign webhooks, whole with `wh_secret_`: to rotate, add the new one, change the account, remove the old."""
    allow_unverified_webhooks: bool = False
    """Believe every webhook; only without `webhook_secrets`. That Cognigy signs what it posts to `notifyUrl` is assumed."""
    match_window_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 900
    """How long after dialling a webhook may be the first to carry our reference; it is of this call alone, so be generous."""
    session_ttl_seconds: Annotated[float, msgspec.Meta(gt=0, le=7 * 24 * 3600)] = 12 * 3600
    """When a session without an end is forgotten: a lost status is lost. jambonz keeps its records as long (contract 4)."""
    hold_seconds: Annotated[int, msgspec.Meta(ge=1, le=60)] = 1
    """How long a call is held before its question is asked again."""
    redirected_seconds: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_REPLY_SECONDS)] = 1.0
    """Cognigy: how long a call that a live action has sent to our hook waits there, for that action and the consumer."""
    websocket: JambonzWebSocket | None = None
    limits: AccountLimits = AccountLimits()
    http: HttpSettings = HttpSettings()
    reply: JambonzReply = JambonzReply()


def check_settings(settings: JambonzSettings, place: Place) -> None:
    """What no single value shows.

    Raises:
        Misconfigured: webhooks are neither verified nor explicitly unverified, a deadline is beyond the provider's,
            application and speech do not fit the flavour, or the caller's number cannot exist.
    """
    check_proof(settings.webhook_secrets, allow_unverified_webhooks=settings.allow_unverified_webhooks, place=place)
    if settings.speech is not None and (settings.flavour == "cognigy" or settings.application_sid is not None):
        allowed = "nothing: an application brings its own, and Cognigy always has one"
        raise place.wrong("speech", found="a table", allowed=allowed)
    if settings.websocket is not None and settings.websocket.dial and settings.application_sid is not None:
        allowed = "false: an application brings its own hooks"
        raise place.wrong("websocket.dial", found="true", allowed=allowed)
    check_caller(settings.from_, place)
    allowed = f"0 to {LONGEST_REPLY_SECONDS} (jambonz waits 10 s)"
    check_deadlines(settings.reply, place, longest_seconds=LONGEST_REPLY_SECONDS, allowed=allowed)
