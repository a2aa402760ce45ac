"""What differs between the demos of the providers: the simulator, the connection, the call, and what is to be seen.

Everything else of the demo is the same for all, as it is for a producer: a command that names another connection. Adding
a provider is a simulator, a table of settings in `connections/` and an entry here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bridge.model.words import JsonObject

CONFIRMS, PRESSES_ONE, MACHINE, ANYBODY = "+4915790000687", "+4915790000688", "+4915790000691", "+4915790000700"
"""Callees of `scripts/appointment_reminder.toml`."""
TO_AGENT = "the sample agent answers, the callee presses 1"


class Mine(msgspec.Struct, frozen=True):
    """How to be the agent by hand: on this type of event, do this, as an answer or, where nothing waits, unasked."""

    event: str
    actions: str
    answers: bool = True
    number: str = ANYBODY
    """Whom to call for it."""


SPEAK = Mine("session.started", '[{"type":"speak","text":"Hello from a shell."}]')
GOODBYE = Mine("session.started", '[{"type":"speak","text":"Hello from a shell."},{"type":"hangup"}]')
"""Where a call that nobody looks after is held, it must be ended."""
HANG_UP = Mine("call.answered", '[{"type":"hangup"}]', answers=False)


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """One demo."""

    title: str
    """Who is simulated."""
    simulator: str
    """Its package below `bridge.demo.simulators`."""
    arguments: Mapping[str, str] = {}
    """By argument of the simulator: the connection's setting that it must agree with."""
    has_webhook_url: bool = True
    """The provider is told where webhooks go beforehand; else only each call says it."""
    number: str = CONFIRMS
    options: JsonObject = {}
    is_asked: bool = True
    """The provider waits for the agent's answers."""
    is_unasked: bool = False
    """The agent acts in the live call of its own accord."""
    more: tuple[str, str] = (PRESSES_ONE, TO_AGENT)
    """Whom to call next, and what happens then."""
    mine: Mine | None = SPEAK


PLAYS: Mapping[str, Play] = {
    "sipgate": Play(title="sipgate", simulator="sipgate", arguments={"--flow-id": "flow_id"}),
    "cognigy": Play(
        title="Cognigy Voice Gateway",
        simulator="jambonz",
        arguments={"--flavour": "flavour", "--account-sid": "account_sid", "--application-sid": "application_sid"},
        has_webhook_url=False,  # the application's hooks are Cognigy.AI's; we hear of the call by `notifyUrl`
        number=MACHINE,
        options={"amd": {}},
        is_asked=False,
        is_unasked=True,
        more=(CONFIRMS, "a person answers, so the sample agent lets the application talk"),
        mine=msgspec.structs.replace(HANG_UP, number=MACHINE),  # who has the patience to be hung up on
    ),
    "jambonz": Play(
        title="jambonz",
        simulator="jambonz",
        arguments={"--flavour": "flavour", "--account-sid": "account_sid"},
        has_webhook_url=False,
        mine=GOODBYE,
    ),
    "hms_sovereign": Play(
        title="HMS Sovereign",
        simulator="hms_sovereign",
        arguments={"--assistant-id": "assistant_id"},
        is_unasked=True,
        more=(ANYBODY, "the vendor's assistant talks, the sample agent tells it who is called"),
        mine=HANG_UP,
    ),
    "talkifai": Play(
        title="TalkifAI",
        simulator="talkifai",
        arguments={"--from-number": "from_number"},
        is_asked=False,
        more=(ANYBODY, "the vendor's agent talks; nothing can be done in its calls"),
        mine=None,
    ),
    "twilio": Play(
        title="Twilio",
        simulator="twilio",
        arguments={"--account-sid": "account_sid", "--number": "from"},
        has_webhook_url=False,
        mine=GOODBYE,
    ),
}
"""By the name that `callbridge demo --provider` takes."""
