"""`callbridge` as a command: what it prints, where, and its exit code. Each command is a process of its own."""

from __future__ import annotations

import json
import secrets
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bridge import __version__
from bridge.providers.catalogue import KINDS
from tests.support.brokers import Broker
from tests.support.daemon import ROOT, run_cli, write_config

MESSAGES = {"commands", "results", "events", "actions", "action-results"}


def config_for(folder: Path, bootstrap: str = "127.0.0.1:9", **changes: Any) -> Path:
    """A good configuration, but for the changes."""
    prefix = f"cli-{secrets.token_hex(5)}-"
    return write_config(
        folder / "callbridge.toml", bootstrap=bootstrap, prefix=prefix, simulator_url="http://127.0.0.1:9", **changes
    )


def test_version() -> None:
    """The version is the package's."""
    done = run_cli("--version")
    assert (done.returncode, done.stdout) == (0, f"callbridge {__version__}\n")


@pytest.mark.parametrize("arguments", [(), ("dial",), ("run", "a", "b")])
def test_misuse(arguments: tuple[str, ...]) -> None:
    """What is not a command ends with 2 and the usage on stderr, nothing on stdout."""
    done = run_cli(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: callbridge" in done.stderr


@pytest.mark.parametrize("config", sorted((ROOT / "config").glob("*.toml")), ids=lambda path: path.name)
def test_shipped_configurations(config: Path) -> None:
    """Every configuration that is shipped is a good one."""
    done = run_cli("check", str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{config}: ok, ")


def test_check_warns_of_dials_that_are_cut_off(tmp_path: Path) -> None:
    """TalkifAI's answer comes when the callee has answered: a drain that does not wait for it is said to be risky."""
    talkifai = (ROOT / "config" / "talkifai.toml").read_text()
    hasty = tmp_path / "hasty.toml"
    hasty.write_text(talkifai.replace("drain_seconds = 80.0", "drain_seconds = 25.0"))
    done = run_cli("check", str(hasty))
    assert done.returncode == 0
    assert done.stderr.startswith("risky: commands.drain_seconds = 25 is less than")
    assert "connections.reminders.http.total_timeout_seconds = 80" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_providers() -> None:
    """The matrix has a column for each; one alone has its options; what is no provider is said to be none."""
    every, one, page, none = (run_cli("providers", *rest) for rest in ((), ("sipgate",), ("--markdown",), ("sip",)))
    assert every.stdout.split("\n")[0].split() == sorted(KINDS)
    assert "billing_device: a string matching" in one.stdout
    assert page.stdout == (ROOT / "docs" / "providers.md").read_text()
    assert (every.returncode, one.returncode, page.returncode, none.returncode) == (0, 0, 0, 2)
    assert none.stderr == f"callbridge: no provider 'sip'; there are: {', '.join(sorted(KINDS))}\n"


@pytest.mark.parametrize(
    "arguments", [("check", "--kafk", "x"), ("--vers",), ("demo", "--prov", "x"), ("providers", "--mark")]
)
def test_options_are_not_abbreviated(arguments: tuple[str, ...]) -> None:
    """An option that is cut short is none: what works today must not mean something else tomorrow."""
    done = run_cli(*arguments)
    assert (done.returncode, done.stdout) == (2, "")


def test_check_shows_what_is_in_force(tmp_path: Path) -> None:
    """`--show` prints every setting in force, defaults among them, and names secrets by their source only."""
    config = config_for(
        tmp_path, kafka={"client_id": "mine"}, connections={"demo": {"token": {"env": "SIPGATE_TOKEN"}}}
    )
    done = run_cli("check", str(config), "--show")
    shown, end = json.JSONDecoder().raw_decode(done.stdout)

    assert (done.returncode, done.stdout[end:].strip()) == (0, f"{config}: ok, 1 connections")
    assert shown["kafka"]["client_id"] == "mine"
    assert shown["commands"]["max_poll_records"] > 0
    assert shown["connections"]["demo"]["token"] == {"env": "SIPGATE_TOKEN"}
    assert "sg-token" not in done.stdout


def test_check_is_offline_and_strict(tmp_path: Path) -> None:
    """A bad file is one line on stderr with file, path, found and allowed, and 2; a missing file is too."""
    config = config_for(tmp_path, ingress={"port": -1})
    bad, missing = run_cli("check", str(config)), run_cli("check", str(tmp_path / "none.toml"))
    config.write_text("[kafka\n")
    broken = run_cli("check", str(config))

    assert [done.returncode for done in (bad, missing, broken)] == [2, 2, 2]
    assert [done.stdout for done in (bad, missing, broken)] == ["", "", ""]
    assert (
        bad.stderr
        == f"callbridge: {config}: ingress.port: found the number -1; allowed: a whole number from 0 to 65535\n"
    )
    assert missing.stderr.startswith(f"callbridge: {tmp_path / 'none.toml'}: (file): found No such file or directory;")
    assert broken.stderr.startswith(f"callbridge: {config}: line 1, column 7: found no TOML: ")
    assert [len(done.stderr.splitlines()) for done in (bad, missing, broken)] == [1, 1, 1]


@pytest.mark.parametrize("path", ["commands.max_record_bytes", "actions.max_record_bytes", "ingress.max_body_bytes"])
def test_what_is_taken_in_must_fit_into_a_record(tmp_path: Path, path: str) -> None:
    """Whoever may send more than Kafka is told to take is found out before anybody does."""
    table, _, setting = path.partition(".")
    changes: dict[str, Any] = {table: {setting: 600_000}}
    done = run_cli("check", str(config_for(tmp_path, **changes)))
    assert (done.returncode, done.stdout) == (2, "")
    assert f": {path}: found 600000; allowed: at most 491808: " in done.stderr


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("ingress.tls_certificate_file", {"ingress": {"tls_certificate_file": "none.pem", "tls_key_file": "none.key"}}),
        ("actions.reply_token_secrets[0]", {"actions": {"reply_token_secrets": [{"env": "NOT_SET"}]}}),
        ("kafka.ssl_ca_file", {"kafka": {"security_protocol": "SSL", "ssl_ca_file": "none.pem"}}),
        ("connections.demo.token", {"connections": {"demo": {"token": {"env": "NOT_SET"}}}}),
    ],
)
def test_check_reads_what_the_daemon_reads(tmp_path: Path, path: str, changes: dict[str, Any]) -> None:
    """`--secrets` says what would keep the daemon from starting; without it only what stands in the file is looked at."""
    config = config_for(tmp_path, **changes)
    offline, done = run_cli("check", str(config)), run_cli("check", str(config), "--secrets")
    assert offline.returncode == 0
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"callbridge: {config}: {path}: ")


def test_topics(quick_broker: Broker, tmp_path: Path) -> None:
    """`topics` prints a command for each topic; `--create` creates what is missing, after which `check --kafka` is good."""
    config = config_for(tmp_path, quick_broker.bootstrap, topics={"create_missing": False, "partitions": 2})
    prefix = tomllib.loads(config.read_text())["topics"]["prefix"]
    printed, before = run_cli("topics", str(config)), run_cli("check", str(config), "--kafka")
    created, again = run_cli("topics", str(config), "--create"), run_cli("topics", str(config), "--create")
    after = run_cli("check", str(config), "--kafka")

    lines = printed.stdout.splitlines()
    assert (printed.returncode, len(lines)) == (0, 8)
    assert all(
        line.startswith(f"kafka-topics.sh --bootstrap-server BROKER --create --topic {prefix}") for line in lines
    )
    assert before.returncode == 2
    assert before.stderr.splitlines()[1:] == [f"  {line}" for line in lines]
    assert (created.returncode, again.returncode, after.returncode) == (0, 0, 0)
    assert after.stdout == f"{config}: ok, 1 connections\n"
    assert f"risky: {prefix}ledger: replication factor 1: the loss of one broker loses records" in after.stderr


def test_kafka_that_does_not_answer(tmp_path: Path) -> None:
    """Asking a cluster that is not there ends with 1, soon, and says which."""
    done = run_cli("check", str(config_for(tmp_path, kafka={"start_timeout_seconds": 1})), "--kafka")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("callbridge: Kafka at 127.0.0.1:9 did not answer within 1 s")


def test_schemas() -> None:
    """`schema` prints a JSON Schema for each message, `schema NAME` the same for one."""
    every, one, none = run_cli("schema"), run_cli("schema", "commands"), run_cli("schema", "calls")
    schemas = json.loads(every.stdout)

    assert (every.returncode, one.returncode) == (0, 0)
    assert schemas.keys() == MESSAGES
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert json.loads(one.stdout) == schemas["commands"]
    good = {"type": "call.place", "command_id": "1", "connection": "demo", "to": "+4915790000687"}
    assert Draft202012Validator(schemas["commands"]).is_valid(good)
    assert not Draft202012Validator(schemas["commands"]).is_valid({**good, "too": "x"})
    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr.startswith("callbridge: no message 'calls'; there are: ")
