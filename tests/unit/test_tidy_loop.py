"""The tests' own loop: what a test leaves open is a failure with a name, not a session that hangs."""

from __future__ import annotations

import asyncio

import pytest

from bridge.demo.broker import LOOPBACK
from tests.support.loop import TidyLoop


def test_what_is_left_open_is_closed_and_named() -> None:
    """`close` returns although warnings are errors, and says what nobody closed."""
    loop = TidyLoop()
    loop.run_until_complete(loop.create_server(asyncio.Protocol, LOOPBACK, 0))
    with pytest.raises(ResourceWarning, match="TCPServer"):
        loop.close()
    assert loop.is_closed()


def test_an_orderly_end_is_silent() -> None:
    """Whoever closes what was opened hears nothing, also the second time."""
    loop = TidyLoop()
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, LOOPBACK, 0))
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.close()
    loop.close()
    assert loop.is_closed()
