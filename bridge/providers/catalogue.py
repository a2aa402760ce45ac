"""The only list of providers: one line each, and how a connection's table is decoded.

Whoever needs a concrete provider finds it here by the name that stands in the configuration. Adding one is a folder
beside `sipgate/` that passes tests/contract/provider_suite.py, and a line below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bridge.model.errors import Misconfigured
from bridge.model.scrub import describe
from bridge.model.validation import convert_toml
from bridge.model.words import ConnectionName
from bridge.providers import hms_sovereign, jambonz, sipgate, talkifai, twilio
from bridge.providers.protocol import ConnectionContext, ProviderKind

KINDS: Mapping[str, ProviderKind] = {
    kind.name: kind for kind in (hms_sovereign.KIND, jambonz.KIND, sipgate.KIND, talkifai.KIND, twilio.KIND)
}


def decode_connections(
    tables: Mapping[str, Mapping[str, Any]], *, config_file: str
) -> dict[str, tuple[ProviderKind, ConnectionContext]]:
    """Every `[connections.NAME]` with the kind of its provider and its decoded settings. Opens nothing.

    Raises:
        Misconfigured: no such provider, or settings that its kind does not take.
    """
    return {name: _decode(name, dict(table), config_file) for name, table in tables.items()}


def _decode(name: str, table: dict[str, Any], config_file: str) -> tuple[ProviderKind, ConnectionContext]:
    path = f"connections.{name}"
    try:
        msgspec.convert(name, ConnectionName)
    except msgspec.ValidationError as error:
        allowed = "a name of lower-case letters, digits, - and _, at most 63 characters"
        raise Misconfigured(config_file, path, found=describe(name), allowed=allowed) from error
    provider = table.pop("provider", None)
    kind = KINDS.get(provider) if isinstance(provider, str) else None
    if kind is None:
        found = "nothing" if provider is None else describe(provider)
        allowed = f"one of {', '.join(sorted(KINDS))}"
        raise Misconfigured(config_file, f"{path}.provider", found=found, allowed=allowed)
    settings = convert_toml(table, kind.settings, config_file, path)
    return kind, ConnectionContext(connection=name, settings=settings, config_file=config_file)
