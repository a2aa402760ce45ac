"""The configuration: strict, with defaults in one place, and an effective print that holds no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.model.errors import Misconfigured
from bridge.runtime.config import Config, effective, load
from bridge.runtime.settings import LEDGER_COMPACTION_LAG_MS, Topic, Topics


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the configuration under test is written."""
    return tmp_path / "callbridge.toml"


def refusal(file: Path, text: str) -> Misconfigured:
    """What `load` has to say about this text."""
    file.write_text(text)
    with pytest.raises(Misconfigured) as caught:
        load(file)
    assert caught.value.file == str(file)
    return caught.value


def test_an_empty_file_is_all_defaults(file: Path) -> None:
    """Every setting of the daemon itself has a default."""
    file.write_text("")

    assert load(file) == Config()


def test_topics_are_completed() -> None:
    """Names come from the prefix, numbers from the table, and a topic keeps what its use needs."""
    topics = Topics(
        prefix="eu.", partitions=12, replication_factor=2, results=Topic(partitions=3, config={"retention.ms": "1"})
    )

    assert topics.action_results.name == "eu.action-results"
    assert (topics.results.partitions, topics.ledger.partitions, topics.index.replication_factor) == (3, 12, 2)
    assert topics.results.config == {"cleanup.policy": "delete", "retention.ms": "1"}
    assert topics.ledger.config["cleanup.policy"] == "compact"
    assert int(topics.ledger.config["min.compaction.lag.ms"]) == LEDGER_COMPACTION_LAG_MS
    assert len(topics.by_use()) == 8


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("[topics.ledger]\npartitions = 7", "topics", "the same number of partitions for commands and ledger"),
        ("[topics.events]\npartitions = 7", "topics", "the same number of partitions for events and actions and action_results"),
        ('[topics.index]\nname = "calls.ledger"', "topics", "another name for each topic"),
        ("[topics.index]\npartitions = 0", "topics.index.partitions", "a whole number from 1 to 10000"),
        ("[process]\nshutdown_seconds = 3", "(top level)", "process.shutdown_seconds of at least the longest drain_seconds"),
        ('[ingress]\ntls_key_file = "x"', "ingress", "both of tls_certificate_file and tls_key_file, or none"),
        ('[topics]\nprefix = "calls/"', "topics.prefix", r"a string matching ^[a-zA-Z0-9._-]{0,100}$"),
        ('[logging]\nlevel = "trace"', "logging.level", "one of 'debug', 'error', 'info', 'warning'"),
        ("[commands]\nmax_in_flight = 0", "commands.max_in_flight", "a whole number from 1 to 10000"),
        ('[commands]\nevidence_seconds = "60s"', "commands.evidence_seconds", "a number greater than 0 and at most 31622400"),
    ],
)  # fmt: skip
def test_refusals(file: Path, text: str, path: str, allowed: str) -> None:
    """What is not allowed is refused with its path and with what is."""
    error = refusal(file, text)

    assert (error.path, error.allowed) == (path, allowed)


def test_misspelt_table(file: Path) -> None:
    """A misspelt name is refused, with the right one."""
    assert refusal(file, "[loging]").found == "the unknown field loging (did you mean logging?)"


@pytest.mark.parametrize(
    ("data", "path", "found"),
    [
        (b"[kafka\n", "line 1, column 7", "no TOML: Expected ']' at the end of a table declaration"),
        (b"a = 1\nb = nope", "line 2, column 5", "no TOML: Invalid value"),
        (b"a = 1\nb = '\xff'", "line 2", "bytes that are not UTF-8"),
    ],
)
def test_no_toml(file: Path, data: bytes, path: str, found: str) -> None:
    """A file that is no TOML is refused with line and column."""
    file.write_bytes(data)
    with pytest.raises(Misconfigured) as caught:
        load(file)

    assert (caught.value.path, caught.value.found) == (path, found)


def test_missing_file(file: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(Misconfigured, match="No such file or directory"):
        load(file)


def test_environment_overrides_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a variable of a setting's name nor `${NAME}` changes a setting."""
    monkeypatch.setenv("CALLBRIDGE_INGRESS_PORT", "1")
    monkeypatch.setenv("GROUP", "other")
    file.write_text('[commands]\ngroup_id = "a.b"\n[kafka]\nclient_id = "${GROUP}"')

    assert load(file).ingress.port == Config().ingress.port
    assert load(file).kafka == {"client_id": "${GROUP}"}


def test_effective_holds_every_setting_and_no_secret(file: Path) -> None:
    """The print is derived from the structs, names the sources of secrets, and masks what nobody decoded yet."""
    file.write_text(
        """
        [kafka]
        bootstrap_servers = ["a:9092"]
        sasl_password = "hunter2"
        [connections.demo]
        base_url = "https://user:hunter3@api.example/v1"
        api_key = { env = "DEMO_KEY" }
        webhook_secrets = ["hunter4", { file = "/run/secrets/hook" }]
        [actions]
        reply_token_secrets = [{ env = "TOKEN_SECRET" }]
        """
    )
    printed = effective(load(file))
    settings = json.loads(printed)

    assert "hunter" not in printed
    assert settings["kafka"] == {"bootstrap_servers": ["a:9092"], "sasl_password": "***"}
    assert settings["connections"]["demo"] == {
        "base_url": "https://***@api.example/v1",
        "api_key": {"env": "DEMO_KEY"},
        "webhook_secrets": ["***", {"file": "/run/secrets/hook"}],
    }
    assert settings["actions"]["reply_token_secrets"] == [{"env": "TOKEN_SECRET"}]
    assert list(settings) == list(Config.__struct_fields__)
    assert settings["commands"].keys() == set(Config().commands.__struct_fields__)
