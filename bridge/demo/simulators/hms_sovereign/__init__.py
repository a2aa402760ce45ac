"""Simulated HMS Sovereign (VoiceDock): its REST API, its assistant on the telephone, its signed webhooks.

In a test: `async with HmsSimulator(HmsSettings(...)) as simulator`. As a process:
`python -m bridge.demo.simulators.hms_sovereign --help`. What is simulated, and what is assumed where the vendor is
silent, stands in `conversation`, `rest`, `wire` and `settings`.
"""

from bridge.demo.simulators.hms_sovereign.platform import HmsSimulator
from bridge.demo.simulators.hms_sovereign.settings import DEMO_ASSISTANT, DEMO_NUMBER_ID, HmsSettings, Tool

__all__ = ["DEMO_ASSISTANT", "DEMO_NUMBER_ID", "HmsSettings", "HmsSimulator", "Tool"]
