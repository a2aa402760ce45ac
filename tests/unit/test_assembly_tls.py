"""The certificate of the webhooks' port: what cannot be used is told as a misconfiguration, and nobody is asked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.ingress.tls import server_tls
from bridge.model.errors import Misconfigured
from bridge.runtime.settings import Ingress
from tests.support.raw_http import certificate

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with")


def test_a_certificate_and_its_key(tmp_path: Path) -> None:
    """A context that a server can use."""
    chain, key = certificate(tmp_path, name="gw.example")
    ingress = Ingress(tls_certificate_file=str(chain), tls_key_file=str(key))
    context = server_tls(ingress, config_file="callbridge.toml")
    assert context is not None
    assert context.check_hostname is False


def test_no_certificate() -> None:
    """A port without TLS."""
    assert server_tls(Ingress(), config_file="callbridge.toml") is None


@pytest.mark.parametrize("what", ["missing", "no PEM", "another key", "a key with a password"])
def test_what_cannot_be_used_is_misconfigured(tmp_path: Path, what: str) -> None:
    """With the file and the setting; a key with a password asks no terminal."""
    chain, key = certificate(tmp_path, name="gw.example")
    match what:
        case "missing":
            key = tmp_path / "nowhere.pem"
        case "no PEM":
            chain.write_text("certificate")
        case "another key":
            (tmp_path / "other").mkdir()
            key = certificate(tmp_path / "other", name="other.example")[1]
        case _:
            locked = tmp_path / "locked.pem"
            subprocess.run(
                ["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-in", key, "-out", locked],
                check=True,
                capture_output=True,
            )
            key = locked
    with pytest.raises(Misconfigured, match=r"callbridge\.toml: ingress\.tls_certificate_file: found .*in PEM"):
        server_tls(Ingress(tls_certificate_file=str(chain), tls_key_file=str(key)), config_file="callbridge.toml")
