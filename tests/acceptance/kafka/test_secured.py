"""TLS and SASL against a real broker; secrets come from files and are never shown."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.acceptance.kafka.broker import REMEDY, Cluster, is_available
from tests.acceptance.kafka.fleet import BEGINS, ROOT, Worker, message_of, segments_of, until
from tests.conftest import need
from vqmon.core.alerts.annotations import StreamEnd, stream_end
from vqmon.errors import BrokerError, NoHistoryError, SettingsError, StoreError
from vqmon.transport.history.history import open_history
from vqmon.transport.kafka import (
    ClientConfig,
    IdempotentProducer,
    TopicNames,
    check_topics,
    create_topics,
    topic_specs,
)
from vqmon.transport.kafka.reader import open_topic_consumer
from vqmon.transport.kafka.topics import AclRule, TopicSpec, required_acls
from vqmon.transport.secrets import read_secret
from vqmon.transport.wire.control_messages import control_message_headers, encode_control_message

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SECRET = "open-sesame-2026"


def certificates(folder: Path) -> tuple[Path, str, str]:
    """A CA file, and certificate and key of a server on loopback, as PEM."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    now = datetime.now(UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))

    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    ca = builder(ca_name, ca_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    ca_certificate = ca.add_extension(usage, critical=True).sign(ca_key, hashes.SHA256())
    leaf = builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")]), key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
    )
    certificate = leaf.sign(ca_key, hashes.SHA256())
    file = folder / "ca.pem"
    file.write_bytes(ca_certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return file, certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def listener(certificate: str, key: str) -> str:
    """Properties of a client listener with TLS and SCRAM."""

    def line(text: str) -> str:
        return text.strip().replace("\n", "\\n")

    prefix = "listener.name.client"
    return f"""{prefix}.ssl.keystore.type=PEM
{prefix}.ssl.keystore.certificate.chain={line(certificate)}
{prefix}.ssl.keystore.key={line(key)}
{prefix}.sasl.enabled.mechanisms=SCRAM-SHA-512
{prefix}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
sasl.enabled.mechanisms=SCRAM-SHA-512
"""


def write_settings(folder: Path, kafka: dict[str, Any]) -> None:
    """The settings file of a folder."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in kafka.items()]
    (folder / "vqmon.toml").write_text('[source]\nkind = "kafka"\n[kafka]\n' + "\n".join(lines), encoding="utf-8")


def start_vqmon(folder: Path, credentials: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the command with the settings of the folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "vqmon", "--config", str(folder / "vqmon.toml"), *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": str(credentials), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def vqmon(folder: Path, credentials: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command with the settings of the folder; returns its exit status, output and errors."""
    process = start_vqmon(folder, credentials, *arguments)
    try:
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, output, errors


AUTHORIZER = """authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A broker with TLS, SCRAM and an authorizer; `admin` may do everything, other users what ACLs allow."""

    bootstrap: str
    ca_file: Path
    folder: Path

    def config(self, username: str = "vqmon", **changes: Any) -> ClientConfig:
        """How a user connects."""
        login = ClientConfig(
            bootstrap=(self.bootstrap,),
            is_encrypted=True,
            ca_file=self.ca_file,
            mechanism="SCRAM-SHA-512",
            username=username,
            password=SECRET,
        )
        return replace(login, **changes)

    def settings(self, username: str = "vqmon") -> dict[str, Any]:
        """The same as settings, with the password in a file."""
        return {
            "bootstrap": [self.bootstrap],
            "copies": 1,
            "partitions": 2,
            "encrypted": True,
            "ca_file": str(self.ca_file),
            "mechanism": "SCRAM-SHA-512",
            "username": username,
            "password_file": str(self.folder / "kafka"),
            "session_seconds": 6,
            "rebalance_seconds": 12,
        }

    def allow(self, acls: Sequence[AclRule], *, username: str = "vqmon") -> None:
        """Give a user these ACLs, as an operator would with Kafka's tool."""
        admin = AdminClient(
            {
                "bootstrap.servers": self.bootstrap,
                "security.protocol": "SASL_SSL",
                "ssl.ca.location": str(self.ca_file),
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "admin",
                "sasl.password": SECRET,
            }
        )
        kinds = {
            "topic": ResourceType.TOPIC,
            "group": ResourceType.GROUP,
            "transactional-id": ResourceType.TRANSACTIONAL_ID,
        }
        bindings = [
            AclBinding(
                kinds[rule.resource],
                rule.name,
                ResourcePatternType.PREFIXED if rule.is_prefix else ResourcePatternType.LITERAL,
                f"User:{username}",
                "*",
                AclOperation[operation],
                AclPermissionType.ALLOW,
            )
            for rule in acls
            for operation in rule.operations
        ]
        for result in admin.create_acls(bindings).values():
            result.result(timeout=30)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One broker for this module."""
    need("kafka", present=is_available(), remedy=REMEDY)
    folder = tmp_path_factory.mktemp("secured")
    ca_file, certificate, key = certificates(folder)
    (folder / "kafka").write_text(SECRET + "\n", encoding="utf-8")
    users = [("admin", SECRET), ("vqmon", SECRET), ("recorder", SECRET)]
    with Cluster(folder / "brokers", extra=listener(certificate, key) + AUTHORIZER, scram=users) as cluster:
        yield Secured(bootstrap=cluster.bootstrap, ca_file=ca_file, folder=folder)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"password": "wrong"}, r"the login is refused: wrong user name or password"),
        ({"ca_file": None}, r"certificate of the broker is not trusted .*: kafka\.ca_file must hold the CA"),
        ({"mechanism": "SCRAM-SHA-256"}, r"the broker does not offer kafka\.mechanism = SCRAM-SHA-256"),
        ({"mechanism": None}, r"the broker closes the connection: does this port expect .* login"),
        ({"is_encrypted": False}, r"does this port expect TLS"),
        ({"bootstrap": ("127.0.0.1:1",)}, r"127\.0\.0\.1:1: nothing listens there"),
        ({"bootstrap": ("no-such-host.invalid:9092",)}, r"the name of the host cannot be resolved"),
    ],
)
async def test_an_error_of_a_connection_names_its_cause(secured: Secured, changes: dict[str, Any], cause: str) -> None:
    """And the setting to look at; the password is in no message, and no connection is left behind."""
    config = secured.config("admin", **changes)
    before = open_sockets()
    with pytest.raises(BrokerError, match=cause) as caught:
        await check_topics(config, [])
    assert SECRET not in str(caught.value)
    assert open_sockets() == before


def open_sockets() -> set[str]:
    """The sockets that this process holds."""
    with os.scandir("/proc/self/fd") as handles:
        links = {os.readlink(handle.path) for handle in handles if os.path.lexists(handle.path)}
    return {link for link in links if link.startswith("socket:")}


async def test_the_listed_acls_are_what_workers_and_recorders_need(secured: Secured, tmp_path: Path) -> None:
    """Without them `topics check` says so; with them, and no others, outcomes and ends come into the history."""
    names = TopicNames.from_prefix("vqmon", "vqmon")
    specs = topic_specs(names, partitions=2, replication_factor=1, max_message_bytes=100_000)
    await create_topics(secured.config("admin"), specs)
    problems = await check_topics(secured.config(), specs)
    assert {problem.text for problem in problems} == {
        f"topic {spec.name}: the user may not describe it" for spec in specs
    }
    with pytest.raises(
        BrokerError, match="no permission for the cluster, or to write to any topic: `vqmon topics acls`"
    ):
        async with IdempotentProducer(secured.config()) as producer:
            await producer.publish(names.segments, [message_of(segments_of("news", 1)[0])])
    acls = required_acls(names, "vqmon")
    secured.allow([*acls["vqmon run"], *acls["vqmon publish, end, deploy, packagers"]])
    secured.allow(acls["vqmon record"], username="recorder")
    # The broker loads new ACLs from the controller a moment later.
    await until(lambda: _is_all_right(secured.config(), specs), seconds=30)
    async with IdempotentProducer(secured.config()) as producer:
        await producer.publish(names.segments, [message_of(segment) for segment in segments_of("news", 10)])
        end = stream_end("news", "*", BEGINS, announced_at=BEGINS)
        value, headers = encode_control_message(end, source="test"), control_message_headers(end)
        await producer.publish_to_all_partitions(names.segments, value, headers, key=b"news")
    worker = Worker(tmp_path / "worker.log", secured.settings()).start()
    try:
        async with open_topic_consumer(secured.config("admin"), names.quality, offsets={}) as consumer:
            outcomes = 0
            async with asyncio.timeout(60):
                while outcomes < 10:
                    outcomes += len(await consumer.poll(seconds=0.5))
        assert worker.stop() == 0
        assert SECRET not in worker.log.read_text(encoding="utf-8")
    finally:
        worker.kill()
    history = tmp_path / "history.db"
    write_settings(tmp_path, {**secured.settings("recorder"), "password_file": "kafka"})
    recorder = start_vqmon(tmp_path, secured.folder, "record", "--history", str(history))
    try:
        await until(lambda: _has_recorded(history, outcomes=10, ends=1), seconds=60)
    finally:
        recorder.terminate()
        _, log = recorder.communicate(timeout=40)
    assert recorder.returncode == 0, log
    assert "topics acls" not in log
    assert SECRET not in log


async def _has_recorded(path: Path, *, outcomes: int, ends: int) -> bool:
    """Whether this history holds as many."""
    try:
        with open_history(path, "read") as history:
            inputs = list(history.documents.judge_inputs())
    except (NoHistoryError, StoreError):
        # not there yet, or without its tables
        return False
    return (len(inputs), sum(isinstance(each, StreamEnd) for each in inputs)) == (outcomes + ends, ends)


async def _is_all_right(config: ClientConfig, specs: Sequence[TopicSpec]) -> bool:
    return await check_topics(config, specs) == []


def test_the_command_reads_its_password_from_a_file_and_keeps_it(secured: Secured, tmp_path: Path) -> None:
    """Topics are made and checked over TLS and SCRAM; a refused login is named. The password is never shown."""
    write_settings(tmp_path, {**secured.settings("admin"), "prefix": "command", "password_file": "kafka"})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "kafka").write_text(f"wrong-{SECRET}", encoding="utf-8")
    made = vqmon(tmp_path, secured.folder, "topics", "create")
    refused = vqmon(tmp_path, tmp_path / "bad", "topics", "check")
    assert made[0] == 0, made
    assert "command.state.vqmon.v1" in made[1]
    assert refused[0] != 0
    assert "the login is refused" in refused[2]
    assert not any(SECRET in output for result in (made, refused) for output in result[1:])


def test_a_secret_is_read_from_the_credentials_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain name is looked up there; a missing or empty file is named, its content never."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "kafka").write_text(f"{SECRET}\n", encoding="utf-8")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    assert read_secret(Path("kafka"), setting="kafka.password_file") == SECRET
    for name in ("empty", "missing"):
        with pytest.raises(SettingsError, match=name):
            read_secret(Path(name), setting="kafka.password_file")


def test_a_connection_never_shows_its_password() -> None:
    """Neither repr nor str holds it."""
    connection = ClientConfig(bootstrap=("127.0.0.1:9092",), mechanism="PLAIN", username="u", password=SECRET)
    assert SECRET not in f"{connection!r} {connection}"
