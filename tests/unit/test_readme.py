"""The README's configurations are ones that the daemon would take, and they are those of config/."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.plays import PLAYS
from bridge.providers.catalogue import KINDS, decode_connections

ROOT = Path(__file__).parents[2]
SECRETS = {"token", "webhook_secrets"}
"""Where secrets stand is told in the least form here: one source each."""


def connections() -> dict[str, dict[str, Any]]:
    """Every `[connections.NAME]` of the README."""
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [found] = [block for block in blocks if "provider =" in block]
    tables: dict[str, dict[str, Any]] = tomllib.loads(found)["connections"]
    return tables


def shipped() -> dict[str, dict[str, Any]]:
    """Every connection of config/, by its name, without the quick start's."""
    files = [file for file in (ROOT / "config").glob("*.toml") if file.name != "quickstart.toml"]
    return {
        name: table for file in files for name, table in tomllib.loads(file.read_text()).get("connections", {}).items()
    }


def test_every_provider_has_its_least_configuration() -> None:
    """Each is decoded as the daemon does; both flavours of jambonz are there."""
    tables = connections()
    kinds = [(table["provider"], table.get("flavour")) for table in tables.values()]
    assert {name for name, _ in kinds} == set(KINDS)
    assert len(kinds) == len(KINDS) + 1
    assert set(decode_connections(tables, config_file="README.md")) == set(tables)


@pytest.mark.parametrize("name", connections())
def test_it_says_what_the_example_says(name: str) -> None:
    """The same connection stands in config/, with the same values (jambonz's has `speech` in place of an application)."""
    here, there = connections()[name], shipped()[name]
    for key in set(here) - SECRETS - ({"application_sid"} if name == "jambonz" else set()):
        assert here[key] == there[key], key
    assert here["token"] == there["token"]
    assert here["webhook_secrets"][0] == there["webhook_secrets"][0]


def test_every_demo_is_named() -> None:
    """Those that `--provider` takes."""
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in PLAYS if f"`{name}`" not in readme and name != "sipgate"]
