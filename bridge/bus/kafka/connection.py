"""How a client of any kind is reached and opened: addresses, TLS, SASL, and starting it with patience.

Promises that secrets and certificates were readable when the process started (`Misconfigured` otherwise), and that
`started` gives a client that has spoken to the cluster or raises `Unavailable` within its deadline. Closing is in
`internals`, what the clients do is left to their modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError, KafkaError

from bridge.bus.kafka import internals
from bridge.bus.kafka.settings import KafkaSettings
from bridge.model.errors import Misconfigured, Unavailable
from bridge.model.scrub import scrub
from bridge.runtime.secrets import SecretSource

Client = TypeVar("Client")

MILLISECONDS: Final = 1000


def milliseconds(seconds: float) -> int:
    """For aiokafka; what isn't nothing doesn't become nothing."""
    return max(1, round(seconds * MILLISECONDS)) if seconds else 0


@contextlib.contextmanager
def unavailable(what: str) -> Iterator[None]:
    """Translate what aiokafka raises at this edge.

    Raises:
        Unavailable: for every error of Kafka, of the network, and of a deadline inside the block.
    """
    try:
        yield
    except (KafkaError, OSError) as error:  # TimeoutError is an OSError
        raise Unavailable(f"{what}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """An error in one line, also where aiokafka's text has several or none."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text and text != type(error).__name__ else type(error).__name__


class Connection:
    """What all clients of one cluster have in common. `config_file` is named where a secret can't be read."""

    def __init__(self, settings: KafkaSettings, *, config_file: str) -> None:
        self.settings = settings
        self._common: dict[str, Any] = {
            "bootstrap_servers": settings.bootstrap_servers,
            "request_timeout_ms": milliseconds(settings.request_timeout_seconds),
            "retry_backoff_ms": milliseconds(settings.retry_backoff_seconds),
            "metadata_max_age_ms": milliseconds(settings.metadata_max_age_seconds),
            "security_protocol": settings.security_protocol,
        }
        self.instance = _instance(settings, config_file)
        """The stable name of this replica in its groups, if it has one."""
        if settings.uses_tls:
            self._common["ssl_context"] = _tls(settings, config_file)
        if settings.uses_sasl:
            self._common |= _sasl(settings, config_file)

    def arguments(self, name: str) -> dict[str, Any]:
        """Keyword arguments any client of aiokafka takes."""
        return self._common | {"client_id": f"{self.settings.client_id}-{name}"}

    async def started(self, make: Callable[[], Client]) -> Client:
        """Start the client `make` makes, a fresh one for each attempt, with growing pauses until the deadline.

        Raises:
            Unavailable: the cluster didn't answer, or not as it should.
        """
        last = "no answer"
        seconds = self.settings.start_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                pause = self.settings.start_backoff_seconds
                while True:
                    with _overhearing() as said:
                        try:
                            return await self._start(make())
                        except (KafkaError, OSError) as error:
                            last = said[-1] if said else describe(error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, self.settings.start_backoff_max_seconds)
        except TimeoutError as error:
            servers = ", ".join(self.settings.bootstrap_servers)
            raise Unavailable(f"Kafka at {servers} did not answer within {seconds:g} s; last: {last}") from error

    async def stop(self, client: object) -> None:
        """Close any client, within a deadline, also while being cancelled."""
        await internals.stop(client, polite_seconds=self.settings.stop_timeout_seconds)

    async def _start(self, client: Client) -> Client:
        """A start that is cancelled half-way forgets its first connection, so it is left to end by itself."""
        starting = asyncio.ensure_future(client.start())  # type: ignore[attr-defined]
        try:
            await asyncio.shield(starting)
        except BaseException:
            await internals.finish(starting, seconds=self.settings.stop_timeout_seconds)
            await self.stop(client)
            raise
        return client


class _Listener(logging.Handler):
    """Keeps the last error that aiokafka logged."""

    def __init__(self, said: deque[str]) -> None:
        super().__init__(logging.ERROR)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(scrub(" ".join(record.getMessage().split())))


@contextlib.contextmanager
def _overhearing() -> Iterator[deque[str]]:
    """Why a start fails (a wrong password, a certificate) aiokafka tells only its log; its error says "unable"."""
    said: deque[str] = deque(maxlen=1)
    listener, library = _Listener(said), logging.getLogger("aiokafka")
    library.addHandler(listener)
    try:
        yield said
    finally:
        library.removeHandler(listener)


class _Token(AbstractTokenProvider):  # type: ignore[misc]
    """The OAuth token, read anew whenever aiokafka opens a connection."""

    def __init__(self, source: SecretSource, config_file: str) -> None:
        self._source = source
        self._config_file = config_file

    def read(self) -> str:
        """The token as it is now."""
        return self._source.resolve(config_file=self._config_file, path="kafka.oauth_token").reveal()

    async def token(self) -> str:
        """Asked by aiokafka. An error of ours would end its background tasks; one of its own is tried again."""
        try:
            return await asyncio.to_thread(self.read)
        except Misconfigured as error:
            raise KafkaConnectionError(str(error)) from error


def _instance(settings: KafkaSettings, config_file: str) -> str | None:
    given = settings.group_instance_id
    if not isinstance(given, SecretSource):
        return given
    return given.resolve(config_file=config_file, path="kafka.group_instance_id").reveal()


def _sasl(settings: KafkaSettings, config_file: str) -> dict[str, Any]:
    if settings.oauth_token is not None:
        provider = _Token(settings.oauth_token, config_file)
        provider.read()  # at the start an unreadable token is the operator's business
        return {"sasl_mechanism": settings.sasl_mechanism, "sasl_oauth_token_provider": provider}
    if settings.sasl_password is None:
        raise ValueError("sasl_password is None, which KafkaSettings doesn't allow")
    return {
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.sasl_password.resolve(
            config_file=config_file, path="kafka.sasl_password"
        ).reveal(),
    }


def _tls(settings: KafkaSettings, config_file: str) -> ssl.SSLContext:
    path = "kafka.ssl_ca_file"
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
        if settings.ssl_cert_file is not None:
            path = "kafka.ssl_cert_file"
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file, password="")
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(config_file, path, found=describe(error), allowed="a readable PEM file") from error
    context.check_hostname = settings.ssl_check_hostname
    return context
