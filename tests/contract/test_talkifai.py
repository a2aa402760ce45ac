"""TalkifAI: passes the provider suite, and keeps what only its contract says.

Samples are in tests/payloads/talkifai.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec
import pytest

from bridge.model import events
from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison, Unverified
from bridge.model.outcome import Accepted, NotSent, Refused, Unknown
from bridge.providers.catalogue import KINDS
from bridge.providers.protocol import Answer, AnswersQuestions, CanControl, CanFind, Webhook
from tests.contract.provider_suite import CONNECTION, NOW, Dial, Harness, ProviderSuite, Refusal, plan_of
from tests.support.raw_http import RawConnection, answering, http_answer, raw_server

SECRETS = {"TALKIFAI_TOKEN": "tf-t0ken/with+some=", "HOOK_OLD": "old-hook-secret", "HOOK_NEW": "nëw-hook-secret"}
ROOM = "outbound_agent_q7_34600111222_1769851790"


def _table(base_url: str) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "token": {"env": "TALKIFAI_TOKEN"},
        "from_number": "+12025550177",
        "webhook_secrets": [{"env": "HOOK_OLD"}, {"env": "HOOK_NEW"}],
    }


def _prove(body: bytes, secret: str) -> Mapping[bytes, bytes]:
    signature = hmac.new(SECRETS[secret].encode(), body, hashlib.sha256).hexdigest()
    return {b"x-talkifai-signature": b"sha256=" + signature.encode()}


def _json(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


HARNESS = Harness(
    kind=KINDS["talkifai"],
    table=_table,
    secrets=SECRETS,
    command=PlaceCall(command_id="c-1", connection=CONNECTION, to="+4915790000687"),
    number_on_the_wire=b"?to_number=%2B4915790000687&from_number=%2B12025550177 ",
    known_by=("callee/+4915790000687",),
    dials=[
        Dial(200, Accepted(ROOM, 200), _json(success=True, message="Call initiated successfully", room_name=ROOM)),
        Dial(200, Accepted(None, 200), _json(success=True)),
        Dial(200, Accepted(None, 200), b"not json"),
        Dial(201, Accepted(ROOM, 201), _json(room_name=ROOM)),
        Dial(200, Unknown("unexpected_answer", 200, "no trunk"), _json(success=False, message="no trunk")),
        Dial(400, Refused("rejected_by_provider", 400, "Text agents cannot call"), _json(
            detail="Text agents cannot call"
        )),
        Dial(401, Refused("unauthorized", 401, "bad key"), _json(success=False, error="bad key", code="x")),
        Dial(402, Refused("no_credit", 402, "Top up"), _json(detail="Top up")),
        Dial(403, Refused("unauthorized", 403)),
        Dial(404, Refused("not_found", 404, "no outbound agent"), _json(detail="no outbound agent")),
        Dial(408, Refused("no_answer", 408, "Call timed out (no answer)"), _json(detail="Call timed out (no answer)")),
        Dial(408, Refused("no_answer", 408)),
        Dial(422, Refused("rejected_by_provider", 422, "query.to_number Field required"), _json(
            detail=[{"loc": ["query", "to_number"], "msg": "Field required", "type": "missing", "input": "secret"}]
        )),
        Dial(422, Refused("rejected_by_provider", 422, "fields code"), _json(code=7)),
        Dial(409, Unknown("unexpected_answer", 409)),
        Dial(302, Unknown("unexpected_answer", 302), b"", "location: https://elsewhere.invalid/\r\n"),
        Dial(429, NotSent("rate_limited")),
        Dial(429, NotSent("rate_limited", None, 7.0), b"", "retry-after: 7\r\nx-ratelimit-remaining: 0\r\n"),
        Dial(429, NotSent("rate_limited", "slow"), _json(error="slow"), "retry-after: soon\r\n"),
        Dial(500, Unknown("server_error", 500, "Error"), b"Error"),
        Dial(502, Unknown("server_error", 502)),
        Dial(504, Unknown("server_error", 504), b"", "retry-after: 7\r\n"),
    ],
    refusals=[
        Refusal({"to": "+49"}, "invalid_number", "$.to"),
        Refusal({"to": "1-202-555-0123"}, "invalid_number", "$.to"),
        Refusal({"to": "sip:e2@talkifai.invalid"}, "unsupported", "$.to"),
        Refusal({"from_": "2025550123"}, "invalid_number", "$.from"),
        Refusal({"from_": "sip:e2@talkifai.invalid"}, "invalid_number", "$.from"),
        Refusal({"ring_timeout_seconds": 60}, "unsupported", "$.ring_timeout_seconds"),
        Refusal({"options": {"agent": "agent_q7"}}, "invalid_options", "the unknown field agent"),
    ],
    prove=_prove,
    webhook_secrets=("HOOK_OLD", "HOOK_NEW"),
    events={
        "call_started_outbound": "call.answered",
        "call_started_inbound": "call.answered",
        "call_started_agent": "call.answered",
        "call_ended": "call.ended",
        "call_ended_agent": "call.ended",
        "call_failed": "call.ended",
        "call_failed_bare": "call.ended",
        "transcript_ready": "call.report",
        "analysis_completed": "call.report",
        "credit_low": "other",
        "unknown": "other",
        "vector": "call.ended",
    },
    required={
        "call_started_outbound": ["$.type", "$.data", "$.data.callId"],
        "call_started_agent": ["$.data", "$.data.callId"],
        "call_ended": ["$.data.callId"],
        "transcript_ready": ["$.data.callId"],
        "credit_low": ["$.type"],
    },
    nothing=Answer(status=200),
)  # fmt: skip


class TestTalkifai(ProviderSuite):
    """The suite, and below it what is TalkifAI's own."""

    harness = HARNESS

    # --- dialling ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("auth", "header"),
        [
            ("bearer", b"\r\nauthorization: Bearer tf-t0ken/with+some=\r\n"),
            ("x-api-key", b"\r\nx-api-key: tf-t0ken/with+some=\r\n"),
        ],
    )
    async def test_the_request_is_the_documented_one(self, auth: str, header: bytes) -> None:
        """Both numbers in the query with `%2B`, one header with the key, and no body (contract 2.1)."""
        async with (
            raw_server(answering(http_answer(200))) as server,
            self.connection(server.url, auth=auth) as provider,
        ):
            command = msgspec.structs.replace(self.harness.command, from_="+12025550199")
            await provider.dial(plan_of(provider.check(command, call_id="c")))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        line = b"POST /telephony/outbound-call?to_number=%2B4915790000687&from_number=%2B12025550199 HTTP/1.1\r\n"
        assert head.startswith(line)
        assert header in head + b"\r\n"
        assert (b"authorization" in head) == (auth == "bearer")
        assert body == b""

    async def test_somebody_must_call(self) -> None:
        """No `from_number` in the connection, no `from` in the command."""
        async with self.connection(from_number=None) as provider:
            refused = provider.check(self.harness.command, call_id="c")
        assert isinstance(refused, Refused)
        assert (refused.reason, (refused.detail or "")[:6]) == ("invalid_number", "$.from")

    async def test_a_dial_waits_for_the_callee(self) -> None:
        """The answer comes when somebody picks up: longer than any other provider's, and within the patience set."""
        assert msgspec.convert(_table("x"), KINDS["talkifai"].settings).http.read_timeout_seconds == 75  # type: ignore[attr-defined] # opaque here

        async def rings(connection: RawConnection) -> None:
            await connection.read_request()
            await anyio.sleep(0.5)
            await connection.send(http_answer(200, _json(room_name=ROOM)))

        outcome, _ = await self.dial_against(rings)
        assert outcome == Accepted(ROOM, 200)

    # --- webhooks ----------------------------------------------------------------------------------------------------

    async def test_the_contracts_vector(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Contract 2.3: this secret and these bytes give this signature; the prefix belongs to it."""
        body = b'{"id":"evt_900","type":"call.ended","created":"2026-01-01T00:00:00Z","data":{"callId":"call_77"}}'
        signature = b"d4a2cee4b86632715fa67eaede724b8a48c4ed1f46dab1dc85b21ef53d63dd1c"
        monkeypatch.setenv("HOOK_NEW", "gw-demo-secret")
        async with self.connection() as provider:
            webhook = Webhook(CONNECTION, "POST", "", b"", {b"x-talkifai-signature": b"sha256=" + signature}, body, NOW)
            assert provider.verify(webhook).webhook is webhook
            for given in (signature, b"sha1=" + signature, b"sha256=", b""):
                with pytest.raises(Unverified):
                    provider.verify(msgspec.structs.replace(webhook, headers={b"x-talkifai-signature": given}))

    @pytest.mark.parametrize(
        ("file", "believed"),
        [("call_ended_agent", True), ("call_failed_bare", True), ("call_ended", False), ("credit_low", False)],
    )
    async def test_unsigned_agents_only_when_asked_for(self, file: str, *, believed: bool) -> None:
        """An agent's envelope, which TalkifAI does not sign yet; never the account's, never a wrong signature."""
        body = self.harness.payload(file)
        unsigned = self.webhook(body, None)
        forged = msgspec.structs.replace(unsigned, headers={b"x-talkifai-signature": b"sha256=00"})
        async with self.connection() as provider:
            with pytest.raises(Unverified):
                provider.verify(unsigned)
        async with self.connection(allow_unsigned_agent_events=True) as provider:
            with pytest.raises(Unverified):
                provider.verify(forged)
            if believed:
                assert provider.verify(unsigned).webhook is unsigned
            else:
                with pytest.raises(Unverified):
                    provider.verify(unsigned)
            for nonsense in (b"", b"[]", b'{"event":"x"}', b'{"event":"x","type":"y","data":{}}', b"\xff"):
                with pytest.raises(Unverified):
                    provider.verify(self.webhook(nonsense, None))

    @pytest.mark.parametrize(
        ("file", "data"),
        [
            ("call_started_outbound", events.Progress("outbound", "+12025550177", "+34600111222")),
            ("call_started_inbound", events.Progress("inbound", "+34600111222", "+12025550177")),
            ("call_started_agent", events.Progress("outbound", "+12025550177", "+34600111222")),
            ("call_ended", events.Ended("completed", "user_hangup", duration_seconds=41.0)),
            ("call_ended_agent", events.Ended("completed", "completed", duration_seconds=41.0)),
            ("call_failed", events.Ended("no_answer", "no_answer")),
            ("call_failed_bare", events.Ended("failed")),
            ("transcript_ready", events.Report(transcript_url="https://media.example/call_77.json")),
            ("analysis_completed", events.Report(summary="früh am Dienstag")),
            ("credit_low", events.Other("credit.low")),
            ("unknown", events.Other("call.recording.ready")),
            ("vector", events.Ended("completed")),
        ],
    )
    async def test_what_an_event_says(self, file: str, data: msgspec.Struct) -> None:
        """In our words."""
        async with self.connection() as provider:
            assert (await self.heard(provider, file)).data == data

    @pytest.mark.parametrize(
        ("file", "session", "event_id", "known_by", "starts"),
        [
            ("call_started_outbound", "call_77", "evt_898", ("callee/+34600111222",), True),
            ("call_started_inbound", "call_77", "evt_897", (), True),
            ("call_started_agent", "call_77", None, (f"call/{ROOM}", "callee/+34600111222"), True),
            ("call_ended", "call_77", "evt_900", (), False),
            ("call_ended_agent", "call_77", None, (f"call/{ROOM}",), True),
            ("call_failed_bare", ROOM, None, (f"call/{ROOM}",), True),
            ("transcript_ready", "call_77", "evt_902", (), False),
            ("credit_low", "account", "evt_904", (), False),
            ("unknown", "call_77", "evt_905", (), False),
        ],
    )
    async def test_whose_event_it_is(
        self, file: str, session: str, event_id: str | None, known_by: tuple[str, ...], *, starts: bool
    ) -> None:
        """The room is what the dial's answer gave, the callee what the command did; retries repeat the id."""
        async with self.connection() as provider:
            heard = await self.heard(provider, file)
        assert (heard.session, heard.event_id, heard.known_by) == (session, event_id, known_by)
        assert (heard.starts_session, heard.ends_session, heard.waits) == (starts, False, False)

    @pytest.mark.parametrize(
        ("changes", "moment"),
        [
            ({}, datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
            ({"created": "2026-01-31T10:30:00+01:00"}, datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
            ({"created": "2026-01-31T09:30:00"}, datetime(2026, 1, 31, 9, 30, tzinfo=UTC)),
            ({"created": "yesterday"}, None),
            ({"created": 1769851800}, None),
        ],
    )
    async def test_when_it_happened(self, changes: dict[str, Any], moment: datetime | None) -> None:
        """Order is not promised, so consumers need `created`."""
        value = msgspec.json.decode(self.harness.payload("call_ended")) | changes
        async with self.connection() as provider:
            (heard,) = self.hear(provider, msgspec.json.encode(value))
        assert heard.occurred_at == moment

    @pytest.mark.parametrize("call_id", ["a/b", "a b", "", "x" * 257])
    async def test_a_session_must_be_one(self, call_id: str) -> None:
        """It becomes part of a record's key."""
        value = msgspec.json.decode(self.harness.payload("call_ended"))
        value["data"]["callId"] = call_id
        async with self.connection() as provider:
            with pytest.raises(Poison, match=r"\$\.data\.callId"):
                self.hear(provider, msgspec.json.encode(value))

    # --- configuring -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("changes", "path", "words"),
        [
            ({"webhook_secrets": []}, "webhook_secrets", "allow_unverified_webhooks"),
            ({"allow_unverified_webhooks": True}, "webhook_secrets", "2 secrets"),
            ({"auth": "basic"}, "auth", "'bearer', 'x-api-key'"),
            ({"from_number": "2025550177"}, "from_number", "E.164"),
            ({"http": {"read_timeout_seconds": 60}}, "http.read_timeout_seconds", "more than 60"),
            ({"http": {"total_timeout_seconds": 30}}, "http.total_timeout_seconds", "more than 60"),
            ({"base_url": "https://user:pass@api.invalid"}, "base_url", "'https://***@api.invalid'"),
        ],
    )
    async def test_what_does_not_fit_together_ends_the_start(
        self, changes: dict[str, Any], path: str, words: str
    ) -> None:
        """With the path of the setting, what was found and what is allowed."""
        await self.check_start_is_refused(changes, path, words)

    async def test_what_it_cannot(self) -> None:
        """No way into a live call, no questions, no look-up; a call is matched for two minutes and known for four hours.

        Its webhooks are repeated for 35.5 minutes.
        """
        async with self.connection() as provider:
            assert not isinstance(provider, AnswersQuestions | CanControl | CanFind)
            assert (provider.match_window_seconds, provider.session_ttl_seconds) == (120, 14400)
            assert provider.late_webhook_seconds >= 30 + 300 + 1800
