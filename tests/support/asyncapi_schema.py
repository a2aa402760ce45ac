"""The public JSON Schema of AsyncAPI documents, from its makers' npm package, installed once into .cache.

It promises the pinned version; where it cannot be had the test skips and says why.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.model.words import JsonObject

PACKAGE, VERSION = "@asyncapi/specs", "6.11.1"
SECONDS = 180.0

_FOLDER = Path(__file__).parents[2] / ".cache" / f"asyncapi-specs-{VERSION}"
_FILE = Path("node_modules") / PACKAGE / "schemas" / "3.1.0.json"


def public_schema() -> JsonObject:
    """The schema of AsyncAPI 3.1.0 documents, complete in one file; skips the test where it cannot be had."""
    if not (_FOLDER / _FILE).exists():
        reason = _install()
        if reason:
            pytest.skip(reason)
    found: JsonObject = json.loads((_FOLDER / _FILE).read_text())
    return found


def _install() -> str | None:
    """Why it could not be installed."""
    npm = shutil.which("npm")
    if npm is None:
        return "the public schema of AsyncAPI comes by npm, which is not installed (apt-get install npm)"
    fresh = _FOLDER.with_name(f"{_FOLDER.name}.{os.getpid()}")
    fresh.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(fresh), "--no-package-lock", "--no-save", "--ignore-scripts"]
    quiet = ["--no-audit", "--no-fund", "--omit=dev", f"{PACKAGE}@{VERSION}"]
    try:
        done = subprocess.run([*command, *quiet], capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            return f"npm could not install {PACKAGE} {VERSION}: {done.stderr.strip()[-300:]}"
        if not _FOLDER.exists():
            fresh.rename(_FOLDER)
    except subprocess.TimeoutExpired:
        return f"npm did not install {PACKAGE} {VERSION} within {SECONDS:.0f} s"
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return None
