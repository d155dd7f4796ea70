"""The configuration of aiokafka clients, and the translation of their errors."""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from vqmon.errors import BrokerError, FencedError, SettingsError
from vqmon.flow import run_with_deadline

REQUEST_TIMEOUT_SECONDS = 10.0
"""The timeout of one attempt of a producer's request."""

SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The brokers, and how a client authenticates to them."""

    bootstrap: tuple[str, ...]
    client_id: str = "vqmon"
    is_encrypted: bool = False
    ca_file: Path | None = None
    # a client certificate (PEM) and its key, for mutual TLS
    cert_file: Path | None = None
    key_file: Path | None = None
    mechanism: SaslMechanism | None = None
    username: str = ""
    password: str = field(default="", repr=False)

    def client_options(self) -> dict[str, Any]:
        """The keyword arguments that every client of aiokafka takes; SettingsError when TLS files cannot be used."""
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
            options["ssl_context"] = self._ssl_context()
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"kafka: cannot use the TLS files of the settings: {error}") from error
        return context


@contextmanager
def translated_errors(action: str) -> Iterator[None]:
    """Turn errors of aiokafka into FencedError and BrokerError; `action` begins the message."""
    try:
        yield
    except (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping) as error:
        raise FencedError(f"{action}: {_describe(error)}") from error
    except (KafkaError, OutOfOrderSequenceNumber, OSError, TimeoutError, AssertionError, KeyError) as error:
        # With asserts and a KeyError aiokafka 0.14 reports that its own state is broken.
        raise BrokerError(f"{action}: {_describe(error)}") from error


async def stop_consumer(consumer: AIOKafkaConsumer, *, timeout_seconds: float) -> Sequence[Exception]:
    """Stop a consumer and close its connections; never hangs and never raises, but returns the errors.

    Without brokers, `stop` ends half-way with CancelledError of its own, which `apart` turns into TimeoutError; the
    connections are closed all the same.
    """
    errors: list[Exception] = []
    for close in (consumer.stop, consumer._client.close):
        try:
            await run_with_deadline(close(), within_seconds=timeout_seconds)
        except Exception as error:
            errors.append(error)
    return errors


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
