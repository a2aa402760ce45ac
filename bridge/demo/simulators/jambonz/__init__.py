"""Simulated jambonz, and Cognigy Voice Gateway by its flavour: the REST API that places and steers calls, and the hooks.

In a test: `async with JambonzSimulator(JambonzSettings(...)) as simulator`. As a process:
`python -m bridge.demo.simulators.jambonz --help`. What is simulated, and what is assumed where the vendors are silent,
stands in `conversation`, `verbs`, `rest` and `settings`.
"""

from bridge.demo.simulators.jambonz.platform import JambonzSimulator
from bridge.demo.simulators.jambonz.settings import DEMO_ACCOUNT, DEMO_APPLICATION, Application, JambonzSettings

__all__ = ["DEMO_ACCOUNT", "DEMO_APPLICATION", "Application", "JambonzSettings", "JambonzSimulator"]
