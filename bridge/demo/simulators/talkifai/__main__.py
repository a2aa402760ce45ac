"""The simulated TalkifAI as a process: `python -m bridge.demo.simulators.talkifai`.

It promises what `command_line` says: where it listens, a timeline where asked for, and an end with code 0. What it
simulates is in the package.
"""

from __future__ import annotations

from bridge.demo.simulators import command_line
from bridge.demo.simulators.talkifai import DEMO_NUMBER, Agent, TalkifaiSettings, TalkifaiSimulator


def main() -> None:
    """Run until a signal comes."""
    parser = command_line.parser("talkifai", __doc__)
    parser.add_argument("--from-number", default=DEMO_NUMBER, help="the account's number, which calls")
    parser.add_argument("--agent-events", action="store_true", help="send the agent's envelope too")
    arguments = parser.parse_args()
    settings = TalkifaiSettings(
        **command_line.common(arguments),
        token=command_line.from_environment(arguments.token_env) or TalkifaiSettings().token,
        webhook_url=arguments.webhook_url,
        webhook_secret=command_line.from_environment(arguments.webhook_secret_env),
        numbers={arguments.from_number: Agent()},
        envelopes=("account", "agent") if arguments.agent_events else ("account",),
    )
    command_line.run(TalkifaiSimulator(settings), timeline=arguments.timeline)


if __name__ == "__main__":
    main()
