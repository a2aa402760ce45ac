"""Simulated TalkifAI: the endpoint that dials and waits for the callee, and signed webhooks in both envelopes.

In a test: `async with TalkifaiSimulator(TalkifaiSettings(...)) as simulator`. As a process:
`python -m bridge.demo.simulators.talkifai --help`. What is simulated, and what is assumed where the vendor is silent,
stands in `platform`, `rest` and `settings`.
"""

from bridge.demo.simulators.talkifai.platform import TalkifaiSimulator
from bridge.demo.simulators.talkifai.settings import DEMO_NUMBER, Agent, TalkifaiSettings

__all__ = ["DEMO_NUMBER", "Agent", "TalkifaiSettings", "TalkifaiSimulator"]
