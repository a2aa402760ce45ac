"""The simulated jambonz as a process: `python -m bridge.demo.simulators.jambonz`.

It promises one line `listening on http://HOST:PORT` on standard output once it takes requests (and
`control on http://HOST:PORT` before it, if asked for), with `--timeline` one JSON object a line after that, and to end
with code 0 on SIGTERM or SIGINT. What it simulates is in the package.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

import anyio
import msgspec

from bridge.demo.simulators import script
from bridge.demo.simulators.history import Happening
from bridge.demo.simulators.http1 import LOOPBACK
from bridge.demo.simulators.jambonz import (
    DEMO_ACCOUNT,
    DEMO_APPLICATION,
    Application,
    JambonzSettings,
    JambonzSimulator,
)

_DEFAULT_SCRIPT = Path(__file__).parents[2] / "scripts" / "appointment_reminder.toml"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bridge.demo.simulators.jambonz", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--control-port", type=int, help="serve /_sim on a port of its own too; 0: a free one")
    parser.add_argument("--flavour", choices=("cognigy", "jambonz"), default="jambonz")
    parser.add_argument("--webhook-url", help="the application's hooks are this and /call, /status")
    parser.add_argument("--webhook-secret-env", metavar="NAME", help="environment variable with the account's secret")
    parser.add_argument("--token-env", metavar="NAME", help="environment variable with the API key (else vg-token)")
    parser.add_argument("--account-sid", default=DEMO_ACCOUNT)
    parser.add_argument("--application-sid", default=DEMO_APPLICATION)
    parser.add_argument("--script", type=Path, default=_DEFAULT_SCRIPT, help="a .toml or .json file")
    parser.add_argument("--websocket-login-env", metavar="NAME", help="environment variable with USER:PASSWORD")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster than life calls are")
    parser.add_argument("--answer-cap-seconds", type=float, default=10.0, help="later answers to hooks don't count")
    parser.add_argument("--history-limit", type=int, default=20_000, help="how much detail is kept; counts are exact")
    parser.add_argument("--timeline", action="store_true", help="print what happens, one JSON object a line")
    return parser.parse_args()


def _application(arguments: argparse.Namespace) -> Application:
    url, login = arguments.webhook_url, os.environ.get(arguments.websocket_login_env or "")
    call, status = (f"{url}/call", f"{url}/status") if url else (None, None)
    user, _, password = (login or "").partition(":")
    return Application(
        sid=arguments.application_sid,
        call_hook=call,
        call_status_hook=status,
        login=(user, password) if login else None,
    )


def _settings(arguments: argparse.Namespace) -> JambonzSettings:
    usual = JambonzSettings()
    return JambonzSettings(
        host=arguments.host,
        port=arguments.port,
        control_port=arguments.control_port,
        flavour=arguments.flavour,
        token=os.environ[arguments.token_env] if arguments.token_env else usual.token,
        account_sid=arguments.account_sid,
        webhook_secret=os.environ[arguments.webhook_secret_env]
        if arguments.webhook_secret_env
        else usual.webhook_secret,
        applications=(_application(arguments),),
        script=script.load(arguments.script),
        speed=arguments.speed,
        answer_cap_seconds=arguments.answer_cap_seconds,
        history_limit=arguments.history_limit,
    )


def _print_line(happening: Happening) -> None:
    print(msgspec.json.encode(happening).decode(), flush=True)


async def _run(settings: JambonzSettings, *, timeline: bool) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with JambonzSimulator(settings) as simulator:
            if timeline:
                simulator.history.observe(_print_line)
            if simulator.control_url is not None:
                print(f"control on {simulator.control_url}", flush=True)
            print(f"listening on {simulator.base_url}", flush=True)
            async for _ in signals:
                return


def main() -> None:
    """Run until a signal comes."""
    arguments = _arguments()
    settings = _settings(arguments)
    timeline: bool = arguments.timeline
    anyio.run(lambda: _run(settings, timeline=timeline), backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
