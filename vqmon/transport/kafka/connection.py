"""How to reach the brokers, and the translation of what goes wrong there."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from vqmon.errors import BrokerError, FencedError, SettingsError

REQUEST_SECONDS = 10.0
"""One try of one request of a producer."""

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the brokers are and who we are to them."""

    bootstrap: tuple[str, ...]
    client_id: str = "vqmon"
    is_encrypted: bool = False
    ca_file: Path | None = None
    # a client certificate (PEM) and its key, for mutual TLS
    cert_file: Path | None = None
    key_file: Path | None = None
    mechanism: Mechanism | None = None
    username: str = ""
    password: str = field(default="", repr=False)

    def options(self) -> dict[str, Any]:
        """The arguments that every client of aiokafka takes."""
        protocol = ("SASL_" if self.mechanism else "") + ("SSL" if self.is_encrypted else "PLAINTEXT")
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap),
            "client_id": self.client_id,
            "security_protocol": protocol,
        }
        if self.mechanism:
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        if self.is_encrypted:
            options["ssl_context"] = self._context()
        return options

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"kafka: cannot use the TLS files of the settings: {error}") from error
        return context


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what aiokafka raises into our own errors."""
    try:
        yield
    except (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping) as error:
        raise FencedError(f"{doing}: {_named(error)}") from error
    except (KafkaError, OutOfOrderSequenceNumber, OSError, TimeoutError, AssertionError, KeyError) as error:
        # Asserts and a KeyError are how aiokafka 0.14 says that its own state broke.
        raise BrokerError(f"{doing}: {_named(error)}") from error


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
