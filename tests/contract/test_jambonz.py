"""jambonz and Cognigy: passes the provider suite, and keeps what only its contract says.

Samples are in tests/payloads/jambonz; bodies of dials, renderings of actions and bodies of control in
tests/unit/test_jambonz_dials.py and tests/unit/test_jambonz_verbs.py.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bridge.model import actions, events
from bridge.model.commands import PlaceCall
from bridge.model.errors import Misconfigured, Unavailable, Unverified
from bridge.model.outcome import Accepted, NotSent, Outcome, Refused, Unknown
from bridge.providers.catalogue import KINDS
from bridge.providers.protocol import (
    AnswersQuestions,
    CanFind,
    Rejected,
    Webhook,
)
from tests.contract.provider_suite import (
    CONNECTION,
    NOW,
    Dial,
    Harness,
    ProviderSuite,
    Refusal,
    Rendering,
    plan_of,
)
from tests.support.raw_http import answering, http_answer, raw_server

SECRETS = {"VG_TOKEN": "b2c41a36-9b1c-4f8a-8a1f-0c0cf5f0a111", "HOOK_OLD": "wh_secret_old", "HOOK_NEW": "wh_secret_nëw"}
ACCOUNT = "9351f46a-678c-43f5-b8a6-d4eb58d131af"
APPLICATION = "3b43e39f-4346-4218-8434-a53130e8be49"
SID = "98e4dd21-b178-4af1-83b6-3c1582893890"
PUBLIC = "https://gw.example/webhooks/demo"
VERB_HOOK = f"{PUBLIC}/verb/call_1#rc=3&rp=ct,5xx"
TAIL = {"verb": "redirect", "actionHook": VERB_HOOK}
HOLD = [{"verb": "pause", "length": 1}, TAIL]
PLACED = b'{"sid":"98e4dd21-b178-4af1-83b6-3c1582893890","callid":"8d07a246-f1ac-123b-b8ac-02113b73b840"}'
HTML = b"<!DOCTYPE html><html><head><title>Error</title></head><body><pre>Cannot POST /x</pre></body></html>"


def _table(base_url: str) -> dict[str, Any]:
    return {
        "flavour": "cognigy",
        "base_url": base_url,
        "account_sid": ACCOUNT,
        "token": {"env": "VG_TOKEN"},
        "application_sid": APPLICATION,
        "from": "+16173333456",
        "public_webhook_url": PUBLIC,
        "webhook_secrets": [{"env": "HOOK_OLD"}, {"env": "HOOK_NEW"}],
    }


def _sign(body: bytes, secret: str, *, at: float) -> bytes:
    moment = b"%d" % at
    return b"t=%s,v1=%s" % (
        moment,
        hmac.new(secret.encode(), moment + b"." + body, hashlib.sha256).hexdigest().encode(),
    )


def _prove(body: bytes, secret: str) -> Mapping[bytes, bytes]:
    return {b"jambonz-signature": _sign(body, SECRETS[secret], at=NOW.timestamp())}


def _msg(message: str) -> bytes:
    return msgspec.json.encode({"msg": message})


def _accepted(status: int = 201) -> Outcome:
    return Accepted(SID, status)


SPEECH = ("synthesis_vendor", "synthesis_voice", "synthesis_language", "recognizer_vendor", "recognizer_language")
ECHO = 'missing or invalid to property: {"type":"user","name":"alice"}'
HARNESS = Harness(
    kind=KINDS["jambonz"],
    table=_table,
    secrets=SECRETS,
    command=PlaceCall(command_id="c-1", connection=CONNECTION, to="+15083084809"),
    number_on_the_wire=b'"to":{"type":"phone","number":"+15083084809"}',
    known_by=("ref/call_1",),
    dials=[
        Dial(201, _accepted(), PLACED),
        Dial(201, _accepted(), PLACED.replace(b"callid", b"callId")),
        Dial(201, _accepted(), b'{"sid":"%s"}' % SID.encode()),
        Dial(200, _accepted(200), PLACED),
        Dial(201, Unknown("unexpected_answer", 201), b""),
        Dial(201, Unknown("unexpected_answer", 201, "not json"), b"not json"),
        Dial(201, Unknown("unexpected_answer", 201, "fields callid"), b'{"callid":"x"}'),
        Dial(201, Unknown("unexpected_answer", 201, "fields sid"), b'{"sid":7}'),
        Dial(400, Refused("rejected_by_provider", 400, "missing from"), _msg("missing from parameter")),
        Dial(400, Refused("rejected_by_provider", 400, "to property: (the callee)"), _msg(ECHO)),
        Dial(400, Refused("not_found", 400, "not found"), _msg(f"application_sid not found {APPLICATION}")),
        Dial(
            400,
            Refused("unauthorized", 400, "unauthorized createCall"),
            _msg(f"unauthorized createCall request for account {ACCOUNT}"),
        ),
        Dial(400, Refused("rejected_by_provider", 400, "Bad request"), _msg("Bad request")),
        Dial(
            401, Refused("unauthorized", 401, "Unauthorized"), b"Unauthorized", 'www-authenticate: Bearer realm="U"\r\n'
        ),
        Dial(403, Refused("unauthorized", 403, "insufficient permissions"), _msg("insufficient permissions")),
        Dial(404, Refused("not_found", 404, "Cannot POST /x"), HTML, "content-type: text/html\r\n"),
        Dial(413, Refused("rejected_by_provider", 413, "too large"), _msg("request entity too large")),
        Dial(422, Refused("rejected_by_provider", 422, "duplicate"), _msg("duplicate")),
        Dial(
            429,
            NotSent("rate_limited", "Too many", 7.0),
            b"Too many requests, please try again later.",
            "retry-after: 7\r\n",
        ),
        Dial(429, NotSent("rate_limited"), b"", "retry-after: soon\r\n"),
        Dial(480, NotSent("unavailable", "no available feature"), _msg("no available feature servers at this time")),
        Dial(500, Unknown("server_error", 500, "Internal Server Error"), b"Internal Server Error"),
        Dial(500, Unknown("server_error", 500, "fetch failed"), _msg("fetch failed")),
        Dial(500, Unknown("server_error", 500, "ECONNREFUSED"), _msg("connect ECONNREFUSED 10.0.0.1:3306")),
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
        Refusal({"ring_timeout_seconds": 20.5}, "unsupported", "$.ring_timeout_seconds"),
        Refusal({"options": {"callerName": "x"}}, "invalid_options", "callerName (did you mean caller_name?)"),
        Refusal({"options": {"application_sid": "x"}}, "invalid_options", "$.options.application_sid"),
        Refusal({"options": {"tag": {"callbridge": 1}}}, "invalid_options", "$.options.tag.callbridge"),
        Refusal({"options": {"tag": ["x"]}}, "invalid_options", "$.options.tag"),
        Refusal({"options": {"headers": {"X": "a\r\nb"}}}, "invalid_options", "$.options.headers"),
        Refusal({"options": {"time_limit_seconds": 1.5}}, "invalid_options", "$.options.time_limit_seconds"),
        Refusal({"options": {"amd": {"timers": {"tone": 1}}}}, "invalid_options", "$.options.amd.timers"),
        Refusal({"options": {"call_hook": "https://a.example/"}}, "invalid_options", "$.options.call_hook"),
        Refusal({"options": {"dual_streams": True}}, "invalid_options", "$.options.dual_streams"),
        Refusal({"options": {"tag": {"x": "y" * 110_000}}}, "invalid_options", "at most 102400"),
        Refusal({"options": {"to": {"type": "sip"}}}, "invalid_number", "$.to"),
        Refusal({"options": {"to": {"type": "user", "name": "a"}}}, "invalid_number", "$.to"),
        Refusal({"options": {"to": {"type": "fax"}}}, "invalid_options", "$.options.to"),
    ],
    prove=_prove,
    webhook_secrets=("HOOK_OLD", "HOOK_NEW"),
    events={
        "status_trying": "call.trying",
        "status_ringing": "call.ringing",
        "status_early_media": "call.ringing",
        "status_in_progress": "call.answered",
        "status_completed": "call.ended",
        "status_completed_by_bot": "call.ended",
        "status_busy": "call.ended",
        "status_no_answer": "call.ended",
        "status_no_answer_busy": "call.ended",
        "status_failed": "call.ended",
        "status_error": "verb.finished",
        "status_of_a_leg": "other",
        "status_of_another": "call.trying",
        "status_unknown": "other",
        "amd_human": "call.amd",
        "amd_machine": "call.amd",
        "amd_machine_hint": "call.amd",
        "amd_tone": "call.amd",
        "amd_stopped": "call.amd",
        "amd_error": "other",
        "answer_outbound": "session.started",
        "answer_inbound": "session.started",
        "gather_speech": "user.spoke",
        "gather_digits": "verb.finished",
        "gather_timeout": "user.silent",
        "gather_unsure": "verb.finished",
        "dial_finished": "verb.finished",
        "refer_finished": "verb.finished",
        "play_finished": "verb.finished",
        "verb_with_id": "verb.finished",
    },
    required={
        "status_trying": ["$.call_sid"],
        "amd_human": ["$.call_sid"],
        "answer_outbound": ["$.call_sid"],
        "gather_speech": ["$.call_sid"],
        "status_unknown": ["$.call_sid"],
    },
    waiting="gather_speech",
    renderings=[
        Rendering(
            "speech is followed by the question",
            [actions.Speak(text="Hello")],
            [{"verb": "say", "text": "Hello"}, TAIL],
        ),
        Rendering(
            "what ends the call is the end",
            [actions.Speak(text="Goodbye"), actions.Hangup()],
            [{"verb": "say", "text": "Goodbye"}, {"verb": "hangup"}],
        ),
        Rendering("nothing holds the call", [], HOLD),
    ],
)


class TestCognigy(ProviderSuite):
    """The suite, and below it what is this provider's own."""

    harness = HARNESS

    async def test_no_actions_ask_for_nothing(self) -> None:
        """An empty list holds the call: without a verb left it would be hung up (contract 8)."""
        async with self.connection() as provider:
            heard = await self.heard(provider, self.harness.waiting)
            assert isinstance(provider, AnswersQuestions)
            for answer in (provider.answer(heard, []), provider.fallback(heard)):
                assert (answer.status, answer.content_type) == (200, b"application/json")
                assert msgspec.json.decode(answer.body) == HOLD
            assert provider.reply_seconds(heard) > 0

    # --- dialling ----------------------------------------------------------------------------------------------------

    async def test_the_request_is_the_documented_one(self) -> None:
        """Path, credentials and body of the contract's section 3, and nothing else in the body."""
        async with raw_server(answering(http_answer(201))) as server, self.connection(f"{server.url}/api/") as provider:
            await provider.dial(plan_of(provider.check(self.harness.command, call_id="call_1")))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /api/v1/Accounts/%s/Calls HTTP/1.1\r\n" % ACCOUNT.encode())
        assert b"\r\nauthorization: Bearer b2c41a36-9b1c-4f8a-8a1f-0c0cf5f0a111\r\n" in head
        assert b"\r\ncontent-type: application/json" in head
        assert msgspec.json.decode(body) == {
            "application_sid": APPLICATION,
            "from": "+16173333456",
            "to": {"type": "phone", "number": "+15083084809"},
            "tag": {"callbridge": {"call_id": "call_1"}},
            "notifyUrl": f"{PUBLIC}/status/call_1#rc=3&rp=ct,5xx",
        }

    async def test_a_sip_callee_is_not_repeated_in_an_outcome(self) -> None:
        """The user of a SIP URI is personal too."""
        body = _msg("cannot reach sip:alice@sip.example here")
        outcome, _ = await self.dial_against(answering(http_answer(400, body)))
        assert isinstance(outcome, Refused)
        assert outcome.detail == "cannot reach sip:***@sip.example here"

    async def test_calls_cannot_be_looked_up(self) -> None:
        """Records hold no tag (contract 4): no look-up would be proof."""
        async with self.connection() as provider:
            assert not isinstance(provider, CanFind)

    # --- believing ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("seconds", "believed"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)]
    )
    async def test_a_signature_has_its_time(self, seconds: float, *, believed: bool) -> None:
        """300 s in both directions, against the moment the webhook came."""
        body = self.harness.payload("status_trying")
        async with self.connection() as provider:
            webhook = self.webhook(body, "HOOK_NEW")
            webhook = msgspec.structs.replace(webhook, received_at=NOW + timedelta(seconds=seconds))
            if believed:
                provider.verify(webhook)
            else:
                with pytest.raises(Unverified):
                    provider.verify(webhook)

    async def test_one_of_several_signatures_suffices(self) -> None:
        """While a secret is replaced, jambonz may sign with both; eight are read."""
        body, moment = self.harness.payload("status_trying"), b"t=%d" % NOW.timestamp()
        wrong, good = b"v1=" + b"0" * 64, _prove(body, "HOOK_NEW")[b"jambonz-signature"].partition(b",")[2]
        headers = {
            b"%s,%s,%s" % (moment, wrong, good): True,
            b"%s, %s" % (good, moment): True,
            b",".join([moment, *[wrong] * 7, good]): True,
            b",".join([moment, *[wrong] * 8, good]): False,
            b"%s,%s,%s" % (moment, moment, good): False,
            good: False,
            moment: False,
            b"%s,%s" % (moment, good.replace(b"v1", b"v0")): False,
            b"%s,%s" % (moment, good.upper()): False,
        }
        async with self.connection() as provider:
            for header, believed in headers.items():
                webhook = Webhook(CONNECTION, "POST", "", b"", {b"jambonz-signature": header}, body, NOW)
                if believed:
                    provider.verify(webhook)
                else:
                    with pytest.raises(Unverified):
                        provider.verify(webhook)

    async def test_the_raw_bytes_are_signed(self) -> None:
        """Equal JSON in other bytes is another body."""
        body = self.harness.payload("gather_speech")
        webhook = self.webhook(body, "HOOK_OLD")
        async with self.connection() as provider:
            provider.verify(webhook)
            with pytest.raises(Unverified):
                provider.verify(msgspec.structs.replace(webhook, body=body.rstrip()))

    async def test_unverified_webhooks_only_when_asked_for(self) -> None:
        """No secret, and a setting that says so."""
        async with self.connection(webhook_secrets=[], allow_unverified_webhooks=True) as provider:
            provider.verify(self.webhook(self.harness.payload("status_trying"), None))

    # --- reading -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("file", "data"),
        [
            ("status_trying", events.Progress("outbound", "+16173333456", "+15083084809", 100)),
            ("status_early_media", events.Progress("outbound", "+16173333456", "+15083084809", 183)),
            ("status_completed", events.Ended("completed", "completed", "callee", 12.0, 200)),
            ("status_completed_by_bot", events.Ended("completed", "completed", "us", 31.0, 200)),
            ("status_busy", events.Ended("busy", "busy", None, None, 603)),
            ("status_no_answer", events.Ended("no_answer", "no-answer", None, None, 487)),
            ("status_no_answer_busy", events.Ended("busy", "no-answer", None, None, 486)),
            ("status_failed", events.Ended("failed", "failed", None, None, 503)),
            ("status_error", events.VerbResult(reason="invalid verb: action hook returned an unknown verb")),
            ("status_of_a_leg", events.Other("child/ringing")),
            ("status_unknown", events.Other("on-hold")),
            ("amd_human", events.Detected("human", "short greeting", "hello")),
            ("amd_machine_hint", events.Detected("machine", "hint", "at the tone")),
            ("amd_tone", events.Detected("tone")),
            ("amd_error", events.Other("amd_error")),
            ("answer_outbound", events.Parties("outbound", "+16173333456", "+15083084809")),
            ("gather_speech", events.Said("yes, Tuesday wörks")),
            ("gather_digits", events.VerbResult("gather", "dtmfDetected", None, "12#")),
            ("gather_timeout", events.Nothing()),
            ("gather_unsure", events.VerbResult("gather", "stt-low-confidence")),
            ("dial_finished", events.VerbResult("dial", "no-answer")),
            ("refer_finished", events.VerbResult("sip:refer", "200")),
            ("play_finished", events.VerbResult(None, "playCompleted")),
        ],
    )
    async def test_what_an_event_says(self, file: str, data: msgspec.Struct) -> None:
        """In our words."""
        async with self.connection() as provider:
            assert (await self.heard(provider, file)).data == data

    @pytest.mark.parametrize(
        ("file", "session", "event_id", "asks"),
        [
            ("status_trying", SID, f"{SID}/trying", "starts"),
            ("status_in_progress", SID, f"{SID}/in-progress", "starts"),
            ("status_completed", SID, f"{SID}/completed", "starts ends"),
            ("status_busy", SID, f"{SID}/busy", "starts ends"),
            ("status_error", SID, None, "starts"),
            ("status_of_a_leg", SID, "5c1d3ac1-6a4b-4f43-a44b-32b8b9f5a1d2/child/ringing", ""),
            ("status_of_another", SID, f"{SID}/trying", ""),
            ("amd_human", SID, f"{SID}/amd_human_detected", "starts"),
            ("amd_stopped", SID, None, "starts"),
            ("answer_outbound", SID, None, "waits starts"),
            ("answer_inbound", SID, None, "waits starts"),
            ("gather_speech", SID, None, "waits starts"),
            ("gather_timeout", SID, None, "waits starts"),
            ("gather_digits", SID, None, "waits starts"),
        ],
    )
    async def test_what_an_event_asks_for(self, file: str, session: str, event_id: str | None, asks: str) -> None:
        """A status has an id by which repeats show; whatever carries our reference binds its session."""
        async with self.connection() as provider:
            heard = await self.heard(provider, file)
            assert isinstance(provider, AnswersQuestions)
            flags = {"waits": heard.waits, "starts": heard.starts_session, "ends": heard.ends_session}
            assert " ".join(name for name, holds in flags.items() if holds) == asks
            assert (heard.session, heard.event_id) == (session, event_id)
            ours = "customerData" in msgspec.json.decode(heard.raw) and file != "status_of_a_leg"
            assert heard.known_by == (("ref/call_1",) if ours else ())
            if not heard.waits:
                self.check_takes_no_answer(provider, heard)

    @pytest.mark.parametrize(
        ("file", "path", "kind", "known_by"),
        [
            ("status_of_another", "/status/call_7", "call.trying", ("ref/call_7",)),
            ("status_trying", "/status/call_7", "call.trying", ("ref/call_1",)),  # signed goes before unsigned
            ("status_in_progress", "/verb/call_1", "verb.finished", ("ref/call_1",)),  # a redirect: base fields only
            ("status_in_progress", "/verb", "verb.finished", ("ref/call_1",)),
            ("status_in_progress", "/call", "session.started", ("ref/call_1",)),
            ("status_of_another", "/call/", "session.started", ()),
            ("status_of_a_leg", "/call/call_1", "session.started", ()),  # a leg is not the call
            ("amd_human", "/status", "call.amd", ("ref/call_1",)),
            ("answer_outbound", "/somewhere", "session.started", ("ref/call_1",)),
            ("status_of_another", "/status/not%20ours", "call.trying", ()),
            ("gather_speech", "/amd/call_1", "other", ("ref/call_1",)),
        ],
    )
    async def test_the_path_says_which_hook(self, file: str, path: str, kind: str, known_by: tuple[str, ...]) -> None:
        """Where it has one of our words; else the body's shape does."""
        async with self.connection() as provider:
            heard = await self.heard(provider, file, path)
            assert (str(heard.kind.__struct_config__.tag), heard.known_by) == (kind, known_by)  # type: ignore[attr-defined]

    async def test_an_odd_tag_is_no_reference(self) -> None:
        """`customerData` is whatever the caller of the API has put there."""
        payload = msgspec.json.decode(self.harness.payload("status_trying"))
        odd: list[object] = [
            None,
            7,
            [],
            "x",
            {},
            {"callbridge": "x"},
            {"callbridge": {"call_id": 7}},
            {"callbridge": {"call_id": "a b"}},
        ]
        async with self.connection() as provider:
            for tag in odd:
                (heard,) = self.hear(provider, msgspec.json.encode({**payload, "customerData": tag}))
                assert (heard.known_by, heard.starts_session) == ((), False), tag

    # --- answering ---------------------------------------------------------------------------------------------------

    async def test_a_call_that_is_not_ours_is_held_too(self) -> None:
        """Inbound: the hook has no call id."""
        async with self.connection(hold_seconds=3) as provider:
            assert isinstance(provider, AnswersQuestions)
            answer = provider.fallback(await self.heard(provider, "answer_inbound"))
        hook = f"{PUBLIC}/verb#rc=3&rp=ct,5xx"
        assert msgspec.json.decode(answer.body) == [
            {"verb": "pause", "length": 3},
            {"verb": "redirect", "actionHook": hook},
        ]

    async def test_deadlines_and_fallbacks_by_event(self) -> None:
        """One default; others by the event's name."""
        reply = {
            "deadline_seconds": 6,
            "fallback": [{"type": "speak", "text": "One moment."}],
            "events": {
                "verb.finished": {"deadline_seconds": 2, "fallback": []},
                "user.silent": {"fallback": [{"type": "hangup"}]},
            },
        }
        filler = [{"verb": "say", "text": "One moment."}, TAIL]
        expected: dict[str, tuple[float, object]] = {
            "gather_speech": (6, filler),
            "answer_outbound": (6, filler),
            "gather_timeout": (6, [{"verb": "hangup"}]),
            "dial_finished": (2, HOLD),
            "status_error": (0, None),
        }
        await self.check_replies(reply, expected)

    # --- control -----------------------------------------------------------------------------------------------------

    async def controlled(
        self, answers: list[bytes], *given: actions.Action
    ) -> tuple[list[tuple[str, Any]], Exception | None]:
        """Have actions done against a server that answers like this, one each: request lines and bodies, the error."""
        requests, error = await self.control_against(answers, SID, given)
        return [(line, msgspec.json.decode(body)) for line, body in requests], error

    async def test_control_is_one_put_for_each(self) -> None:
        """In order: keys one by one, a raw body as it is, the end."""
        taken = [http_answer(202, b"Accepted")] * 4
        raw = {"mute_status": "mute"}
        sent, _ = await self.controlled(
            taken, actions.SendDtmf(digits="1#"), actions.RawAction(verb=raw), actions.Hangup()
        )
        assert {line for line, _ in sent} == {f"PUT /v1/Accounts/{ACCOUNT}/Calls/{SID} HTTP/1.1"}
        assert [body for _, body in sent] == [
            {"dtmf": {"digit": "1", "duration": 250}},
            {"dtmf": {"digit": "#", "duration": 250}},
            raw,
            {"call_status": "completed"},
        ]

    async def test_a_call_that_rings_is_cancelled(self) -> None:
        """`completed` is for answered calls; 422 says that this one is not."""
        wrong_state = http_answer(422, b"current call state is incompatible with requested action for call_sid x")
        sent, _ = await self.controlled([wrong_state, http_answer(202)], actions.Hangup())
        assert [body for _, body in sent] == [{"call_status": "completed"}, {"call_status": "no-answer"}]

    @pytest.mark.parametrize(
        ("answers", "error", "words"),
        [
            ([http_answer(422, b"call session is gone for call_sid x")], Rejected, "gone"),
            ([http_answer(422, b"incompatible"), http_answer(422, b"incompatible")], Rejected, "incompatible"),
            ([http_answer(404, b"Not Found")], Rejected, "no record"),
            ([http_answer(403, _msg("insufficient permissions"))], Rejected, "insufficient"),
            ([http_answer(429)], Rejected, "429"),
            ([http_answer(500, _msg("fetch failed"))], Unavailable, "fetch failed"),
            ([b""], Unavailable, "connection_lost"),
        ],
    )
    async def test_control_that_fails_says_why(self, answers: list[bytes], error: type[Exception], words: str) -> None:
        """Refused, or nobody knows."""
        sent, caught = await self.controlled(answers, actions.Hangup())
        assert isinstance(caught, error)
        assert words in str(caught)
        assert len(sent) == len(answers)

    # --- configuring -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("changes", "path", "words"),
        [
            ({"webhook_secrets": []}, "webhook_secrets", "allow_unverified_webhooks"),
            ({"allow_unverified_webhooks": True}, "webhook_secrets", "2 secrets"),
            ({"reply": {"deadline_seconds": 9.6}}, "reply.deadline_seconds", "found 9.6; allowed: 0 to 9.5"),
            ({"reply": {"events": {"call.ended": {}}}}, "reply.events", "'call.ended'"),
            ({"reply": {"fallback": [{"type": "interrupt"}]}}, "reply.fallback[0].type", "'interrupt'"),
            (
                {"reply": {"events": {"user.silent": {"fallback": [{"type": "speak"}]}}}},
                'reply.events."user.silent".fallback[0]',
                "neither text nor ssml",
            ),
            ({"base_url": "https://user:pass@api.invalid"}, "base_url", "'https://***@api.invalid'"),
            ({"public_webhook_url": "https://gw.example/x?y"}, "public_webhook_url", "allowed"),
            ({"public_webhook_url": "wss://gw.example/x"}, "public_webhook_url", "allowed"),
            ({"account_sid": "acc"}, "account_sid", "allowed"),
            ({"from": "a b"}, "from", "allowed"),
            ({"from": "+49"}, "from", "E.164"),
            ({"flavour": "cognify"}, "flavour", "allowed"),
            ({"speech": dict.fromkeys(SPEECH, "x")}, "speech", "an application"),
        ],
    )
    async def test_what_does_not_fit_together_ends_the_start(
        self, changes: dict[str, Any], path: str, words: str
    ) -> None:
        """With the path of the setting, what was found and what is allowed."""
        await self.check_start_is_refused(changes, path, words)

    async def test_a_token_that_no_header_can_hold_ends_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else every dial would fail, with an outcome that nobody could tell from a lost request."""
        monkeypatch.setenv("VG_TOKEN", "new\nline")
        with pytest.raises(Misconfigured) as caught:
            async with self.connection():
                pass
        assert caught.value.path == f"connections.{CONNECTION}.token"

    async def test_defaults(self) -> None:
        """8 s to answer, a quarter of an hour to be heard of, twelve hours to forget."""
        async with self.connection() as provider:
            assert isinstance(provider, AnswersQuestions)
            assert provider.reply_seconds(await self.heard(provider, "gather_speech")) == 8
            assert (provider.match_window_seconds, provider.session_ttl_seconds) == (900, 43200)
            assert provider.name == "jambonz"
