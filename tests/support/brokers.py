"""The brokers tests run on, as fixtures: Apache Kafka (the broker of record), the quick-start broker, and either.

A session has one of each, so tests keep to topics and groups named with `topic_prefix` and never break a broker they
share; a test that breaks one starts its own with `own_kafka`. `KAFKA_BOOTSTRAP` names a cluster to use instead of
starting Apache Kafka; without either, tests skip with the reason, or fail where `REQUIRE_KAFKA=1`.
"""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, Protocol

import pytest

from bridge.demo.broker import POLL_SECONDS, QuickStartBroker, live_brokers
from tests.support.apache_kafka import ApacheKafka, KafkaUnavailableError

APACHE_KAFKA = "apache-kafka"
QUICK_START = "quick-start"

CLUSTER_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that is up, and where."""

    name: str
    bootstrap: str


class OwnKafka(Protocol):
    """Starts a node for its caller alone."""

    def __call__(self, *, advertised_port: int | None = None) -> ApacheKafka:
        """The node, started; it ends with the module at the latest."""


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[Broker]:
    """Apache Kafka, shared by the session: the cluster `KAFKA_BOOTSTRAP` names, else one node of our own."""
    named = os.environ.get("KAFKA_BOOTSTRAP")
    if named:
        if not _answers(named):
            _missing(f"KAFKA_BOOTSTRAP={named} doesn't answer within {CLUSTER_SECONDS:.0f} s")
        yield Broker(APACHE_KAFKA, named)
        return
    with contextlib.ExitStack() as running:
        yield Broker(APACHE_KAFKA, _started(running).bootstrap)


@pytest.fixture(scope="session")
def quick_broker() -> Iterator[Broker]:
    """The quick-start broker, shared by the session."""
    with QuickStartBroker() as running:
        yield Broker(QUICK_START, running.bootstrap)


@pytest.fixture(scope="session", params=[APACHE_KAFKA, QUICK_START])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each of the two brokers in turn."""
    name = "apache_kafka" if request.param == APACHE_KAFKA else "quick_broker"
    found = request.getfixturevalue(name)
    assert isinstance(found, Broker)
    return found


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """What this test's topics and groups start with, and no other's."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    return f"{name}-{secrets.token_hex(4)}-"


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[OwnKafka]:
    """`own_kafka()` starts a node the module may kill, restart and pause; it ends with the module."""
    with contextlib.ExitStack() as running:

        def start(*, advertised_port: int | None = None) -> ApacheKafka:
            if "KAFKA_BOOTSTRAP" in os.environ:
                pytest.skip("needs an Apache Kafka of its own to break; unset KAFKA_BOOTSTRAP to have one started")
            return _started(running, advertised_port=advertised_port)

        yield start


def _started(running: contextlib.ExitStack, *, advertised_port: int | None = None) -> ApacheKafka:
    kafka = ApacheKafka(advertised_port=advertised_port)
    reason = ""
    try:
        kafka.start()
    except KafkaUnavailableError as error:
        reason = str(error)
    if reason:
        _missing(reason)
    running.callback(kafka.stop)
    return kafka


def _answers(bootstrap: str) -> bool:
    """Whether any broker of the list answers, polled until a deadline: a cluster may still be starting."""
    addresses = [(host, int(port)) for host, _, port in (each.rpartition(":") for each in bootstrap.split(","))]
    deadline = time.monotonic() + CLUSTER_SECONDS
    while time.monotonic() < deadline:
        if any(live_brokers(address) for address in addresses):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _missing(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_KAFKA") == "1":
        pytest.fail(f"REQUIRE_KAFKA=1, but {reason}", pytrace=False)
    pytest.skip(reason)
