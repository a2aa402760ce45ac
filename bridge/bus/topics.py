"""Topics as the configuration wants them against topics as the cluster has them.

Promises that the daemon starts only on topics that can keep its promises: all there, those that belong together with
equal partition counts, the ledger compacted. What is missing is created where the configuration allows it, else
reported with the command that creates it; what is merely risky is said and left to the operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from bridge.bus.protocol import TopicAdmin, TopicInfo
from bridge.model.errors import Misconfigured
from bridge.runtime.settings import LEDGER_COMPACTION_LAG_MS, Topic, Topics

_TOGETHER = (("commands", "ledger"), ("events", "actions", "action_results"))
_SAFE_IN_SYNC = 2


def commands_to_create(topics: Topics, *, missing: frozenset[str] | None = None) -> list[str]:
    """One `kafka-topics.sh` line for each topic (of those named in `missing`, if given)."""
    return [_line(topic) for topic in topics.by_use().values() if missing is None or topic.name in missing]


class Found(msgspec.Struct, frozen=True):
    """The topics as they are: how many partitions commands have, and what the operator should know."""

    commands_partitions: int
    risks: list[str]


async def ensure(admin: TopicAdmin, topics: Topics, *, config_file: str) -> Found:
    """See to it that the topics are there and fit together.

    Raises:
        Misconfigured: topics are missing and may not be created, or partition counts or clean-up do not fit.
        Unavailable: the cluster does not answer.
    """
    found = await admin.describe([topic.name for topic in topics.by_use().values()])
    missing = frozenset(topic.name for topic in topics.by_use().values()) - found.keys()
    if missing and not topics.create_missing:
        lines = "\n  ".join(commands_to_create(topics, missing=missing))
        raise Misconfigured(
            config_file,
            "topics",
            found=f"a cluster without the topics {', '.join(sorted(missing))}",
            allowed=f"topics.create_missing = true, or create them:\n  {lines}",
        )
    for topic in topics.by_use().values():
        if topic.name in missing:
            await admin.create(
                topic.name,
                partitions=topic.partitions,
                replication_factor=topic.replication_factor,
                config=topic.config,
            )
    if missing:
        found = await admin.describe([topic.name for topic in topics.by_use().values()])
    commands = found.get(topics.commands.name)
    partitions = topics.commands.partitions if commands is None else commands.partitions
    return Found(partitions, list(_examine(topics, found, config_file)))


def _examine(topics: Topics, found: Mapping[str, TopicInfo], config_file: str) -> Iterator[str]:
    by_use = topics.by_use()
    for uses in _TOGETHER:
        counts = {by_use[use].name: found[by_use[use].name].partitions for use in uses if by_use[use].name in found}
        if len(set(counts.values())) > 1:
            text = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise Misconfigured(
                config_file, "topics", found=f"unequal partition counts ({text})", allowed="equal counts for these"
            )
    ledger = found.get(by_use["ledger"].name)
    policy = "" if ledger is None else ledger.config.get("cleanup.policy", "")
    if policy and policy != "compact":
        raise Misconfigured(
            config_file,
            "topics.ledger",
            found=f"cleanup.policy={policy} on {by_use['ledger'].name}: it would forget what was dialled",
            allowed="cleanup.policy=compact",
        )
    lag_ms = None if ledger is None else ledger.config.get("min.compaction.lag.ms")
    if lag_ms is not None and int(lag_ms) < LEDGER_COMPACTION_LAG_MS:
        yield (
            f"{by_use['ledger'].name}: min.compaction.lag.ms={lag_ms}: compaction may take what an owner has not read yet;"
            f" {LEDGER_COMPACTION_LAG_MS} is safe"
        )
    index = found.get(by_use["index"].name)
    if index is not None and index.config.get("cleanup.policy") == "compact":
        yield f"{by_use['index'].name}: cleanup.policy=compact: it grows for ever; compact,delete with retention.ms is right"
    for topic in by_use.values():
        yield from _risks(topic, found.get(topic.name))


def _risks(topic: Topic, info: TopicInfo | None) -> Iterator[str]:
    """What may lose acknowledged records."""
    if info is None:
        yield f"{topic.name}: not visible yet"
        return
    if info.replication_factor < _SAFE_IN_SYNC:
        yield f"{topic.name}: replication factor {info.replication_factor}: the loss of one broker loses records"
        return
    in_sync = info.config.get("min.insync.replicas")
    if in_sync is not None and int(in_sync) < _SAFE_IN_SYNC:
        yield f"{topic.name}: min.insync.replicas={in_sync}: acknowledged records may be lost; {_SAFE_IN_SYNC} is safe"
    if info.config.get("unclean.leader.election.enable") == "true":
        yield f"{topic.name}: unclean.leader.election.enable=true: acknowledged records may be lost"


def _line(topic: Topic) -> str:
    config = "".join(f" --config {name}={value}" for name, value in sorted(topic.config.items()))
    return (
        f"kafka-topics.sh --bootstrap-server BROKER --create --topic {topic.name}"
        f" --partitions {topic.partitions} --replication-factor {topic.replication_factor}{config}"
    )
