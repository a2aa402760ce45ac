"""Helm as a tool of tests: renders our chart as it would be installed, and reads YAML as Kubernetes does.

Found on the path or in `.cache/helm/bin`; without it tests skip and say what to do. It talks to no cluster.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.model.words import AnyJson

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "callbridge"
CACHE = ROOT / ".cache" / "helm" / "bin"
SECONDS = 60.0
WHERE = f"helm is missing: GOBIN={CACHE} go install helm.sh/helm/v3/cmd/helm@v3.19.0"
KUBERNETES = "1.31.0"

# A chart that prints what it is given as JSON, one document a line.
_READ = """\
{{- range regexSplit "(?m)^---\\\\s*$" (.Files.Get "in.yaml") -1 }}
{{- with fromYaml . }}
---
{{ toJson . }}
{{- end }}
{{- end }}
"""


class HelmError(Exception):
    """What helm said to what it would not do."""


def tool(name: str) -> Path | None:
    """A program that is on the path, or was put into the cache."""
    found = shutil.which(name) or shutil.which(name, path=str(CACHE))
    return None if found is None else Path(found)


def helm(*arguments: str | Path) -> str:
    """What helm prints.

    Raises:
        HelmError: it refused.
    """
    program = tool("helm")
    if program is None:
        pytest.skip(WHERE)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise HelmError(done.stderr)
    return done.stdout


def render(config: Path, *settings: str) -> list[AnyJson]:
    """Every object that an installation with this configuration file makes; `settings` are `name=value`.

    Raises:
        HelmError: values that the chart does not take.
    """
    chosen = [part for setting in settings for part in ("--set", setting)]
    arguments: tuple[str | Path, ...] = (
        "template",
        "r",
        CHART,
        "--kube-version",
        KUBERNETES,
        "--set-file",
        f"config={config}",
        *chosen,
    )
    return read_yaml(helm(*arguments))


def read_yaml(text: str) -> list[AnyJson]:
    """The documents of a YAML text, by the parser that Kubernetes uses."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "templates").mkdir()
        (Path(folder) / "Chart.yaml").write_text("apiVersion: v2\nname: reader\nversion: 0.0.1\n")
        (Path(folder) / "templates" / "out.yaml").write_text(_READ)
        (Path(folder) / "in.yaml").write_text(text)
        return [json.loads(line) for line in helm("template", "r", folder).splitlines() if line.startswith("{")]


def of_kind(objects: Sequence[AnyJson], kind: str) -> list[AnyJson]:
    """Those of one kind."""
    return [each for each in objects if each["kind"] == kind]
