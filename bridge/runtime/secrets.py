"""Secrets: named in the configuration, kept in files or environment variables, never printed.

A `SecretSource` is what stands in the TOML file and may be printed. A `Secret` is the value and shows itself to
nobody but who calls `reveal`. Rotation is a restart; where several secrets may be live, the setting is a list.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import msgspec

from bridge.model.errors import Misconfigured


class Secret:
    """A value that does not appear in `repr`, logs or errors."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that sends or compares it."""
        return self._value

    def hidden_in(self, text: str) -> str:
        """The text with the value, also where it is percent-encoded, replaced by `***`."""
        for form in {self._value, quote(self._value, safe="")}:
            text = text.replace(form, "***")
        return text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


class SecretSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`{ env = "NAME" }` or `{ file = "/path" }`: exactly one."""

    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError('exactly one of env and file, such as { env = "NAME" } or { file = "/run/secrets/name" }')

    def resolve(self, *, config_file: str, path: str) -> Secret:
        """Read the secret; surrounding white space of a file is not part of it.

        Raises:
            Misconfigured: the variable is not set, the file cannot be read, or there is nothing in it.
        """
        if self.env is not None:
            value = os.environ.get(self.env)
            found = f"environment variable {self.env}, which is {'not set' if value is None else 'empty'}"
        else:
            value, found = _read(str(self.file))
        if not value:
            raise Misconfigured(config_file, path, found=found, allowed="a secret of at least one character")
        return Secret(value)


def _read(name: str) -> tuple[str | None, str]:
    try:
        return Path(name).read_text(encoding="utf-8").strip(), f"file {name}, which is empty"
    except (OSError, UnicodeDecodeError) as error:
        return None, f"file {name}, which cannot be read ({type(error).__name__})"
