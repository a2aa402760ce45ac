"""Topics as they are wanted against topics as they are: what is created, what is refused, and what is merely risky."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from bridge.bus.protocol import TopicInfo
from bridge.bus.topics import Found, commands_to_create, ensure
from bridge.model.errors import Misconfigured
from bridge.runtime.settings import Topic, Topics

pytestmark = pytest.mark.anyio

FILE = "callbridge.toml"
SAFE = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}


class Cluster:
    """A cluster that has topics, and takes new ones; those it is slow with are there but not seen yet."""

    def __init__(self, topics: Mapping[str, TopicInfo] | None = None, *, slow: Sequence[str] = ()) -> None:
        self.topics = dict(topics or {})
        self.created: list[str] = []
        self._slow = slow

    async def describe(self, topics: Sequence[str]) -> Mapping[str, TopicInfo]:
        """Those that exist."""
        return {name: info for name, info in self.topics.items() if name in topics and name not in self._slow}

    async def create(self, topic: str, *, partitions: int, replication_factor: int, config: Mapping[str, str]) -> None:
        """One that exists is left as it is."""
        self.created.append(topic)
        self.topics.setdefault(topic, TopicInfo(partitions, replication_factor, dict(config)))


def wanted(**fields: object) -> Topics:
    """Six partitions, three replicas, unless said otherwise."""
    return Topics(**fields)  # type: ignore[arg-type]


def cluster_with(topics: Topics, **changes: TopicInfo) -> Cluster:
    """A cluster that has all of them, safely; `changes` by use."""
    infos = {
        topic.name: changes.get(use, TopicInfo(topic.partitions, topic.replication_factor, {**topic.config, **SAFE}))
        for use, topic in topics.by_use().items()
    }
    return Cluster(infos)


async def test_topics_as_they_should_be() -> None:
    """Everything there and safe: nothing is created and nothing is to be said."""
    topics = wanted()
    cluster = cluster_with(topics)
    assert await ensure(cluster, topics, config_file=FILE) == Found(6, [])
    assert cluster.created == []


async def test_what_is_missing_is_created_where_allowed() -> None:
    """With the names, counts and settings of the configuration; what exists is left alone."""
    topics = wanted(create_missing=True, prefix="t.", partitions=4, replication_factor=1, ledger=Topic(name="book"))
    cluster = Cluster({"t.events": TopicInfo(4, 3, SAFE)})
    found = await ensure(cluster, topics, config_file=FILE)
    assert found.commands_partitions == 4
    assert set(cluster.topics) == {topic.name for topic in topics.by_use().values()}
    assert "t.events" not in cluster.created
    assert all("replication factor 1" in risk for risk in found.risks)  # each is visible now
    book = cluster.topics["book"]
    assert (book.partitions, book.replication_factor) == (4, 1)
    assert book.config["cleanup.policy"] == "compact"
    assert int(book.config["min.compaction.lag.ms"]) >= 3_600_000
    assert cluster.topics["t.index"].config == {"cleanup.policy": "compact,delete", "retention.ms": "691200000"}
    assert cluster.topics["t.commands"].config["cleanup.policy"] == "delete"


async def test_what_is_missing_comes_with_its_commands() -> None:
    """Where creating is not allowed the error names what is missing, and holds exactly the lines that create it."""
    topics = wanted(commands=Topic(config={"retention.ms": "86400000"}))
    cluster = cluster_with(topics)
    del cluster.topics["calls.commands"], cluster.topics["calls.ledger"]
    with pytest.raises(Misconfigured) as caught:
        await ensure(cluster, topics, config_file=FILE)
    error = caught.value
    assert (error.file, error.path) == (FILE, "topics")
    assert error.found == "a cluster without the topics calls.commands, calls.ledger"
    assert error.allowed == (
        "topics.create_missing = true, or create them:\n"
        "  kafka-topics.sh --bootstrap-server BROKER --create --topic calls.commands --partitions 6"
        " --replication-factor 3 --config cleanup.policy=delete --config retention.ms=86400000\n"
        "  kafka-topics.sh --bootstrap-server BROKER --create --topic calls.ledger --partitions 6"
        " --replication-factor 3 --config cleanup.policy=compact --config min.compaction.lag.ms=3600000"
    )
    assert cluster.created == []


async def test_the_commands_for_all_topics() -> None:
    """Without a list of missing ones there is a line for each topic, in the order of their use."""
    lines = commands_to_create(wanted())
    names = [line.split("--topic ")[1].split()[0] for line in lines]
    assert names == [topic.name for topic in wanted().by_use().values()]
    assert commands_to_create(wanted(), missing=frozenset()) == []


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("commands", "calls.commands has 7, calls.ledger has 6"),
        ("ledger", "calls.commands has 6, calls.ledger has 7"),
        ("events", "calls.events has 7, calls.actions has 6, calls.action-results has 6"),
        ("actions", "calls.events has 6, calls.actions has 7, calls.action-results has 6"),
        ("action_results", "calls.events has 6, calls.actions has 6, calls.action-results has 7"),
    ],
)
async def test_topics_that_belong_together_have_equal_counts(use: str, said: str) -> None:
    """The same partition of each belongs to the same owner: an unequal count is refused with all the counts."""
    topics = wanted()
    other = TopicInfo(7, 3, {**topics.by_use()[use].config, **SAFE})
    with pytest.raises(Misconfigured) as caught:
        await ensure(cluster_with(topics, **{use: other}), topics, config_file=FILE)
    assert caught.value.found == f"unequal partition counts ({said})"
    assert caught.value.allowed == "equal counts for these"


@pytest.mark.parametrize("use", ["results", "index", "dead_letters"])
async def test_other_topics_may_have_any_count(use: str) -> None:
    """Nothing is assigned together with these."""
    topics = wanted()
    other = TopicInfo(1, 3, {**topics.by_use()[use].config, **SAFE})
    assert await ensure(cluster_with(topics, **{use: other}), topics, config_file=FILE) == Found(6, [])


async def test_the_clusters_count_goes_before_the_configurations() -> None:
    """Topics that exist with another, equal count are taken as they are."""
    topics = wanted()
    others = {use: TopicInfo(12, 3, {**topics.by_use()[use].config, **SAFE}) for use in ("commands", "ledger")}
    assert (await ensure(cluster_with(topics, **others), topics, config_file=FILE)).commands_partitions == 12


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
async def test_a_ledger_that_forgets_is_refused(policy: str) -> None:
    """A ledger whose records leave by age would forget what was dialled."""
    topics = wanted()
    ledger = TopicInfo(6, 3, {"cleanup.policy": policy, **SAFE})
    with pytest.raises(Misconfigured) as caught:
        await ensure(cluster_with(topics, ledger=ledger), topics, config_file=FILE)
    assert caught.value.path == "topics.ledger"
    assert caught.value.found == f"cleanup.policy={policy} on calls.ledger: it would forget what was dialled"
    assert caught.value.allowed == "cleanup.policy=compact"


async def test_a_cluster_that_does_not_say_is_believed() -> None:
    """Not every broker tells its settings: what is not known is no fault and no risk."""
    topics = wanted()
    cluster = Cluster({topic.name: TopicInfo(6, 3, {}) for topic in topics.by_use().values()})
    assert await ensure(cluster, topics, config_file=FILE) == Found(6, [])


@pytest.mark.parametrize(
    ("info", "risk"),
    [
        (TopicInfo(6, 1, SAFE), "replication factor 1: the loss of one broker loses records"),
        (
            TopicInfo(6, 3, {"min.insync.replicas": "1"}),
            "min.insync.replicas=1: acknowledged records may be lost; 2 is safe",
        ),
        (
            TopicInfo(6, 3, {**SAFE, "unclean.leader.election.enable": "true"}),
            "unclean.leader.election.enable=true: acknowledged records may be lost",
        ),
    ],
)
async def test_what_is_risky_is_said(info: TopicInfo, risk: str) -> None:
    """It does not keep the daemon from starting, and names the topic."""
    topics = wanted()
    found = await ensure(cluster_with(topics, results=info), topics, config_file=FILE)
    assert found.risks == [f"calls.results: {risk}"]


@pytest.mark.parametrize(("lag_ms", "risks"), [("0", 1), ("3599999", 1), ("3600000", 0), ("9223372036854775807", 0)])
async def test_a_ledger_that_is_compacted_early_is_risky(lag_ms: str, risks: int) -> None:
    """Compaction must not touch what a paused or slow owner has not read."""
    topics = wanted()
    ledger = TopicInfo(6, 3, {"cleanup.policy": "compact", "min.compaction.lag.ms": lag_ms, **SAFE})
    found = await ensure(cluster_with(topics, ledger=ledger), topics, config_file=FILE)
    assert len(found.risks) == risks
    assert all(risk.startswith(f"calls.ledger: min.compaction.lag.ms={lag_ms}: ") for risk in found.risks)


@pytest.mark.parametrize(("policy", "risks"), [("compact", 1), ("compact,delete", 0)])
async def test_an_index_that_grows_for_ever_is_risky(policy: str, risks: int) -> None:
    """Nobody but the broker forgets who was who."""
    topics = wanted()
    found = await ensure(
        cluster_with(topics, index=TopicInfo(6, 3, {"cleanup.policy": policy, **SAFE})), topics, config_file=FILE
    )
    assert len(found.risks) == risks
    assert all(risk.startswith("calls.index: cleanup.policy=compact: ") for risk in found.risks)


async def test_two_replicas_are_enough() -> None:
    """The loss of one broker loses nothing then."""
    topics = wanted(replication_factor=2)
    assert await ensure(cluster_with(topics), topics, config_file=FILE) == Found(6, [])


async def test_every_risk_of_a_topic_is_said() -> None:
    """Two settings that lose records are two risks."""
    topics = wanted()
    info = TopicInfo(6, 3, {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"})
    assert len((await ensure(cluster_with(topics, events=info), topics, config_file=FILE)).risks) == 2


async def test_a_topic_that_is_not_visible_yet() -> None:
    """A cluster may be slow to show what was just created: the configured count is used, and it is said."""
    topics = wanted(create_missing=True)
    cluster = Cluster(slow=["calls.commands"])
    found = await ensure(cluster, topics, config_file=FILE)
    assert found.commands_partitions == 6
    assert "calls.commands: not visible yet" in found.risks
