"""What stands in deploy/: that it can be read, fits to the daemon, and speaks of metrics that there are."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from bridge.bus.topics import commands_to_create
from bridge.model.words import AnyJson
from bridge.runtime.config import load
from bridge.runtime.metrics import Metrics
from tests.support.helm import CHART, KUBERNETES, ROOT, HelmError, helm, of_kind, read_yaml, render, tool

PRODUCTION = ROOT / "config" / "production.toml"
ALERTS = CHART / "files" / "alerts.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
OPERATIONS = ROOT / "docs" / "operations.md"
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""


# -- metrics ----------------------------------------------------------------------------------------------------------


def members() -> dict[str, dict[str, set[str]]]:
    """Every sample that the daemon has: by name, the values of its labels."""
    found: dict[str, dict[str, set[str]]] = {}
    for line in Metrics(connections=("c",), providers=("p",)).render().decode().splitlines():
        sample = re.match(r"(\w+)(?:\{(.*)\})? ", line)
        if sample is not None and not line.startswith("#"):
            labels = found.setdefault(sample[1], {})
            for name, value in re.findall(r'(\w+)="([^"]*)"', sample[2] or ""):
                labels.setdefault(name, set()).add(value)
    return found


def selectors(expression: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The metrics of an expression, with the labels that they are chosen by."""
    for name, chosen in re.findall(r"\b((?:callbridge|process)_\w+)(?:\{([^}]*)\})?", expression):
        yield name, dict(re.findall(r'(\w+)=~?"([^"]*)"', chosen))


def check_expression(expression: str) -> None:
    """Every metric is one of ours, every label one of its, every value in its set."""
    known = members()
    used = list(selectors(expression))
    assert used, expression
    for name, chosen in used:
        assert name in known, name
        for label, values in chosen.items():
            if label not in SCRAPED:
                assert set(values.split("|")) <= known[name][label], (name, label, values)
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        of_all = set.union(*(set(known[name]) for name, _ in used))
        assert {each.strip() for each in labels.split(",")} <= of_all | SCRAPED, expression


def test_the_check_of_expressions_bites() -> None:
    """A name, a label or a value that is not there."""
    check_expression('rate(callbridge_results_total{type="call.unknown"}[5m])')
    for wrong in (
        "callbridge_result_total",
        'callbridge_results_total{kind="x"}',
        'callbridge_results_total{type="x"}',
    ):
        with pytest.raises((AssertionError, KeyError)):
            check_expression(wrong)
    with pytest.raises(AssertionError):
        check_expression("sum by (kind) (callbridge_results_total)")


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    """Each panel, each of its curves; and panels do not lie on one another."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", ()):
            check_expression(target["expr"])
    places = [
        (x, y)
        for each in (panel["gridPos"] for panel in panels)
        for x in range(each["x"], each["x"] + each["w"])
        for y in range(each["y"], each["y"] + each["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def rules() -> list[AnyJson]:
    """The alerts."""
    (file,) = read_yaml(ALERTS.read_text())
    return [rule for group in file["groups"] for rule in group["rules"]]


def test_alerts_ask_for_metrics_that_there_are_and_say_what_to_do() -> None:
    """The section that each names is one of docs/operations.md."""
    sections = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower() for line in _headings(OPERATIONS)}
    found = rules()
    assert len(found) > 10
    for rule in found:
        check_expression(rule["expr"])
        file, _, section = rule["annotations"]["runbook"].partition("#")
        assert (ROOT / file, section) == (OPERATIONS, rule["alert"].lower())
        assert section in sections
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_alerts_are_what_prometheus_takes() -> None:
    """By its own tool, where that is there."""
    promtool = tool("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: put one on the path")
    done = subprocess.run([promtool, "check", "rules", ALERTS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# -- topics -----------------------------------------------------------------------------------------------------------


def test_strimzis_topics_are_those_of_the_configuration() -> None:
    """Names, partitions, replicas and settings are what `callbridge topics` says of it."""
    wanted = [_topic(shlex.split(line)) for line in commands_to_create(load(PRODUCTION).topics)]
    written = read_yaml((ROOT / "deploy" / "strimzi" / "topics.yaml").read_text())
    assert {each["kind"] for each in written} == {"KafkaTopic"}
    found = [(each["metadata"]["name"], each["spec"]) for each in written]
    assert sorted(found, key=str) == sorted(wanted, key=str)


def _topic(words: list[str]) -> tuple[str, AnyJson]:
    given: dict[str, list[str]] = {}
    for name, value in pairwise(words):
        given.setdefault(name, []).append(value)
    config = dict(each.split("=", 1) for each in given["--config"])
    partitions, replicas = int(given["--partitions"][0]), int(given["--replication-factor"][0])
    return given["--topic"][0], {"partitions": partitions, "replicas": replicas, "config": config}


# -- the chart --------------------------------------------------------------------------------------------------------


def test_the_chart_passes_helms_own_check() -> None:
    """Values against their schema, templates against themselves."""
    assert "0 chart(s) failed" in helm("lint", CHART, "--set-file", f"config={PRODUCTION}")


def test_what_is_installed_is_the_configuration_and_replicas_of_it(tmp_path: Path) -> None:
    """The file arrives unchanged, where the daemon is told to read it; it can be read there."""
    objects = render(PRODUCTION)
    kinds = {"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
    assert {each["kind"] for each in objects} == kinds
    (config,) = of_kind(objects, "ConfigMap")
    assert config["data"]["callbridge.toml"] == PRODUCTION.read_text()
    copy = tmp_path / "callbridge.toml"
    copy.write_text(config["data"]["callbridge.toml"])
    assert load(copy) == load(PRODUCTION)
    pod = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    folders = {each["mountPath"] for each in container["volumeMounts"]}
    assert container["args"] == ["run", "/etc/callbridge/callbridge.toml"]
    assert {str(Path(each).parent) for each in re.findall(r'file = "([^"]+)"', PRODUCTION.read_text())} <= folders


def test_a_pod_has_the_time_it_needs_and_no_rights(tmp_path: Path) -> None:
    """More than the pause before SIGTERM and the whole drain, as the configuration has it."""
    longer = tmp_path / "callbridge.toml"
    longer.write_text(PRODUCTION.read_text() + "\n[process]\nshutdown_seconds = 40.5\n")
    for config in (PRODUCTION, longer):
        pod = of_kind(render(config), "Deployment")[0]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > pause + load(config).process.shutdown_seconds
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        rights = container["securityContext"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert rights["readOnlyRootFilesystem"] is True
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "management"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "management"}


def test_ports_are_those_of_the_configuration() -> None:
    """And nobody outside reaches the management port."""
    objects, config = render(PRODUCTION), load(PRODUCTION)
    (container,) = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"webhooks": config.ingress.port, "management": config.management.port}
    (service,) = of_kind(objects, "Service")
    assert [each["targetPort"] for each in service["spec"]["ports"]] == ["webhooks"]
    webhooks, metrics = of_kind(objects, "NetworkPolicy")[0]["spec"]["ingress"]
    assert (webhooks["ports"], "from" in webhooks) == ([{"port": "webhooks"}], False)
    assert (metrics["ports"], len(metrics["from"])) == ([{"port": "management"}], 1)


def test_static_members_have_names_that_last(tmp_path: Path) -> None:
    """Pods of a StatefulSet, named in the groups by their own names; either without the other is refused."""
    static = tmp_path / "callbridge.toml"
    named = '[kafka]\ngroup_instance_id = { env = "HOSTNAME" }'
    static.write_text(PRODUCTION.read_text().replace("[kafka]", named, 1))
    assert load(static).kafka["group_instance_id"] == {"env": "HOSTNAME"}
    objects = render(static, "staticMembership=true", "env[0].name=HTTPS_PROXY", "env[0].value=http://proxy:3128")
    (workload,) = of_kind(objects, "StatefulSet")
    name, proxy = workload["spec"]["template"]["spec"]["containers"][0]["env"]
    assert (name["name"], name["valueFrom"]["fieldRef"]) == ("HOSTNAME", {"fieldPath": "metadata.name"})
    assert proxy == {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
    headless = [each for each in of_kind(objects, "Service") if each["spec"].get("clusterIP") == "None"]
    assert [each["metadata"]["name"] for each in headless] == [workload["spec"]["serviceName"]]
    assert not of_kind(objects, "Deployment")
    with pytest.raises(HelmError, match="config needs group_instance_id"):
        render(PRODUCTION, "staticMembership=true")
    with pytest.raises(HelmError, match="set staticMembership, or leave it out"):
        render(static)


def test_monitoring_is_what_stands_in_the_files() -> None:
    """Rules and dashboard arrive unchanged."""
    objects = render(PRODUCTION, *(f"{each}.enabled=true" for each in ("podMonitor", "prometheusRule", "dashboard")))
    (rule,) = of_kind(objects, "PrometheusRule")
    assert [rule["spec"]] == read_yaml(ALERTS.read_text())
    (dashboard,) = (each for each in of_kind(objects, "ConfigMap") if "callbridge.json" in each["data"])
    assert json.loads(dashboard["data"]["callbridge.json"]) == json.loads(DASHBOARD.read_text())
    (monitor,) = of_kind(objects, "PodMonitor")
    assert [each["port"] for each in monitor["spec"]["podMetricsEndpoints"]] == ["management"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("replica=3", "replica"),
        ("replicas=0", "replicas"),
        ("ports.webhooks=99999", "webhooks"),
        ("secrets.existingSecret=", "existingSecret"),
        ("service.type=External", "service"),
    ],
)
def test_values_are_checked(setting: str, said: str) -> None:
    """A misspelt name and a value out of bounds are refused by name."""
    with pytest.raises(HelmError, match=said):
        render(PRODUCTION, setting)


def test_a_configuration_must_be_given() -> None:
    """Nothing starts on an empty one."""
    with pytest.raises(HelmError, match="config"):
        helm("template", "r", CHART, "--kube-version", KUBERNETES)


def test_the_manifest_by_hand_fits_too() -> None:
    """deploy/kubernetes.yaml: for who has no Helm."""
    objects = read_yaml((ROOT / "deploy" / "kubernetes.yaml").read_text())
    pod = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + load(PRODUCTION).process.shutdown_seconds


def _headings(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line.startswith("#")]
