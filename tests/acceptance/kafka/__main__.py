"""One broker on this machine for a person to try things with: `make kafka`; Ctrl-C stops it and forgets all."""

import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.acceptance.kafka.broker import REMEDY, Cluster, is_available

PORT = 9092


def main() -> None:
    """Run until Ctrl-C."""
    if not is_available():
        raise SystemExit(f"no Kafka here: {REMEDY}")
    with (
        tempfile.TemporaryDirectory(prefix="vqmon-kafka-") as folder,
        Cluster(Path(folder), client_ports=[PORT]) as cluster,
    ):
        print(f"Kafka serves at {cluster.bootstrap}; Ctrl-C stops it", flush=True)  # noqa: T201
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
