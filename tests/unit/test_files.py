"""The limit of open files, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import resource
from bridge.runtime.files import allow_files
hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
print(allow_files(1000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print(allow_files(500), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print(allow_files(hard + 1) == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_as_many_as_wanted_or_as_may_be() -> None:
    """It is raised, never lowered, and the hard limit is the end of it."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["1000", "1000", "1000", "1000", "True"]
