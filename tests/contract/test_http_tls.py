"""TLS and proof: a handshake that fails is `NotSent`, an error of TLS after the request is `Unknown`.

The type of the exception does not tell the two apart; how far the request came does. Certificates are made by openssl
for the length of the test.
"""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import anyio
import pytest

from bridge.model.outcome import NotSent, NotSentReason, Unknown
from bridge.providers.http import Answered, Exchange, HttpClient
from bridge.providers.settings import HttpSettings
from tests.support.raw_http import RawConnection, Script, certificate, http_answer, raw_server

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with"),
]

BODY = b'{"to":"the body of the request"}'
QUICK = HttpSettings(connect_timeout_seconds=0.5, read_timeout_seconds=0.5)
RIGHT, OTHER = "127.0.0.1", "other.invalid"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates for the server's address and for another name."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in (RIGHT, OTHER):
        certificate(folder, name=name)
    return folder


def presenting(folder: Path, name: str = RIGHT) -> ssl.SSLContext:
    """A server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def trusting(folder: Path, name: str = RIGHT) -> ssl.SSLContext:
    """A client's side that trusts this one certificate."""
    return ssl.create_default_context(cafile=folder / f"{name}.pem")


async def ask(url: str, tls: ssl.SSLContext | None) -> Exchange:
    """One POST with a client of its own."""
    async with HttpClient(url, QUICK, tls=tls) as client:
        return await client.send("POST", "/call", content=BODY)


def over_tls(context: ssl.SSLContext, then: Script) -> Script:
    """Do the handshake, then go on."""

    async def script(connection: RawConnection) -> None:
        await connection.start_tls(context)
        await then(connection)

    return script


async def _answer(connection: RawConnection) -> None:
    await connection.read_request()
    await connection.send(http_answer(201, b"{}"))


async def test_a_trusted_server_is_asked(folder: Path) -> None:
    """The control of this file: with the right certificate the request arrives and is answered."""
    async with raw_server(over_tls(presenting(folder), _answer)) as server:
        outcome = await ask(server.tls_url, trusting(folder))
    assert isinstance(outcome, Answered), outcome
    assert BODY in server.bytes_read


@pytest.mark.parametrize(
    ("presented", "trusted"),
    [(RIGHT, None), (RIGHT, OTHER), (OTHER, OTHER)],
    ids=["self-signed, the system's trust", "signed by somebody else", "for another name"],
)
async def test_a_server_that_is_not_believed(folder: Path, presented: str, trusted: str | None) -> None:
    """A certificate that does not hold ends the handshake, and no byte of the request is written: proof."""
    tls = trusting(folder, trusted) if trusted else None
    async with raw_server(over_tls(presenting(folder, presented), _answer)) as server:
        outcome = await ask(server.tls_url, tls)
    assert isinstance(outcome, NotSent), outcome
    assert outcome.reason == "tls_failed"
    assert "certificate verify failed" in (outcome.detail or "")
    assert server.connections == 1
    assert server.bytes_read == b"", "nothing was encrypted for the server"


async def _plain_text(connection: RawConnection) -> None:
    await connection.read()
    await connection.send(http_answer(400, b"plain HTTP"))


async def _hang(connection: RawConnection) -> None:
    await connection.read()
    await anyio.sleep_forever()


async def _close(connection: RawConnection) -> None:
    await connection.read()
    connection.close()


async def _reset(connection: RawConnection) -> None:
    await connection.read()
    connection.reset()


@pytest.mark.parametrize(
    ("script", "reason"),
    [(_plain_text, "tls_failed"), (_hang, "connect_timeout"), (_close, "tls_failed"), (_reset, "tls_failed")],
    ids=["plain text on the port", "no handshake in time", "closed", "reset"],
)
async def test_the_handshake_does_not_end(folder: Path, script: Script, reason: NotSentReason) -> None:
    """What the server read is the beginning of a handshake and holds nothing of the request: proof."""
    async with raw_server(script) as server:
        outcome = await ask(server.tls_url, trusting(folder))
    assert isinstance(outcome, NotSent), outcome
    assert outcome.reason == reason
    assert server.bytes_read.startswith(b"\x16\x03"), "a TLS handshake record"
    assert BODY not in server.bytes_read
    assert server.connections == 1


async def _answer_with_garbage(connection: RawConnection) -> None:
    await connection.read_request()
    await connection.send_plain(b"\x17\x03\x03\x00\x20" + bytes(32))


async def test_a_garbled_record_after_the_request(folder: Path) -> None:
    """httpx2 lets `ssl.SSLError` through here, as for a failed handshake; but the server has read everything."""
    async with raw_server(over_tls(presenting(folder), _answer_with_garbage)) as server:
        outcome = await ask(server.tls_url, trusting(folder))
    assert isinstance(outcome, Unknown), outcome
    assert outcome.reason == "connection_lost"
    assert BODY in server.bytes_read


async def test_a_server_that_wants_a_certificate_of_ours(folder: Path) -> None:
    """In TLS 1.3 the client's handshake is over before the server refuses it: the request has left by then."""
    context = presenting(folder)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / f"{RIGHT}.pem")

    async def refuse(connection: RawConnection) -> None:
        try:
            await connection.start_tls(context)
        except ssl.SSLError:
            await connection.flush_tls()
            await anyio.sleep(0.1)

    async with raw_server(refuse) as server:
        outcome = await ask(server.tls_url, trusting(folder))
    assert isinstance(outcome, Unknown), outcome


async def test_closed_after_the_handshake(folder: Path) -> None:
    """A connection that ends between handshake and request cannot be told from one that ends after it."""

    async def close(connection: RawConnection) -> None:
        connection.close()

    async with raw_server(over_tls(presenting(folder), close)) as server:
        outcome = await ask(server.tls_url, trusting(folder))
    assert isinstance(outcome, Unknown), outcome
    assert outcome.reason == "connection_lost"
    assert server.bytes_read == b""
