"""What `callbridge providers` says is what the adapters do: each cell of the matrix is tried on each adapter.

A provider takes part by being in the catalogue and having its own file here with a `ProviderSuite`.
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.model import actions as ours
from bridge.model.errors import Misconfigured, Poison, Unavailable
from bridge.model.events import ToolCalls
from bridge.model.outcome import Accepted
from bridge.providers import matrix
from bridge.providers.capabilities import ACTION_TYPES, Profile, types_of
from bridge.providers.catalogue import KINDS
from bridge.providers.protocol import (
    AnswersQuestions,
    CanControl,
    Heard,
    NotThisWay,
    Plan,
    Provider,
    Rejected,
    SpeaksWebSocket,
    Verified,
)
from tests.contract.provider_suite import ProviderSuite
from tests.support.raw_http import answering, http_answer, raw_server

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
WAV = base64.b64encode(b"RIFF\x24\x00\x00\x00WAVEfmt ").decode()
NUMBER = "+49301234567"
CANDIDATES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "speak": ({"text": "Hello."},),
    "play": ({"url": "https://media.example/a.wav"}, {"audio": WAV}),
    "hangup": ({},),
    "transfer": ({"to": NUMBER}, {"to": NUMBER, "caller_id_name": "Example", "caller_id_number": NUMBER}),
    "interrupt": ({},),
    "inject_context": ({"text": "The caller is known."},),
    "tool_result": ({"tool_call_id": "of nobody", "result": 1},),
    "send_sms": ({"to": NUMBER, "text": "Hello."},),
    "send_dtmf": ({"digits": "1"},),
    "configure": (
        {"options": {"transcription": {}}},
        {"options": {"notify_events": True}},
        {"options": {"assistant_id": "a"}},
    ),
    "raw": (
        {"verb": {"type": "hangup"}},
        {"verb": {"verb": "pause", "length": 1}},
        {"verb": {"mute_status": "mute"}},
        {"verb": {"twiml": "<Response><Pause/></Response>"}},
    ),
}
"""By type: an action of this type that is fine is one of these, wherever the provider has the type."""

BY_PATH: Mapping[str, Mapping[str, tuple[str, str]]] = {"twilio": {"user.silent": ("gather_silent", "/gather/call_1")}}
"""By provider and our type: the payload and the path, where only the path says what it is."""


def suite_of(name: str) -> ProviderSuite:
    """How the provider's own tests set it up."""
    module = importlib.import_module(f"tests.contract.test_{name}")
    [found] = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, ProviderSuite)][1:]
    return found()


@pytest.fixture(params=KINDS)
def suite(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ProviderSuite:
    """Each provider of the catalogue."""
    found = suite_of(request.param)
    for name, value in found.harness.secrets.items():
        monkeypatch.setenv(name, value)
    return found


def profile_of(suite: ProviderSuite) -> Profile:
    """What it says it can do."""
    return suite.harness.kind.profile


def samples(action_type: str, heard: Heard | None = None) -> Iterator[ours.Action]:
    """Actions of a type, one of which every provider that has the type takes."""
    for fields in CANDIDATES[action_type]:
        yield msgspec.convert({"type": action_type, **fields}, ours.Action)
    if heard is not None and isinstance(heard.data, ToolCalls) and action_type == "tool_result":
        yield ours.ToolResult(tool_call_id=heard.data.calls[0].tool_call_id, result=1)


def questions(suite: ProviderSuite, provider: Provider) -> dict[str, Heard]:
    """By our type, an event that waits, as it comes."""
    found: dict[str, Heard] = {}
    for name, event in suite.harness.events.items():
        (heard,) = suite.hear(provider, suite.harness.payload(name))
        if heard.waits:
            found[event] = heard
    for event, (name, path) in BY_PATH.get(suite.harness.kind.name, {}).items():
        webhook = suite.webhook(suite.harness.payload(name), None)
        (found[event],) = provider.parse(Verified(msgspec.structs.replace(webhook, path=path)))
    return found


async def test_questions_are_the_payloads_that_wait(suite: ProviderSuite) -> None:
    """Every event that waits is listed, none other is, and the usual deadline is the one in force without settings."""
    assert "reply" not in suite.harness.table("http://127.0.0.1:9")
    async with suite.connection() as provider:
        waiting = questions(suite, provider)
        assert set(waiting) == set(profile_of(suite).questions)
        assert isinstance(provider, AnswersQuestions) == bool(waiting)
        for event, heard in waiting.items():
            assert isinstance(provider, AnswersQuestions)
            assert provider.reply_seconds(heard) == profile_of(suite).questions[event].usual_seconds


async def test_the_longest_deadline_is_the_longest_that_can_be_set(suite: ProviderSuite) -> None:
    """Exactly it is taken, more ends the start."""
    for event, question in profile_of(suite).questions.items():
        longest = question.longest_seconds
        async with suite.connection(reply={"events": {event: {"deadline_seconds": longest}}}):
            pass
        with pytest.raises(Misconfigured) as caught:
            async with suite.connection(reply={"events": {event: {"deadline_seconds": longest + 0.1}}}):
                pass
        assert event in caught.value.path


@pytest.mark.parametrize("action_type", ACTION_TYPES)
async def test_answers(suite: ProviderSuite, action_type: str) -> None:
    """In the answer to each event that waits, an action is rendered where the matrix says so, else refused by its type."""
    async with suite.connection() as provider:
        for event, heard in questions(suite, provider).items():
            assert isinstance(provider, AnswersQuestions)
            refusals: list[Poison] = []
            given = list(samples(action_type, heard))
            for action in given:
                try:
                    provider.answer(heard, [action])
                except Poison as error:
                    refusals.append(error)
            takes = types_of(profile_of(suite).questions[event].takes)
            _assert_as_said(given, refusals, action_type, takes)


@pytest.mark.parametrize("action_type", ACTION_TYPES)
async def test_control(suite: ProviderSuite, action_type: str) -> None:
    """In a live call an action is sent where the matrix says so; else it is refused by its type and not sent.

    What could still be done as an answer is refused as `NotThisWay`: the keeper may wait for the next question.
    """
    takes = set(types_of(profile_of(suite).controls))
    answers = {name for each in profile_of(suite).questions.values() for name in types_of(each.takes)}
    async with raw_server(answering(http_answer(202))) as server, suite.connection(server.url) as provider:
        assert isinstance(provider, CanControl) == bool(takes)
        if not isinstance(provider, CanControl):
            return
        refusals: list[Poison] = []
        given = list(samples(action_type))
        for action in given:
            try:
                await provider.control("a-session", [action])
            except (Rejected, Unavailable):
                pass  # it was sent
            except Poison as error:
                refusals.append(error)
        kept: list[Poison] = [each for each in refusals if isinstance(each, NotThisWay)]
        _assert_as_said(given[: len(kept)] if kept else given, kept or refusals, action_type, takes)
        assert bool(kept) == (action_type in answers - takes)
        assert server.connections or action_type not in takes
        assert not server.connections or action_type in takes | answers  # for what is kept the call may be told to ask


@pytest.mark.parametrize("action_type", ACTION_TYPES)
async def test_websocket(suite: ProviderSuite, action_type: str) -> None:
    """Over a WebSocket an action becomes frames where the matrix says so, else it is refused by its type."""
    takes = types_of(profile_of(suite).websocket)
    async with suite.connection(webhook_secrets=[], allow_unverified_webhooks=True) as provider:
        assert isinstance(provider, SpeaksWebSocket) == bool(takes)
        if not isinstance(provider, SpeaksWebSocket):
            return
        dialogue = provider.welcome(suite.webhook(b"", None))
        refusals: list[Poison] = []
        given = list(samples(action_type))
        for action in given:
            try:
                assert dialogue.unasked("a-session", [action]).frames
            except Poison as error:
                refusals.append(error)
        _assert_as_said(given, refusals, action_type, takes)


def _assert_as_said(given: list[ours.Action], refusals: list[Poison], action_type: str, takes: Collection[str]) -> None:
    if action_type in takes:
        assert len(refusals) < len(given), [str(each) for each in refusals]
        assert not [each for each in refusals if each.field == "$.actions[0].type"]
    else:
        assert len(refusals) == len(given)
        for refusal in refusals:
            assert refusal.field == "$.actions[0].type"
            assert f"'{action_type}'" in refusal.found
            assert {name for name in ACTION_TYPES if f"'{name}'" in refusal.allowed} == set(takes)


async def test_whom_it_dials(suite: ProviderSuite) -> None:
    """A SIP address, a caller and a ring time-out are taken or refused as the profile says."""
    profile, table = profile_of(suite), suite.harness.table("http://127.0.0.1:9")
    callers = [table[name] for name in ("flow_number", "from_number", "from") if name in table] or [NUMBER]
    async with suite.connection() as provider:

        def takes(**changes: object) -> bool:
            command = msgspec.structs.replace(suite.harness.command, **changes)
            checked = provider.check(command, call_id="call_1")
            assert isinstance(checked, Plan) or "allowed" in str(checked.detail) or ": " in str(checked.detail)
            return isinstance(checked, Plan)

        assert takes(to=NUMBER) == ("number" in profile.callees)
        assert takes(to="sip:reception@example.invalid") == ("sip" in profile.callees)
        assert any(takes(from_=caller) for caller in callers) == ("from" in profile.fields)
        assert takes(ring_timeout_seconds=30) == ("ring_timeout_seconds" in profile.fields)


async def test_how_a_call_is_known(suite: ProviderSuite) -> None:
    """The id in the answer, our reference, the proof and the blocking dial are what the adapter works with."""
    profile, harness = profile_of(suite), suite.harness
    ids = [dial for dial in harness.dials if isinstance(dial.outcome, Accepted) and dial.outcome.provider_call_id]
    assert bool(ids) == (profile.id_in_answer is not None)
    assert all(f'"{profile.id_in_answer}"'.encode() in dial.body for dial in ids)
    proof = harness.prove(b"{}", harness.webhook_secrets[0])
    assert any(f"`{name.decode()}`" in profile.proof.lower() for name in proof)
    async with suite.connection() as provider:
        assert isinstance(provider, profile.adapter)
        plan = provider.check(harness.command, call_id="call_1")
        assert isinstance(plan, Plan)
        assert any("call_1" in name for name in plan.known_by) == (profile.reference is not None)
    http = msgspec.structs.asdict(msgspec.convert(harness.table("http://127.0.0.1:9"), harness.kind.settings))["http"]
    assert http.total_timeout_seconds > profile.dial_seconds


def test_the_page_is_what_the_code_says() -> None:
    """docs/providers.md is `callbridge providers --markdown`, as it is now."""
    assert PAGE.read_text() == matrix.as_markdown(KINDS), "write it again: callbridge providers --markdown"


def test_every_provider_is_in_both_forms() -> None:
    """A column each, and a row for each type of action."""
    text, page = matrix.as_text(KINDS), matrix.as_markdown(KINDS)
    for name in KINDS:
        assert name in text.splitlines()[0]
        assert f"## `{name}`" in page
    assert all(f"\n{name}" in text for name in ACTION_TYPES)
    assert max(map(len, text.splitlines())) <= 140
