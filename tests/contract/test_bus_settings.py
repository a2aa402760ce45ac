"""The `[kafka]` table: what is refused, with which words, and what becomes of secrets and certificates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError

from bridge.bus.kafka import KafkaSettings
from bridge.bus.kafka.connection import Connection
from bridge.model.errors import Misconfigured
from bridge.runtime.secrets import SecretSource

SASL: Mapping[str, Any] = {"security_protocol": "SASL_SSL"}
PASSWORD = SecretSource(env="CALLBRIDGE_TEST_KAFKA_PASSWORD")


def settings(**more: Any) -> KafkaSettings:
    """The least that is allowed, and more."""
    return KafkaSettings(**{"bootstrap_servers": ["kafka-1:9092"]} | more)


def test_the_defaults_are_fine() -> None:
    """Only the addresses have to be given."""
    assert settings().publish_timeout_seconds == 8


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"bootstrap_servers": []}, "bootstrap_servers: found an empty list; allowed: at least one"),
        ({"bootstrap_servers": ["kafka-1"]}, 'bootstrap_servers: found "kafka-1"; allowed: host:port'),
        ({"bootstrap_servers": ["kafka-1:0"]}, 'bootstrap_servers: found "kafka-1:0"; allowed: host:port'),
        (SASL, "security_protocol SASL_SSL: found no sasl_mechanism; allowed: PLAIN, SCRAM-SHA-256"),
        (
            {**SASL, "sasl_mechanism": "PLAIN", "sasl_username": "u"},
            "sasl_mechanism PLAIN: allowed: sasl_username and sasl_password",
        ),
        (
            {**SASL, "sasl_mechanism": "OAUTHBEARER", "sasl_username": "u"},
            "sasl_mechanism OAUTHBEARER: allowed: oauth_token, and neither",
        ),
        (
            {"sasl_password": PASSWORD},
            "sasl_password: found it with security_protocol PLAINTEXT; allowed: with SASL_PLAINTEXT or SASL_SSL",
        ),
        (
            {"ssl_ca_file": "ca.pem"},
            "ssl_ca_file: found it with security_protocol PLAINTEXT; allowed: with SSL or SASL_SSL",
        ),
        (
            {"security_protocol": "SSL", "ssl_cert_file": "c.pem"},
            "ssl_cert_file and ssl_key_file: found one of the two",
        ),
        (
            {"publish_timeout_seconds": 4.0},
            "request_timeout_seconds: found 5; allowed: at most publish_timeout_seconds, which is 4",
        ),
        (
            {"session_timeout_seconds": 2.0},
            "heartbeat_interval_seconds: found 3; allowed: at most session_timeout_seconds, which is 2",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(more: Mapping[str, Any], sentence: str) -> None:
    """With a sentence that names what was found and what is allowed."""
    with pytest.raises(ValueError, match="allowed") as error:
        settings(**more)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("linger_second = 1", "unknown field `linger_second`"),
        ("max_batch_bytes = 0", "max_batch_bytes"),
        ('security_protocol = "TLS"', "security_protocol"),
        ("ssl_check_hostname = false", "ssl_check_hostname: found it with security_protocol PLAINTEXT"),
    ],
)
def test_a_file_is_read_strictly(line: str, sentence: str) -> None:
    """Misspelt keys, impossible numbers and words are named with their place."""
    text = f'[kafka]\nbootstrap_servers = ["kafka-1:9092"]\n{line}\n'
    with pytest.raises(msgspec.ValidationError, match=sentence):
        msgspec.toml.decode(text, type=dict[str, KafkaSettings])


def test_a_missing_password_is_misconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read when the bus is made, not when the first connection is."""
    monkeypatch.delenv(str(PASSWORD.env), raising=False)
    given = settings(**SASL, sasl_mechanism="SCRAM-SHA-512", sasl_username="u", sasl_password=PASSWORD)
    with pytest.raises(Misconfigured, match=r"bridge\.toml: kafka\.sasl_password"):
        Connection(given, config_file="bridge.toml")
    monkeypatch.setenv(str(PASSWORD.env), "secret")
    arguments = Connection(given, config_file="bridge.toml").arguments("x")
    assert (arguments["sasl_mechanism"], arguments["sasl_plain_password"]) == ("SCRAM-SHA-512", "secret")
    assert arguments["ssl_context"].check_hostname


def test_an_unreadable_certificate_is_misconfigured(tmp_path: Path) -> None:
    """Missing or not PEM: the setting is named."""
    (tmp_path / "ca.pem").write_text("not a certificate")
    for name in ("absent.pem", "ca.pem"):
        given = settings(security_protocol="SSL", ssl_ca_file=str(tmp_path / name))
        with pytest.raises(Misconfigured, match=r"bridge\.toml: kafka\.ssl_ca_file"):
            Connection(given, config_file="bridge.toml")


def test_the_host_name_check_can_be_turned_off() -> None:
    """For clusters that are reached by addresses."""
    given = settings(security_protocol="SSL", ssl_check_hostname=False)
    assert not Connection(given, config_file="").arguments("x")["ssl_context"].check_hostname


@pytest.mark.anyio
async def test_the_token_is_read_at_each_connection(tmp_path: Path) -> None:
    """A rotated token is used; one that has vanished is an error aiokafka tries again after, not one that kills it."""
    token = tmp_path / "token"
    token.write_text("first\n")
    source = SecretSource(file=str(token))
    given = settings(**SASL, sasl_mechanism="OAUTHBEARER", oauth_token=source)
    provider = Connection(given, config_file="bridge.toml").arguments("x")["sasl_oauth_token_provider"]
    assert await provider.token() == "first"
    token.write_text("second\n")
    assert await provider.token() == "second"
    token.unlink()
    with pytest.raises(KafkaConnectionError, match="cannot be read"):
        await provider.token()
    with pytest.raises(Misconfigured, match=r"kafka\.oauth_token"):
        Connection(given, config_file="bridge.toml")


def test_the_name_of_a_replica_may_come_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas share one configuration file, and a pod of a StatefulSet knows its name."""
    given = msgspec.convert(
        {"bootstrap_servers": ["kafka-1:9092"], "group_instance_id": {"env": "CALLBRIDGE_TEST_NAME"}}, KafkaSettings
    )
    with pytest.raises(Misconfigured, match=r"kafka\.group_instance_id: found environment variable"):
        Connection(given, config_file="c.toml")
    monkeypatch.setenv("CALLBRIDGE_TEST_NAME", "callbridge-0")
    assert Connection(given, config_file="c.toml").instance == "callbridge-0"
    assert Connection(settings(group_instance_id="a"), config_file="c.toml").instance == "a"
    assert Connection(settings(), config_file="c.toml").instance is None
