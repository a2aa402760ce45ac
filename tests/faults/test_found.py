"""What campaigns have found, each as a small test of its own."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

import bridge.bus.kafka.bus  # noqa: F401 -- brings our changes to aiokafka with it
from bridge.demo.broker import LOOPBACK
from tests.support.brokers import Broker

pytestmark = pytest.mark.anyio


async def test_a_write_to_a_connection_that_was_just_reset(quick_broker: Broker) -> None:
    """It breaks the connection, as aiokafka expects; uvloop's RuntimeError would end its sender for ever."""
    port = int(quick_broker.bootstrap.rpartition(":")[2])
    connection = await create_conn(LOOPBACK, port, request_timeout_ms=5000)
    await connection.send(MetadataRequest([]))
    assert connection._writer is not None
    connection._writer.transport.abort()
    await asyncio.sleep(0)  # the transport is closed now, and the connection's reader hasn't heard of it

    with pytest.raises(KafkaConnectionError):
        await connection.send(MetadataRequest([]))

    assert not connection.connected()
