"""What every provider must keep: a provider passes by naming itself in a `Harness` and subclassing `ProviderSuite`.

Dialling is tried against a loopback server, webhooks from `tests/payloads/<provider>/`. What only one provider has is
tested in that provider's own file; what is here is what the flows rely on.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import anyio
import msgspec
import pytest

from bridge.model.actions import Action, Hangup
from bridge.model.commands import PlaceCall
from bridge.model.errors import Misconfigured, Poison, Unavailable, Unverified
from bridge.model.events import event_type
from bridge.model.outcome import Accepted, NotSent, Outcome, Refused, Unknown
from bridge.model.validation import convert_toml
from bridge.providers.protocol import (
    Answer,
    AnswersQuestions,
    CanControl,
    ConnectionContext,
    Heard,
    Plan,
    Provider,
    ProviderKind,
    Rejected,
    Webhook,
)
from tests.support.raw_http import RawConnection, RawServer, Script, answering, http_answer, raw_server

PAYLOADS = Path(__file__).parent.parent / "payloads"
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
CONNECTION = "demo"
FILE = "callbridge.toml"


@dataclass(frozen=True)
class Dial:
    """What the provider answers to a dial, and the outcome; of texts only that `detail` is in them."""

    status: int
    outcome: Outcome
    body: bytes = b""
    headers: str = ""

    def __str__(self) -> str:
        return f"{self.status} {self.body[:20].decode('ascii', 'replace')}"


@dataclass(frozen=True)
class Refusal:
    """What cannot be asked of the provider: how the command differs, and the words to look for in the detail."""

    changes: Mapping[str, Any]
    reason: str
    words: str

    def __str__(self) -> str:
        return f"{self.reason} {self.words}"


@dataclass(frozen=True)
class Rendering:
    """Actions and the answer they become, as JSON."""

    name: str
    actions: Sequence[Action]
    wire: object

    def __str__(self) -> str:
        return self.name


def _as_it_is(body: bytes) -> bytes:
    return body


@dataclass(frozen=True, kw_only=True)
class Wire:
    """How a provider speaks that does not speak JSON, or shows its credentials as they are."""

    suffix: str = "json"
    """Of the payloads' files."""
    content_type: bytes = b"application/json"
    to_json: Callable[[bytes], bytes] = _as_it_is
    """A webhook's body as the JSON that `raw` must be."""
    from_json: Callable[[bytes], bytes] = _as_it_is
    """The body that says what this JSON says."""
    read_answer: Callable[[bytes], object] = msgspec.json.decode
    """The body of an answer, to be compared with a `Rendering`."""
    credential: Callable[[str], str] = str
    """How the secret of the REST API stands in a request."""


@dataclass(frozen=True, kw_only=True)
class Harness:
    """How a provider is set up and what it is expected to do."""

    kind: ProviderKind
    table: Callable[[str], dict[str, Any]]
    """The connection's table in the configuration, given the base URL."""
    secrets: Mapping[str, str]
    """Environment variables that the table names, all of them secrets."""
    command: PlaceCall
    number_on_the_wire: bytes
    """The callee as the request must show it."""
    known_by: tuple[str, ...]
    dials: Sequence[Dial]
    refusals: Sequence[Refusal]
    prove: Callable[[bytes, str], Mapping[bytes, bytes]]
    """Headers of a webhook with this body, under the secret in this environment variable."""
    webhook_secrets: tuple[str, str]
    """Two variables that may prove a webhook: before and after a rotation."""
    events: Mapping[str, str]
    """By payload file, without `.json`: our type."""
    required: Mapping[str, Sequence[str]]
    """By payload file: JSON paths without which the body is poison."""
    waiting: str = ""
    """A payload whose event waits for an answer, where the provider answers questions."""
    renderings: Sequence[Rendering] = ()
    nothing: Answer = field(default_factory=lambda: Answer(status=204))
    """The answer that asks for nothing."""
    given_nothing: Answer | None = None
    """What `waiting` is answered with where the consumer wants nothing done, if not with `nothing`."""
    unanswered: Answer | None = None
    """What `waiting` is answered with where the consumer says nothing in time, if not with `nothing`."""
    wire: Wire = field(default_factory=Wire)

    def payload(self, name: str) -> bytes:
        """A body as it comes."""
        return (PAYLOADS / self.kind.name / f"{name}.{self.wire.suffix}").read_bytes()

    def payloads(self) -> list[str]:
        """The names of all of them."""
        return sorted(path.stem for path in (PAYLOADS / self.kind.name).glob(f"*.{self.wire.suffix}"))


class ProviderSuite:
    """Subclass as `TestX` with a `harness`."""

    pytestmark: ClassVar = [pytest.mark.anyio]
    harness: ClassVar[Harness]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a row of the harness's tables."""
        rows: dict[str, Sequence[object]] = {
            "dial": self.harness.dials,
            "refusal": self.harness.refusals,
            "payload": self.harness.payloads(),
            "rendering": self.harness.renderings,
        }
        for name in set(metafunc.fixturenames) & set(rows):
            metafunc.parametrize(name, rows[name], ids=str)

    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The secrets, where the configuration says they are."""
        for name, value in self.harness.secrets.items():
            monkeypatch.setenv(name, value)

    @contextlib.asynccontextmanager
    async def connection(self, base_url: str = "http://127.0.0.1:9", **changes: Any) -> AsyncIterator[Provider]:
        """The provider, built from its table as the process builds it; `changes` replace settings."""
        kind = self.harness.kind
        table = {**self.harness.table(base_url), **changes}
        settings = convert_toml(table, kind.settings, FILE, f"connections.{CONNECTION}")
        async with kind.build(ConnectionContext(CONNECTION, settings, FILE)) as provider:
            yield provider

    async def check_start_is_refused(self, changes: Mapping[str, Any], path: str, words: str) -> None:
        """With these settings changed nothing starts; the error names the setting, and says this."""
        with pytest.raises(Misconfigured) as caught:
            async with self.connection(**changes):
                pass
        assert caught.value.path == f"connections.{CONNECTION}.{path}"
        assert words in str(caught.value)

    async def dial_against(self, script: Script) -> tuple[Outcome, RawServer]:
        """Dial the harness's command against a server of this behaviour."""
        async with raw_server(script) as server, self.connection(server.url) as provider:
            outcome = await provider.dial(plan_of(provider.check(self.harness.command, call_id="call_1")))
        return outcome, server

    async def control_against(
        self, answers: Sequence[bytes], session: str, given: Sequence[Action]
    ) -> tuple[list[tuple[str, bytes]], Exception | None]:
        """Have actions done in a live call: request lines and bodies, and the error.

        The server gives each connection one of these answers, in order, and ends it.
        """
        waiting, error = iter(answers), None

        async def answer_next(connection: RawConnection) -> None:
            await connection.read_request()
            await connection.send(next(waiting))

        async with raw_server(answer_next) as server, self.connection(server.url) as provider:
            assert isinstance(provider, CanControl)
            try:
                await provider.control(session, given)
            except (Poison, Rejected, Unavailable) as caught:
                error = caught
        parts = [request.partition(b"\r\n\r\n") for request in server.requests]
        return [(head.partition(b"\r\n")[0].decode(), body) for head, _, body in parts], error

    async def check_replies(self, reply: Mapping[str, object], expected: Mapping[str, tuple[float, object]]) -> None:
        """With these settings of `reply`: how long each payload waits, and how it is answered then (None: no body)."""
        async with self.connection(reply=reply) as provider:
            assert isinstance(provider, AnswersQuestions)
            for payload, (seconds, wire) in expected.items():
                heard = await self.heard(provider, payload)
                assert provider.reply_seconds(heard) == seconds, payload
                body = provider.fallback(heard).body
                assert (self.harness.wire.read_answer(body) if body else None) == wire, payload

    def check_takes_no_answer(self, provider: AnswersQuestions, heard: Heard) -> None:
        """Nobody waits: the event is acknowledged at once, and actions in answer to it are refused."""
        assert provider.reply_seconds(heard) == 0
        assert provider.answer(heard, []) == provider.fallback(heard) == self.harness.nothing
        with pytest.raises(Poison, match=r"\$\.actions: "):
            provider.answer(heard, [Hangup()])

    async def heard(self, provider: Provider, payload: str, path: str = "") -> Heard:
        """The event of a payload that came to this path."""
        webhook = self.webhook(self.harness.payload(payload), self.harness.webhook_secrets[0])
        (heard,) = provider.parse(provider.verify(msgspec.structs.replace(webhook, path=path)))
        return heard

    def hear(self, provider: Provider, body: bytes) -> Sequence[Heard]:
        """A proven webhook with this body, read."""
        return provider.parse(provider.verify(self.webhook(body, self.harness.webhook_secrets[0])))

    def webhook(self, body: bytes, secret: str | None) -> Webhook:
        """A webhook, with proof under this secret's variable or with none."""
        proof = {} if secret is None else self.harness.prove(body, secret)
        headers = {b"content-type": self.harness.wire.content_type, **proof}
        return Webhook(CONNECTION, "POST", "", b"", headers, body, NOW)

    def bent(self, payload: str, path: str, other: object) -> bytes:
        """The payload with something else, or nothing, at this path."""
        wire = self.harness.wire
        value = msgspec.json.decode(wire.to_json(self.harness.payload(payload)))
        return wire.from_json(msgspec.json.encode(_changed(value, path, other)))

    # --- dialling ----------------------------------------------------------------------------------------------------

    async def test_each_answer_to_a_dial_has_its_outcome(self, dial: Dial) -> None:
        """The provider's status is classified as its contract says; the request is made once."""
        outcome, server = await self.dial_against(answering(http_answer(dial.status, dial.body, dial.headers)))
        expected = dial.outcome
        words = None if isinstance(expected, Accepted) else expected.detail
        if words is not None:
            assert words in (getattr(outcome, "detail", None) or "")
            expected = msgspec.structs.replace(expected, detail=getattr(outcome, "detail", None))
        assert outcome == expected
        assert len(server.requests) == 1

    async def test_the_request_holds_the_number_in_the_providers_dialect(self) -> None:
        """Validated once as E.164, written as the provider wants it."""
        _, server = await self.dial_against(answering(http_answer(500)))
        assert self.harness.number_on_the_wire in server.requests[0]

    async def test_a_dial_without_an_answer_is_unknown(self) -> None:
        """The request was read and the connection ended: nobody knows."""

        async def read_and_close(connection: RawConnection) -> None:
            await connection.read_request()

        outcome, server = await self.dial_against(read_and_close)
        assert isinstance(outcome, Unknown), outcome
        assert len(server.requests) == 1

    async def test_a_dial_that_reaches_nobody_was_not_sent(self) -> None:
        """Nobody listens: proof, so that it may be tried again."""
        async with raw_server(answering(b"")) as server:
            url = server.url
        async with self.connection(url) as provider:
            outcome = await provider.dial(plan_of(provider.check(self.harness.command, call_id="call_1")))
        assert isinstance(outcome, NotSent), outcome

    async def test_a_cancelled_dial_leaves_the_connection_usable(self) -> None:
        """The process may stop waiting at any time; the next dial works."""

        async def slowly(connection: RawConnection) -> None:
            await connection.read_request()
            await anyio.sleep(0.3)
            await connection.send(http_answer(500))

        async with raw_server(slowly) as server, self.connection(server.url) as provider:
            plan = plan_of(provider.check(self.harness.command, call_id="call_1"))
            with anyio.move_on_after(0.1) as scope:
                await provider.dial(plan)
            assert scope.cancelled_caught
            assert isinstance(await provider.dial(plan), Unknown)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 302, 299])
    @pytest.mark.parametrize("form", ["text", "json", "percent-encoded"])
    async def test_no_secret_and_no_number_in_an_outcome(self, status: int, form: str) -> None:
        """A provider that echoes the request, credentials included, into its error does not bring them into ours."""

        async def echo(connection: RawConnection) -> None:
            request = (await connection.read_request()).decode()
            body = {"text": request, "json": msgspec.json.encode({"message": request}).decode()}
            text = body.get(form) or quote(request)
            await connection.send(http_answer(status, text.encode()))

        outcome, server = await self.dial_against(echo)
        told = repr(outcome)
        digits = self.harness.command.to.removeprefix("+")
        assert digits not in told
        for name, secret in self.harness.secrets.items():
            assert secret not in told, name
            assert quote(secret, safe="") not in told, name
            assert self.harness.wire.credential(secret) not in told, name
        sent = server.requests[0].decode()
        assert any(self.harness.wire.credential(each) in sent for each in self.harness.secrets.values()), "the control"

    # --- checking ----------------------------------------------------------------------------------------------------

    async def test_what_cannot_be_asked_is_refused_before_any_effect(self, refusal: Refusal) -> None:
        """With a reason from the closed list and words that name the field; and always the same way."""
        async with raw_server(answering(b"")) as server, self.connection(server.url) as provider:
            command = msgspec.structs.replace(self.harness.command, **refusal.changes)
            refused = provider.check(command, call_id="call_1")
            assert provider.check(command, call_id="call_1") == refused
        assert isinstance(refused, Refused), refused
        assert refused.reason == refusal.reason
        assert refusal.words in (refused.detail or "")
        assert server.connections == 0

    async def test_a_command_is_known_by_what_a_webhook_may_say(self) -> None:
        """The names for the index are those by which its events will come."""
        async with self.connection() as provider:
            plan = plan_of(provider.check(self.harness.command, call_id="call_1"))
            assert plan.known_by == self.harness.known_by
            assert (plan.command, plan.call_id) == (self.harness.command, "call_1")

    # --- believing ---------------------------------------------------------------------------------------------------

    async def test_a_webhook_is_believed_under_each_live_secret(self) -> None:
        """During a rotation the old and the new secret prove."""
        body = self.harness.payload(next(iter(self.harness.events)))
        async with self.connection() as provider:
            for secret in self.harness.webhook_secrets:
                webhook = self.webhook(body, secret)
                assert provider.verify(webhook).webhook is webhook

    async def test_a_webhook_is_not_believed_without_a_live_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No proof, that of a retired secret, and any proof that was bent: all the same to who sent it."""
        body = self.harness.payload(next(iter(self.harness.events)))
        old = self.harness.prove(body, self.harness.webhook_secrets[0])
        for name in self.harness.webhook_secrets:
            monkeypatch.setenv(name, f"replaced-{name}")
        said = set()
        async with self.connection() as provider:
            proofs = [{}, old] + [{name: value + b"x"} for name, value in old.items()]
            proofs += [{name: value[:-1]} for name, value in old.items()] + [dict.fromkeys(old, b"")]
            for proof in proofs:
                with pytest.raises(Unverified) as caught:
                    provider.verify(Webhook(CONNECTION, "POST", "", b"", proof, body, NOW))
                said.add(str(caught.value))
        assert len(said) == 1, "what is wrong with the proof is not said"

    # --- reading -----------------------------------------------------------------------------------------------------

    def test_every_payload_is_accounted_for(self) -> None:
        """Each file is expected to be something, and its source stands in the README beside it."""
        files = self.harness.payloads()
        assert set(files) == set(self.harness.events)
        sources = (PAYLOADS / self.harness.kind.name / "README.md").read_text()
        assert not [name for name in files if f"`{name}.{self.harness.wire.suffix}`" not in sources]

    async def test_every_payload_is_read(self, payload: str) -> None:
        """It becomes an event of our vocabulary that can be published, with the body untouched in `raw`."""
        body = self.harness.payload(payload)
        async with self.connection() as provider:
            (heard,) = self.hear(provider, body)
        as_json = self.harness.wire.to_json(body)
        assert heard.raw == as_json
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
        assert event_type(event) == self.harness.events[payload]
        published = msgspec.json.decode(msgspec.json.encode(event))
        assert published["raw"] == msgspec.json.decode(as_json)

    async def test_what_is_required_is_named_when_it_is_missing(self, payload: str) -> None:
        """A body without it is poison, and the error says where."""
        async with self.connection() as provider:
            for path in self.harness.required.get(payload, ()):
                for value in (_MISSING, None, 7, [], {}):
                    body = self.bent(payload, path, value)
                    with pytest.raises(Poison) as caught:
                        self.hear(provider, body)
                    assert caught.value.field.startswith(path), (path, value)  # `$.a.b` for an `a` without it

    async def test_a_bent_body_is_read_or_is_poison(self, payload: str) -> None:
        """Whatever stands where, cut off anywhere: an event or `Poison`, never another exception."""
        whole = self.harness.payload(payload)
        value = msgspec.json.decode(self.harness.wire.to_json(whole))
        bent = [whole[:length] for length in range(0, len(whole), 7)]
        others: list[object] = [_MISSING, None, True, -1, 1e300, "", "x" * 300, [], {}, [[]], {"a": {}}]
        for path in _paths(value):
            bent += [self.bent(payload, path, other) for other in others]
        async with self.connection() as provider:
            for body in bent:
                with contextlib.suppress(Poison):
                    msgspec.json.encode([heard.data for heard in self.hear(provider, body)])

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"null", b"[]", b"7", b'"text"', b"{}", b"\xff\xfe", b'{"a":' + b"[" * 100_000, b'{"a":"\xff"}'],
        ids=lambda body: repr(body[:12]),
    )
    async def test_what_is_no_event_is_poison(self, body: bytes) -> None:
        """With a field, what was found and what is allowed."""
        async with self.connection() as provider:
            with pytest.raises(Poison) as caught:
                self.hear(provider, body)
        assert caught.value.field.startswith("$")

    async def test_bytes_that_are_not_utf8_are_poison_wherever_they_stand(self, payload: str) -> None:
        """Also in fields that nobody reads: `raw` would carry them into the topic."""
        body = self.harness.payload(payload).rstrip()
        async with self.connection() as provider:
            with pytest.raises(Poison):
                self.hear(provider, body[:-1] + b',"of_no_interest":"\xff"}')

    # --- answering ---------------------------------------------------------------------------------------------------

    async def test_an_event_that_asks_for_nothing_is_acknowledged(self, payload: str) -> None:
        """With the answer that has the provider do nothing."""
        async with self.connection() as provider:
            (heard,) = self.hear(provider, self.harness.payload(payload))
            assert provider.acknowledge(heard) == self.harness.nothing

    async def test_actions_are_rendered(self, rendering: Rendering) -> None:
        """In the provider's words, in order."""
        async with self.connection() as provider:
            (heard,) = self.hear(provider, self.harness.payload(self.harness.waiting))
            assert isinstance(provider, AnswersQuestions)
            answer = provider.answer(heard, rendering.actions)
        assert answer.status == 200
        assert self.harness.wire.read_answer(answer.body) == rendering.wire

    async def test_no_actions_ask_for_nothing(self) -> None:
        """An empty list is an answer: do nothing, and do not wait longer."""
        async with self.connection() as provider:
            if not isinstance(provider, AnswersQuestions):
                pytest.skip("the provider asks nothing")
            (heard,) = self.hear(provider, self.harness.payload(self.harness.waiting))
            assert provider.answer(heard, []) == (self.harness.given_nothing or self.harness.nothing)
            assert provider.reply_seconds(heard) > 0
            assert provider.fallback(heard) == (self.harness.unanswered or self.harness.nothing)

    # --- configuring -------------------------------------------------------------------------------------------------

    async def test_a_secret_that_cannot_be_had_ends_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the file, the path of the setting, and nothing of the other secrets."""
        for name in self.harness.secrets:
            with monkeypatch.context() as patch:
                patch.delenv(name)
                with pytest.raises(Misconfigured) as caught:
                    async with self.connection():
                        pass
            assert caught.value.file == FILE
            assert caught.value.path.startswith(f"connections.{CONNECTION}.")
            assert name in caught.value.found
            assert not [secret for secret in self.harness.secrets.values() if secret in str(caught.value)]

    async def test_an_unknown_setting_is_named(self) -> None:
        """Strict: a misspelt key is an error with its path."""
        with pytest.raises(Misconfigured) as caught:
            async with self.connection(tokne="x"):
                pass
        assert caught.value.path == f"connections.{CONNECTION}"
        assert "tokne" in caught.value.found


_MISSING = object()


def plan_of(checked: Plan | Refused) -> Plan:
    """The plan of a command that is fine."""
    assert isinstance(checked, Plan), checked
    return checked


def _changed(value: Any, path: str, other: object) -> Any:
    """The JSON value with something else, or nothing, at `$.a.b`."""
    *parents, last = path.split(".")[1:]
    holder = value
    for name in parents:
        holder = holder[name]
    if other is _MISSING:
        del holder[last]
    else:
        holder[last] = other
    return value


def _paths(value: object, path: str = "$") -> list[str]:
    if not isinstance(value, dict):
        return []
    return [found for name, inner in value.items() for found in (f"{path}.{name}", *_paths(inner, f"{path}.{name}"))]
