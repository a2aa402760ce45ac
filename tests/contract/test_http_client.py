"""What the HTTP client does besides telling outcomes: what it puts on the wire, and what it leaves alone.

No redirects, no retries, no cookies, no proxies from the environment, no credentials in logs. One request out is
one request on the wire.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.model.outcome import Unknown
from bridge.providers.http import Answered, Exchange, HttpClient
from bridge.providers.settings import HttpSettings
from tests.support.raw_http import answering, http_answer, raw_server

pytestmark = pytest.mark.anyio

CREATED = http_answer(201, b'{"id":1}', "X-Seen: a\r\nX-Seen: b\r\n")


def answered(outcome: Exchange) -> Answered:
    """The answer, if it is one."""
    assert isinstance(outcome, Answered), outcome
    return outcome


@asynccontextmanager
async def asked(answer: bytes, settings: HttpSettings | None = None) -> AsyncIterator[HttpClient]:
    """A client of a server that always says this."""
    async with raw_server(answering(answer)) as server, HttpClient(server.url, settings or HttpSettings()) as client:
        yield client


async def test_a_request_on_the_wire() -> None:
    """Method, path behind the base URL, query, headers of client and request, and the body; nothing else."""
    async with raw_server(answering(CREATED)) as server:
        client = HttpClient(server.url + "/v3/", HttpSettings(), headers={"authorization": "Bearer t"})
        async with client:
            query = {"to": "+49 30&1", "x": "ä"}
            outcome = await client.send(
                "POST", "/flows/a%2Fb/call", query=query, headers={"content-type": "text/plain"}, content=b"body"
            )
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v3/flows/a%2Fb/call?to=%2B49%2030%261&x=%C3%A4 HTTP/1.1"
    assert sorted(head.lower().split(b"\r\n")[1:]) == [
        b"accept-encoding: identity",
        b"authorization: bearer t",
        b"content-length: 4",
        b"content-type: text/plain",
        f"host: 127.0.0.1:{server.port}".encode(),
        b"user-agent: callbridge",
    ]
    assert body == b"body"
    answer = answered(outcome)
    assert (answer.status, answer.body, answer.headers["x-seen"]) == (201, b'{"id":1}', "a, b")


@pytest.mark.parametrize("status", [204, 301, 302, 307, 401, 407, 421, 425, 429, 500, 503])
async def test_every_status_is_an_answer_and_asked_for_once(status: int) -> None:
    """Redirects are not followed, log-ins and overload not tried again: what it means is the provider's to say."""
    headers = "location: /elsewhere\r\nretry-after: 0\r\nwww-authenticate: Basic\r\n"
    script = answering(http_answer(status, b"", headers))
    async with raw_server(script) as server, HttpClient(server.url, HttpSettings()) as client:
        assert answered(await client.send("POST", "/call")).status == status
    assert len(server.requests) == 1


async def test_an_interim_answer_is_not_the_answer() -> None:
    """What comes before with a 1xx status is passed over."""
    async with asked(b"HTTP/1.1 103 Early Hints\r\n\r\n" + CREATED) as client:
        assert answered(await client.send("POST", "/call")).status == 201


async def test_cookies_are_not_kept() -> None:
    """What one call is told does not go out with the next."""
    script = answering(http_answer(201, b"", "set-cookie: a=b; path=/\r\n"))
    async with raw_server(script) as server, HttpClient(server.url, HttpSettings()) as client:
        for _ in range(2):
            await client.send("POST", "/call")
    assert len(server.requests) == 2
    assert b"cookie" not in server.bytes_read.lower()


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would see credentials, and could answer in the provider's place."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with raw_server(answering(CREATED)) as server, HttpClient(server.url, HttpSettings()) as client:
        answered(await client.send("POST", "/call"))


async def test_a_compressed_answer_is_not_unpacked() -> None:
    """The cap on bytes is one on what is held in memory: nothing small becomes large."""
    packed = http_answer(200, b"\x1f\x8b not unpacked", "content-encoding: gzip\r\n")
    async with asked(packed) as client:
        assert answered(await client.send("POST", "/call")).body == b"\x1f\x8b not unpacked"


async def test_an_answer_of_exactly_the_cap() -> None:
    """`max_response_bytes` is what may come, not what may not."""
    async with asked(http_answer(201, b"x" * 1024), HttpSettings(max_response_bytes=1024)) as client:
        assert len(answered(await client.send("POST", "/call")).body) == 1024


async def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """httpcore2's debug log holds every header: it stays silent even when everything else is on DEBUG."""
    with caplog.at_level(logging.DEBUG):
        async with asked(CREATED) as client:
            answered(await client.send("POST", "/call", headers={"authorization": "Bearer t0p"}))
    assert not [record for record in caplog.records if record.name.startswith(("httpx2", "httpcore2"))]


@pytest.mark.parametrize(
    "settings",
    [
        HttpSettings(),
        pytest.param(
            HttpSettings(keep_alive_seconds=5),
            marks=pytest.mark.xfail(reason="httpcore2 2.16.2 keeps the surplus; why keep-alive is off by default"),
        ),
    ],
    ids=["by default", "with keep-alive"],
)
async def test_bytes_after_an_answer_do_not_answer_the_next_request(settings: HttpSettings) -> None:
    """A server that says more than it announced must not have its surplus taken for the next call's answer."""
    surplus = http_answer(201, b"surplus")
    async with raw_server(answering(CREATED + surplus)) as server, HttpClient(server.url, settings) as client:
        answered(await client.send("POST", "/call"))
        outcome = await client.send("POST", "/call")
    assert isinstance(outcome, Unknown) or b"surplus" not in answered(outcome).body


@pytest.mark.parametrize(
    "base_url",
    ["", "api.example", "ftp://api.example", "https://", "https://user:pass@api.example", "https://api.example?x=1"],
)
def test_a_base_url_that_is_none(base_url: str) -> None:
    """It is refused before anything is opened, in words that do not repeat it."""
    with pytest.raises(ValueError, match="absolute http or https URL") as caught:
        HttpClient(base_url, HttpSettings())
    assert "pass" not in str(caught.value)
