"""The configuration of aiokafka clients, and the translation of their errors."""

import asyncio
import socket
import ssl
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaConnectionError,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from vqmon.errors import BrokerError, FencedError, SettingsError
from vqmon.flow import run_with_deadline

REQUEST_TIMEOUT_SECONDS = 10.0
"""The timeout of one attempt of a producer's request."""

_PROBE_SECONDS = 5.0
_CLOSE_SECONDS = 2.0

_NO_PERMISSION = "the user has no permission for {}: `vqmon topics acls` prints the ACLs that it needs"
_PERMISSIONS: dict[type[KafkaError], str] = {
    TopicAuthorizationFailedError: _NO_PERMISSION.format("a topic"),
    GroupAuthorizationFailedError: _NO_PERMISSION.format("the consumer group"),
    TransactionalIdAuthorizationFailed: _NO_PERMISSION.format("the transactional id"),
    ClusterAuthorizationFailedError: _NO_PERMISSION.format("the cluster, or to write to any topic"),
}

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
        await end_tasks_of(consumer._fetcher, consumer._coordinator, timeout_seconds=timeout_seconds)
    return errors


async def end_tasks_of(*owners: object, timeout_seconds: float) -> None:
    """Cancel what parts of a client still run, and wait for that.

    aiokafka 0.14 forgets tasks when it stops half-way; they would open connections that nobody closes.
    """
    # The task of a sender, once cancelled, waits for those that it has begun.
    for _ in range(2):
        tasks = [
            task
            for task in asyncio.all_tasks()
            if task is not asyncio.current_task()
            and (frame := getattr(task.get_coro(), "cr_frame", None)) is not None
            and any(frame.f_locals.get("self") is owner for owner in owners if owner is not None)
        ]
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=timeout_seconds)


async def start_client(
    start: Coroutine[None, None, None], config: ClientConfig, *, action: str, within_seconds: float
) -> None:
    """Start a client of aiokafka; raises BrokerError, which names the cause when no broker lets it in."""
    with translated_errors(action):
        try:
            await run_with_deadline(start, within_seconds=within_seconds)
        except (KafkaConnectionError, TimeoutError) as error:
            # The client logs why it could not connect, and raises only that it could not.
            problem = await _connection_problem(config)
            raise BrokerError(f"{action}: {problem or _describe(error)}") from error


async def _connection_problem(config: ClientConfig) -> str:
    """Try to connect to each bootstrap address, and say why that fails; empty when one of them works."""
    problems = []
    for address in config.bootstrap:
        problem = await _address_problem(config, address)
        if not problem:
            return ""
        problems.append(f"{address}: {problem}")
    return "; ".join(problems)


async def _address_problem(config: ClientConfig, address: str) -> str:
    host, _, port = address.rpartition(":")
    options = {name: value for name, value in config.client_options().items() if name != "bootstrap_servers"}

    connection = AIOKafkaConnection(
        host.strip("[]"), int(port), request_timeout_ms=int(_PROBE_SECONDS * 1000), **options
    )

    async def connect() -> None:
        await connection.connect()
        # A listener that wants a login closes the connection only now.
        await connection.send(MetadataRequest([]))

    try:
        await run_with_deadline(connect(), within_seconds=_PROBE_SECONDS)
    except Exception as error:
        return _connection_error_text(error, config)
    finally:
        closed = connection.close()
        if connection._protocol:
            # Closing TLS takes an answer of the broker, which keeps a refused login waiting.
            await asyncio.wait([closed], timeout=_CLOSE_SECONDS)
    return ""


def _connection_error_text(error: Exception, config: ClientConfig) -> str:
    """Say in words of the settings why a connection failed."""
    closed = (
        "the broker closes the connection: does this port expect TLS or a login (kafka.encrypted, kafka.mechanism)?"
    )
    # aiokafka raises errors of its own from those of the socket and of TLS.
    causes = [error, error.__cause__, error.__context__]
    texts: list[tuple[type[BaseException] | tuple[type[BaseException], ...], str]] = [
        (
            ssl.SSLCertVerificationError,
            "the certificate of the broker is not trusted ({}): kafka.ca_file must hold the CA that signed it",
        ),
        (ssl.SSLError, "no TLS connection ({}): does this port speak TLS (kafka.encrypted)?"),
        (socket.gaierror, "the name of the host cannot be resolved ({})"),
        (ConnectionRefusedError, "nothing listens there (connection refused)"),
        (
            (SaslAuthenticationFailed, AuthenticationFailedError),
            "the login is refused: wrong user name or password (kafka.username, kafka.password_file)",
        ),
        (UnsupportedSaslMechanismError, f"the broker does not offer kafka.mechanism = {config.mechanism}"),
        (ConnectionResetError, closed),
        (TimeoutError, f"no answer within {_PROBE_SECONDS:.0f} s: {{}}"),
        (KafkaConnectionError, closed),
    ]
    for kind, text in texts:
        for cause in causes:
            if isinstance(cause, kind):
                detail = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause)
                return text.format(detail) if "{}" in text else text
    return _describe(error)


def _describe(error: BaseException) -> str:
    if permission := _PERMISSIONS.get(type(error)):
        return f"{permission} ({type(error).__name__})"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
