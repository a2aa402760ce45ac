"""Every file in config/ is one that the daemon would start with: what is shown as an example has been read by us."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge import configured
from bridge.runtime.config import load

FILES = sorted((Path(__file__).parents[2] / "config").glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_example_is_a_configuration(file: Path) -> None:
    """Strictly decoded, with its connections; secrets are named and not looked for."""
    checked = configured.check(load(file), file=str(file))

    assert checked.connections
