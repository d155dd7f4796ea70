"""A worker of the fleet in a process of its own, with a look that costs nothing.

python -m tests.acceptance.kafka.worker '{"bootstrap": ["127.0.0.1:9092"]}' MOST_SECONDS SEED
"""

import asyncio
import json
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.fleet.origin_backoff import OriginBackoff
from pipelines.fleet.worker import serve
from pipelines.observe.poison import PoisonGuard
from pipelines.service.lifecycle import Service
from pipelines.service.reload import SettingsReload, serve_reloading
from pipelines.service.wiring import utc_now
from tests.acceptance.kafka.observers import SlowObserver
from vqmon.settings.load import Settings
from vqmon.settings.rules_file import parse_rules
from vqmon.settings.sections import KafkaSettings
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import configure_logging
from vqmon.telemetry.metrics import Meters

RULES = Path(__file__).parents[3] / "config" / "rules.toml"


async def main(kafka: dict[str, object], most_seconds: float, seed: int) -> None:
    """Work until SIGTERM; SIGHUP reloads."""
    settings = Settings(kafka=KafkaSettings.model_validate(kafka))
    service = Service(meters=Meters(), progress=ProgressTracker(time.monotonic))
    await serve_reloading(
        settings,
        partial(work, most_seconds=most_seconds, seed=seed),
        service=service,
        for_seconds=None,
        load=lambda: settings,
    )


async def work(
    settings: Settings,
    service: Service,
    *,
    for_seconds: float | None,
    reload: SettingsReload | None,
    most_seconds: float,
    seed: int,
) -> None:
    """Work with an observer that is as slow as was asked; nothing on the disk outlives it, as in a container."""
    with TemporaryDirectory() as folder, PoisonGuard(Path(folder) / "in-flight", now=utc_now) as guard:
        backoff = OriginBackoff(
            SlowObserver(most_seconds=most_seconds, seed=seed),
            slots=1000,
            progress=service.progress,
            now=time.monotonic,
            retry_seconds=settings.kafka.patience_seconds,
            away_seconds=settings.kafka.origin_wait_seconds,
            probe_seconds=1.0,
            turn=guard.turn,
        )
        await serve(
            settings,
            service,
            observe=backoff.observe,
            rules=parse_rules(RULES.read_text(encoding="utf-8"), origin=str(RULES)),
            for_seconds=for_seconds,
            reload=reload,
        )


if __name__ == "__main__":
    configure_logging("info", "text")
    asyncio.run(main(json.loads(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
