"""Apache Kafka that asks who you are: one listener with TLS and SASL, one with TLS and client certificates.

Certificates are self-signed and made by openssl for the length of the test; each side trusts the other's by name.
"""

from __future__ import annotations

from pathlib import Path

from bridge.demo.broker import LOOPBACK, free_ports
from tests.support.apache_kafka import ApacheKafka
from tests.support.raw_http import certificate

USER, PASSWORD = "bridge", "not-a-guess"
CLIENT_NAME = "bridge.invalid"

LISTENERS = """
listeners=CLIENT://{host}:{client},CONTROLLER://{host}:{controller},SASL://{host}:{sasl},MUTUAL://{host}:{mutual}
advertised.listeners=CLIENT://{host}:{client},SASL://{host}:{sasl},MUTUAL://{host}:{mutual}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.mutual.ssl.client.auth=required
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="{user}";
"""


class SecuredKafka(ApacheKafka):
    """A node with three listeners: `bootstrap` in clear, `sasl` with TLS and SASL, `mutual` with client certificates."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._sasl_port, self._mutual_port = free_ports(2)
        self.ca_file, key = certificate(folder, name=LOOPBACK)
        self.client_cert_file, self.client_key_file = certificate(folder, name=CLIENT_NAME)
        self._keystore = folder / "keystore.pem"
        self._keystore.write_text(key.read_text() + self.ca_file.read_text())

    @property
    def sasl(self) -> str:
        """The address of the listener with TLS and SASL."""
        return f"{LOOPBACK}:{self._sasl_port}"

    @property
    def mutual(self) -> str:
        """The address of the listener that wants a client's certificate."""
        return f"{LOOPBACK}:{self._mutual_port}"

    def _properties(self) -> str:
        return super()._properties() + LISTENERS.format(
            host=LOOPBACK,
            client=self._client_port,
            controller=self._controller_port,
            sasl=self._sasl_port,
            mutual=self._mutual_port,
            keystore=self._keystore,
            truststore=self.client_cert_file,
            user=USER,
            password=PASSWORD,
        )

    def _format_arguments(self) -> tuple[str, ...]:
        users = (f"{mechanism}=[name={USER},password={PASSWORD}]" for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"))
        return tuple(argument for user in users for argument in ("--add-scram", user))
