"""What a live call of jambonz cannot be told: refused before anything is sent, or asked for by a redirect to our hook.

What it can be told is in test_jambonz.py; the bodies are in tests/unit/test_jambonz_verbs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from bridge.model import actions, events
from bridge.model.errors import Poison
from bridge.providers.protocol import AnswersQuestions, CanControl, NotThisWay, Rejected, Verified
from tests.contract.provider_suite import ProviderSuite
from tests.contract.test_capabilities import suite_of
from tests.support.raw_http import RawServer, answering, http_answer, raw_server

pytestmark = pytest.mark.anyio

SESSION = "98e4dd21-b178-4af1-83b6-3c1582893890"
HOOK = "https://gw.example/webhooks/demo/redirect#rc=3&rp=ct,5xx"
SPEECH = ("synthesis_vendor", "synthesis_voice", "synthesis_language", "recognizer_vendor", "recognizer_language")
TAKEN = http_answer(202, b"Accepted")


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> ProviderSuite:
    """A connection to Cognigy, unless a test changes that."""
    found = suite_of("jambonz")
    for name, value in found.harness.secrets.items():
        monkeypatch.setenv(name, value)
    return found


async def refused(
    suite: ProviderSuite, answer: bytes, *given: actions.Action, **changes: Any
) -> tuple[Exception, RawServer]:
    """Have actions done that cannot be done so; why not, and what the server saw."""
    async with raw_server(answering(answer)) as server, suite.connection(server.url, **changes) as provider:
        assert isinstance(provider, CanControl)
        with pytest.raises((Poison, Rejected)) as caught:
            await provider.control(SESSION, given)
    return caught.value, server


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ((actions.Hangup(), actions.InjectContext(text="hi")), "$.actions[1].type"),
        ((actions.Speak(text="hi"), actions.Play(audio="UklGRg==")), "$.actions[1].url"),
        ((actions.Speak(text="hi"), actions.Interrupt()), "$.actions[1].type"),
    ],
)
async def test_what_no_call_can_be_told(suite: ProviderSuite, given: Sequence[actions.Action], field: str) -> None:
    """All of a record is checked before the first request, also what only an answer could say."""
    error, server = await refused(suite, TAKEN, *given)
    assert isinstance(error, Poison)
    assert (error.field, isinstance(error, NotThisWay), server.connections) == (field, False, 0)


async def test_what_only_an_answer_can_say_is_asked_for(suite: ProviderSuite) -> None:
    """Cognigy's application asks us nothing: its call is told to, and the keeper has the words until it does."""
    error, server = await refused(suite, TAKEN, actions.Hangup(), actions.Speak(text="hi"))
    assert isinstance(error, NotThisWay)
    assert (error.field, error.found) == ("$.actions[1].type", "'speak'")
    [request] = server.requests
    assert msgspec.json.decode(request.partition(b"\r\n\r\n")[2]) == {"call_hook": HOOK}


async def test_a_call_that_is_gone_is_not_waited_for(suite: ProviderSuite) -> None:
    """Then nobody will ask: the verdict is the provider's."""
    error, _ = await refused(suite, http_answer(422, b"call session is gone for call_sid x"), actions.Speak(text="hi"))
    assert isinstance(error, Rejected)
    assert "gone" in str(error)


@pytest.mark.parametrize(("changes", "seconds"), [({}, 1.0), ({"redirected_seconds": 2.5}, 2.5)])
async def test_the_hook_asks_for_a_moment_only(suite: ProviderSuite, changes: dict[str, Any], seconds: float) -> None:
    """For as long as the settings say: the caller hears nothing meanwhile."""
    webhook = suite.webhook(suite.harness.payload("status_in_progress"), None)
    async with suite.connection(**changes) as provider:
        (heard,) = provider.parse(Verified(msgspec.structs.replace(webhook, path="/redirect")))
        assert (heard.kind, heard.provider_type, heard.waits) == (events.VerbFinished, "redirect", True)
        assert isinstance(provider, AnswersQuestions)
        assert provider.reply_seconds(heard) == seconds


async def test_jambonz_calls_ask_again_by_themselves(suite: ProviderSuite) -> None:
    """The verbs that they were given end with the question, so nothing is sent."""
    own = {"flavour": "jambonz", "application_sid": None, "speech": dict.fromkeys(SPEECH, "x")}
    error, server = await refused(suite, TAKEN, actions.Speak(text="hi"), **own)
    assert (type(error), server.connections) == (NotThisWay, 0)
