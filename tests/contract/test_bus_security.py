"""TLS and SASL against a broker that means it: each mechanism writes, reads and joins a group; a wrong proof does not."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.bus.kafka import KafkaBus, KafkaSettings
from bridge.bus.protocol import TopicPartition
from bridge.model.errors import Unavailable
from bridge.runtime.secrets import SecretSource
from tests.contract.bus_support import Member, make_topic, publish_numbers, read_all
from tests.support.apache_kafka import KafkaUnavailableError
from tests.support.secured_kafka import PASSWORD, USER, SecuredKafka

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with"),
    pytest.mark.skipif("KAFKA_BOOTSTRAP" in os.environ, reason="starts a broker of its own; unset KAFKA_BOOTSTRAP"),
]

SASL = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """The broker, shared by the module."""
    kafka = SecuredKafka(tmp_path_factory.mktemp("secured"))
    try:
        kafka.start()
    except KafkaUnavailableError as error:
        if os.environ.get("REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(str(error))
    yield kafka
    kafka.stop()


def secret(folder: Path, value: str) -> SecretSource:
    """A secret in a file, as in a cluster."""
    file = folder / "secret"
    file.write_text(value)
    return SecretSource(file=str(file))


def unsigned_token(*, seconds: int) -> str:
    """A token as a broker without an identity provider takes it: claims, and no signature."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": USER, "iat": now, "exp": now + seconds})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def bus_with(bootstrap: str, **settings: Any) -> KafkaBus:
    """A bus with this proof, which gives up soon."""
    quick: dict[str, Any] = {"heartbeat_interval_seconds": 0.3, "session_timeout_seconds": 6.0}
    return KafkaBus(KafkaSettings(bootstrap_servers=[bootstrap], **quick | settings))


def proof(mechanism: str, folder: Path, kafka: SecuredKafka) -> dict[str, Any]:
    """The `[kafka]` table of a client with the right proof."""
    who: dict[str, Any] = {"sasl_username": USER, "sasl_password": secret(folder, PASSWORD)}
    if mechanism == "OAUTHBEARER":
        who = {"oauth_token": secret(folder, unsigned_token(seconds=600))}
    tls = {"security_protocol": "SASL_SSL", "ssl_ca_file": str(kafka.ca_file)}
    return tls | {"sasl_mechanism": mechanism} | who


async def use(bus: KafkaBus, topic: str) -> None:
    """Create, write, read, join a group."""
    await make_topic(bus, topic)
    async with bus.producer("p") as producer:
        await publish_numbers(producer, topic, range(5), partitions=1)
    assert [r.value for r in await read_all(bus, TopicPartition(topic, 0), 0, 5)] == [b"%d" % n for n in range(5)]
    member = Member("only", [])
    async with member.joined(bus, topic, [topic]):
        await member.poll_until(lambda: len(member.seen) >= 5)
    assert [record.value for record in member.seen] == [b"%d" % n for n in range(5)]


@pytest.mark.parametrize("mechanism", SASL)
async def test_every_mechanism_over_tls(
    mechanism: str, secured: SecuredKafka, tmp_path: Path, topic_prefix: str
) -> None:
    """Producer, reader, group and admin all carry the proof."""
    await use(bus_with(secured.sasl, **proof(mechanism, tmp_path, secured)), topic_prefix + "t")


async def test_a_client_certificate(secured: SecuredKafka, topic_prefix: str) -> None:
    """`SSL` with a certificate of ours, on a listener that wants one."""
    bus = bus_with(
        secured.mutual,
        security_protocol="SSL",
        ssl_ca_file=str(secured.ca_file),
        ssl_cert_file=str(secured.client_cert_file),
        ssl_key_file=str(secured.client_key_file),
    )
    await use(bus, topic_prefix + "t")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password_says_so(mechanism: str, secured: SecuredKafka, tmp_path: Path) -> None:
    """The reason names authentication, and holds neither the password nor its guess."""
    wrong = proof(mechanism, tmp_path, secured) | {"sasl_password": secret(tmp_path, "a-wrong-guess")}
    bus = bus_with(secured.sasl, **wrong, start_timeout_seconds=3.0)
    with pytest.raises(Unavailable) as error:
        async with bus.producer("p"):
            pass
    assert "uthentication" in str(error.value)
    assert "a-wrong-guess" not in str(error.value)


async def test_a_server_that_is_not_trusted(secured: SecuredKafka, tmp_path: Path) -> None:
    """Its certificate is checked before any password goes out."""
    stranger = proof("PLAIN", tmp_path, secured) | {"ssl_ca_file": str(secured.client_cert_file)}
    bus = bus_with(secured.sasl, **stranger, start_timeout_seconds=3.0)
    with pytest.raises(Unavailable):
        async with bus.producer("p"):
            pass
