"""Twilio: passes the provider suite, and keeps what only its contract says (docs/contracts-twilio.md).

Samples are in tests/payloads/twilio; forms of dials, renderings of actions and requests of control in
tests/unit/test_twilio_dials.py and tests/unit/test_twilio_verbs.py, signatures in tests/unit/test_twilio_signatures.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode

import msgspec
import pytest

from bridge.model import actions, events
from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison, Unavailable, Unverified
from bridge.model.outcome import Accepted, NotSent, Refused, Unknown
from bridge.providers.catalogue import KINDS
from bridge.providers.protocol import Answer, AnswersQuestions, CanFind, Heard, Provider, Rejected
from tests.contract.provider_suite import (
    CONNECTION,
    Dial,
    Harness,
    ProviderSuite,
    Refusal,
    Rendering,
    Wire,
    plan_of,
)
from tests.support.raw_http import answering, http_answer, raw_server

SECRETS = {"TW_TOKEN": "b2c41a369b1c4f8a8a1f0c0c", "HOOK_OLD": "old-auth-token", "HOOK_NEW": "nëw-auth-token"}
ACCOUNT = "AC00000000000000000000000000000000"
SID = "CA1b5e2c4f0a9d47c38e6f1d2a3b4c5d6e"
LEG = "CA77aa2c4f0a9d47c38e6f1d2a3b4c5d6e"
TAKEN = "RE0000000000000000000000000000000a"
PUBLIC = "https://gw.example/webhooks/demo"
OVERRIDES = "#rc=3&rp=ct,5xx"
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
NEXT = f'<Redirect method="POST">{PUBLIC}/verb{OVERRIDES}</Redirect>'.replace("&", "&amp;")
HOLD = f'<Response><Pause length="1" />{NEXT}</Response>'
PLACED = b'{"sid":"%s","status":"queued","to":"+4915790000687"}' % SID.encode()


def _table(base_url: str) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "account_sid": ACCOUNT,
        "token": {"env": "TW_TOKEN"},
        "from": "+14155550100",
        "public_webhook_url": PUBLIC,
        "webhook_secrets": [{"env": "HOOK_OLD"}, {"env": "HOOK_NEW"}],
    }


def _signed(url: str, body: bytes, secret: str) -> bytes:
    """As Twilio's page has it, over latin-1 so that any bytes can be signed."""
    pairs = sorted(set(parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")))
    told = url.encode() + "".join(name + value for name, value in pairs).encode("latin-1")
    return base64.b64encode(hmac.new(SECRETS[secret].encode(), told, hashlib.sha1).digest())


def _prove(body: bytes, secret: str) -> Mapping[bytes, bytes]:
    return {b"x-twilio-signature": _signed(PUBLIC, body, secret)}


def _to_json(body: bytes) -> bytes:
    found = parse_qs(body.decode(), keep_blank_values=True)
    return msgspec.json.encode({name: values[0] if len(values) == 1 else values for name, values in found.items()})


def _from_json(value: bytes) -> bytes:
    said = {name: each if isinstance(each, list) else str(each) for name, each in msgspec.json.decode(value).items()}
    return urlencode(said, doseq=True).encode()


def _twiml(body: bytes) -> object:
    return body.decode().removeprefix(DECLARATION)


def _credential(secret: str) -> str:
    return base64.b64encode(f"{ACCOUNT}:{secret}".encode()).decode()


def _error(status: int, code: int, message: str) -> bytes:
    more = f"https://www.twilio.com/docs/errors/{code}"
    return msgspec.json.encode({"code": code, "message": message, "more_info": more, "status": status})


HARNESS = Harness(
    kind=KINDS["twilio"],
    table=_table,
    secrets=SECRETS,
    command=PlaceCall(command_id="c-1", connection=CONNECTION, to="+4915790000687"),
    number_on_the_wire=b"To=%2B4915790000687&From=%2B14155550100&",
    known_by=("ref/call_1",),
    dials=[
        Dial(201, Accepted(SID, 201), PLACED),
        Dial(200, Accepted(SID, 200), PLACED),
        Dial(201, Unknown("unexpected_answer", 201), b""),
        Dial(201, Unknown("unexpected_answer", 201, "not json"), b"not json"),
        Dial(201, Unknown("unexpected_answer", 201, "fields status"), b'{"status":"queued"}'),
        Dial(201, Unknown("unexpected_answer", 201, "fields sid"), b'{"sid":7}'),
        Dial(400, Refused("rejected_by_provider", 400, "code 21201"), _error(400, 21201, "No 'To' number")),
        Dial(400, Refused("invalid_number", 400, "code 21211"), _error(400, 21211, "Invalid 'To' Phone Number: 12")),
        Dial(400, Refused("rejected_by_provider", 400, "21215"), _error(400, 21215, "Geo Permission configuration")),
        Dial(400, Refused("rejected_by_provider", 400, "Bad Request"), b"<html>Bad Request</html>"),
        Dial(401, Refused("unauthorized", 401, "Authenticate"), _error(401, 20003, "Authenticate")),
        Dial(402, Refused("no_credit", 402)),
        Dial(403, Refused("unauthorized", 403, "not active"), _error(403, 20005, "Account not active")),
        Dial(404, Refused("not_found", 404, "20404"), _error(404, 20404, "The requested resource was not found")),
        Dial(429, NotSent("rate_limited", "20429", 2.0), _error(429, 20429, "Too Many Requests"), "retry-after: 2\r\n"),
        Dial(429, NotSent("rate_limited")),
        Dial(500, Unknown("server_error", 500, "20500"), _error(500, 20500, "An internal server error has occurred")),
        Dial(503, Unknown("server_error", 503), b"", "retry-after: 7\r\n"),
        Dial(302, Unknown("unexpected_answer", 302), b"", "location: https://elsewhere.invalid/\r\n"),
        Dial(408, Unknown("unexpected_answer", 408)),
        Dial(409, Unknown("unexpected_answer", 409)),
    ],
    refusals=[
        Refusal({"to": "+49"}, "invalid_number", "$.to"),
        Refusal({"to": "015790000687"}, "invalid_number", "$.to"),
        Refusal({"to": "sip:nobody"}, "invalid_number", "$.to"),
        Refusal({"from_": "+49"}, "invalid_number", "$.from"),
        Refusal({"from_": "a b"}, "invalid_number", "$.from"),
        Refusal({"from_": "client:alice"}, "invalid_number", "$.from"),
        Refusal({"ring_timeout_seconds": 20.5}, "unsupported", "$.ring_timeout_seconds"),
        Refusal({"options": {"time_limit": 3}}, "invalid_options", "time_limit (did you mean time_limit_seconds?)"),
        Refusal({"options": {"application_sid": "AP1"}}, "invalid_options", "application_sid"),
        Refusal({"options": {"twiml": "<Response>"}}, "invalid_options", "$.options.twiml"),
        Refusal({"options": {"twiml": "<Response/>"}}, "invalid_options", "hung up"),
        Refusal({"options": {"twiml": "<Say>x</Say>"}}, "invalid_options", "outermost"),
        Refusal({"options": {"twiml": "<Response>" + "x" * 4000}}, "invalid_options", "4000"),
        Refusal(
            {"options": {"twiml": "<Response><Hangup/></Response>", "url": "https://a.example/"}},
            "invalid_options",
            "$.options.url",
        ),
        Refusal({"options": {"send_digits": "12x"}}, "invalid_options", "$.options.send_digits"),
        Refusal({"options": {"send_digits": "1", "amd": {}}}, "invalid_options", "$.options.amd"),
        Refusal({"options": {"amd": {"timeout_seconds": 121}}}, "invalid_options", "$.options.amd.timeout_seconds"),
        Refusal({"options": {"record": True}}, "invalid_options", "$.options.record"),
        Refusal({"options": {"byoc": "x"}}, "invalid_options", "$.options.byoc"),
    ],
    prove=_prove,
    webhook_secrets=("HOOK_OLD", "HOOK_NEW"),
    events={
        "status_initiated": "call.trying",
        "status_ringing": "call.ringing",
        "status_answered": "call.answered",
        "status_completed": "call.ended",
        "status_completed_recorded": "call.ended",
        "status_busy": "call.ended",
        "status_no_answer": "call.ended",
        "status_failed": "call.ended",
        "status_canceled": "call.ended",
        "status_of_a_leg": "other",
        "status_unknown": "other",
        "call_outbound": "session.started",
        "call_inbound": "session.started",
        "call_withheld": "session.started",
        "gather_speech": "user.spoke",
        "gather_digit": "user.dtmf",
        "gather_digits": "verb.finished",
        "gather_silent": "session.started",  # only its path tells it from the first request of a call
        "dial_finished": "verb.finished",
        "dial_finished_over": "verb.finished",
        "record_finished": "verb.finished",
        "refer_finished": "verb.finished",
        "amd_human": "call.amd",
        "amd_machine_start": "call.amd",
        "amd_machine_beep": "call.amd",
        "amd_undecided": "call.amd",
        "amd_new_word": "other",
        "recording_completed": "call.report",
        "recording_absent": "other",
    },
    required={
        "status_initiated": ["$.CallSid"],
        "call_outbound": ["$.CallSid"],
        "gather_speech": ["$.CallSid"],
        "amd_human": ["$.CallSid"],
        "recording_completed": ["$.CallSid"],
        "status_unknown": ["$.CallSid"],
    },
    waiting="gather_speech",
    renderings=[
        Rendering(
            "speech is followed by the question",
            [actions.Speak(text='Größe < 3 & "mehr"')],
            f'<Response><Say>Größe &lt; 3 &amp; "mehr"</Say>{NEXT}</Response>',
        ),
        Rendering(
            "what ends the call is the end",
            [actions.Speak(text="Goodbye"), actions.Hangup()],
            "<Response><Say>Goodbye</Say><Hangup /></Response>",
        ),
        Rendering("nothing holds the call", [], HOLD),
    ],
    wire=Wire(
        suffix="form",
        content_type=b"application/x-www-form-urlencoded; charset=UTF-8",
        to_json=_to_json,
        from_json=_from_json,
        read_answer=_twiml,
        credential=_credential,
    ),
    given_nothing=Answer(200, f"{DECLARATION}{HOLD}".encode(), b"text/xml; charset=utf-8"),
    unanswered=Answer(200, f"{DECLARATION}{HOLD}".encode(), b"text/xml; charset=utf-8"),
)


class TestTwilio(ProviderSuite):
    """The suite, and below it what is this provider's own."""

    harness = HARNESS

    async def heard_all(self, provider: Provider, file: str, path: str = "", **changes: str) -> list[Heard]:
        """The events of a payload that came to this path, proven for it."""
        form = {**dict(parse_qsl(self.harness.payload(file).decode(), keep_blank_values=True)), **changes}
        body = urlencode(form).encode()
        proof = {b"x-twilio-signature": _signed(PUBLIC + path, body, "HOOK_NEW")}
        webhook = msgspec.structs.replace(self.webhook(body, None), path=path, headers=proof)
        return list(provider.parse(provider.verify(webhook)))

    async def heard(self, provider: Provider, payload: str, path: str = "", **changes: str) -> Heard:
        """The only one."""
        (heard,) = await self.heard_all(provider, payload, path, **changes)
        return heard

    # --- dialling ----------------------------------------------------------------------------------------------------

    async def test_the_request_is_the_documented_one(self) -> None:
        """Path, credentials and form of the contract's section 3, and nothing else in it."""
        async with raw_server(answering(http_answer(201))) as server, self.connection(f"{server.url}/eu/") as provider:
            await provider.dial(plan_of(provider.check(self.harness.command, call_id="call_1")))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /eu/2010-04-01/Accounts/%s/Calls.json HTTP/1.1\r\n" % ACCOUNT.encode())
        assert b"\r\nauthorization: Basic %s\r\n" % _credential(SECRETS["TW_TOKEN"]).encode() in head
        assert b"\r\ncontent-type: application/x-www-form-urlencoded" in head
        assert parse_qsl(body.decode()) == [
            ("To", "+4915790000687"),
            ("From", "+14155550100"),
            ("Url", f"{PUBLIC}/call/call_1{OVERRIDES}"),
            ("Method", "POST"),
            ("StatusCallback", f"{PUBLIC}/status/call_1{OVERRIDES}"),
            ("StatusCallbackMethod", "POST"),
            ("StatusCallbackEvent", "initiated"),
            ("StatusCallbackEvent", "ringing"),
            ("StatusCallbackEvent", "answered"),
            ("StatusCallbackEvent", "completed"),
        ]

    async def test_an_api_key_asks_in_place_of_the_account(self) -> None:
        """The path stays the account's."""
        key = "SK" + "1" * 32
        taken = answering(http_answer(201))
        async with raw_server(taken) as server, self.connection(server.url, api_key_sid=key) as provider:
            await provider.dial(plan_of(provider.check(self.harness.command, call_id="call_1")))
        basic = base64.b64encode(f"{key}:{SECRETS['TW_TOKEN']}".encode())
        assert b"\r\nauthorization: Basic %s\r\n" % basic in server.requests[0]

    async def test_a_sip_callee_is_not_repeated_in_an_outcome(self) -> None:
        """The user of a SIP URI is personal too."""
        body = _error(400, 21216, "cannot reach sip:alice@sip.example here")
        outcome, _ = await self.dial_against(answering(http_answer(400, body)))
        assert isinstance(outcome, Refused)
        assert outcome.detail == "code 21216: cannot reach sip:***@sip.example here"

    async def test_calls_cannot_be_looked_up(self) -> None:
        """Only by their own sid, and lists hold nothing of ours: no look-up would be proof."""
        async with self.connection() as provider:
            assert not isinstance(provider, CanFind)

    # --- reading -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("file", "data"),
        [
            ("status_initiated", events.Progress("outbound", "+14155550100", "+4915790000687")),
            ("status_completed", events.Ended("completed", "completed", None, 31.0, 200)),
            ("status_busy", events.Ended("busy", "busy", None, 0.0, 486)),
            ("status_no_answer", events.Ended("no_answer", "no-answer", None, 0.0, 487)),
            ("status_failed", events.Ended("failed", "failed", None, 0.0, 404)),
            ("status_canceled", events.Ended("cancelled", "canceled", None, 0.0, 487)),
            ("status_of_a_leg", events.Other("child/ringing")),
            ("status_unknown", events.Other("on-hold")),
            ("call_outbound", events.Parties("outbound", "+14155550100", "+4915790000687")),
            ("call_withheld", events.Parties("inbound", "anonymous", "+14155550100")),
            ("gather_speech", events.Said("Ja, Dienstag paßt & gut.")),
            ("gather_digit", events.Pressed("1")),
            ("gather_digits", events.VerbResult("gather", None, None, "1234")),
            ("dial_finished", events.VerbResult("dial", "no-answer")),
            ("record_finished", events.VerbResult("record", None, None, "#")),
            ("refer_finished", events.VerbResult("refer", "completed")),
            ("amd_human", events.Detected("human", "human")),
            ("amd_machine_start", events.Detected("machine", "machine_start")),
            ("amd_machine_beep", events.Detected("machine_finished", "machine_end_beep")),
            ("amd_undecided", events.Detected("undecided", "unknown")),
            ("amd_new_word", events.Other("robot")),
        ],
    )
    async def test_what_an_event_says(self, file: str, data: msgspec.Struct) -> None:
        """In our words."""
        async with self.connection() as provider:
            assert (await self.heard(provider, file)).data == data

    @pytest.mark.parametrize(
        ("file", "path", "kind", "asks", "event_id"),
        [
            ("status_initiated", "/status/call_1", "call.trying", "starts", f"{SID}/initiated"),
            ("status_completed", "/status/call_1", "call.ended", "starts ends", f"{SID}/completed"),
            ("status_busy", "/status", "call.ended", "ends", f"{SID}/busy"),
            ("status_unknown", "/status/call_1", "other", "starts", f"{SID}/on-hold"),
            ("status_of_a_leg", "/status/call_1", "other", "", f"{LEG}/child/ringing"),
            ("amd_human", "/amd/call_1", "call.amd", "starts", f"{SID}/amd"),
            (
                "recording_completed",
                "/recording/call_1",
                "call.report",
                "starts ends",
                f"{SID}/{TAKEN}/recording-completed",
            ),
            ("recording_absent", "/recording/call_1", "other", "starts ends", f"{SID}/{TAKEN}/recording-absent"),
            ("call_outbound", "/call/call_1", "session.started", "waits starts", None),
            ("call_inbound", "/call", "session.started", "waits starts", None),
            ("gather_speech", "/gather/call_1", "user.spoke", "waits starts", None),
            ("gather_silent", "/gather/call_1", "user.silent", "waits starts", None),
            ("gather_silent", "/gather", "user.silent", "waits", None),
            ("call_outbound", "/verb/call_1", "verb.finished", "waits starts", None),
            ("dial_finished", "/verb/call_1/", "verb.finished", "waits starts", None),
            ("dial_finished_over", "/verb/call_1", "verb.finished", "starts", None),
            ("call_outbound", "/somewhere", "session.started", "waits starts", None),
        ],
    )
    async def test_what_an_event_asks_for(
        self, file: str, path: str, kind: str, asks: str, event_id: str | None
    ) -> None:
        """The path says which hook it is and whose call; in a call that is over nobody waits for TwiML."""
        async with self.connection() as provider:
            heard = await self.heard(provider, file, path)
            assert isinstance(provider, AnswersQuestions)
            assert heard.kind.__struct_config__.tag == kind  # type: ignore[attr-defined] # a class of our events
            flags = {"waits": heard.waits, "starts": heard.starts_session, "ends": heard.ends_session}
            assert " ".join(name for name, holds in flags.items() if holds) == asks
            assert (heard.session, heard.event_id) == (SID, event_id)
            ours = "call_1" in path and file != "status_of_a_leg"
            assert heard.known_by == (("ref/call_1",) if ours else ())
            if not heard.waits:
                self.check_takes_no_answer(provider, heard)

    async def test_a_status_has_its_time(self) -> None:
        """RFC 2822; what is none is no time."""
        async with self.connection() as provider:
            heard = await self.heard(provider, "status_completed")
            assert heard.occurred_at == datetime(2026, 1, 31, 9, 30, 3, tzinfo=UTC)
            for odd in ("", "yesterday", "Sat, 31 Jan 2026 09:30:00 +9999", "Sat, 99 Jan 2026 09:30:00 +0000"):
                assert (await self.heard(provider, "status_completed", Timestamp=odd)).occurred_at is None, odd

    async def test_detection_that_blocks_the_call_is_told_before_the_question(self) -> None:
        """`AnsweredBy` in the request for TwiML: one webhook that says two things, of which the second waits."""
        async with self.connection() as provider:
            amd, started = await self.heard_all(provider, "call_outbound", "/call/call_1", AnsweredBy="machine_start")
            assert (amd.data, amd.waits) == (events.Detected("machine", "machine_start"), False)
            assert (started.kind, started.waits) == (events.SessionStarted, True)

    async def test_a_repeated_parameter_is_an_array_in_raw(self) -> None:
        """The first one is read."""
        body = urlencode([("CallSid", SID), ("Digits", "1"), ("Digits", "2"), ("x", "")]).encode()
        async with self.connection() as provider:
            (heard,) = self.hear(provider, body)
        assert heard.data == events.Pressed("1")
        assert msgspec.json.decode(heard.raw) == {"CallSid": SID, "Digits": ["1", "2"], "x": ""}

    async def test_percent_encoded_bytes_that_are_not_utf8_are_poison(self) -> None:
        """They would be wrong in `raw`."""
        async with self.connection() as provider:
            with pytest.raises(Poison):
                self.hear(provider, b"CallSid=%s&x=%%FF" % SID.encode())

    # --- answering ---------------------------------------------------------------------------------------------------

    async def test_deadlines_and_fallbacks_by_event(self) -> None:
        """One default; others by the event's name."""
        reply = {
            "deadline_seconds": 6,
            "fallback": [{"type": "speak", "text": "One moment."}],
            "events": {
                "verb.finished": {"deadline_seconds": 2, "fallback": []},
                "user.dtmf": {"fallback": [{"type": "hangup"}]},
            },
        }
        filler = f"<Response><Say>One moment.</Say>{NEXT}</Response>"
        expected: dict[str, tuple[float, object]] = {
            "gather_speech": (6, filler),
            "call_outbound": (6, filler),
            "gather_digit": (6, "<Response><Hangup /></Response>"),
            "dial_finished": (2, HOLD),
        }
        await self.check_replies(reply, expected)

    async def test_the_question_after_an_answer_names_the_call(self) -> None:
        """So that a webhook on another replica, or after a lost 201, is known at once."""
        async with self.connection(hold_seconds=3) as provider:
            assert isinstance(provider, AnswersQuestions)
            answer = provider.fallback(await self.heard(provider, "call_outbound", "/call/call_7"))
        tail = NEXT.replace("/verb#", "/verb/call_7#")
        assert _twiml(answer.body) == f'<Response><Pause length="3" />{tail}</Response>'

    # --- control -----------------------------------------------------------------------------------------------------

    async def controlled(
        self, answer: bytes, *given: actions.Action
    ) -> tuple[list[tuple[str, dict[str, str]]], Exception | None]:
        """Have actions done against a server that answers like this: request lines and forms, the error."""
        requests, error = await self.control_against([answer], SID, given)
        return [(line, dict(parse_qsl(body.decode()))) for line, body in requests], error

    async def test_control_is_one_request(self) -> None:
        """TwiML for everything, followed by the question; the end alone is a status, which a ringing call takes too."""
        line = f"POST /2010-04-01/Accounts/{ACCOUNT}/Calls/{SID}.json HTTP/1.1"
        taken = http_answer(200, PLACED)
        sent, error = await self.controlled(taken, actions.Interrupt(), actions.Speak(text="Hello"))
        assert (sent, error) == (
            [(line, {"Twiml": f"{DECLARATION}<Response><Say>Hello</Say>{NEXT}</Response>"})],
            None,
        )
        sent, error = await self.controlled(taken, actions.Hangup())
        assert (sent, error) == ([(line, {"Status": "completed"})], None)

    @pytest.mark.parametrize(
        ("answer", "error", "words"),
        [
            (http_answer(400, _error(400, 21220, "Call is not in-progress. Cannot redirect.")), Rejected, "progress"),
            (http_answer(404, _error(404, 20404, "not found")), Rejected, "no such call"),
            (http_answer(401, _error(401, 20003, "Authenticate")), Rejected, "Authenticate"),
            (http_answer(429, _error(429, 20429, "Too Many Requests")), Rejected, "429"),
            (http_answer(500, _error(500, 20500, "internal")), Unavailable, "internal"),
            (b"", Unavailable, "connection_lost"),
        ],
    )
    async def test_control_that_fails_says_why(self, answer: bytes, error: type[Exception], words: str) -> None:
        """Refused, or nobody knows."""
        sent, caught = await self.controlled(answer, actions.Speak(text="Hello"))
        assert isinstance(caught, error)
        assert words in str(caught)
        assert len(sent) == 1

    async def test_what_control_cannot_do_is_sent_by_nobody(self) -> None:
        """All of a record is checked before the request, its length too."""
        for given, field in (
            ((actions.Hangup(), actions.SendSms(to="+49301234567", text="x")), "$.actions[1].type"),
            ((actions.Speak(text="x" * 4000),), "$.actions"),
        ):
            sent, caught = await self.controlled(b"", *given)
            assert isinstance(caught, Poison)
            assert (caught.field, sent) == (field, [])

    # --- configuring -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("changes", "path", "words"),
        [
            ({"webhook_secrets": []}, "webhook_secrets", "allow_unverified_webhooks"),
            ({"allow_unverified_webhooks": True}, "webhook_secrets", "2 secrets"),
            ({"reply": {"deadline_seconds": 14.5}}, "reply.deadline_seconds", "found 14.5; allowed: 0 to 14"),
            ({"reply": {"events": {"call.ended": {}}}}, "reply.events", "'call.ended'"),
            ({"reply": {"fallback": [{"type": "interrupt"}]}}, "reply.fallback[0].type", "'interrupt'"),
            (
                {"reply": {"events": {"user.silent": {"fallback": [{"type": "speak"}]}}}},
                'reply.events."user.silent".fallback[0]',
                "neither text nor ssml",
            ),
            ({"base_url": "https://user:pass@api.invalid"}, "base_url", "'https://***@api.invalid'"),
            ({"public_webhook_url": "https://gw.example/x?y"}, "public_webhook_url", "allowed"),
            ({"public_webhook_url": "https://u:p@gw.example/x"}, "public_webhook_url", "allowed"),
            ({"account_sid": "acc"}, "account_sid", "allowed"),
            ({"api_key_sid": ACCOUNT}, "api_key_sid", "allowed"),
            ({"from": "a b"}, "from", "allowed"),
            ({"from": "+49"}, "from", "E.164"),
        ],
    )
    async def test_what_does_not_fit_together_ends_the_start(
        self, changes: dict[str, Any], path: str, words: str
    ) -> None:
        """With the path of the setting, what was found and what is allowed."""
        await self.check_start_is_refused(changes, path, words)

    async def test_unverified_only_where_it_is_said(self) -> None:
        """A connection without tokens believes everything, and has to say so."""
        webhook = self.webhook(self.harness.payload("call_inbound"), None)
        async with self.connection(webhook_secrets=[], allow_unverified_webhooks=True) as provider:
            assert provider.verify(webhook).webhook is webhook
        async with self.connection() as provider:
            with pytest.raises(Unverified):
                provider.verify(webhook)

    async def test_defaults(self) -> None:
        """10 s to answer, a quarter of an hour to be heard of, a day to forget."""
        async with self.connection() as provider:
            assert isinstance(provider, AnswersQuestions)
            assert provider.reply_seconds(await self.heard(provider, "gather_speech")) == 10
            assert (provider.match_window_seconds, provider.session_ttl_seconds) == (900, 86400)
            assert provider.name == "twilio"
