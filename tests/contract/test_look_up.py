"""Asking how a call stands (`CanLookUp`): what each record means, and that it proves no more than it says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest

from bridge.model.errors import Unavailable
from bridge.model.events import Ended
from bridge.providers.protocol import CanLookUp, Live, NoRecord, Over, Standing
from tests.contract.test_capabilities import suite_of
from tests.support.raw_http import answering, http_answer, raw_server

pytestmark = pytest.mark.anyio

SESSION = "98e4dd21-b178-4af1-83b6-3c1582893890"
PATHS = {
    "hms_sovereign": f"GET /calls/{SESSION} HTTP/1.1",
    "jambonz": f"GET /v1/Accounts/9351f46a-678c-43f5-b8a6-d4eb58d131af/Calls/{SESSION} HTTP/1.1",
    "twilio": f"GET /2010-04-01/Accounts/AC{'0' * 32}/Calls/{SESSION}.json HTTP/1.1",
}
ENDED_AT = datetime(2026, 1, 1, 0, 0, 41, tzinfo=UTC)
RECORDS: Mapping[str, list[tuple[dict[str, object], Standing]]] = {
    # contract 3.2: fields and statuses
    "hms_sovereign": [
        ({"status": "dialing"}, Live()),
        ({"status": "connecting"}, Live()),
        ({"status": "ringing"}, Live()),
        ({"status": "in-progress", "ended_at": None}, Live()),
        (
            {
                "status": "ended",
                "direction": "outbound",
                "end_reason": "user_hangup",
                "ended_at": "2026-01-01T00:00:41Z",
                "duration_seconds": 41,
            },
            Over(
                Ended(reason="completed", provider_reason="user_hangup", ended_by="callee", duration_seconds=41.0),
                at=ENDED_AT,
            ),
        ),
        ({"status": "ended", "ended_at": "2026-01-01T00:00:41"}, Over(Ended(reason="completed"), at=ENDED_AT)),
        (
            {"status": "ended-with-error", "error": "no line", "ended_at": 7},
            Over(Ended(reason="failed", provider_reason="no line")),
        ),
        ({"status": "transferred"}, Over(Ended(reason="transferred", provider_reason="transferred"))),
        ({"status": "rejected"}, Over(Ended(reason="rejected", provider_reason="rejected"))),
        ({"status": "failed"}, Over(Ended(reason="failed", provider_reason="failed"))),
        ({"status": "insufficient-credits"}, Over(Ended(reason="failed", provider_reason="insufficient-credits"))),
        ({"status": "on-hold"}, NoRecord()),
        ({"status": 7}, NoRecord()),
        ({}, NoRecord()),
    ],
    # contract 4 and 7: a record has the fields of a status, no times
    "jambonz": [
        ({"call_status": "queued"}, Live()),
        ({"call_status": "trying"}, Live()),
        ({"call_status": "ringing"}, Live()),
        ({"call_status": "early-media"}, Live()),
        ({"call_status": "in-progress", "sip_status": 200}, Live()),
        (
            {"call_status": "completed", "duration": 12, "call_termination_by": "caller", "sip_status": 200},
            Over(
                Ended(
                    reason="completed",
                    provider_reason="completed",
                    ended_by="callee",
                    duration_seconds=12.0,
                    sip_status=200,
                )
            ),
        ),
        (
            {"call_status": "busy", "sip_status": 486},
            Over(Ended(reason="busy", provider_reason="busy", sip_status=486)),
        ),
        ({"call_status": "no-answer"}, Over(Ended(reason="no_answer", provider_reason="no-answer"))),
        ({"call_status": "failed"}, Over(Ended(reason="failed", provider_reason="failed"))),
        ({"call_status": "on-hold"}, NoRecord()),
        ({"call_status": None}, NoRecord()),
    ],
    # docs/contracts-twilio.md 4: durations are strings, times RFC 2822
    "twilio": [
        ({"status": "queued", "duration": None, "end_time": None}, Live()),
        ({"status": "initiated"}, Live()),
        ({"status": "ringing"}, Live()),
        ({"status": "in-progress"}, Live()),
        (
            {"status": "completed", "duration": "41", "end_time": "Thu, 01 Jan 2026 00:00:41 +0000"},
            Over(Ended(reason="completed", provider_reason="completed", duration_seconds=41), at=ENDED_AT),
        ),
        (
            {"status": "no-answer", "duration": "0", "end_time": "soon"},
            Over(Ended(reason="no_answer", provider_reason="no-answer", duration_seconds=0)),
        ),
        ({"status": "canceled"}, Over(Ended(reason="cancelled", provider_reason="canceled"))),
        ({"status": "on-hold"}, NoRecord()),
        ({"status": 7}, NoRecord()),
    ],
}
CASES = [(name, record, standing) for name, records in RECORDS.items() for record, standing in records]


@pytest.fixture(autouse=True)
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets of the provider that is tried."""
    for variable, value in suite_of(request.getfixturevalue("name")).harness.secrets.items():
        monkeypatch.setenv(variable, value)


async def asked(name: str, answer: bytes) -> tuple[Standing | Unavailable, list[bytes]]:
    """What this answer means, and what was asked."""
    async with raw_server(answering(answer)) as server, suite_of(name).connection(server.url) as provider:
        assert isinstance(provider, CanLookUp)
        try:
            return await provider.look_up(SESSION), list(server.requests)
        except Unavailable as error:
            return error, list(server.requests)


@pytest.mark.parametrize(("name", "record", "standing"), CASES)
async def test_a_record_means(name: str, record: dict[str, object], standing: Standing) -> None:
    """One request for this call, and the standing its status has."""
    body = msgspec.json.encode({"id": SESSION, "call_sid": SESSION, "direction": "outbound", **record})
    found, requests = await asked(name, http_answer(200, body))
    assert found == standing
    [request] = requests
    assert request.decode().startswith(PATHS[name])


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("status", [400, 404, 410])
async def test_no_record_is_no_proof(name: str, status: int) -> None:
    """What is not known may have been forgotten."""
    assert (await asked(name, http_answer(status, b"Not Found")))[0] == NoRecord()


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"<html>", b'{"status":{}}', b"[" * 100_000])
async def test_what_cannot_be_read_is_no_proof(name: str, body: bytes) -> None:
    """A success that is no record is none."""
    assert (await asked(name, http_answer(200, body)))[0] == NoRecord()


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_what_is_not_about_the_call_is_no_answer(name: str, status: int) -> None:
    """It is asked again later; the error holds no secret that the provider repeats."""
    [token] = [value for variable, value in suite_of(name).harness.secrets.items() if "TOKEN" in variable]
    words = f"who is {token}?"
    error, _ = await asked(name, http_answer(status, msgspec.json.encode({"msg": words, "message": words})))
    assert isinstance(error, Unavailable)
    assert str(status) in str(error)
    assert "who is" in str(error)
    assert token not in str(error)


@pytest.mark.parametrize("name", RECORDS)
async def test_nobody_there(name: str) -> None:
    """No connection is no answer."""
    async with suite_of(name).connection("http://127.0.0.1:9") as provider:
        assert isinstance(provider, CanLookUp)
        with pytest.raises(Unavailable):
            await provider.look_up(SESSION)
