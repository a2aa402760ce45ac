"""What every test may ask for: the brokers of tests/support/brokers.py, and anyio's plugin on asyncio with uvloop.

An async test carries `pytestmark = pytest.mark.anyio`; it runs on the loop the gateway runs on. Warnings are errors
(pyproject.toml); everything else a test needs stands in its own file. Examples of hypothesis have no deadline each: on
a busy machine it would say nothing about the code.
"""

import hypothesis
import pytest

from tests.support.brokers import apache_kafka, broker, own_kafka, quick_broker, topic_prefix
from tests.support.loop import TidyLoop

hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

__all__ = ["anyio_backend", "apache_kafka", "broker", "own_kafka", "quick_broker", "topic_prefix"]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, object]]:
    """The event loop of the gateway; session-wide, so that fixtures of every scope may be async."""
    return "asyncio", {"loop_factory": TidyLoop}
