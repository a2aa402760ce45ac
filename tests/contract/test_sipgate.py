"""sipgate AI Flow: passes the provider suite, and keeps what only its contract says.

Samples are in tests/payloads/sipgate; renderings of actions beyond the common ones in tests/unit/test_sipgate_actions.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from bridge.model import actions, events
from bridge.model.commands import PlaceCall
from bridge.model.errors import Misconfigured
from bridge.model.outcome import Accepted, NotSent, Refused, Unknown
from bridge.providers.catalogue import KINDS
from bridge.providers.protocol import AnswersQuestions
from tests.contract.provider_suite import CONNECTION, Dial, Harness, ProviderSuite, Refusal, Rendering, plan_of
from tests.support.raw_http import answering, http_answer, raw_server

SECRETS = {"SIPGATE_TOKEN": "sg-t0ken/with+some=", "HOOK_OLD": "old-hook-secret", "HOOK_NEW": "nëw-hook-secret"}
SESSION = "0d9d2a5e-6f5e-4a0b-8f4e-0c2a5f3b7711"


def _table(base_url: str) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "token": {"env": "SIPGATE_TOKEN"},
        "flow_id": "7b0f0c52-2f0e-4a57-9c0f-1d6f3e1a9b10",
        "billing_device": "e2",
        "flow_number": "+4921155660",
        "webhook_secrets": [{"env": "HOOK_OLD"}, {"env": "HOOK_NEW"}],
    }


def _prove(body: bytes, secret: str) -> Mapping[bytes, bytes]:
    del body  # a shared secret: nothing is signed
    return {b"x-api-token": SECRETS[secret].encode()}


def _said(message: str) -> bytes:
    return msgspec.json.encode({"message": message})


HARNESS = Harness(
    kind=KINDS["sipgate"],
    table=_table,
    secrets=SECRETS,
    command=PlaceCall(command_id="c-1", connection=CONNECTION, to="+4915790000687"),
    number_on_the_wire=b'"toPhoneNumber":"4915790000687"',
    known_by=("callee/+4915790000687",),
    dials=[
        Dial(201, Accepted(provider_status=201)),
        Dial(200, Accepted(provider_status=200), b'{"id":"of no meaning"}'),
        Dial(202, Accepted(provider_status=202)),
        Dial(204, Accepted(provider_status=204)),
        Dial(201, Accepted(provider_status=201), b"not json"),
        Dial(400, Refused("rejected_by_provider", 400, "no phone_number"), _said("AI flow has no phone_number")),
        Dial(400, Refused("rejected_by_provider", 400, None)),
        Dial(401, Refused("unauthorized", 401, "who are you"), b"who are you"),
        Dial(402, Refused("no_credit", 402)),
        Dial(403, Refused("unauthorized", 403)),
        Dial(404, Refused("not_found", 404, "fields code"), b'{"code":7}'),
        Dial(409, Refused("rejected_by_provider", 409)),
        Dial(422, Refused("rejected_by_provider", 422, "an array of 2"), b"[1,2]"),
        Dial(408, Unknown("unexpected_answer", 408)),
        Dial(410, Unknown("unexpected_answer", 410)),
        Dial(302, Unknown("unexpected_answer", 302), b"", "location: https://elsewhere.invalid/\r\n"),
        Dial(429, NotSent("rate_limited")),
        Dial(429, NotSent("rate_limited", None, 7.0), b"", "retry-after: 7\r\n"),
        Dial(429, NotSent("rate_limited", None, 0.0), b"", "retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n"),
        Dial(429, NotSent("rate_limited", "slow down"), _said("slow down"), "retry-after: soon\r\n"),
        Dial(500, Unknown("server_error", 500, "oops"), b"oops"),
        Dial(502, Unknown("server_error", 502)),
        Dial(503, Unknown("server_error", 503), b"", "retry-after: 7\r\n"),
        Dial(599, Unknown("server_error", 599)),
    ],
    refusals=[
        Refusal({"to": "+49"}, "invalid_number", "$.to"),
        Refusal({"to": "015790000687"}, "invalid_number", "$.to"),
        Refusal({"to": "sip:e2@sipgate.invalid"}, "unsupported", "$.to"),
        Refusal({"from_": "+49301234567"}, "unsupported", "$.from"),
        Refusal({"from_": "Example Corp"}, "invalid_number", "$.from"),
        Refusal({"from_": "+4921155660", "options": {"flow_id": "another"}}, "unsupported", "$.from"),
        Refusal({"ring_timeout_seconds": 30}, "unsupported", "$.ring_timeout_seconds"),
        Refusal({"options": {"flowId": "x"}}, "invalid_options", "flowId (did you mean flow_id?)"),
        Refusal({"options": {"flow_id": 7}}, "invalid_options", "$.options.flow_id"),
        Refusal({"options": {"flow_id": "../call"}}, "invalid_options", "$.options.flow_id"),
        Refusal({"options": {"billing_device": ""}}, "invalid_options", "$.options.billing_device"),
    ],
    prove=_prove,
    webhook_secrets=("HOOK_OLD", "HOOK_NEW"),
    events={
        "session_start_outbound": "session.started",
        "session_start_inbound": "session.started",
        "session_start_with_plus": "session.started",
        "session_start_withheld": "session.started",
        "session_start_old": "session.started",
        "user_speech_started": "user.speech_started",
        "user_speak": "user.spoke",
        "user_speak_barged_in": "user.spoke",
        "user_speak_bare_session": "user.spoke",
        "user_barge_in": "user.spoke",
        "dtmf_received": "user.dtmf",
        "user_input_timeout": "user.silent",
        "assistant_speak": "assistant.speaking",
        "assistant_speak_ssml": "assistant.speaking",
        "assistant_speech_ended": "assistant.finished",
        "sms_failed": "sms.failed",
        "sms_failed_object": "sms.failed",
        "session_end": "session.ended",
        "session_end_with_reason": "session.ended",
        "unknown": "other",
    },
    required={
        "session_end": ["$.type", "$.session", "$.session.id"],
        "unknown": ["$.type", "$.session.id"],
        "user_speak": ["$.text"],
        "user_barge_in": ["$.text"],
        "dtmf_received": ["$.digit"],
    },
    waiting="user_speak",
    renderings=[
        Rendering(
            "one action is an object",
            [actions.Speak(text="Hello")],
            {"type": "speak", "session_id": SESSION, "text": "Hello"},
        ),
        Rendering(
            "several actions are an array",
            [actions.Interrupt(), actions.Speak(text="Goodbye"), actions.Hangup()],
            [
                {"type": "barge_in", "session_id": SESSION},
                {"type": "speak", "session_id": SESSION, "text": "Goodbye"},
                {"type": "hangup", "session_id": SESSION},
            ],
        ),
    ],
)


class TestSipgate(ProviderSuite):
    """The suite, and below it what is sipgate's own."""

    harness = HARNESS

    async def test_the_request_is_the_documented_one(self) -> None:
        """Path, credentials and body of the contract's section 1.1, and nothing else in the body."""
        _, server = await self.dial_against(answering(http_answer(201)))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v3/ai-flows/7b0f0c52-2f0e-4a57-9c0f-1d6f3e1a9b10/call HTTP/1.1\r\n")
        assert b"\r\nauthorization: Bearer sg-t0ken/with+some=\r\n" in head
        assert b"\r\ncontent-type: application/json" in head
        assert msgspec.json.decode(body) == {"billingDevice": "e2", "toPhoneNumber": "4915790000687"}

    async def test_options_of_the_command_win(self) -> None:
        """Another flow, percent-encoded, and another device."""
        options = {"flow_id": "a?b#c%", "billing_device": "e7"}
        command = msgspec.structs.replace(self.harness.command, options=options)
        async with raw_server(answering(http_answer(201))) as server, self.connection(server.url) as provider:
            await provider.dial(plan_of(provider.check(command, call_id="c")))
        assert server.requests[0].startswith(b"POST /v3/ai-flows/a%3Fb%23c%25/call HTTP/1.1\r\n")
        assert b'"billingDevice":"e7"' in server.requests[0]

    async def test_the_flows_own_number_may_be_named_as_caller(self) -> None:
        """`from` is accepted where it is what sipgate will do anyway."""
        async with self.connection() as provider:
            command = msgspec.structs.replace(self.harness.command, from_="+4921155660")
            assert plan_of(provider.check(command, call_id="c")).known_by == self.harness.known_by

    @pytest.mark.parametrize(
        ("file", "known_by"),
        [
            ("session_start_outbound", ("callee/+4915790000687",)),
            ("session_start_with_plus", ("callee/+4915790000687",)),
            ("session_start_old", ("callee/+4915790000687",)),
            ("session_start_inbound", ()),
            ("user_speak", ()),
        ],
    )
    async def test_an_outbound_session_is_known_by_its_callee(self, file: str, known_by: tuple[str, ...]) -> None:
        """The same name that the dial put into the index, however sipgate writes the number."""
        async with self.connection() as provider:
            assert (await self.heard(provider, file)).known_by == known_by

    @pytest.mark.parametrize(
        ("file", "data"),
        [
            ("session_start_outbound", events.Parties("outbound", "+4921155660", "+4915790000687")),
            ("session_start_inbound", events.Parties("inbound", "+4915790000687", "+4921155660")),
            ("session_start_withheld", events.Parties("inbound", "anonymous", "+4921155660")),
            ("session_start_old", events.Parties("outbound", None, "+4915790000687")),
            ("user_speak", events.Said("yes, Tuesday works")),
            ("user_speak_barged_in", events.Said("stop, not Tuesday: früh am Mittwoch", barged_in=True)),
            ("user_barge_in", events.Said("wait a moment", barged_in=True)),
            ("dtmf_received", events.Pressed("#")),
            (
                "assistant_speak",
                events.Playback("One moment", None, 840.0, datetime(2026, 1, 1, 0, 0, 0, 120_000, tzinfo=UTC)),
            ),
            ("sms_failed", events.Failure("not approved")),
            ("sms_failed_object", events.Failure("an object with the fields code")),
            ("session_end", events.Ending()),
            ("session_end_with_reason", events.Ending("hangup")),
            ("unknown", events.Other("call_quality_changed")),
        ],
    )
    async def test_what_an_event_says(self, file: str, data: msgspec.Struct) -> None:
        """In our words."""
        async with self.connection() as provider:
            assert (await self.heard(provider, file)).data == data

    @pytest.mark.parametrize(
        ("file", "waits", "starts", "ends"),
        [
            ("session_start_inbound", True, True, False),
            ("user_speak", True, False, False),
            ("user_barge_in", True, False, False),
            ("dtmf_received", True, False, False),
            ("user_input_timeout", True, False, False),
            ("assistant_speak", True, False, False),
            ("assistant_speech_ended", True, False, False),
            ("sms_failed", True, False, False),
            ("user_speech_started", False, False, False),
            ("session_end", False, False, True),
            ("unknown", False, False, False),
        ],
    )
    async def test_what_an_event_asks_for(self, file: str, *, waits: bool, starts: bool, ends: bool) -> None:
        """Whether its answer may carry actions, and whether a session begins or ends with it (contract 1.3)."""
        async with self.connection() as provider:
            heard = await self.heard(provider, file)
            assert isinstance(provider, AnswersQuestions)
            assert (heard.waits, heard.starts_session, heard.ends_session) == (waits, starts, ends)
            if not waits:
                self.check_takes_no_answer(provider, heard)

    async def test_deadlines_and_fallbacks_by_event(self) -> None:
        """The default for the user's turns; the assistant's own events only by name, or a filler would go on for ever."""
        reply = {
            "deadline_seconds": 2,
            "fallback": [{"type": "speak", "text": "One moment."}],
            "events": {
                "user.dtmf": {"deadline_seconds": 0.5, "fallback": []},
                "assistant.finished": {"fallback": [{"type": "hangup"}]},
                "user.silent": {"deadline_seconds": 0},
            },
        }
        filler = {"type": "speak", "session_id": SESSION, "text": "One moment."}
        expected: dict[str, tuple[float, object]] = {
            "user_speak": (2, filler),
            "session_start_inbound": (2, filler),
            "dtmf_received": (0.5, None),
            "user_input_timeout": (0, filler),
            "assistant_speak": (0, None),
            "assistant_speech_ended": (2, {"type": "hangup", "session_id": SESSION}),
            "unknown": (0, None),
        }
        await self.check_replies(reply, expected)

    async def test_unverified_webhooks_only_when_asked_for(self) -> None:
        """For local use: no secret, and a setting that says so."""
        async with self.connection(webhook_secrets=[], allow_unverified_webhooks=True) as provider:
            body = self.harness.payload("user_speak")
            assert provider.parse(provider.verify(self.webhook(body, None)))

    @pytest.mark.parametrize(
        ("changes", "path", "words"),
        [
            ({"webhook_secrets": []}, "webhook_secrets", "allow_unverified_webhooks"),
            ({"allow_unverified_webhooks": True}, "webhook_secrets", "2 secrets"),
            ({"reply": {"deadline_seconds": 4.1}}, "reply.deadline_seconds", "found 4.1; allowed: 0 to 4"),
            (
                {"reply": {"events": {"user.dtmf": {"deadline_seconds": 5}}}},
                'reply.events."user.dtmf".deadline_seconds',
                "found 5; allowed: 0 to 4",
            ),
            ({"reply": {"events": {"user.spokee": {}}}}, "reply.events", "'user.spokee'"),
            ({"reply": {"events": {"session.ended": {}}}}, "reply.events", "'session.ended'"),
            ({"reply": {"fallback": [{"type": "speak"}]}}, "reply.fallback[0]", "neither text nor ssml"),
            (
                {"reply": {"events": {"user.dtmf": {"fallback": [{"type": "send_dtmf", "digits": "1"}]}}}},
                'reply.events."user.dtmf".fallback[0].type',
                "which sipgate does not have",
            ),
            ({"base_url": "https://user:pass@api.invalid"}, "base_url", "'https://***@api.invalid'"),
            ({"flow_number": "0211"}, "flow_number", "E.164"),
            ({"flow_id": "a/b"}, "flow_id", "allowed"),
        ],
    )
    async def test_what_does_not_fit_together_ends_the_start(
        self, changes: dict[str, Any], path: str, words: str
    ) -> None:
        """With the path of the setting, what was found and what is allowed."""
        await self.check_start_is_refused(changes, path, words)

    @pytest.mark.parametrize("token", ["with space", "new\nline", "tökən", "Bearer x"])
    async def test_a_token_that_no_header_can_hold_ends_the_start(
        self, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else every dial would fail, with an outcome that nobody could tell from a lost request."""
        monkeypatch.setenv("SIPGATE_TOKEN", token)
        with pytest.raises(Misconfigured) as caught:
            async with self.connection():
                pass
        assert caught.value.path == f"connections.{CONNECTION}.token"
        assert token not in str(caught.value)

    async def test_defaults(self) -> None:
        """What the design names: 0.9 s, two minutes to match, four hours to forget."""
        async with self.connection() as provider:
            assert isinstance(provider, AnswersQuestions)
            assert provider.reply_seconds(await self.heard(provider, "user_speak")) == 0.9
            assert (provider.match_window_seconds, provider.session_ttl_seconds) == (120, 14400)
            assert provider.name == "sipgate"
