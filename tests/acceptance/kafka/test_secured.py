"""TLS and SASL against a real broker; secrets come from files and are never shown."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.acceptance.kafka.broker import REMEDY, Cluster, is_available
from tests.acceptance.kafka.fleet import ROOT
from tests.conftest import need
from vqmon.errors import SettingsError
from vqmon.transport.kafka import ClientConfig
from vqmon.transport.secrets import read_secret

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


def vqmon(folder: Path, credentials: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the settings of the folder."""
    return subprocess.run(
        [sys.executable, "-m", "vqmon", "--config", str(folder / "vqmon.toml"), *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": str(credentials), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_speaks_tls_and_scram_and_keeps_the_secret(tmp_path: Path) -> None:
    """With the right password topics are made and checked; with a wrong one it is refused; neither is ever shown."""
    need("kafka", present=is_available(), remedy=REMEDY)
    ca_file, certificate, key = certificates(tmp_path)
    extra = listener(certificate, key)
    with Cluster(tmp_path / "brokers", extra=extra, scram=("vqmon", SECRET)) as cluster:
        (tmp_path / "vqmon.toml").write_text(
            f"""[source]
kind = "kafka"
[kafka]
bootstrap = ["{cluster.bootstrap}"]
copies = 1
partitions = 2
encrypted = true
ca_file = "{ca_file.name}"
mechanism = "SCRAM-SHA-512"
username = "vqmon"
password_file = "kafka"
""",
            encoding="utf-8",
        )
        good, bad = tmp_path / "good", tmp_path / "bad"
        for folder, text in ((good, SECRET), (bad, "wrong-" + SECRET)):
            folder.mkdir()
            (folder / "kafka").write_text(text + "\n", encoding="utf-8")
        made = vqmon(tmp_path, good, "topics", "create")
        checked = vqmon(tmp_path, good, "topics", "check")
        refused = vqmon(tmp_path, bad, "topics", "check")
    assert made.returncode == 0, made.stderr
    assert "vqmon.state.vqmon.v1" in made.stdout
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert refused.returncode != 0
    assert not any(SECRET in result.stdout + result.stderr for result in (made, checked, refused))


def test_a_secret_is_read_from_the_credentials_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain name is looked up there; a missing or empty file is named, its content never."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "kafka").write_text(f"{SECRET}\n", encoding="utf-8")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    assert read_secret(Path("kafka")) == SECRET
    for name in ("empty", "missing"):
        with pytest.raises(SettingsError, match=name):
            read_secret(Path(name))


def test_a_connection_never_shows_its_password() -> None:
    """Neither repr nor str holds it."""
    connection = ClientConfig(bootstrap=("127.0.0.1:9092",), mechanism="PLAIN", username="u", password=SECRET)
    assert SECRET not in f"{connection!r} {connection}"
