"""The simulated jambonz as a process: `python -m bridge.demo.simulators.jambonz`.

It promises what `command_line` says: where it listens, a timeline where asked for, and an end with code 0. The
application's hooks are `/call` and `/status` under the webhook URL. What it simulates is in the package.
"""

from __future__ import annotations

import argparse

from bridge.demo.simulators import command_line
from bridge.demo.simulators.jambonz import (
    DEMO_ACCOUNT,
    DEMO_APPLICATION,
    Application,
    JambonzSettings,
    JambonzSimulator,
)


def _arguments() -> argparse.Namespace:
    parser = command_line.parser("jambonz", __doc__)
    parser.add_argument("--flavour", choices=("cognigy", "jambonz"), default="jambonz")
    parser.add_argument("--account-sid", default=DEMO_ACCOUNT)
    parser.add_argument("--application-sid", default=DEMO_APPLICATION)
    parser.add_argument("--websocket-login-env", metavar="NAME", help="environment variable with USER:PASSWORD")
    parser.add_argument("--answer-cap-seconds", type=float, default=10.0, help="later answers to hooks don't count")
    return parser.parse_args()


def _application(arguments: argparse.Namespace) -> Application:
    url, login = arguments.webhook_url, command_line.from_environment(arguments.websocket_login_env)
    user, _, password = (login or "").partition(":")
    return Application(
        sid=arguments.application_sid,
        call_hook=f"{url}/call" if url else None,
        call_status_hook=f"{url}/status" if url else None,
        login=(user, password) if login else None,
    )


def _settings(arguments: argparse.Namespace) -> JambonzSettings:
    usual = JambonzSettings()
    return JambonzSettings(
        **command_line.common(arguments),
        flavour=arguments.flavour,
        token=command_line.from_environment(arguments.token_env) or usual.token,
        account_sid=arguments.account_sid,
        webhook_secret=command_line.from_environment(arguments.webhook_secret_env) or usual.webhook_secret,
        applications=(_application(arguments),),
        answer_cap_seconds=arguments.answer_cap_seconds,
    )


def main() -> None:
    """Run until a signal comes."""
    arguments = _arguments()
    command_line.run(JambonzSimulator(_settings(arguments)), timeline=arguments.timeline)


if __name__ == "__main__":
    main()
