"""What `Admin.has_members` says of a group as its members come and go, and where the cluster cannot say.

The quick-start broker goes on naming a member that has left: it errs on the side on which nothing is given up.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from bridge.bus.protocol import Admin, TopicPartition
from bridge.model.errors import Unavailable
from tests.contract.bus_support import PATIENCE_SECONDS, Member, bus_at, make_topic
from tests.support.apache_kafka import _artefacts
from tests.support.brokers import Broker

pytestmark = pytest.mark.anyio

# The newer protocol (KIP-848) is not in aiokafka. Ends when its input does, so it cannot outlive the test.
NEWER = """
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Newer {
    public static void main(String[] given) throws Exception {
        var config = new HashMap<String, Object>();
        config.put("bootstrap.servers", given[0]);
        config.put("group.id", given[2]);
        config.put("group.protocol", "consumer");
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(given[1]));
            while (consumer.assignment().isEmpty()) consumer.poll(Duration.ofMillis(100));
            System.out.println("joined");
            while (System.in.available() == 0) consumer.poll(Duration.ofMillis(100));
        }
    }
}
"""


async def becomes(admin: Admin, group_id: str, *, has_members: bool) -> None:
    """Ask until it is so. The very first group of a cluster has no coordinator at first."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(Unavailable):
                if await admin.has_members(group_id) is has_members:
                    return


async def test_a_member_is_seen_at_once(broker: Broker, topic_prefix: str) -> None:
    """A group that never was, and one with a member."""
    bus = bus_at(broker.bootstrap)
    topic, group_id = await make_topic(bus, topic_prefix + "t"), topic_prefix + "g"
    member = Member("a", [])
    async with bus.admin() as admin:
        await becomes(admin, group_id, has_members=False)
        async with member.joined(bus, group_id, [topic]):
            await member.poll_until(lambda: TopicPartition(topic, 0) in member.held)
            assert await admin.has_members(group_id)


async def test_a_group_that_all_have_left(apache_kafka: Broker, topic_prefix: str) -> None:
    """It is still there, with what it committed, and has no members."""
    bus = bus_at(apache_kafka.bootstrap)
    topic, group_id = await make_topic(bus, topic_prefix + "t"), topic_prefix + "g"
    member = Member("a", [])
    async with bus.admin() as admin:
        async with member.joined(bus, group_id, [topic]) as consumer:
            await member.poll_until(lambda: TopicPartition(topic, 0) in member.held)
            await consumer.commit({TopicPartition(topic, 0): 0})
        await becomes(admin, group_id, has_members=False)


async def test_a_group_amid_a_rebalance_has_members(apache_kafka: Broker, topic_prefix: str) -> None:
    """A member that does not answer a rebalance yet is one all the same."""
    bus = bus_at(apache_kafka.bootstrap)
    topic, group_id = await make_topic(bus, topic_prefix + "t", partitions=2), topic_prefix + "g"
    first, second = Member("a", []), Member("b", [])
    first.hold_revocation = anyio.Event()
    async with bus.admin() as admin, first.joined(bus, group_id, [topic]), anyio.create_task_group() as tasks:
        await first.poll_until(lambda: len(first.held) == 2)
        await tasks.start(first.work)
        async with second.joined(bus, group_id, [topic]):
            with anyio.fail_after(PATIENCE_SECONDS):
                await first.revoking.wait()
            assert await admin.has_members(group_id)
            first.hold_revocation.set()
            await second.poll_until(lambda: len(second.held) == 1)
        tasks.cancel_scope.cancel()


async def test_a_group_of_the_newer_protocol_is_not_taken_to_be_empty(
    apache_kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    """To the request that we have, such a group looks like one that never was."""
    bus = bus_at(apache_kafka.bootstrap)
    topic, group_id = await make_topic(bus, topic_prefix + "t"), topic_prefix + "g"
    async with newer_member(apache_kafka.bootstrap, topic, group_id, tmp_path), bus.admin() as admin:
        with pytest.raises(Unavailable, match="not of the classic protocol"):
            await admin.has_members(group_id)


@asynccontextmanager
async def newer_member(bootstrap: str, topic: str, group_id: str, folder: Path) -> AsyncIterator[None]:
    """A member by Java's client, joined for the length of the block."""
    java = shutil.which("java", path=str(Path(os.environ["JAVA_HOME"]) / "bin") if "JAVA_HOME" in os.environ else None)
    if java is None or shutil.which("javac") is None:
        pytest.skip("needs a Java development kit (17 or newer)")
    (folder / "Newer.java").write_text(NEWER)
    command = [java, "-Xmx256m", "-cp", f"{_artefacts()}/*", str(folder / "Newer.java"), bootstrap, topic, group_id]
    async with await anyio.open_process(command, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                assert b"joined" in await process.stdout.receive()
            yield
            await process.stdin.send(b"\n")
            with anyio.fail_after(PATIENCE_SECONDS):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
