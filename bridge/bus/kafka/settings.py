"""The `[kafka]` table of the configuration: where the brokers are, who we are to them, and every limit in numbers.

Promises that what was accepted fits together: a SASL protocol has its mechanism and the mechanism its credentials,
and no time-out outlives the one that surrounds it. Reading secrets and certificates is left to `connection`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.runtime.secrets import SecretSource

Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
SecondsOrZero: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Bytes: TypeAlias = Annotated[int, msgspec.Meta(gt=0)]

SecurityProtocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

MAX_PORT = 65_535


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cluster. The defaults suit one in the same region."""

    bootstrap_servers: Annotated[list[str], msgspec.Meta(min_length=1)]
    """`host:port`, several for the case that one is down. Asked at the start only; then the cluster's own addresses."""
    client_id: str = "callbridge"

    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: SecretSource | None = None
    oauth_token: SecretSource | None = None
    """Read again at each connection, so that a sidecar may rotate the file. At its expiry the broker cuts the
    connection and the next one carries the new token: a blip per life of a token."""
    ssl_ca_file: str | None = None
    ssl_cert_file: str | None = None
    ssl_key_file: str | None = None
    ssl_check_hostname: bool = True

    request_timeout_seconds: Seconds = 5.0
    """One request to one broker; also how long aiokafka tries to store a batch."""
    publish_timeout_seconds: Seconds = 8.0
    """One `publish`, whatever happens inside. Longer than a request, so that the reason is usually known."""
    commit_timeout_seconds: Seconds = 5.0
    read_timeout_seconds: Seconds = 10.0
    """One step of reading a stretch of a partition."""
    start_timeout_seconds: Seconds = 60.0
    """How long opening anything tries to reach the cluster before it is `Unavailable`."""
    stop_timeout_seconds: Seconds = 5.0
    """How long closing tries to be polite."""
    retry_backoff_seconds: Seconds = 0.1
    start_backoff_seconds: Seconds = 0.2
    """The first pause between two attempts to start; it doubles up to `start_backoff_max_seconds`."""
    start_backoff_max_seconds: Seconds = 5.0

    session_timeout_seconds: Seconds = 10.0
    """A member that is silent for so long is taken for dead."""
    heartbeat_interval_seconds: Seconds = 3.0
    rebalance_timeout_seconds: Seconds = 30.0
    """How long `on_revoked` may take before the partitions go elsewhere nevertheless."""
    max_poll_interval_seconds: Seconds = 300.0
    """A member that doesn't poll for so long leaves the group."""
    group_instance_id: str | SecretSource | None = None
    """Stable name of this replica, such as `{ env = "HOSTNAME" }` in a pod of a StatefulSet: a restart within the
    session time-out then moves no partition, and neither does a stop, until the session runs out."""

    fetch_max_wait_seconds: Seconds = 0.1
    """A fetch with nothing new is answered after this; `resume` may wait as long."""
    max_partition_fetch_bytes: Bytes = 262_144
    max_batch_bytes: Bytes = 131_072
    """Must not be larger than `max.message.bytes` of any topic written to."""
    max_record_bytes: Bytes = 1_000_000
    """A record above is refused without asking the broker, whose default limit is 1 MiB for a batch."""
    linger_seconds: SecondsOrZero = 0.0
    metadata_max_age_seconds: Seconds = 30.0
    """How soon new partitions and moved brokers are noticed."""

    tail_pause_seconds: SecondsOrZero = 0.01
    """Pause of a tail between two fetches, when more than `tail_pause_above_records_per_second` arrive."""
    tail_pause_above_records_per_second: Annotated[float, msgspec.Meta(ge=0)] = 200.0

    def __post_init__(self) -> None:
        for problem in itertools.chain(self._server_problems(), self._security_problems(), self._time_problems()):
            raise ValueError(problem)

    @property
    def uses_sasl(self) -> bool:
        """Whether brokers ask who we are by SASL."""
        return self.security_protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    def _server_problems(self) -> Iterator[str]:
        if not self.bootstrap_servers:
            yield 'bootstrap_servers: found an empty list; allowed: at least one such as "kafka-1:9092"'
        for server in self.bootstrap_servers:
            host, _, port = server.rpartition(":")
            if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= MAX_PORT:
                yield f'bootstrap_servers: found "{server}"; allowed: host:port such as "kafka-1:9092"'

    def _security_problems(self) -> Iterator[str]:
        if self.uses_sasl:
            yield from self._sasl_problems()
        else:
            yield from self._unused(("sasl_", "oauth_"), "SASL_PLAINTEXT or SASL_SSL")
        if not self.uses_tls:
            yield from self._unused(("ssl_",), "SSL or SASL_SSL")
        if (self.ssl_cert_file is None) != (self.ssl_key_file is None):
            yield "ssl_cert_file and ssl_key_file: found one of the two; allowed: both or neither"

    def _sasl_problems(self) -> Iterator[str]:
        if self.sasl_mechanism is None:
            yield (
                f"security_protocol {self.security_protocol}: found no sasl_mechanism; "
                "allowed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
            )
        elif self.sasl_mechanism == "OAUTHBEARER":
            if self.oauth_token is None or self.sasl_username is not None or self.sasl_password is not None:
                yield "sasl_mechanism OAUTHBEARER: allowed: oauth_token, and neither sasl_username nor sasl_password"
        elif self.sasl_username is None or self.sasl_password is None or self.oauth_token is not None:
            yield f"sasl_mechanism {self.sasl_mechanism}: allowed: sasl_username and sasl_password, and no oauth_token"

    def _unused(self, prefixes: tuple[str, ...], needed: str) -> Iterator[str]:
        for field in msgspec.structs.fields(self):
            if field.name.startswith(prefixes) and getattr(self, field.name) != field.default:
                yield f"{field.name}: found it with security_protocol {self.security_protocol}; allowed: with {needed}"

    def _time_problems(self) -> Iterator[str]:
        for shorter, longer in (
            ("request_timeout_seconds", "publish_timeout_seconds"),
            ("heartbeat_interval_seconds", "session_timeout_seconds"),
            ("session_timeout_seconds", "rebalance_timeout_seconds"),
            ("rebalance_timeout_seconds", "max_poll_interval_seconds"),
            ("start_backoff_seconds", "start_backoff_max_seconds"),
        ):
            if getattr(self, shorter) > getattr(self, longer):
                yield (
                    f"{shorter}: found {getattr(self, shorter):g}; "
                    f"allowed: at most {longer}, which is {getattr(self, longer):g}"
                )
