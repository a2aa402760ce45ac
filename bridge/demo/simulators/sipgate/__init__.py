"""Simulated sipgate AI Flow: the REST endpoint that places calls and the platform that talks to the webhook.

In a test: `async with SipgateSimulator(SipgateSettings(...)) as simulator`. As a process:
`python -m bridge.demo.simulators.sipgate --help`. What is simulated, and what is assumed where the vendor is
silent, stands in `conversation`, `wire`, `rest` and `settings`.
"""

from bridge.demo.simulators.sipgate.platform import SipgateSimulator
from bridge.demo.simulators.sipgate.settings import DEMO_FLOW, DEMO_NUMBER, Flow, SipgateSettings

__all__ = ["DEMO_FLOW", "DEMO_NUMBER", "Flow", "SipgateSettings", "SipgateSimulator"]
