"""The settings of the daemon itself: one frozen struct for each table of the configuration file.

Every duration has its unit in its name and every limit is a number with bounds; what is not given has the default that
stands here. `[kafka]` is decoded by the bus and `[connections.NAME]` by the catalogue, each into structs of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.runtime.secrets import SecretSource

Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Host: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
"""0: any free port."""
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=3600)]
SecondsOrZero: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=3600)]
LongSeconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=366 * 86_400)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
CountOrZero: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Bytes: TypeAlias = Annotated[int, msgspec.Meta(ge=1024, le=16 * 1024 * 1024)]
Partitions: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Replicas: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=32)]

DAY_SECONDS = 86_400.0
# Compaction must not touch a record of the ledger while anybody may still wait for it: well above every time-out.
LEDGER_COMPACTION_LAG_MS = 3_600_000
# No entry of the index lives longer than a session may (7 days), and nobody sweeps that topic but the broker.
INDEX_RETENTION_MS = 8 * 24 * 3_600_000

# What the use of each topic needs; `config` in the file is added and goes before it.
_NEEDED: Mapping[str, Mapping[str, str]] = {
    "commands": {"cleanup.policy": "delete"},
    "results": {"cleanup.policy": "delete"},
    "events": {"cleanup.policy": "delete"},
    "actions": {"cleanup.policy": "delete"},
    "action_results": {"cleanup.policy": "delete"},
    "ledger": {"cleanup.policy": "compact", "min.compaction.lag.ms": str(LEDGER_COMPACTION_LAG_MS)},
    "index": {"cleanup.policy": "compact,delete", "retention.ms": str(INDEX_RETENTION_MS)},
    "dead_letters": {"cleanup.policy": "delete"},
}
# The same partition of each must belong to the same owner.
_SAME_PARTITIONS = (("commands", "ledger"), ("events", "actions", "action_results"))


Partitioner: TypeAlias = Literal["any", "murmur2", "crc32"]


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic, complete once it is part of `Topics`, which fills in what the file leaves out."""

    name: Name = ""
    partitions: Partitions = 0
    replication_factor: Replicas = 0
    config: dict[str, str] = {}


class Topics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names, and how missing topics are created if `create_missing`; existing ones are left as they are.

    A topic without a name is called `prefix` and its use (`calls.action-results`).
    """

    prefix: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9._-]{0,100}$")] = "calls."
    partitions: Partitions = 6
    replication_factor: Replicas = 3
    create_missing: bool = False
    commands: Topic = Topic()
    results: Topic = Topic()
    events: Topic = Topic()
    actions: Topic = Topic()
    action_results: Topic = Topic()
    ledger: Topic = Topic()
    index: Topic = Topic()
    dead_letters: Topic = Topic()

    def __post_init__(self) -> None:
        for use, needed in _NEEDED.items():
            msgspec.structs.force_setattr(self, use, self._complete(use, needed))
        for uses in _SAME_PARTITIONS:
            if len({self.by_use()[use].partitions for use in uses}) > 1:
                raise ValueError(f"the same number of partitions for {' and '.join(uses)}")
        if len({topic.name for topic in self.by_use().values()}) < len(_NEEDED):
            raise ValueError("another name for each topic")

    def by_use(self) -> dict[str, Topic]:
        """All topics, by what they are for."""
        return {use: getattr(self, use) for use in _NEEDED}

    def _complete(self, use: str, needed: Mapping[str, str]) -> Topic:
        given: Topic = getattr(self, use)
        return Topic(
            name=given.name or self.prefix + use.replace("_", "-"),
            partitions=given.partitions or self.partitions,
            replication_factor=given.replication_factor or self.replication_factor,
            config={**needed, **given.config},
        )


class Commands(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Flow 1: how many at once, how often, and for how long."""

    group_id: Name = "callbridge-commands"
    partitioner: Partitioner = "any"
    """How producers choose the partition of a key. `murmur2` is Java's and aiokafka's way, `crc32` librdkafka's default
    (kcat, confluent-kafka). If it is named, a command in another partition than its key's goes to dead letters, because
    a copy of it from another client could be dialled a second time. `any` trusts that all producers agree."""
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
    """Dials of one connection at once, in one replica; of several connections none waits for another."""
    max_backlog: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 256
    """Commands of one partition that are being worked on; at more it is paused."""
    max_poll_records: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 256
    poll_seconds: Seconds = 1.0
    max_record_bytes: Bytes = 256 * 1024
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    """Dials of one command; all but the last provably did not leave."""
    first_backoff_seconds: Seconds = 1.0
    longest_backoff_seconds: Seconds = 60.0
    longest_retry_after_seconds: LongSeconds = 900.0
    """A provider that asks for a longer pause (`Retry-After`) is asked again after this; below it, never sooner than it
    said. Else one answer of `86400` would keep an account from dialling for a day."""
    inline_delay_seconds: Seconds = 2.0
    """What must wait longer than this, waits in the ledger."""
    evidence_seconds: LongSeconds = 60.0
    """How long an unknown outcome waits for a webhook or a look-up before `call.unknown` is published."""
    deduplication_window_seconds: LongSeconds = 7 * DAY_SECONDS
    keep_ledger_seconds: SecondsOrZero = 120.0
    """How long the memory of a partition that went elsewhere is kept: if it comes back, only what is new is read. At most
    half the window. 0: each rebalance reads everything anew."""
    keep_ledger_entries: CountOrZero = 1_000_000
    """Commands in all partitions whose memory is kept so."""
    commit_interval_seconds: Seconds = 1.0
    drain_seconds: SecondsOrZero = 15.0
    """How long dials may go on when partitions go elsewhere, or at the end. Below kafka.rebalance_timeout_seconds."""
    max_poison_in_a_row: CountOrZero = 100
    """So many unreadable records one after the other are a bad deploy, not bad data: the daemon stops. 0: never."""


class Ingress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """HTTP in: where it listens, and a limit for everything a caller can make large, slow or many."""

    host: Host = "0.0.0.0"  # noqa: S104  # webhooks come from outside the container
    port: Port = 8080
    tls_certificate_file: str | None = None
    tls_key_file: str | None = None
    max_header_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1024 * 1024)] = 32 * 1024
    max_body_bytes: Bytes = 256 * 1024
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=200_000)] = 16_000
    """More are answered 503 at once. Each takes an open file; the process raises its limit of those as far as it may."""
    max_held_requests: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 10_000
    """Requests whose answer a consumer is being asked for; more are answered with the fallback at once."""
    receive_timeout_seconds: Seconds = 10.0
    keep_alive_seconds: Seconds = 30.0
    drain_seconds: SecondsOrZero = 6.0
    max_websockets: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_000
    """Open at once, of `max_connections`; a message on one is limited by `max_body_bytes`."""
    websocket_ping_seconds: Seconds = 20.0
    websocket_pong_seconds: Seconds = 10.0
    websocket_idle_seconds: LongSeconds = 3600.0
    """Without a message in either direction for so long, a WebSocket is closed."""

    def __post_init__(self) -> None:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("both of tls_certificate_file and tls_key_file, or none")


class Events(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Flow 2: how long Kafka may take before the provider is told to come again, and after how long it should."""

    publish_seconds: Seconds = 3.0
    retry_after_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 2
    websocket_insist_seconds: Seconds = 10.0
    """An event that came over a WebSocket comes once: so long it is tried to be stored; then the socket is closed."""
    max_publishing: Count = 2_000
    """Events under way to Kafka at once; more are refused with 503."""


class Actions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Flow 3: tokens, and the keeper that sees to it that no action vanishes."""

    reply_token_secrets: list[SecretSource] = []
    """The first signs, all are accepted. Every replica needs the same."""
    keeper_group_id: Name = "callbridge-keeper"
    max_record_bytes: Bytes = 256 * 1024
    result_after_seconds: Seconds = 15.0
    """How long the keeper waits for a replica's word on an action whose question, or session, it does not know."""
    late_after_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 2.0
    """After a question's time is over: how long its replica may still say that it used an action. Then the action is
    late, and the keeper gives it to the live call, or has it wait for the next question."""
    unasked_after_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 0.5
    """How long an action that answers no question by name may be taken by one that is open."""
    parked_seconds: Seconds = 60.0
    """How long an action may wait for its session's next question."""
    max_parked_per_session: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 16
    max_parked: Count = 10_000
    quiet_session_seconds: LongSeconds = 1800.0
    """A session of which nothing was heard for so long is not remembered by the keeper: a new one reads no further back
    than to the beginning of the oldest that is."""
    """Of one partition."""
    max_sessions: Count = 10_000
    """Remembered of one partition, with what they were asked; at more the one that was silent longest is forgotten."""
    commit_interval_seconds: Seconds = 1.0
    consumer_group_id: Name | None = None
    """The group of the consumers that answer questions. If it is named, and has no members, questions get their fallback
    at once instead of being waited for in vain."""
    look_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 3.0
    """How often Kafka is asked for the members of that group; nobody listens when it had none twice in a row."""


class Watchdog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls of which no end is heard: looked up at providers that can be asked, and closed after `session_ttl_seconds`."""

    silent_seconds: Seconds = 60.0
    """Silence after which a call is looked up for the first time; the pauses double from then on."""
    longest_pause_seconds: LongSeconds = 900.0
    max_look_ups: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 8
    """Of one connection, under way at once in one replica; so no more than these begin in one tick."""
    look_up_seconds: Seconds = 15.0
    tick_seconds: Annotated[float, msgspec.Meta(ge=0.01, le=60)] = 1.0

    def __post_init__(self) -> None:
        if self.longest_pause_seconds < self.silent_seconds:
            raise ValueError("longest_pause_seconds of at least silent_seconds")


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is who, in the memory of every replica."""

    max_entries: Count = 1_000_000
    load_seconds: LongSeconds = 120.0
    """How long reading the index may take at the start."""
    ended_session_seconds: LongSeconds = 3600.0
    """How long a session is remembered after its end: webhooks that come later would make it live again."""
    evidence_seconds: LongSeconds = DAY_SECONDS
    """How long it stays known that a command's call was heard of: it settles claims that somebody left behind. Counted
    from when this replica read it, so that after a long outage all that the topic holds is evidence."""


class Management(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port for probes and metrics; never to be reachable from outside."""

    host: Host = "0.0.0.0"  # noqa: S104  # probes come from the node
    port: Port = 9090


class Logging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`console` is for a person at a terminal."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"
    max_buffered_lines: Annotated[int, msgspec.Meta(ge=256, le=1_000_000)] = 10_000
    """Lines kept while the reader of our output is slow; more are dropped and counted."""


class Process(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One soft stop in all may take `shutdown_seconds`; then what is left is cut off and the exit code says so."""

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "/callbridge"
    """`ce_source` of every record written."""
    shutdown_seconds: Seconds = 25.0
    heartbeat_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 0.5
    stuck_after_seconds: Seconds = 15.0
    """An event loop or task that has not moved for so long is not live."""
