"""What a command and an action may ask of HMS Sovereign: assistants by reference, whole, or both.

Pages: https://doc.hmsovereign.com/docs/ (createOutboundCall) and the types of its SDK (contract 3.1 and 3.3). Fields
are those that the contract names; a block of which it says no more than its name is a free object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import msgspec

from bridge.model.words import JsonObject
from bridge.providers.hms_sovereign.settings import EventName, Id

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Words: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]
Prompt: TypeAlias = Annotated[str, msgspec.Meta(max_length=100_000)]
WholeSeconds: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=24 * 3600)]
SilenceSeconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=3600)]

OF_OUR_REFERENCE = frozenset({"call_id", "command_id"})
"""Keys of an assistant's metadata that are ours; the others are the user's and stay as they are."""
RENAMED: Mapping[str, str] = {
    "agent_id": "assistant_id",
    "agent": "assistant",
    "agent_config": "assistant_override",
}
"""Names that HMS Sovereign has deprecated (seed 003)."""
_WITHOUT_SPEECH = frozenset({"xai_realtime"})
_WITH_SPEECH = frozenset({"openai", "mistral"})


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a request that stands in our `options` as it does on the wire."""


class Message(_Part, frozen=True, kw_only=True):
    """One message of a prompt."""

    role: Name
    content: Prompt


class Llm(_Part, frozen=True, kw_only=True):
    """The model. `provider`: `openai`, `xai`, `mistral`, `google`, `xai_realtime`, `google_realtime`, `openai_live`."""

    provider: Name
    model: Name | None = None
    voice: Name | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None
    messages: list[Message] | None = None
    tools: list[JsonObject] | None = None


class Override(_Part, frozen=True, kw_only=True):
    """What replaces, block by block, parts of a saved assistant. Webhook and secret are the connection's settings."""

    llm_config: Llm | None = None
    stt_config: JsonObject | None = None
    tts_config: JsonObject | None = None
    first_message: Words | None = None
    max_duration_seconds: WholeSeconds | None = None
    autonomous_silence_handling: bool | None = None
    silence_timeout_seconds: SilenceSeconds | None = None
    voicemail_detection: bool | JsonObject | None = None
    voicemail_message: Words | None = None
    metadata: JsonObject | None = None

    def __post_init__(self) -> None:
        if taken := OF_OUR_REFERENCE & (self.metadata or {}).keys():
            raise ValueError(f"metadata without {' and '.join(sorted(taken))}, which the bridge sets")
        if self._provider in _WITHOUT_SPEECH and (self.stt_config is not None or self.tts_config is not None):
            raise ValueError(f"no stt_config and no tts_config: {self._provider} hears and speaks by itself")

    @property
    def _provider(self) -> str:
        return "" if self.llm_config is None else self.llm_config.provider


class Assistant(Override, frozen=True, kw_only=True):
    """A whole assistant, for one call."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.llm_config is None:
            raise ValueError("an assistant with llm_config")
        if self._provider in _WITH_SPEECH and (self.stt_config is None or self.tts_config is None):
            raise ValueError(f"stt_config and tts_config, both: {self._provider} only writes")


class HmsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one command asks for: which assistant talks, and which number (`number_id`) calls.

    A saved assistant (`assistant_id`, else the connection's), changed by `assistant_override` where wanted, or a whole
    `assistant`. `webhook_events`: what this call is to tell us, in place of the connection's.
    """

    assistant_id: Id | None = None
    assistant: Assistant | None = None
    assistant_override: Override | None = None
    number_id: Id | None = None
    first_message: Words | None = None
    webhook_events: Annotated[tuple[EventName, ...], msgspec.Meta(min_length=1, max_length=16)] | None = None

    def __post_init__(self) -> None:
        if self.assistant is not None and self.assistant_id is not None:
            raise ValueError("exactly one of assistant_id and assistant")
        if self.assistant is not None and self.assistant_override is not None:
            raise ValueError("assistant_override only with assistant_id")


class ConfigureOptions(_Part, frozen=True, kw_only=True):
    """Who takes an inbound call: exactly one of `assistant`, `assistant_id`, `max_duration_seconds` and `error`.

    `assistant_override` may go with `assistant_id`; `error` rejects the call and is spoken.
    """

    assistant: Assistant | None = None
    assistant_id: Id | None = None
    assistant_override: Override | None = None
    max_duration_seconds: WholeSeconds | None = None
    error: Words | None = None

    def __post_init__(self) -> None:
        ways = (self.assistant, self.assistant_id, self.max_duration_seconds, self.error)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("exactly one of assistant, assistant_id, max_duration_seconds and error")
        if self.assistant_override is not None and self.assistant_id is None:
            raise ValueError("assistant_override only with assistant_id")


class SpeakOptions(_Part, frozen=True, kw_only=True):
    """`end_after`: hang up behind the words."""

    end_after: bool = False


class InjectOptions(_Part, frozen=True, kw_only=True):
    """`trigger_response`: have the assistant answer at once."""

    trigger_response: bool = False


class LastWords(_Part, frozen=True, kw_only=True):
    """`message`: what is said before the call ends or is handed over."""

    message: Words | None = None


class NoOptions(_Part, frozen=True, kw_only=True):
    """For actions that take none."""


ACTION_OPTIONS: Mapping[str, type[msgspec.Struct]] = {
    "configure": ConfigureOptions,
    "speak": SpeakOptions,
    "inject_context": InjectOptions,
    "hangup": LastWords,
    "transfer": LastWords,
}
"""By our action type; the others take no options."""
