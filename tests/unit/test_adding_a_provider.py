"""docs/adding-a-provider.md leads to what is there: every path it names exists, and Twilio was added by it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-provider.md").read_text()
FOLDER = ROOT / "bridge" / "providers" / "twilio"
_NAMED = re.compile(r"`((?:bridge|tests|docs|config)/[\w./*-]+)`")
_MODULE = re.compile(r"`(\w+\.py)`")
_CHECKS = re.compile(r"pytest ([^`]+)`")


def test_every_path_exists() -> None:
    """With the fifth provider in the place of NAME."""
    named = {path.replace("NAME", "twilio") for path in _NAMED.findall(PAGE)}
    named |= {path.replace("NAME", "twilio") for path in " ".join(_CHECKS.findall(PAGE)).split()}
    assert len(named) > 10
    assert not [path for path in sorted(named) if not list(ROOT.glob(path.rstrip("/")))]


def test_every_module_is_one_of_twilios() -> None:
    """Those that stand alone are files of the provider's own folder, or of its simulator."""
    simulator = ROOT / "bridge" / "demo" / "simulators"
    found = set(_MODULE.findall(PAGE))
    assert {"settings.py", "client.py", "webhook.py", "actions.py", "profile.py"} <= found
    places = (FOLDER, simulator / "twilio", simulator)
    assert not [name for name in sorted(found) if not any((place / name).exists() for place in places)]
