"""Simulated Twilio Programmable Voice: the REST API that places and steers calls, TwiML, and signed webhooks.

In a test: `async with TwilioSimulator(TwilioSettings(...)) as simulator`. As a process:
`python -m bridge.demo.simulators.twilio --help`. What is simulated, and what is assumed where the vendor is silent,
stands in `conversation`, `twiml`, `rest` and `settings`.
"""

from bridge.demo.simulators.twilio.platform import TwilioSimulator
from bridge.demo.simulators.twilio.settings import DEMO_ACCOUNT, DEMO_NUMBER, TwilioSettings

__all__ = ["DEMO_ACCOUNT", "DEMO_NUMBER", "TwilioSettings", "TwilioSimulator"]
