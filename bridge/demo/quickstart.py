"""The configuration the demo runs on: `config/quickstart.toml` as it is shipped, other ports where its own are taken.

It promises that the file written here differs from the shipped one in ports only, and where another provider than
sipgate is played, in the table of the connection, which `connections/` has. In the package the shipped file is
package data (in the repository a link to `config/`), so there is one source; running what it describes is `processes`'.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bridge.bus.kafka.settings import KafkaSettings
from bridge.demo.broker import LOOPBACK, free_ports, is_free
from bridge.model.errors import Misconfigured
from bridge.model.validation import convert_toml
from bridge.model.words import AnyJson
from bridge.runtime import config
from bridge.runtime.secrets import SecretSource
from bridge.runtime.settings import Topics

FILE = "quickstart.toml"
CONNECTION = "demo"
SHIPPED = "sipgate"
"""The provider of the shipped file."""
LISTENERS = 4
"""Broker, webhooks, management, simulator."""
_PORT = re.compile(r"(?<=^port = )\d+|(?<=127\.0\.0\.1:)\d+", re.MULTILINE)


class QuickStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the written file says, as far as the demo needs it."""

    file: Path
    bootstrap: str
    broker_port: int
    webhook_url: str
    management: tuple[str, int]
    simulator: tuple[str, int]
    connection: Mapping[str, AnyJson]
    """The connection's own settings, with which its simulator must agree."""
    token_name: str
    """The environment variable that holds the API token."""
    webhook_secret_name: str
    topics: Topics


class _Demo(msgspec.Struct, frozen=True):
    """The settings of the connection that its simulator must agree with."""

    base_url: str
    token: SecretSource
    webhook_secrets: list[SecretSource]


@contextlib.contextmanager
def claimed() -> Iterator[bool]:
    """Whether the shipped ports may be taken: not while another demo is up, which may have yet to listen on its own."""
    with socket.socket(socket.AF_UNIX) as name:
        is_ours = True
        try:
            name.bind(b"\0callbridge-demo")  # Linux: a name in the namespace of the ports, gone with its process
        except OSError as error:
            is_ours = error.errno != errno.EADDRINUSE
        yield is_ours


def write(directory: Path, *, takes_shipped_ports: bool = True, provider: str = SHIPPED) -> QuickStart:
    """Write the effective configuration into `directory` and read it.

    Raises:
        Misconfigured: the shipped file is not what the demo expects.
    """
    file = directory / FILE
    text = _with_free_ports(_text_for(provider), takes_shipped=takes_shipped_ports)
    file.write_text(text, encoding="utf-8")
    return _read(file)


def connection_of(provider: str) -> Mapping[str, AnyJson]:
    """The connection's table, as it is shipped."""
    table: Mapping[str, AnyJson] = tomllib.loads(_text_for(provider))["connections"][CONNECTION]
    return table


def _text_for(provider: str) -> str:
    text = _shipped(FILE)
    if provider == SHIPPED:
        return text
    rest, table, _ = text.partition(f"[connections.{CONNECTION}]")
    if not table:
        raise Misconfigured(FILE, "connections", found="nothing", allowed=f"[connections.{CONNECTION}], at the end")
    return rest + _shipped(f"connections/{provider}.toml")


def _shipped(name: str) -> str:
    shipped = resources.files("bridge.demo").joinpath(name)
    if not shipped.is_file():
        allowed = "what is built into the package (config/quickstart.toml, bridge/demo/connections/)"
        raise Misconfigured(str(shipped), "(file)", found="nothing", allowed=allowed)
    return shipped.read_text(encoding="utf-8")


def _with_free_ports(text: str, *, takes_shipped: bool) -> str:
    """The same text with other ports in it, each replaced by the same one wherever it stands."""
    found = dict.fromkeys(_PORT.findall(text))
    if len(found) != LISTENERS:
        raise Misconfigured(FILE, "(ports)", found=", ".join(found), allowed=f"{LISTENERS} different ones")
    keeps = {port: takes_shipped and is_free(int(port)) for port in found}
    chosen = {
        port: port if keeps[port] else str(other) for port, other in zip(found, free_ports(LISTENERS), strict=True)
    }
    text = _PORT.sub(lambda port: chosen[port[0]], text)
    return f"# Written by `callbridge demo` from the shipped {FILE}; ports that were taken are replaced.\n{text}"


def _read(file: Path) -> QuickStart:
    settings = config.load(file)
    kafka = convert_toml(settings.kafka, KafkaSettings, str(file), "kafka")
    demo = convert_toml(settings.connections[CONNECTION], _Demo, str(file), f"connections.{CONNECTION}")
    simulator = urlsplit(demo.base_url)
    ingress = settings.ingress
    return QuickStart(
        file=file,
        bootstrap=kafka.bootstrap_servers[0],
        broker_port=int(kafka.bootstrap_servers[0].rpartition(":")[2]),
        webhook_url=f"http://{ingress.host}:{ingress.port}/webhooks/{CONNECTION}",
        management=(settings.management.host, settings.management.port),
        simulator=(simulator.hostname or LOOPBACK, simulator.port or 0),
        connection=settings.connections[CONNECTION],
        token_name=demo.token.env or "",
        webhook_secret_name=demo.webhook_secrets[0].env or "",
        topics=settings.topics,
    )
