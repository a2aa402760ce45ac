"""No payload is dropped: every example of the contract pages and every captured body becomes an event.

Each is sent through verify, parse and the event that would be published, which is then read again as a consumer would.
`tests/payloads/<provider>/contract/` holds the pages' examples word for word, or what a page describes and gives no
example of; the captured ones lie above it. `DOCUMENTED` is the checklist: what the pages name, by the name that the
adapter reads, so that a type without a payload shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from bridge.model.events import Event, OtherEvent, event_type
from bridge.providers.catalogue import KINDS
from bridge.providers.protocol import Heard, Provider
from tests.contract.provider_suite import CONNECTION, NOW, PAYLOADS, ProviderSuite
from tests.contract.test_capabilities import suite_of

pytestmark = pytest.mark.anyio

EXAMPLES: Mapping[str, Mapping[str, str]] = {
    # contract 1.3: its composed samples
    "sipgate": {
        "session_start": "session.started",
        "user_speak": "user.spoke",
        "dtmf_received": "user.dtmf",
        "assistant_speak": "assistant.speaking",
    },
    # contract 7: its composed example; 3.4, 8: what is named there without an example, on the base fields of that one
    "jambonz": {
        "completed": "call.ended",
        "queued": "other",
        "amd_no_speech_detected": "call.amd",
        "amd_decision_timeout": "call.amd",
        "amd_machine_stopped_speaking": "call.amd",
        "amd_tone_timeout": "other",
        "gather_error": "verb.finished",
        "redirect": "verb.finished",
    },
    # contract 3.4: the sample and the test vector
    "hms_sovereign": {"tool_calls": "tool.requested", "vector": "call.ended"},
    # contract 2.3: the sample and the test vector; a type that is named without a payload
    "talkifai": {"call_ended": "call.ended", "vector": "call.ended", "credit_depleted": "other"},
    # docs/contracts-twilio.md 7: named beside `initiated`
    "twilio": {"queued": "call.trying"},
}
"""By provider and file in `contract/`: our type."""

PATHS: Mapping[str, str] = {"jambonz/redirect": "/verb/call_1", "jambonz/queued": "/status/call_1"}
"""The hook, where only the path says which it is."""

DOCUMENTED: Mapping[str, Sequence[str]] = {
    "sipgate": (  # contract 1.3
        *("session_start", "user_speech_started", "user_speak", "dtmf_received", "assistant_speak"),
        *("assistant_speech_ended", "user_input_timeout", "sms_failed", "session_end", "user_barge_in"),
    ),
    "jambonz": (  # contract 7, 3.4, 8
        *("trying", "ringing", "early-media", "in-progress", "completed", "busy", "no-answer", "failed", "queued"),
        *("amd_human_detected", "amd_machine_detected", "amd_no_speech_detected", "amd_decision_timeout"),
        *("amd_machine_stopped_speaking", "amd_stopped", "amd_tone_detected", "amd_error", "amd_tone_timeout"),
        *("call_hook", "gather", "dial", "sip:refer", "verb"),
    ),
    "hms_sovereign": ("assistant-request", "status-update", "tool-calls", "end-of-call-report"),  # contract 3.4
    "talkifai": (  # contract 2.3
        *("call.started", "call.ended", "transcript.ready", "call.failed", "analysis.completed"),
        *("credit.low", "credit.depleted"),
    ),
    "twilio": (  # docs/contracts-twilio.md 7, 8, 9
        *("queued", "initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled"),
        *("amd", "call", "gather", "dial", "record", "refer", "recording-completed", "recording-absent"),
    ),
}
"""By provider: the provider's own names of everything that its pages say it sends."""

UNKNOWN = {"other"}
_event: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


@pytest.fixture(params=KINDS)
def suite(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ProviderSuite:
    """Each provider of the catalogue."""
    found = suite_of(request.param)
    for name, value in found.harness.secrets.items():
        monkeypatch.setenv(name, value)
    return found


def folder_of(suite: ProviderSuite) -> Path:
    """Where the provider's payloads are."""
    return PAYLOADS / suite.harness.kind.name


def everything(suite: ProviderSuite, provider: Provider) -> Iterator[tuple[str, str, Heard, bytes]]:
    """Every payload: its file, our type as it is expected, and what was heard of which body."""
    name, harness = suite.harness.kind.name, suite.harness
    for file, expected in harness.events.items():
        body = harness.payload(file)
        (heard,) = suite.hear(provider, body)
        yield file, expected, heard, body
    for file, expected in EXAMPLES[name].items():
        body = (folder_of(suite) / "contract" / f"{file}.{harness.wire.suffix}").read_bytes()
        webhook = suite.webhook(body, harness.webhook_secrets[0])
        webhook = msgspec.structs.replace(webhook, path=PATHS.get(f"{name}/{file}", ""))
        (heard,) = provider.parse(provider.verify(webhook))
        yield f"contract/{file}", expected, heard, body


def published(provider: Provider, heard: Heard) -> Event:
    """The event as a consumer reads it."""
    event = heard.kind(
        event_id="e",
        connection=CONNECTION,
        provider=provider.name,
        session=heard.session,
        received_at=NOW,
        occurred_at=heard.occurred_at,
        data=heard.data,
        raw=msgspec.Raw(heard.raw),
    )
    return _event.decode(msgspec.json.encode(event))


async def test_none_is_dropped(suite: ProviderSuite) -> None:
    """Each becomes the event that is expected, with the whole body in `raw`; what is not known becomes `other`."""
    async with suite.connection() as provider:
        for file, expected, heard, _ in everything(suite, provider):
            event = published(provider, heard)
            assert event_type(event) == expected, file
            assert msgspec.json.decode(event.raw) == msgspec.json.decode(heard.raw), file
            assert bool(heard.session), file


async def test_everything_that_is_documented_has_a_payload(suite: ProviderSuite) -> None:
    """The checklist: each name of the contract page is among what the payloads say."""
    async with suite.connection() as provider:
        seen = {heard.provider_type for _, _, heard, _ in everything(suite, provider)}
    assert not set(DOCUMENTED[suite.harness.kind.name]) - seen


async def test_what_is_not_documented_is_other(suite: ProviderSuite) -> None:
    """There is such a payload, and it says by which name the provider calls it."""
    async with suite.connection() as provider:
        found = [heard for _, expected, heard, _ in everything(suite, provider) if expected in UNKNOWN]
        assert found
        for heard in found:
            event = published(provider, heard)
            assert isinstance(event, OtherEvent)
            assert event.data.provider_type == heard.provider_type


def test_every_example_is_accounted_for(suite: ProviderSuite) -> None:
    """Each file of `contract/` is in the list, and its source in the README above it."""
    folder = folder_of(suite)
    suffix = suite.harness.wire.suffix
    files = {path.stem for path in (folder / "contract").glob(f"*.{suffix}")}
    assert files == set(EXAMPLES[suite.harness.kind.name])
    sources = (folder / "README.md").read_text()
    assert not [name for name in files if f"`contract/{name}.{suffix}`" not in sources]


def test_every_provider_has_its_checklist() -> None:
    """Whoever is in the catalogue says here what its pages name."""
    assert set(KINDS) == set(DOCUMENTED) == set(EXAMPLES)
