"""For consumers: hear what happens in calls, answer, act unasked, place calls, and learn what became of it all.

    calls.events ─▶ `Agent` ─▶ handler(`Heard`) ─▶ calls.actions        calls.action-results ─▶ `Sent.result`
                                `Client.place` ─▶ calls.commands                calls.results ─▶ `Sent.result`

It sits on `bridge.bus` and `bridge.model` and knows nothing else of the bridge. Invariants: one session's events are
handled one after the other; an offset is committed only when everything before it was handled; everything written has
the key its reader relies on. docs/client.md begins at the beginning.
"""

from bridge.bus.kafka.settings import KafkaSettings
from bridge.client.agent import Agent
from bridge.client.awaited import NotYet
from bridge.client.client import Client, connected
from bridge.client.heard import Heard
from bridge.client.program import serve
from bridge.client.sent import Sent
from bridge.client.settings import ClientSettings, Hearing, TopicNames, at, read_settings
from bridge.model.actions import (
    Action,
    ActionResult,
    Configure,
    Hangup,
    InjectContext,
    Interrupt,
    Play,
    RawAction,
    SendDtmf,
    SendSms,
    Speak,
    ToolResult,
    Transfer,
)
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.errors import Broken, Misconfigured, Poison, Unavailable
from bridge.model.events import (
    AssistantFinished,
    AssistantRequested,
    AssistantSpeaking,
    CallAmd,
    CallAnswered,
    CallEnded,
    CallReport,
    CallRinging,
    CallTrying,
    Event,
    OtherEvent,
    SessionEnded,
    SessionStarted,
    SmsFailed,
    ToolRequested,
    UserDtmf,
    UserSilent,
    UserSpeechStarted,
    UserSpoke,
    VerbFinished,
)
from bridge.model.results import CallCancelled, CallExpired, CallInitiated, CallRefused, CallUnknown, Result

__all__ = [
    "Action",
    "ActionResult",
    "Agent",
    "AssistantFinished",
    "AssistantRequested",
    "AssistantSpeaking",
    "Broken",
    "CallAmd",
    "CallAnswered",
    "CallCancelled",
    "CallEnded",
    "CallExpired",
    "CallInitiated",
    "CallRefused",
    "CallReport",
    "CallRinging",
    "CallTrying",
    "CallUnknown",
    "CancelCall",
    "Client",
    "ClientSettings",
    "Configure",
    "Event",
    "Hangup",
    "Heard",
    "Hearing",
    "InjectContext",
    "Interrupt",
    "KafkaSettings",
    "Misconfigured",
    "NotYet",
    "OtherEvent",
    "PlaceCall",
    "Play",
    "Poison",
    "RawAction",
    "Result",
    "SendDtmf",
    "SendSms",
    "Sent",
    "SessionEnded",
    "SessionStarted",
    "SmsFailed",
    "Speak",
    "ToolRequested",
    "ToolResult",
    "TopicNames",
    "Transfer",
    "Unavailable",
    "UserDtmf",
    "UserSilent",
    "UserSpeechStarted",
    "UserSpoke",
    "VerbFinished",
    "at",
    "connected",
    "read_settings",
    "serve",
]
