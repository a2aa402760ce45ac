"""What a consumer's program must be told: where Kafka is, what the topics are called, and every limit in numbers.

Read from a TOML file whose tables `[kafka]` and `[topics]` say what the bridge's own say, or built in code. Promises that
what was accepted fits together; secrets are read when the client connects.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.bus.kafka.settings import KafkaSettings
from bridge.model.errors import Misconfigured
from bridge.model.validation import convert_toml

Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Follows: TypeAlias = Literal["action-results", "results"]


class TopicNames(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the bridge reads and writes. A topic without a name is called `prefix` and its use."""

    prefix: str = "calls."
    commands: str = ""
    results: str = ""
    events: str = ""
    actions: str = ""
    action_results: str = ""

    def __post_init__(self) -> None:
        for use in ("commands", "results", "events", "actions", "action_results"):
            if not getattr(self, use):
                msgspec.structs.force_setattr(self, use, self.prefix + use.replace("_", "-"))


class Hearing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an agent takes events."""

    max_parallel: Count = 100
    """Handlers at work at once, of as many sessions."""
    max_in_hand: Count = 1000
    """Events fetched and not yet handled; more, and fetching waits."""
    handler_seconds: Seconds = 60.0
    """A handler that takes longer is cancelled, and its event counts as handled."""
    stale_after_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Events that have stood on the topic for longer reach no handler. None: all do, whatever their age."""
    retry_seconds: Seconds = 0.5
    """How long after Kafka failed it is tried again."""
    commit_interval_seconds: Seconds = 1.0
    drain_seconds: Seconds = 10.0
    """How long handlers at work may go on when the program stops or a partition goes to another member."""
    poll_records: Count = 200
    poll_seconds: Seconds = 0.2


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of it. `kafka` is the bridge's own `[kafka]` table, security included."""

    kafka: KafkaSettings
    topics: TopicNames = TopicNames()
    hearing: Hearing = Hearing()
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "/callbridge-client"
    """`ce_source` of every record written."""
    follows: tuple[Follows, ...] = ("action-results", "results")
    """What is read so that results can be awaited; a program that never awaits one saves reading its topic."""
    max_awaited: Count = 10_000
    """Results not yet there, of each kind; beyond that the oldest is forgotten, and who awaits it meets its deadline."""

    def __post_init__(self) -> None:
        if self.hearing.drain_seconds >= self.kafka.rebalance_timeout_seconds:
            raise ValueError("hearing.drain_seconds below kafka.rebalance_timeout_seconds")


def at(*bootstrap_servers: str) -> ClientSettings:
    """Every default, at these servers (`host:port`)."""
    return ClientSettings(kafka=KafkaSettings(bootstrap_servers=list(bootstrap_servers)))


def read_settings(file: Path) -> ClientSettings:
    """The settings in a TOML file.

    Raises:
        Misconfigured: it cannot be read, or something in it is not allowed; it names file, path, found and allowed.
    """
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured(str(file), "(top level)", found=type(error).__name__, allowed="a TOML file") from error
    return convert_toml(tables, ClientSettings, str(file))
