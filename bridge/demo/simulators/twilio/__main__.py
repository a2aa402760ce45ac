"""The simulated Twilio as a process: `python -m bridge.demo.simulators.twilio`.

It promises what `command_line` says: where it listens, a timeline where asked for, and an end with code 0. What it
simulates is in the package.
"""

from __future__ import annotations

from bridge.demo.simulators import command_line
from bridge.demo.simulators.twilio import DEMO_ACCOUNT, DEMO_NUMBER, TwilioSettings, TwilioSimulator


def main() -> None:
    """Run until a signal comes."""
    parser = command_line.parser("twilio", __doc__)
    parser.add_argument("--account-sid", default=DEMO_ACCOUNT)
    parser.add_argument("--number", default=DEMO_NUMBER, help="the account's, in E.164 form")
    parser.add_argument("--answer-cap-seconds", type=float, default=15.0, help="later answers to webhooks don't count")
    arguments = parser.parse_args()
    usual, url = TwilioSettings(), arguments.webhook_url
    settings = TwilioSettings(
        **command_line.common(arguments),
        account_sid=arguments.account_sid,
        number=arguments.number,
        token=command_line.from_environment(arguments.token_env) or usual.token,
        webhook_secret=command_line.from_environment(arguments.webhook_secret_env) or usual.webhook_secret,
        voice_url=f"{url}/call" if url else None,
        status_callback=f"{url}/status" if url else None,
        answer_cap_seconds=arguments.answer_cap_seconds,
    )
    command_line.run(TwilioSimulator(settings), timeline=arguments.timeline)


if __name__ == "__main__":
    main()
