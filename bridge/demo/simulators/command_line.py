"""What simulated vendors have in common as processes: arguments, the lines they print, and how they end.

It promises one line `listening on http://HOST:PORT` on standard output once requests are taken (and `control on
http://HOST:PORT` before it, if asked for), with `--timeline` one JSON object a line after that, and to end with code 0
on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import TypedDict

import anyio
import msgspec

from bridge.demo.simulators import script
from bridge.demo.simulators.history import Happening
from bridge.demo.simulators.http1 import LOOPBACK
from bridge.demo.simulators.vendor import Vendor
from bridge.runtime.files import allow_files

DEFAULT_SCRIPT = Path(__file__).parents[1] / "scripts" / "appointment_reminder.toml"
_FILES = 65_536
"""A thousand calls at once are a thousand connections."""


def parser(vendor: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments that every vendor has."""
    found = argparse.ArgumentParser(
        prog=f"python -m bridge.demo.simulators.{vendor}", description=description, allow_abbrev=False
    )
    found.add_argument("--host", default=LOOPBACK)
    found.add_argument("--port", type=int, default=0, help="0: a free one")
    found.add_argument("--control-port", type=int, help="serve /_sim on a port of its own too; 0: a free one")
    found.add_argument("--webhook-url", help="where events go; may be set later by PUT /_sim/webhook")
    found.add_argument("--webhook-secret-env", metavar="NAME", help="environment variable with the signing key")
    found.add_argument("--token-env", metavar="NAME", help="environment variable with the API key")
    found.add_argument("--script", type=Path, default=DEFAULT_SCRIPT, help="a .toml or .json file")
    found.add_argument("--speed", type=float, default=1.0, help="how many times faster than life calls are")
    found.add_argument("--history-limit", type=int, default=20_000, help="how much detail is kept; counts are exact")
    found.add_argument("--timeline", action="store_true", help="print what happens, one JSON object a line")
    return found


class Common(TypedDict):
    """The settings that every vendor has."""

    host: str
    port: int
    control_port: int | None
    script: script.Script
    speed: float
    history_limit: int


def common(arguments: argparse.Namespace) -> Common:
    """What the arguments say of them."""
    return Common(
        host=arguments.host,
        port=arguments.port,
        control_port=arguments.control_port,
        script=script.load(arguments.script),
        speed=arguments.speed,
        history_limit=arguments.history_limit,
    )


def from_environment(name: str | None) -> str | None:
    """The variable of this name, where a name was given."""
    return os.environ[name] if name else None


def run(vendor: Vendor, *, timeline: bool) -> None:
    """Serve until a signal comes."""
    allow_files(_FILES)
    anyio.run(lambda: _run(vendor, timeline=timeline), backend_options={"use_uvloop": True})


async def _run(vendor: Vendor, *, timeline: bool) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with vendor:
            if timeline:
                vendor.history.observe(_print_line)
            if vendor.control_url is not None:
                print(f"control on {vendor.control_url}", flush=True)
            print(f"listening on {vendor.base_url}", flush=True)
            async for _ in signals:
                return


def _print_line(happening: Happening) -> None:
    print(msgspec.json.encode(happening).decode(), flush=True)
