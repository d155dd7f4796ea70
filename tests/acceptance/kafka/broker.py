"""A real Apache Kafka for tests: brokers as processes on free loopback ports, from jars that Maven copies."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port

HERE = Path(__file__).parent
REMEDY = "install a Java 17 runtime and Maven (Debian: openjdk-17-jre-headless, maven)"
START_SECONDS = 120.0
# Kept fixed: a random one may begin with "-", which the tool takes for an option.
CLUSTER_ID = "vqmonvqmonvqmonvqmonvA"
JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
LOGGING = """
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ABSOLUTE} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


def is_available() -> bool:
    """Whether brokers can be started on this machine."""
    return bool(shutil.which("java") and (shutil.which("mvn") or _ready_libs().is_dir()))


def libs() -> Path:
    """The folder of the broker's jars, filled by Maven at first use; kept by the checksum of the pom."""
    folder = _ready_libs()
    if not folder.is_dir():
        unready = folder.with_name(f"{folder.name}.{os.getpid()}")
        subprocess.run(
            [
                *("mvn", "-B", "-q", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"),
                "-DincludeScope=runtime",
                f"-DoutputDirectory={unready}",
            ],
            check=True,
            timeout=600,
        )
        if not folder.is_dir():
            unready.rename(folder)
    return folder


def _ready_libs() -> Path:
    digest = hashlib.sha256((HERE / "pom.xml").read_bytes()).hexdigest()[:12]
    return HERE.parents[2] / "var" / f"kafka-{digest}"


@dataclass
class Broker:
    """One broker process; `kill` and `start` as often as a test likes."""

    number: int
    folder: Path
    client_port: int
    properties: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _log_from: int = 0

    def start(self) -> None:
        """Start the process; `wait` tells when it serves."""
        log = (self.folder / "broker.log").open("ab")
        self._log_from = log.tell()
        self.process = subprocess.Popen(
            [*_java(self.folder), "kafka.Kafka", str(self.properties)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()

    def wait(self, *, seconds: float = START_SECONDS) -> None:
        """Wait until the broker of this start serves clients."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"broker {self.number} ended:\n{self._tail()}")
            if b"Kafka Server started" in (self.folder / "broker.log").read_bytes()[self._log_from :]:
                return
            time.sleep(0.1)
        raise TimeoutError(f"broker {self.number} does not serve after {seconds} s:\n{self._tail()}")

    def kill(self) -> None:
        """SIGKILL: what a power cut looks like."""
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait(timeout=30)

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it lives."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self) -> None:
        """End the process, kindly first."""
        if self.process is None or self.process.poll() is not None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()

    def _tail(self) -> str:
        return (self.folder / "broker.log").read_text(errors="replace")[-3000:]


class Cluster:
    """One or three brokers with one cluster id; clients may be led through other ports (a proxy's)."""

    def __init__(
        self,
        folder: Path,
        *,
        brokers: int = 1,
        client_ports: list[int] | None = None,
        advertised_ports: list[int] | None = None,
        extra: str = "",
        scram: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._cluster_id = CLUSTER_ID
        ports = [free_port() for _ in range(3 * brokers)]
        clients = client_ports or ports[:brokers]
        advertised = advertised_ports or clients
        voters = ",".join(f"{n + 1}@127.0.0.1:{ports[2 * brokers + n]}" for n in range(brokers))
        self.brokers = []
        for n in range(brokers):
            home = folder / f"broker-{n + 1}"
            home.mkdir(parents=True)
            (home / "log4j2.properties").write_text(LOGGING)
            properties = home / "server.properties"
            text = _properties(n + 1, home, clients[n], advertised[n], ports[brokers + n], ports[2 * brokers + n])
            text += f"controller.quorum.voters={voters}\n{_replication(brokers)}\n"
            tls = "SASL_SSL" if extra else "PLAINTEXT"
            text += f"listener.security.protocol.map=CLIENT:{tls},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT\n{extra}"
            properties.write_text(text)
            self.brokers.append(Broker(n + 1, home, clients[n], properties))
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in advertised)
        self._scram = scram

    def __enter__(self) -> "Cluster":
        try:
            for broker in self.brokers:
                self._format(broker)
            for broker in self.brokers:
                broker.start()
            for broker in self.brokers:
                broker.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for broker in self.brokers:
            broker.signal(signal.SIGCONT)
            broker.signal(signal.SIGTERM if len(self.brokers) == 1 else signal.SIGKILL)
        for broker in self.brokers:
            broker.stop()

    def _format(self, broker: Broker) -> None:
        command = [*_java(broker.folder), "kafka.tools.StorageTool", "format", "--cluster-id", self._cluster_id]
        command += ["--config", str(broker.properties), "--ignore-formatted"]
        for name, password in self._scram:
            command += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        subprocess.run(command, check=True, timeout=START_SECONDS, stdout=subprocess.DEVNULL)


def _java(folder: Path) -> list[str]:
    where = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    return ["java", *JVM, where, f"-Dkafka.logs.dir={folder}", "-cp", f"{libs()}/*"]


def _properties(number: int, home: Path, client: int, advertised: int, internal: int, controller: int) -> str:
    return f"""process.roles=broker,controller
node.id={number}
listeners=CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{advertised},INTERNAL://127.0.0.1:{internal}
inter.broker.listener.name=INTERNAL
controller.listener.names=CONTROLLER
log.dirs={home / "data"}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
num.network.threads=2
num.io.threads=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
unclean.leader.election.enable=false
"""


def _replication(brokers: int) -> str:
    copies, least = (3, 2) if brokers >= 3 else (1, 1)
    return f"""default.replication.factor={copies}
min.insync.replicas={least}
offsets.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={least}
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={least}"""
