"""The simulated sipgate as a process: `python -m bridge.demo.simulators.sipgate`.

It promises what `command_line` says: where it listens, a timeline where asked for, and an end with code 0. What it
simulates is in the package.
"""

from __future__ import annotations

import argparse

from bridge.demo.simulators import command_line
from bridge.demo.simulators.sipgate import DEMO_FLOW, DEMO_NUMBER, Flow, SipgateSettings, SipgateSimulator


def _arguments() -> argparse.Namespace:
    parser = command_line.parser("sipgate", __doc__)
    parser.add_argument("--flow-id", default=DEMO_FLOW)
    parser.add_argument("--flow-number", default=DEMO_NUMBER)
    parser.add_argument("--answer-cap-seconds", type=float, default=4.0, help="later answers to webhooks don't count")
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> SipgateSettings:
    flow = Flow(
        id=arguments.flow_id,
        phone_number=arguments.flow_number or None,
        webhook_url=arguments.webhook_url,
        webhook_secret=command_line.from_environment(arguments.webhook_secret_env),
    )
    return SipgateSettings(
        **command_line.common(arguments),
        token=command_line.from_environment(arguments.token_env) or SipgateSettings().token,
        flows=(flow,),
        answer_cap_seconds=arguments.answer_cap_seconds,
    )


def main() -> None:
    """Run until a signal comes."""
    arguments = _arguments()
    command_line.run(SipgateSimulator(_settings(arguments)), timeline=arguments.timeline)


if __name__ == "__main__":
    main()
