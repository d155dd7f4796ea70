"""Client configuration for aiokafka, the translation of its errors, and stopping a consumer."""

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaConnectionError, OutOfOrderSequenceNumber, ProducerFenced

from vqmon.errors import BrokerError, FencedError, SettingsError
from vqmon.transport.kafka.connection import ClientConfig, end_tasks_of, stop_consumer, translated_errors


def test_a_plain_client_has_no_secrets_in_its_options() -> None:
    """Without a mechanism and encryption, only the brokers and the client's name are set."""
    assert ClientConfig(bootstrap=("a:1", "b:2"), username="me", password="secret").client_options() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "client_id": "vqmon",
        "security_protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize(
    ("is_encrypted", "mechanism", "protocol"),
    [(True, None, "SSL"), (False, "PLAIN", "SASL_PLAINTEXT"), (True, "SCRAM-SHA-512", "SASL_SSL")],
)
def test_the_security_protocol_follows_from_mechanism_and_encryption(
    is_encrypted: bool,
    mechanism: str | None,
    protocol: str,
) -> None:
    """Kafka names the four combinations."""
    config = ClientConfig(
        bootstrap=("a:1",),
        is_encrypted=is_encrypted,
        mechanism=mechanism,  # type: ignore[arg-type]
        username="me",
        password="secret",
    )
    options = config.client_options()
    assert options["security_protocol"] == protocol
    assert options.get("sasl_plain_password") == ("secret" if mechanism else None)
    assert isinstance(options.get("ssl_context"), ssl.SSLContext) == is_encrypted
    assert "secret" not in repr(config)


def test_unusable_tls_files_are_a_settings_error(tmp_path: Path) -> None:
    """A missing CA file, and a certificate that is not one."""
    with pytest.raises(SettingsError, match="TLS files"):
        ClientConfig(bootstrap=("a:1",), is_encrypted=True, ca_file=tmp_path / "none.pem").client_options()
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match="TLS files"):
        ClientConfig(bootstrap=("a:1",), is_encrypted=True, cert_file=tmp_path / "cert.pem").client_options()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ProducerFenced(), FencedError),
        (KafkaConnectionError("no route"), BrokerError),
        (OutOfOrderSequenceNumber(), BrokerError),
        (TimeoutError(), BrokerError),
        (AssertionError("state"), BrokerError),
        (KeyError("producer"), BrokerError),
    ],
)
def test_errors_of_aiokafka_become_fenced_or_broker_errors(error: Exception, kind: type[Exception]) -> None:
    """The message begins with the action and names the original error."""
    with pytest.raises(kind, match=rf"^poll: {type(error).__name__}") as caught, translated_errors("poll"):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_other_errors_pass_untranslated() -> None:
    """A programming error is not a broker error."""
    with pytest.raises(ZeroDivisionError), translated_errors("poll"):
        _ = 1 / 0


async def test_stopping_a_consumer_closes_its_connections_even_when_the_stop_fails() -> None:
    """Both errors are returned, none is raised."""
    calls: list[str] = []

    async def stop() -> None:
        calls.append("stop")
        raise KafkaConnectionError("no brokers")

    async def close() -> None:
        calls.append("close")

    consumer = SimpleNamespace(stop=stop, _fetcher=None, _coordinator=None, _client=SimpleNamespace(close=close))
    errors = await stop_consumer(consumer, timeout_seconds=5.0)  # type: ignore[arg-type]
    assert calls == ["stop", "close"]
    assert [type(error) for error in errors] == [KafkaConnectionError]


class Sender:
    """Runs tasks as parts of aiokafka clients do: cancelled, it waits for those that it has begun."""

    async def run(self) -> None:
        request = asyncio.ensure_future(self.request())
        try:
            await request
        except asyncio.CancelledError:
            await asyncio.gather(request, asyncio.ensure_future(self.request()), return_exceptions=True)

    async def request(self) -> None:
        await asyncio.sleep(60)


async def test_the_tasks_of_a_client_are_ended() -> None:
    """Also those that it begins when it is cancelled; those of others go on."""
    mine, other = Sender(), Sender()
    tasks = [asyncio.ensure_future(sender.run()) for sender in (mine, other)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await end_tasks_of(mine, None, timeout_seconds=0.5)
    assert [task.done() for task in tasks] == [True, False]
    # The current task, the other sender and its request.
    assert len(asyncio.all_tasks()) == 3
    await end_tasks_of(other, timeout_seconds=0.5)
    assert len(asyncio.all_tasks()) == 1
