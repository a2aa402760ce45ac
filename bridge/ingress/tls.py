"""The certificate of the webhooks' port: read the same way by the daemon that uses it and by the check before it."""

from __future__ import annotations

import ssl

from bridge.model.errors import Misconfigured
from bridge.runtime.settings import Ingress


def server_tls(ingress: Ingress, *, config_file: str) -> ssl.SSLContext | None:
    """The server's side of TLS; None where the configuration names no certificate.

    Raises:
        Misconfigured: the two files are not a certificate and its key, which nobody need be asked a password for.
    """
    certificate_file, key_file = ingress.tls_certificate_file, ingress.tls_key_file
    if certificate_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate_file, key_file, password="")  # or OpenSSL would ask the terminal for one
    except OSError as error:
        found = f"{certificate_file} and {key_file} ({type(error).__name__}: {error.strerror or 'unreadable'})"
        allowed = "a readable certificate and its key, in PEM, without a password"
        raise Misconfigured(config_file, "ingress.tls_certificate_file", found=found, allowed=allowed) from error
    return context
