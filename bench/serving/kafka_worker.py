"""A worker of the fleet with a scorer that costs next to nothing.

python -m bench.serving.kafka_worker '{"bootstrap": ["127.0.0.1:9092"]}' with-groups|without-groups
"""

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

from pipelines.fleet.worker import serve
from pipelines.observe.observer import Observation
from pipelines.service.lifecycle import Service
from tests import factories
from vqmon.core.alerts.conditions.group import Group
from vqmon.core.types import QualityEvent, Segment
from vqmon.settings.load import Settings
from vqmon.settings.rules_file import parse_rules
from vqmon.settings.sections import KafkaSettings
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import configure_logging
from vqmon.telemetry.metrics import Meters

RULES = Path(__file__).parents[2] / "config" / "rules.toml"


class FreeObserver:
    """Gives each segment one of a few verdicts that differ in score and picture, as those of a calm stream do."""

    def __init__(self, count: int = 61) -> None:
        random = Random(1)
        pictures = [random.randbytes(576).hex() for _ in range(2 * count)]
        self._events: list[QualityEvent] = [
            factories.event(score=70.0 + random.gauss(0, 1), edges=(pictures[2 * number], pictures[2 * number + 1]))
            for number in range(count)
        ]

    async def __call__(self, segment: Segment) -> Observation:
        await asyncio.sleep(0)
        event = self._events[segment.sequence % len(self._events)]
        id = f"{segment.rendition.key}/{segment.sequence}"
        return Observation(outcome=replace(event, id=id, segment=segment, observed_at=segment.ends_at))


async def main(kafka: dict[str, object], kind: str) -> None:
    """Work until SIGTERM."""
    rules = parse_rules(RULES.read_text(encoding="utf-8"), origin=str(RULES))
    await serve(
        Settings(kafka=KafkaSettings.model_validate(kafka)),
        Service(meters=Meters(), progress=ProgressTracker(time.monotonic)),
        observe=FreeObserver(),
        rules=[rule for rule in rules if kind == "with-groups" or not isinstance(rule.condition, Group)],
    )


if __name__ == "__main__":
    configure_logging("info", "text")
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2]))
