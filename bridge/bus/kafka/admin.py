"""Topics: what they look like, and creating them. Groups: whether anybody is there.

Promises never to create a topic by looking at it, and to say of a topic's settings what the cluster is willing to
say, be it nothing. Which settings are good ones is left to the checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from bridge.bus.kafka.connection import Connection, unavailable
from bridge.bus.protocol import TopicInfo
from bridge.model.errors import Unavailable

ASKED: Final = (
    "cleanup.policy",
    "max.message.bytes",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "retention.ms",
    "unclean.leader.election.enable",
)
"""What `TopicInfo.config` may hold."""


_EMPTY: Final = "Empty"
_DEAD: Final = "Dead"
"""States of a group as Kafka spells them; dead is also what there never was."""


class KafkaAdmin:
    """Open it with `opened`."""

    def __init__(self, client: AIOKafkaAdminClient, connection: Connection) -> None:
        self._client = client
        self._timeout_seconds = connection.settings.request_timeout_seconds

    async def describe(self, topics: Sequence[str]) -> Mapping[str, TopicInfo]:
        """Those that exist."""
        with unavailable("describe topics"):
            async with asyncio.timeout(self._timeout_seconds):
                # All topics: a request that names one would create it where brokers do that by themselves (row 14).
                found = [each for each in await self._client.describe_topics() if each["topic"] in topics]
        configs = await self._configs([each["topic"] for each in found])
        return {each["topic"]: _info(each, configs.get(each["topic"], {})) for each in found if not each["error_code"]}

    async def create(self, topic: str, *, partitions: int, replication_factor: int, config: Mapping[str, str]) -> None:
        """Create a topic, or find it there."""
        what = f"create topic {topic}"
        new = NewTopic(topic, partitions, replication_factor, topic_configs=dict(config))
        with unavailable(what):
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.create_topics([new])
        for _, code, *message in response.topic_errors:
            error = for_code(code)
            if error not in {NoError, TopicAlreadyExistsError}:
                raise Unavailable(f"{what}: refused: {error.__name__}: {' '.join(map(str, message))}")

    async def has_members(self, group_id: str) -> bool:
        """Any state but `Empty` and `Dead` means that members are there or on their way."""
        what = f"describe group {group_id}"
        with unavailable(what):
            async with asyncio.timeout(self._timeout_seconds):
                (response,) = await self._client.describe_consumer_groups([group_id])
                ((code, _, state, *_),) = response.groups
                if (error := for_code(code)) is not NoError:
                    raise error(what)
                if state == _DEAD:
                    await self._check_is_gone(group_id)
        return state not in {_EMPTY, _DEAD}

    async def _check_is_gone(self, group_id: str) -> None:
        """A group of the newer protocol (KIP-848) is described as dead to clients that only know the older one."""
        if any(name == group_id for name, *_ in await self._client.list_consumer_groups()):
            raise Unavailable(f"describe group {group_id}: it is not of the classic protocol")

    async def _configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Nice to have: not every broker answers this, and not everybody is allowed to ask."""
        if not topics:
            return {}
        # All entries: the quick-start broker answers nothing where names are given.
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        try:
            async with asyncio.timeout(self._timeout_seconds):
                responses = await self._client.describe_configs(asked)
        except (KafkaError, OSError):
            return {}
        return {name: _entries(entries) for each in responses for _, _, _, name, entries in each.resources}


def _info(topic: Mapping[str, Any], config: Mapping[str, str]) -> TopicInfo:
    partitions = topic["partitions"]
    replicas = min((len(each["replicas"]) for each in partitions), default=0)
    return TopicInfo(len(partitions), replicas, config)


def _entries(entries: Sequence[Sequence[Any]]) -> Mapping[str, str]:
    return {name: value for name, value, *_ in entries if name in ASKED and value is not None}


@asynccontextmanager
async def opened(connection: Connection) -> AsyncIterator[KafkaAdmin]:
    """A client for topics, for the length of the block."""
    client = await connection.started(lambda: AIOKafkaAdminClient(**connection.arguments("admin")))
    try:
        yield KafkaAdmin(client, connection)
    finally:
        await connection.stop(client)
