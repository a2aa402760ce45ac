"""What every test may ask for: the brokers of tests/support/brokers.py, and anyio's plugin on asyncio with uvloop.

An async test carries `pytestmark = pytest.mark.anyio`; it runs on the loop the gateway runs on. Warnings are errors
(pyproject.toml); everything else a test needs stands in its own file. Examples of hypothesis have no deadline each: on
a busy machine it would say nothing about the code.
"""

import os

import hypothesis
import pytest

from tests.support.brokers import apache_kafka, broker, own_kafka, quick_broker, topic_prefix

hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

__all__ = ["anyio_backend", "apache_kafka", "broker", "own_kafka", "quick_broker", "topic_prefix"]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of the gateway; session-wide, so that fixtures of every scope may be async."""
    return "asyncio", {"use_uvloop": True}


QUIET = (
    "tests/crash/",
    "tests/faults/test_campaign.py",
    "tests/faults/test_tools.py",
    "tests/flows/test_pacing_live.py",
)
"""What kills processes by the second or measures tens of milliseconds: not beside anything else on two cores."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs a quiet machine, and say so, unless it was asked for."""
    if os.environ.get("FAULTS"):
        return
    left_out = pytest.mark.skip(reason="needs a quiet machine: FAULTS=1 make test")
    for item in items:
        if item.nodeid.startswith(QUIET):
            item.add_marker(left_out)
