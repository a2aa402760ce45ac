"""What the gateway relies on, asked of the brokers that the other tests run on: topics, acks, groups, faults.

Both brokers get the first half; the second half breaks an Apache Kafka of its own, and the proxy in front of it. The
clients are aiokafka's, used as plainly as can be: how to use them well is bridge/bus/kafka.py's business.
"""

import asyncio
import contextlib
import functools
import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import PIPE

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError

from bridge.demo.broker import POLL_SECONDS, BrokerError, QuickStartBroker, free_ports, live_brokers
from tests.support import apache_kafka as apache
from tests.support.apache_kafka import ApacheKafka, KafkaUnavailableError
from tests.support.brokers import APACHE_KAFKA, QUICK_START, Broker, OwnKafka
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.anyio

PARTITIONS = 3
RECORDS = [(f"call-{n}".encode(), f"value-{n}".encode()) for n in range(30)]
SECONDS = 20.0
LIMIT_BYTES = 32_000_000

# 6 s is the least a cluster with Kafka's defaults allows. On the quick-start broker half a session passes before the
# first member of a group has joined, and up to two when another one left before it.
SESSION_MS = {APACHE_KAFKA: 6000, QUICK_START: 1000}


@contextlib.asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client for the length of the context."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that waits for every acknowledgement and gives up after two seconds."""
    client = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", request_timeout_ms=2000, retry_backoff_ms=50, metadata_max_age_ms=1000
    )
    try:
        await client.start()
        yield client
    finally:
        await client.stop()


@contextlib.asynccontextmanager
async def consumer(
    bootstrap: str, *topics: str, group: str | None = None, session_ms: int = 6000
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer from the beginning on, a member of `group` when there is one."""
    client = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=session_ms // 5,
    )
    try:
        await client.start()
        yield client
    finally:
        # stop() ends in a CancelledError of its own making and leaves the connections open (aiokafka 0.14).
        await asyncio.wait([asyncio.ensure_future(client.stop())], timeout=SECONDS)
        await client._client.close()


async def create(bootstrap: str, topic: str, **configs: str) -> None:
    """Create a topic."""
    async with admin(bootstrap) as client:
        reply = await client.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=configs)])
        assert [code for _, code, *_ in reply.topic_errors] == [0]


async def config(bootstrap: str, resource: ConfigResource) -> dict[str, str]:
    """A resource's settings as the broker tells them."""
    async with admin(bootstrap) as client:
        [reply] = await client.describe_configs([resource])
        [(code, *_, entries)] = reply.resources
        assert code == 0
        return {entry[0]: entry[1] for entry in entries}


async def produce(bootstrap: str, topic: str) -> None:
    """Send all records, each acknowledged before the next."""
    async with producer(bootstrap) as client:
        for key, value in RECORDS:
            await client.send_and_wait(topic, value, key=key)


async def read(client: AIOKafkaConsumer, count: int) -> list[tuple[bytes, bytes]]:
    """The next `count` records."""
    found: list[tuple[bytes, bytes]] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            batches = await client.getmany(timeout_ms=100, max_records=count - len(found))
            found += [(record.key, record.value) for batch in batches.values() for record in batch]
    return found


async def read_all(bootstrap: str, topic: str) -> list[tuple[bytes, bytes]]:
    """The whole topic, by a reader without a group; sorted, for partitions have no order among them."""
    async with consumer(bootstrap) as client:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        client.assign(partitions)
        ends = await client.end_offsets(partitions)
        return sorted(await read(client, sum(ends.values())))


# Both brokers.


@pytest.mark.parametrize("policy", ["compact", "delete"])
async def test_a_topic_keeps_its_partitions_and_policy(broker: Broker, topic_prefix: str, policy: str) -> None:
    """A topic has the partitions and the cleanup policy it was created with."""
    topic = topic_prefix + policy
    await create(broker.bootstrap, topic, **{"cleanup.policy": policy})
    async with admin(broker.bootstrap) as client:
        [described] = await client.describe_topics([topic])
    assert len(described["partitions"]) == PARTITIONS
    settings = await config(broker.bootstrap, ConfigResource(ConfigResourceType.TOPIC, topic))
    assert settings["cleanup.policy"] == policy


async def test_records_are_read_back_whole(broker: Broker, topic_prefix: str) -> None:
    """Every acknowledged record can be read, as often as one likes, with its key and value."""
    topic = topic_prefix + "records"
    await create(broker.bootstrap, topic)
    await produce(broker.bootstrap, topic)
    assert await read_all(broker.bootstrap, topic) == sorted(RECORDS)
    assert await read_all(broker.bootstrap, topic) == sorted(RECORDS)


async def test_a_group_goes_on_where_it_committed(broker: Broker, topic_prefix: str) -> None:
    """The next member of a group gets exactly the records after the commit, another group gets all of them."""
    topic = topic_prefix + "records"
    await create(broker.bootstrap, topic)
    await produce(broker.bootstrap, topic)
    join = functools.partial(consumer, broker.bootstrap, topic, session_ms=SESSION_MS[broker.name])
    async with join(group=topic_prefix + "a") as first:
        before = await read(first, 10)
        await first.commit()
        uncommitted = await read(first, 10)
    async with join(group=topic_prefix + "a") as second:
        after = await read(second, 20)
    assert set(uncommitted) < set(after)
    assert sorted(before + after) == sorted(RECORDS)
    async with join(group=topic_prefix + "b") as other:
        assert sorted(await read(other, len(RECORDS))) == sorted(RECORDS)


# Apache Kafka.


async def test_min_insync_replicas_can_be_read(apache_kafka: Broker, topic_prefix: str) -> None:
    """What a topic asks for its acknowledgements is told, set or not."""
    await create(apache_kafka.bootstrap, topic_prefix + "set", **{"min.insync.replicas": "2"})
    await create(apache_kafka.bootstrap, topic_prefix + "unset")
    for topic, expected in [("set", "2"), ("unset", "1")]:
        settings = await config(apache_kafka.bootstrap, ConfigResource(ConfigResourceType.TOPIC, topic_prefix + topic))
        assert settings["min.insync.replicas"] == expected


async def test_topics_are_not_created_by_asking(apache_kafka: Broker, topic_prefix: str) -> None:
    """Producing to a topic nobody created fails and creates nothing."""
    async with producer(apache_kafka.bootstrap) as client:
        with pytest.raises(KafkaError):
            await client.send_and_wait(topic_prefix + "nobody", b"value")
    async with admin(apache_kafka.bootstrap) as client:
        assert topic_prefix + "nobody" not in await client.list_topics()


# Faults, on a node of our own that advertises a proxy's port on its second listener.


@pytest.fixture(scope="module")
def kafka(own_kafka: OwnKafka, proxy_port: int) -> ApacheKafka:
    """One node for all faults: each test heals what it breaks."""
    return own_kafka(advertised_port=proxy_port)


@pytest.fixture(scope="module")
def proxy_port() -> int:
    """Where the proxy will stand; the node must know it before the proxy can know the node."""
    return free_ports(1)[0]


@pytest.mark.parametrize("fault", ["restart", "kill"])
async def test_data_and_address_survive(kafka: ApacheKafka, topic_prefix: str, fault: str) -> None:
    """Acknowledged records are there, at the same address, after an orderly end and after SIGKILL."""
    await create(kafka.bootstrap, topic_prefix + "records")
    await produce(kafka.bootstrap, topic_prefix + "records")
    if fault == "restart":
        await asyncio.to_thread(kafka.restart)
    else:
        kafka.kill()
        with pytest.raises(KafkaConnectionError):
            await read_all(kafka.bootstrap, topic_prefix + "records")
        await asyncio.to_thread(kafka.start)
    assert await read_all(kafka.bootstrap, topic_prefix + "records") == sorted(RECORDS)


async def test_a_paused_broker_fails_a_send_and_a_resumed_one_takes_it(kafka: ApacheKafka, topic_prefix: str) -> None:
    """A send to a broker that stands still ends with its time-out, and the same producer goes on after it resumes."""
    topic = topic_prefix + "records"
    await create(kafka.bootstrap, topic)
    async with producer(kafka.bootstrap) as client:
        await client.send_and_wait(topic, b"before")
        kafka.pause()
        try:
            with pytest.raises(KafkaError):
                await asyncio.wait_for(client.send_and_wait(topic, b"meanwhile"), SECONDS)
        finally:
            kafka.resume()
        await eventually_sent(client, topic)


async def eventually_sent(client: AIOKafkaProducer, topic: str) -> None:
    """Send until it is acknowledged: the first attempts may meet what the fault left behind."""
    async with asyncio.timeout(SECONDS):
        while True:
            with contextlib.suppress(KafkaError):
                await client.send_and_wait(topic, b"after")
                return


@pytest.mark.parametrize("fault", ["refuse", "stall"])
async def test_a_client_behind_the_proxy_meets_its_faults(
    kafka: ApacheKafka, proxy_port: int, topic_prefix: str, fault: str
) -> None:
    """A client that came through the proxy stays on it: it fails with it, heals with it, and loses nothing."""
    topic = topic_prefix + "records"
    await create(kafka.bootstrap, topic)
    async with (
        TcpProxy("127.0.0.1", kafka.proxied_port, port=proxy_port) as proxy,
        producer(f"127.0.0.1:{proxy.port}") as client,
    ):
        await client.send_and_wait(topic, b"before")
        if fault == "stall":
            proxy.stall()
        else:
            proxy.refuse()
            proxy.cut()
        with pytest.raises(KafkaError):
            await asyncio.wait_for(client.send_and_wait(topic, b"meanwhile"), SECONDS)
        await proxy.accept()
        proxy.resume()
        await eventually_sent(client, topic)
    values = [value for _, value in await read_all(kafka.bootstrap, topic)]
    assert {b"before", b"after"} <= set(values)


async def test_the_proxy_resets_holds_back_and_refuses() -> None:
    """Bytes pass, wait while stalled, arrive after resuming; cut is a reset and refuse a refusal."""
    async with echo_server() as port, TcpProxy("127.0.0.1", port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.stall()
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.2)
        proxy.resume()
        assert await reader.readexactly(3) == b"two"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"six")
        assert await reader.readexactly(3) == b"six"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        await proxy.accept()
        _, again = await asyncio.open_connection("127.0.0.1", proxy.port)
        for each in (writer, again):
            each.close()
            with contextlib.suppress(ConnectionError):
                await each.wait_closed()


async def test_the_proxy_passes_ends_of_files_and_holds_little() -> None:
    """A side that doesn't read stops the other from writing without end; the end of the bytes passes in both ways."""
    async with echo_server() as port, TcpProxy("127.0.0.1", port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.stall()
        sent = await written_until_stuck(writer)
        assert sent < LIMIT_BYTES
        proxy.resume()
        writer.write_eof()
        assert len(await asyncio.wait_for(reader.read(-1), SECONDS)) == sent
        writer.close()
        await writer.wait_closed()


async def written_until_stuck(writer: asyncio.StreamWriter) -> int:
    """How many bytes were written, all but the last lump of them taken, before writing got stuck."""
    sent = 0
    while sent < LIMIT_BYTES:
        writer.write(b"x" * 100_000)
        sent += 100_000
        try:
            await asyncio.wait_for(writer.drain(), 0.5)
        except TimeoutError:
            break
    return sent


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """A server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


# The processes.


def test_no_quick_start_broker_outlives_a_killed_python(tmp_path: Path) -> None:
    """The quick-start broker ends even when the Python process that started it gets SIGKILL."""
    kill_the_owner_of("bridge.demo.broker", "QuickStartBroker", tmp_path)


def test_no_apache_kafka_outlives_a_killed_python(kafka: ApacheKafka, tmp_path: Path) -> None:
    """Apache Kafka ends even when the Python process that started it gets SIGKILL."""
    kill_the_owner_of("tests.support.apache_kafka", "ApacheKafka", tmp_path)


def kill_the_owner_of(module: str, name: str, directory: Path) -> None:
    """Start the broker in a Python process, kill that, and wait until the broker and its files are gone."""
    program = f"from {module} import {name} as B\nwith B() as broker: print(broker.bootstrap, flush=True); input()"
    environment = {**os.environ, "TMPDIR": str(directory)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=apache.ROOT, env=environment, stdin=PIPE, stdout=PIPE) as owner:
        assert owner.stdout
        host, _, port = owner.stdout.readline().decode().strip().rpartition(":")
        assert live_brokers((host, int(port))) == 1
        owner.kill()
    deadline = time.monotonic() + SECONDS
    while live_brokers((host, int(port))) or list(directory.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)


@pytest.mark.parametrize("missing", ["java", "mvn"])
def test_what_apache_kafka_needs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str) -> None:
    """Without Java, and without Maven while the cache is empty, the error names the program that is missing."""
    if missing == "mvn":
        (tmp_path / "java").symlink_to(sys.executable)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(apache, "CACHE", tmp_path / "cache")
    with pytest.raises(KafkaUnavailableError, match=f"no `{missing}`"):
        ApacheKafka().start()


def test_what_the_quick_start_broker_needs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the wheel, and without tansu on the path, the error names the extra to install."""

    def not_installed(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", not_installed)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match=r"callbridge\[demo\]"), QuickStartBroker():
        pass
