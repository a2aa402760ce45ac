"""HMS Sovereign: passes the provider suite, and keeps what only its contract says.

Samples are in tests/payloads/hms_sovereign. What it does in live calls stands in test_hms_sovereign_control.py.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from bridge.model import actions, events
from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison, Unverified
from bridge.model.outcome import Accepted, NotSent, Refused, Unknown
from bridge.providers.catalogue import KINDS
from bridge.providers.protocol import Answer, AnswersQuestions, CanControl, CanFind, Webhook
from tests.contract.provider_suite import CONNECTION, NOW, Dial, Harness, ProviderSuite, Refusal, Rendering, plan_of
from tests.support.raw_http import answering, http_answer, raw_server

SECRETS = {"HMS_TOKEN": "fl_live_t0ken/with+some=", "HOOK_OLD": "old-hook-secret", "HOOK_NEW": "nëw-hook-secret"}
SESSION = "0f4b7c1e-93a1-4f64-8c86-1c1c2f8d6a10"
CALL = "call_" + "a" * 24
ASSISTANT = "17a0cb75-fa09-4bdd-9a44-92a70d829c88"
OPENAI = {"llm_config": {"provider": "openai", "model": "gpt-4o"}}
SPEECH = {"stt_config": {"provider": "deepgram"}, "tts_config": {"provider": "elevenlabs"}}


def _table(base_url: str) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "token": {"env": "HMS_TOKEN"},
        "assistant_id": ASSISTANT,
        "number_id": "5d3f6a20-5b0e-4e0d-9a55-0f3b4d5c6e70",
        "public_webhook_url": "https://bridge.example/webhooks/demo",
        "webhook_secrets": [{"env": "HOOK_OLD"}, {"env": "HOOK_NEW"}],
    }


def _prove(body: bytes, secret: str) -> Mapping[bytes, bytes]:
    stamp = b"%d" % int(NOW.timestamp())
    signature = hmac.new(SECRETS[secret].encode(), stamp + b"." + body, hashlib.sha256).hexdigest()
    return {b"x-webhook-timestamp": stamp, b"x-webhook-signature": b"sha256=" + signature.encode()}


def _json(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


def _results(*entries: tuple[str, object]) -> dict[str, object]:
    return {"results": [{"tool_call_id": tool_call_id, "result": result} for tool_call_id, result in entries]}


HARNESS = Harness(
    kind=KINDS["hms_sovereign"],
    table=_table,
    secrets=SECRETS,
    command=PlaceCall(command_id="c-1", connection=CONNECTION, to="+4915790000687"),
    number_on_the_wire=b'"destination":"+4915790000687"',
    known_by=("ref/call_1",),
    dials=[
        Dial(
            200, Accepted("call-outbound-abc", 200), _json(success=True, call_id="call-outbound-abc", status="dialing")
        ),
        Dial(201, Accepted("c-1", 201), _json(call_id="c-1")),
        Dial(202, Accepted("c-1", 202), _json(success=False, call_id="c-1")),
        Dial(200, Accepted(None, 200), _json(success=True)),
        Dial(200, Accepted(None, 200), _json(call_id=7)),
        Dial(200, Accepted(None, 200), b"not json"),
        Dial(204, Accepted(None, 204)),
        Dial(200, Unknown("unexpected_answer", 200, "no line"), _json(success=False, message="no line")),
        Dial(400, Refused("rejected_by_provider", 400, "Invalid / bad destination / destination: E.164"), _json(
            error="Invalid", message="bad destination", details=["destination: E.164"]
        )),
        Dial(401, Refused("unauthorized", 401, "api_key_expired / The key is old"), _json(
            error={"code": "api_key_expired", "message": "The key is old", "param": None, "type": "auth"}
        )),
        Dial(401, Refused("unauthorized", 401, "Invalid API key"), _json(error="Invalid API key", message="")),
        Dial(402, Refused("no_credit", 402)),
        Dial(403, Refused("unauthorized", 403)),
        Dial(404, Refused("not_found", 404, "fields code"), _json(code=7)),
        Dial(409, Refused("rejected_by_provider", 409)),
        Dial(422, Refused("rejected_by_provider", 422, "[1,2]"), b"[1,2]"),
        Dial(408, Unknown("unexpected_answer", 408)),
        Dial(302, Unknown("unexpected_answer", 302), b"", "location: https://elsewhere.invalid/\r\n"),
        Dial(429, NotSent("rate_limited")),
        Dial(429, NotSent("rate_limited", None, 7.0), b"", "retry-after: 7\r\n"),
        Dial(429, NotSent("rate_limited", "slow", 30.0), _json(error="slow", retry_after=30)),
        Dial(429, NotSent("rate_limited", "slow", 7.0), _json(error="slow", retry_after=30), "retry-after: 7\r\n"),
        Dial(429, NotSent("rate_limited", "slow"), _json(error="slow", retry_after=True), "retry-after: soon\r\n"),
        Dial(500, Unknown("server_error", 500, "oops"), b"oops"),
        Dial(502, Unknown("server_error", 502)),
        Dial(503, Unknown("server_error", 503), b"", "retry-after: 7\r\n"),
        Dial(504, Unknown("server_error", 504)),
    ],
    refusals=[
        Refusal({"to": "+49"}, "invalid_number", "$.to"),
        Refusal({"to": "015790000687"}, "invalid_number", "$.to"),
        Refusal({"to": "sip:e2@hms.invalid"}, "unsupported", "$.to"),
        Refusal({"from_": "+49301234567"}, "unsupported", "options.number_id"),
        Refusal({"ring_timeout_seconds": 30}, "unsupported", "$.ring_timeout_seconds"),
        Refusal({"options": {"asistant_id": "x"}}, "invalid_options", "asistant_id (did you mean assistant_id?)"),
        Refusal({"options": {"agent_id": "x"}}, "invalid_options", "assistant_id in place of agent_id"),
        Refusal({"options": {"agent": {}}}, "invalid_options", "assistant in place of agent"),
        Refusal({"options": {"agent_config": {}}}, "invalid_options", "assistant_override in place of agent_config"),
        Refusal({"options": {"number_id": "a/b"}}, "invalid_options", "$.options.number_id"),
        Refusal({"options": {"webhook_events": []}}, "invalid_options", "$.options.webhook_events"),
        Refusal({"options": {"assistant": {}}}, "invalid_options", "$.options.assistant"),
        Refusal({"options": {"assistant": OPENAI}}, "invalid_options", "stt_config and tts_config, both"),
        Refusal(
            {"options": {"assistant": {**OPENAI, **SPEECH}, "assistant_id": "a"}},
            "invalid_options",
            "exactly one of assistant_id and assistant",
        ),
        Refusal(
            {"options": {"assistant": {**OPENAI, **SPEECH}, "assistant_override": {}}},
            "invalid_options",
            "assistant_override only with assistant_id",
        ),
        Refusal(
            {"options": {"assistant_override": {"llm_config": {"provider": "xai_realtime"}, "stt_config": {}}}},
            "invalid_options",
            "no stt_config and no tts_config",
        ),
        Refusal(
            {"options": {"assistant_override": {"metadata": {"call_id": "mine"}}}},
            "invalid_options",
            "metadata without call_id, which the bridge sets",
        ),
        Refusal({"options": {"assistant_override": {"webhook_secret": "x"}}}, "invalid_options", "webhook_secret"),
    ],
    prove=_prove,
    webhook_secrets=("HOOK_OLD", "HOOK_NEW"),
    events={
        "status_in_progress": "call.answered",
        "status_in_progress_inbound": "call.answered",
        "status_web_call": "call.answered",
        "status_ringing": "call.ringing",
        "status_ended": "call.ended",
        "status_ended_with_error": "call.ended",
        "status_unknown": "other",
        "tool_calls": "tool.requested",
        "tool_calls_two": "tool.requested",
        "assistant_request": "assistant.requested",
        "end_of_call_report": "call.report",
        "end_of_call_report_long": "call.report",
        "unknown": "other",
        "unsigned_sample": "call.ended",
    },
    required={
        "status_ended": ["$.message", "$.message.type", "$.message.call", "$.message.call.id"],
        "tool_calls": ["$.message.tool_call_list"],
    },
    waiting="tool_calls_two",
    given_nothing=Answer(200, msgspec.json.encode(_results(
        ("tool_5", {"error": "no result was given"}), ("tool_6", {"error": "no result was given"})
    ))),
    unanswered=Answer(200, msgspec.json.encode(_results(
        ("tool_5", {"error": "no answer in time"}), ("tool_6", {"error": "no answer in time"})
    ))),
    renderings=[
        Rendering(
            "results stand in the order of the calls",
            [
                actions.ToolResult(tool_call_id="tool_6", result="9 to 5"),
                actions.ToolResult(tool_call_id="tool_5", result={"slot": "10:30"}),
            ],
            _results(("tool_5", {"slot": "10:30"}), ("tool_6", "9 to 5")),
        ),
        Rendering(
            "a call without a result has an error",
            [actions.ToolResult(tool_call_id="tool_6", result=None)],
            _results(("tool_5", {"error": "no result was given"}), ("tool_6", None)),
        ),
    ],
    nothing=Answer(status=200, body=b"{}"),
)  # fmt: skip


class TestHmsSovereign(ProviderSuite):
    """The suite, and below it what is HMS Sovereign's own."""

    harness = HARNESS

    # --- dialling ----------------------------------------------------------------------------------------------------

    async def request(self, options: dict[str, Any], **changes: Any) -> tuple[bytes, Any]:
        """Head and body of the request for a command with these options."""
        command = msgspec.structs.replace(self.harness.command, options=options)
        async with (
            raw_server(answering(http_answer(200))) as server,
            self.connection(server.url, **changes) as provider,
        ):
            await provider.dial(plan_of(provider.check(command, call_id=CALL)))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        return head, msgspec.json.decode(body)

    async def test_reference_mode(self) -> None:
        """The saved assistant, with where its webhooks go and our reference in them, and nothing else."""
        head, body = await self.request({})
        assert head.startswith(b"POST /calls/outbound HTTP/1.1\r\n")
        assert b"\r\nauthorization: Bearer fl_live_t0ken/with+some=\r\n" in head
        assert b"\r\ncontent-type: application/json" in head
        assert body == {
            "destination": "+4915790000687",
            "number_id": "5d3f6a20-5b0e-4e0d-9a55-0f3b4d5c6e70",
            "assistant_id": ASSISTANT,
            "assistant_override": {
                "webhook_url": f"https://bridge.example/webhooks/demo/{CALL}",
                "webhook_events": ["status-update", "tool-calls", "end-of-call-report"],
                "metadata": {"call_id": CALL, "command_id": "c-1"},
            },
        }

    async def test_transient_mode(self) -> None:
        """A whole assistant: the connection's own is not named, and the user's metadata stays beside ours."""
        llm = {"provider": "xai_realtime", "voice": "Ara", "temperature": 0.4, "messages": [
            {"role": "system", "content": "Be kind."}
        ], "tools": [{"type": "function", "function": {"name": "find_slot"}}]}  # fmt: skip
        assistant = {"llm_config": llm, "max_duration_seconds": 120, "metadata": {"branch": "north"}}
        _, body = await self.request({"assistant": assistant, "number_id": "n-2", "first_message": "Good morning."})
        assert "assistant_id" not in body
        assert "assistant_override" not in body
        assert (body["number_id"], body["first_message"]) == ("n-2", "Good morning.")
        assert body["assistant"] == {
            **assistant,
            "webhook_url": f"https://bridge.example/webhooks/demo/{CALL}",
            "webhook_events": ["status-update", "tool-calls", "end-of-call-report"],
            "metadata": {"branch": "north", "call_id": CALL, "command_id": "c-1"},
        }

    async def test_hybrid_mode(self) -> None:
        """A saved assistant and blocks that replace its own; what is not asked for is not sent."""
        options = {"assistant_id": "a-2", "assistant_override": {"first_message": "Hello.", **OPENAI}}
        _, body = await self.request(options, public_webhook_url=None, webhook_events=[], number_id=None)
        assert body == {
            "destination": "+4915790000687",
            "assistant_id": "a-2",
            "assistant_override": {
                "first_message": "Hello.",
                **OPENAI,
                "metadata": {"call_id": CALL, "command_id": "c-1"},
            },
        }

    async def test_what_one_call_tells(self) -> None:
        """A command may want other events than the connection's calls tell."""
        _, body = await self.request({"webhook_events": ["end-of-call-report"]})
        assert body["assistant_override"]["webhook_events"] == ["end-of-call-report"]

    async def test_the_saved_assistants_metadata_may_stay(self) -> None:
        """The merge is shallow: without our metadata the saved one's counts, and the path alone has our reference."""
        _, body = await self.request({}, reference_in_metadata=False, webhook_events=[])
        assert body["assistant_override"] == {"webhook_url": f"https://bridge.example/webhooks/demo/{CALL}"}

    async def test_the_secret_is_sent_only_where_asked_for(self) -> None:
        """For assistants that have none of their own."""
        _, body = await self.request({}, send_webhook_secret=True)
        assert body["assistant_override"]["webhook_secret"] == SECRETS["HOOK_OLD"]

    async def test_somebody_must_talk(self) -> None:
        """No assistant in the connection, none in the command."""
        async with self.connection(assistant_id=None) as provider:
            refused = provider.check(self.harness.command, call_id=CALL)
        assert isinstance(refused, Refused)
        assert refused.reason == "invalid_options"
        assert "assistant_id (here or in the connection)" in (refused.detail or "")

    # --- webhooks ----------------------------------------------------------------------------------------------------

    async def test_the_contracts_vector(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Contract 3.4: this secret, this moment and these bytes give this signature; with and without prefix."""
        body = (
            b'{"message":{"type":"status-update","call":{"id":"c-77","type":"outbound_phone_call","status":"ended"}}}'
        )
        signature = b"2b687928132a0593bd3347b828d0e187886abf40a5c2f3996f286c72ae4369fd"
        monkeypatch.setenv("HOOK_NEW", "gw-demo-secret")
        sent = datetime.fromtimestamp(1767225600, UTC)
        async with self.connection() as provider:
            for given in (signature, b"sha256=" + signature, b"sha256=" + signature.upper()):
                headers = {b"x-webhook-timestamp": b"1767225600", b"x-webhook-signature": given}
                for late, believed in ((0, True), (300, True), (-300, True), (301, False), (-301, False)):
                    webhook = Webhook(CONNECTION, "POST", "", b"", headers, body, sent + timedelta(seconds=late))
                    if believed:
                        assert provider.verify(webhook).webhook is webhook
                    else:
                        with pytest.raises(Unverified):
                            provider.verify(webhook)

    @pytest.mark.parametrize("stamp", [b"", b"now", b"-1767225600", b" 1767225600", b"1" * 40, b"\xc2\xb2"])
    async def test_a_signed_timestamp_must_be_one(self, stamp: bytes) -> None:
        """Signed correctly, and no moment: not believed, and no other error."""
        signature = hmac.new(SECRETS["HOOK_OLD"].encode(), stamp + b".{}", hashlib.sha256).hexdigest().encode()
        headers = {b"x-webhook-timestamp": stamp, b"x-webhook-signature": signature}
        async with self.connection() as provider:
            with pytest.raises(Unverified):
                provider.verify(Webhook(CONNECTION, "POST", "", b"", headers, b"{}", NOW))

    @pytest.mark.parametrize(
        ("file", "path", "known_by"),
        [
            ("status_in_progress", "", (f"ref/{CALL}", f"call/{SESSION}")),
            ("status_in_progress", "/call_" + "b" * 24, (f"ref/{CALL}", f"call/{SESSION}")),
            ("end_of_call_report", "", (f"ref/{CALL}", f"call/{SESSION}")),
            ("status_in_progress_inbound", "", (f"call/{SESSION}",)),
            ("status_in_progress_inbound", f"/{CALL}", (f"ref/{CALL}", f"call/{SESSION}")),
            ("status_in_progress_inbound", f"/{CALL}/more", (f"call/{SESSION}",)),
            ("unsigned_sample", f"/{CALL}", (f"ref/{CALL}", "call/c-77")),
        ],
    )
    async def test_a_call_is_known_by_our_reference(self, file: str, path: str, known_by: tuple[str, ...]) -> None:
        """From the metadata, which is signed; else from the path. Whichever event carries it may be the first."""
        async with self.connection() as provider:
            heard = await self.heard(provider, file, path)
        assert heard.known_by == known_by
        assert heard.starts_session or len(known_by) == 1

    @pytest.mark.parametrize(
        ("file", "data"),
        [
            ("status_in_progress", events.Progress("outbound", "+31850001122", "+34600111222")),
            ("status_in_progress_inbound", events.Progress("inbound", "+34600111222", "+31850001122")),
            ("status_web_call", events.Progress()),
            ("status_ended", events.Ended("completed", "user_hangup", "callee")),
            ("status_ended_with_error", events.Ended("failed", "SIP 503 from the carrier")),
            ("unsigned_sample", events.Ended("completed")),
            ("status_unknown", events.Other("status-update")),
            ("tool_calls", events.ToolCalls([events.ToolCall("tool_5", "find_slot", {"day": "Tue"})])),
            (
                "tool_calls_two",
                events.ToolCalls(
                    [events.ToolCall("tool_5", "find_slot", {"day": "Tue"}), events.ToolCall("tool_6", "opening_hours")]
                ),
            ),
            ("assistant_request", events.Parties("inbound", "+34600111222", "+31850001122")),
            ("end_of_call_report", events.Report(70.0, "Tuesday at ten was agreed.")),
            (
                "end_of_call_report_long",
                events.Report(
                    70.5, "Tuesday at ten was agreed.", recording_url="https://media.example/0f4b7c1e.mp3"
                ),
            ),
            ("unknown", events.Other("transcript-delta")),
        ],
    )  # fmt: skip
    async def test_what_an_event_says(self, file: str, data: msgspec.Struct) -> None:
        """In our words."""
        async with self.connection() as provider:
            heard = await self.heard(provider, file)
        assert heard.data == data
        assert heard.session == ("c-77" if file == "unsigned_sample" else SESSION)

    @pytest.mark.parametrize(
        ("status", "reason", "expected"),
        [
            ("ended", "max_duration", ("completed", "max_duration", "provider")),
            ("ended", "no-answer", ("no_answer", "no-answer", None)),
            ("ended", "assistant_tired", ("completed", "assistant_tired", None)),
            ("ended-with-error", "busy", ("busy", "busy", None)),
            ("ended-with-error", None, ("failed", "ended-with-error", None)),
            ("rejected", None, ("rejected", "rejected", None)),
            ("insufficient-credits", None, ("failed", "insufficient-credits", None)),
        ],
    )
    async def test_how_a_call_ended(
        self, status: str, reason: str | None, expected: tuple[str, str, str | None]
    ) -> None:
        """One vocabulary, and the vendor's word beside it."""
        value = msgspec.json.decode(self.harness.payload("status_ended"))
        value["message"]["end_reason"] = reason
        value["message"]["call"]["status"] = status
        async with self.connection() as provider:
            (heard,) = self.hear(provider, msgspec.json.encode(value))
        assert isinstance(heard.data, events.Ended)
        assert (heard.data.reason, heard.data.provider_reason, heard.data.ended_by) == expected

    async def test_two_deliveries_of_one_event_agree(self) -> None:
        """HMS Sovereign gives no event id: call, type, status, moment and tools make one; without a moment none."""
        async with self.connection() as provider:
            once, again = [await self.heard(provider, "tool_calls") for _ in range(2)]
            other = await self.heard(provider, "tool_calls_two")
            assert once.event_id == again.event_id
            assert once.event_id is not None
            assert once.event_id != other.event_id
            assert (await self.heard(provider, "unsigned_sample")).event_id is None
            assert (await self.heard(provider, "unknown")).event_id is None
            assert once.occurred_at == datetime(2026, 1, 31, 9, 30, 5, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("change", "path"),
        [
            ({"id": ""}, "[0].id"),
            ({"function": {"arguments": {}}}, "[0].function.name"),
            ({"function": {"name": "x", "arguments": "{}"}}, "[0].function.arguments"),
        ],
    )
    async def test_tool_calls_must_be_answerable(self, change: dict[str, Any], path: str) -> None:
        """Without id and name there is nothing to answer."""
        value = msgspec.json.decode(self.harness.payload("tool_calls"))
        value["message"]["tool_call_list"][0] |= change
        async with self.connection() as provider:
            with pytest.raises(Poison) as caught:
                self.hear(provider, msgspec.json.encode(value))
        assert caught.value.field == f"$.message.tool_call_list{path}"

    # --- answers -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("file", "waits", "starts", "ends"),
        [
            ("tool_calls", True, True, False),
            ("assistant_request", True, True, False),
            ("status_in_progress_inbound", False, True, False),
            ("status_ended", False, True, False),
            ("end_of_call_report", False, True, True),
            ("unsigned_sample", False, False, False),
            ("status_web_call", False, True, False),
        ],
    )
    async def test_what_an_event_asks_for(self, file: str, *, waits: bool, starts: bool, ends: bool) -> None:
        """Whether its answer is used, and whether a session begins or ends with it."""
        async with self.connection() as provider:
            heard = await self.heard(provider, file)
            assert isinstance(provider, AnswersQuestions)
            assert (heard.waits, heard.starts_session, heard.ends_session) == (waits, starts, ends)
            if not waits:
                self.check_takes_no_answer(provider, heard)

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ([actions.Speak(text="One moment")], "$.actions[0].type"),
            ([actions.ToolResult(tool_call_id="tool_9", result=1)], "$.actions[0].tool_call_id"),
            ([actions.ToolResult(tool_call_id="tool_5", result=1)] * 2, "$.actions[1].tool_call_id"),
            ([actions.ToolResult(tool_call_id="tool_5", result=1, options={"a": 1})], "$.actions[0].options"),
        ],
    )
    async def test_what_is_no_result_is_refused(self, given: list[actions.Action], field: str) -> None:
        """With the place and what is allowed."""
        async with self.connection() as provider:
            assert isinstance(provider, AnswersQuestions)
            with pytest.raises(Poison) as caught:
                provider.answer(await self.heard(provider, "tool_calls"), given)
        assert caught.value.field == field

    @pytest.mark.parametrize(
        "options",
        [
            {"assistant_id": "a-2"},
            {"assistant_id": "a-2", "assistant_override": {"first_message": "Hello."}},
            {"assistant": {**OPENAI, **SPEECH}},
            {"max_duration_seconds": 90},
            {"error": "We are closed."},
        ],
    )
    async def test_who_takes_an_inbound_call(self, options: dict[str, Any]) -> None:
        """One `configure`, in one of the four documented forms; no action at all is the number's own assistant."""
        async with self.connection() as provider:
            heard = await self.heard(provider, "assistant_request")
            assert isinstance(provider, AnswersQuestions)
            answer = provider.answer(heard, [actions.Configure(options=options)])
            assert (answer.status, msgspec.json.decode(answer.body)) == (200, options)
            assert provider.answer(heard, []) == provider.fallback(heard) == Answer(200, b"{}")

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ([actions.Hangup()], "'configure'"),
            ([actions.Configure(options={"error": "x"})] * 2, "one 'configure'"),
            ([actions.Configure()], "exactly one of assistant"),
            ([actions.Configure(options={"assistant_id": "a", "error": "x"})], "exactly one of assistant"),
            (
                [actions.Configure(options={"max_duration_seconds": 9, "assistant_override": {}})],
                "assistant_override only with assistant_id",
            ),
        ],
    )
    async def test_what_names_no_assistant_is_refused(self, given: list[actions.Action], words: str) -> None:
        """With what is allowed."""
        async with self.connection() as provider:
            assert isinstance(provider, AnswersQuestions)
            with pytest.raises(Poison, match=r"\$\.actions") as caught:
                provider.answer(await self.heard(provider, "assistant_request"), given)
        assert words in str(caught.value)

    # --- configuring -------------------------------------------------------------------------------------------------

    async def test_deadlines_and_fallbacks(self) -> None:
        """8 s of 10 for tools, 4 s of 5 for the assistant, and by name what the operator says."""
        async with self.connection() as provider:
            assert isinstance(provider, AnswersQuestions)
            assert provider.reply_seconds(await self.heard(provider, "tool_calls")) == 8
            assert provider.reply_seconds(await self.heard(provider, "assistant_request")) == 4
        busy = {"fallback": [{"type": "configure", "options": {"error": "Call again."}}], "deadline_seconds": 2}
        reply = {"events": {"assistant.requested": busy, "tool.requested": {"deadline_seconds": 9.5}}}
        async with self.connection(reply=reply) as provider:
            assert isinstance(provider, AnswersQuestions)
            heard = await self.heard(provider, "assistant_request")
            assert (provider.reply_seconds(heard), provider.fallback(heard).body) == (2, b'{"error":"Call again."}')
            assert provider.reply_seconds(await self.heard(provider, "tool_calls")) == 9.5

    @pytest.mark.parametrize(
        ("changes", "path", "words"),
        [
            ({"webhook_secrets": []}, "webhook_secrets", "allow_unverified_webhooks"),
            ({"allow_unverified_webhooks": True}, "webhook_secrets", "2 secrets"),
            (
                {"webhook_secrets": [], "allow_unverified_webhooks": True, "send_webhook_secret": True},
                "send_webhook_secret",
                "a secret to send",
            ),
            ({"reply": {"deadline_seconds": 10.1}}, "reply.deadline_seconds", "found 10.1; allowed: 0 to 10"),
            (
                {"reply": {"events": {"assistant.requested": {"deadline_seconds": 6}}}},
                'reply.events."assistant.requested".deadline_seconds',
                "found 6; allowed: 0 to 5",
            ),
            ({"reply": {"events": {"call.ended": {}}}}, "reply.events", "'call.ended'"),
            ({"reply": {"fallback": [{"type": "hangup"}]}}, "reply.fallback", "assistant.requested only"),
            (
                {"reply": {"events": {"assistant.requested": {"fallback": [{"type": "hangup"}]}}}},
                'reply.events."assistant.requested".fallback[0].type',
                "'configure'",
            ),
            ({"base_url": "https://user:pass@api.invalid"}, "base_url", "'https://***@api.invalid'"),
            ({"public_webhook_url": "https://bridge.example/x?y=1"}, "public_webhook_url", "allowed"),
            ({"assistant_id": "a/b"}, "assistant_id", "allowed"),
            (
                {"reference_in_metadata": False, "public_webhook_url": None},
                "reference_in_metadata",
                "or a public_webhook_url",
            ),
        ],
    )
    async def test_what_does_not_fit_together_ends_the_start(
        self, changes: dict[str, Any], path: str, words: str
    ) -> None:
        """With the path of the setting, what was found and what is allowed."""
        await self.check_start_is_refused(changes, path, words)

    async def test_what_it_can(self) -> None:
        """It steers live calls; it cannot look a call up by our reference, and does not pretend to."""
        async with self.connection() as provider:
            assert isinstance(provider, CanControl)
            assert not isinstance(provider, CanFind)
            assert (provider.match_window_seconds, provider.session_ttl_seconds) == (14400, 14400)
