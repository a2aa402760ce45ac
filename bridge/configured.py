"""A configuration of which every part was decoded by its owner, and what can be asked about it without a daemon.

`check` is offline; `examine` looks at the cluster's topics, `inspect_ledger` at the ledger. Everything wrong is a
`Misconfigured` that names file, path, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bridge.bus import topics
from bridge.bus.kafka.bus import KafkaBus
from bridge.bus.kafka.settings import KafkaSettings
from bridge.ingress.tls import server_tls
from bridge.ledger import inspect
from bridge.model.errors import Misconfigured
from bridge.model.validation import convert_toml
from bridge.providers.catalogue import decode_connections
from bridge.providers.protocol import ConnectionContext, ProviderKind
from bridge.providers.settings import AccountLimits
from bridge.runtime.config import Config
from bridge.runtime.settings import Ingress

_OVERHEAD_BYTES = 16_384


class Checked(msgspec.Struct, frozen=True):
    """A configuration of which every part was decoded by its owner."""

    config: Config
    kafka: KafkaSettings
    connections: Mapping[str, tuple[ProviderKind, ConnectionContext]]
    file: str


def check(config: Config, *, file: str) -> Checked:
    """Decode what `[kafka]` and `[connections.NAME]` say; offline.

    Raises:
        Misconfigured: with file, path, what was found and what is allowed.
    """
    if not config.kafka:
        raise Misconfigured(file, "kafka", found="nothing", allowed='a table with bootstrap_servers = ["host:port"]')
    kafka = convert_toml(config.kafka, KafkaSettings, file, "kafka")
    _check_fit(config, kafka, file)
    _check_connections(config.ingress, file)
    return Checked(
        config=config,
        kafka=kafka,
        connections=decode_connections(config.connections, config_file=file),
        file=file,
    )


def _check_fit(config: Config, kafka: KafkaSettings, file: str) -> None:
    """Times and sizes of different tables that must fit together."""
    # A record holds what it was made of, a second time where it was normalised, and some of ours.
    largest = (kafka.max_record_bytes - _OVERHEAD_BYTES) // 2
    for path, size in (
        ("commands.max_record_bytes", config.commands.max_record_bytes),
        ("actions.max_record_bytes", config.actions.max_record_bytes),
        ("ingress.max_body_bytes", config.ingress.max_body_bytes),
    ):
        if size > largest:
            allowed = f"at most {largest}: a record made of it must fit into kafka.max_record_bytes"
            raise Misconfigured(file, path, found=str(size), allowed=allowed)
    longest = kafka.rebalance_timeout_seconds - kafka.commit_timeout_seconds
    if config.commands.drain_seconds > longest:
        raise Misconfigured(
            file,
            "commands.drain_seconds",
            found=f"{config.commands.drain_seconds:g}",
            allowed=f"at most {longest:g}: kafka.rebalance_timeout_seconds less kafka.commit_timeout_seconds, "
            "or the partition goes elsewhere before the dials under way are settled",
        )


def _check_connections(ingress: Ingress, file: str) -> None:
    """Each held request has a connection: were they fewer, a bare 503 would be answered instead of the fallback."""
    least = ingress.max_held_requests + ingress.max_websockets
    if ingress.max_connections < least:
        raise Misconfigured(
            file,
            "ingress.max_connections",
            found=str(ingress.max_connections),
            allowed=f"at least {least}: ingress.max_held_requests and ingress.max_websockets together",
        )


def risks(checked: Checked) -> list[str]:
    """What works, and not always as one would want: in words for the operator. Offline."""
    drain_seconds = checked.config.commands.drain_seconds
    found = []
    for name, (kind, context) in checked.connections.items():
        longest = msgspec.structs.asdict(context.settings)["http"].total_timeout_seconds
        if kind.profile.dial_seconds and drain_seconds < longest:
            found.append(
                f"commands.drain_seconds = {drain_seconds:g} is less than connections.{name}.http.total_timeout_seconds = "
                f"{longest:g}: {kind.name} answers a dial when the callee has, which takes up to "
                f"{kind.profile.dial_seconds:g} s, and dials that are cut off when the process stops end as unknown"
            )
    return found


def check_limits(connection: str, limits: AccountLimits, partitions: int, file: str) -> None:
    """Each partition needs a part of the calls in flight, or its commands would never be dialled.

    Raises:
        Misconfigured: there are too few to share.
    """
    if limits.calls_in_flight is not None and limits.calls_in_flight < partitions:
        raise Misconfigured(
            file,
            f"connections.{connection}.limits.calls_in_flight",
            found=str(limits.calls_in_flight),
            allowed=f"at least {partitions}, the number of partitions of the commands topic, which share it",
        )


def reply_token_keys(checked: Checked) -> list[bytes]:
    """The secrets of reply tokens, the one that signs first.

    Raises:
        Misconfigured: one of them cannot be read.
    """
    return [
        source.resolve(config_file=checked.file, path=f"actions.reply_token_secrets[{number}]").reveal().encode()
        for number, source in enumerate(checked.config.actions.reply_token_secrets)
    ]


async def try_connections(checked: Checked) -> None:
    """Read all that is read at the start, and build every connection and close it again, as the daemon would. Offline.

    So secrets, the certificate of the webhooks' port, deadlines and fallbacks are tried.

    Raises:
        Misconfigured: the daemon would not start with it.
    """
    server_tls(checked.config.ingress, config_file=checked.file)
    reply_token_keys(checked)
    KafkaBus(checked.kafka, config_file=checked.file)
    for kind, context in checked.connections.values():
        async with kind.build(context):
            pass


async def examine(checked: Checked) -> topics.Found:
    """Look at the topics, and where the configuration allows it, create them.

    Raises:
        Misconfigured: topics that the daemon could not start on.
        Unavailable: the cluster does not answer.
    """
    bus = KafkaBus(checked.kafka, config_file=checked.file)
    async with bus.admin() as admin:
        return await topics.ensure(admin, checked.config.topics, config_file=checked.file)


async def inspect_ledger(checked: Checked, command_id: str | None) -> list[str]:
    """What the ledger holds, in lines: of one command, or the counts of all.

    Raises:
        Unavailable: it cannot be read.
    """
    bus, topic = KafkaBus(checked.kafka, config_file=checked.file), checked.config.topics.ledger.name
    return await (inspect.summary(bus, topic) if command_id is None else inspect.find(bus, topic, command_id))
