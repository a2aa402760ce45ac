"""HMS Sovereign's words as they stand in its documentation: assistants, orders, commands, and answers to webhooks.

It promises to be as strict as the documentation reads, so that an adapter that sends something else is seen. What
becomes of a good one is left to the platform.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from bridge.demo.simulators.webhooks import Delivery

Number: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^\+[1-9][0-9]{6,14}$")]
EventName: TypeAlias = Literal["assistant-request", "status-update", "tool-calls", "end-of-call-report"]
_SPOKEN = {"xai_realtime"}
_WRITTEN = {"openai", "mistral"}


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """A message of the prompt."""

    role: str
    content: str


class Llm(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The model."""

    provider: Literal["openai", "xai", "mistral", "google", "xai_realtime", "google_realtime", "openai_live"]
    model: str | None = None
    voice: str | None = None
    temperature: float | None = None
    messages: list[Message] = []
    tools: list[dict[str, Any]] = []


class Assistant(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """An assistant, or what replaces parts of one."""

    llm_config: Llm | None = None
    stt_config: dict[str, Any] | None = None
    tts_config: dict[str, Any] | None = None
    first_message: str | None = None
    max_duration_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    autonomous_silence_handling: bool | None = None
    silence_timeout_seconds: float | None = None
    voicemail_detection: bool | dict[str, Any] | None = None
    voicemail_message: str | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = None
    webhook_events: list[EventName] | None = None
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse speech for a model that needs none."""
        provider = self.llm_config.provider if self.llm_config else ""
        if provider in _SPOKEN and (self.stt_config or self.tts_config):
            raise ValueError(f"{provider} takes neither stt_config nor tts_config")

    def check_whole(self) -> None:
        """ValueError where this is not a whole assistant."""
        if self.llm_config is None:
            raise ValueError("llm_config is required")
        if self.llm_config.provider in _WRITTEN and not (self.stt_config and self.tts_config):
            raise ValueError(f"{self.llm_config.provider} needs stt_config and tts_config")


class Order(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /calls/outbound`; the deprecated names are not taken."""

    destination: Number
    number_id: str | None = None
    assistant_id: str | None = None
    assistant: Assistant | None = None
    assistant_override: Assistant | None = None
    first_message: str | None = None

    def __post_init__(self) -> None:
        """Refuse both, neither, and half of one."""
        if (self.assistant_id is None) == (self.assistant is None):
            raise ValueError("exactly one of assistant_id and assistant is required")
        if self.assistant_override is not None and self.assistant_id is None:
            raise ValueError("assistant_override needs assistant_id")
        if self.assistant is not None:
            self.assistant.check_whole()


class _Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """A control command."""


class InjectContext(_Command, frozen=True, kw_only=True, tag="inject-context"):
    """Tell the assistant something."""

    content: str
    trigger_response: bool


class Say(_Command, frozen=True, kw_only=True, tag="say"):
    """Have it say something."""

    content: str
    end_after: bool


class EndCall(_Command, frozen=True, kw_only=True, tag="end-call"):
    """End the call."""

    message: str | None = None


class Transfer(_Command, frozen=True, kw_only=True, tag="transfer"):
    """Hand the call over."""

    destination: Annotated[str, msgspec.Meta(pattern=r"^(\+[0-9]{7,15}|sips?:\S+@\S+)$")]
    message: str | None = None


Command: TypeAlias = InjectContext | Say | EndCall | Transfer


class Choice(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The answer to `assistant-request`."""

    assistant: Assistant | None = None
    assistant_id: str | None = None
    assistant_override: Assistant | None = None
    max_duration_seconds: float | None = None
    error: str | None = None


class _Result(msgspec.Struct, forbid_unknown_fields=True):
    tool_call_id: str
    result: Any


class _Results(msgspec.Struct, forbid_unknown_fields=True):
    results: list[_Result]


def read_results(delivery: Delivery, tool_call_id: str) -> tuple[Any, str | None]:
    """What a tool's answer says, and how it breaks the contract if it does. An error where there is no answer."""
    if delivery.status is None or not delivery.body:
        return {"error": delivery.failure or f"status {delivery.status}"}, None
    try:
        found = msgspec.json.decode(delivery.body, type=_Results)
    except msgspec.DecodeError as error:
        return {"error": "unreadable"}, f"not the documented shape: {error}"
    mine = [each.result for each in found.results if each.tool_call_id == tool_call_id]
    if len(mine) != 1 or len(found.results) != 1:
        return {"error": "no result"}, f"{len(mine)} results of {len(found.results)} for this call"
    return mine[0], None


def read_choice(delivery: Delivery) -> tuple[Choice, str | None]:
    """What the answer to `assistant-request` says; nothing where there is none."""
    if delivery.status is None or not delivery.body:
        return Choice(), None
    try:
        return msgspec.json.decode(delivery.body, type=Choice), None
    except msgspec.DecodeError as error:
        return Choice(), str(error)


def name(command: Command) -> str:
    """A command's type on the wire."""
    return str(command.__struct_config__.tag)
