"""The simulated HMS Sovereign as a process: `python -m bridge.demo.simulators.hms_sovereign`.

It promises what `command_line` says: where it listens, a timeline where asked for, and an end with code 0. What it
simulates is in the package.
"""

from __future__ import annotations

from bridge.demo.simulators import command_line
from bridge.demo.simulators.hms_sovereign import DEMO_ASSISTANT, HmsSettings, HmsSimulator


def main() -> None:
    """Run until a signal comes."""
    parser = command_line.parser("hms_sovereign", __doc__)
    parser.add_argument("--assistant-id", default=DEMO_ASSISTANT)
    parser.add_argument("--first-message", default="Hello, this is the clinic.")
    arguments = parser.parse_args()
    settings = HmsSettings(
        **command_line.common(arguments),
        token=command_line.from_environment(arguments.token_env) or HmsSettings().token,
        webhook_url=arguments.webhook_url,
        webhook_secret=command_line.from_environment(arguments.webhook_secret_env),
        assistants={arguments.assistant_id: {"first_message": arguments.first_message}},
    )
    command_line.run(HmsSimulator(settings), timeline=arguments.timeline)


if __name__ == "__main__":
    main()
