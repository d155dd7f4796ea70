"""What a segment costs with the shipped rules and their groups, for fleets of several sizes.

python -m bench.alerts.group_rules
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

from tests import factories
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.regression.groups.detector import GroupJudge, MemberValue
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.types import QualityEvent
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.wire.cloudevents import encode_state
from vqmon.transport.wire.member_values import encode_member_values

RULES = Path(__file__).parents[2] / "config" / "rules.toml"
STREAMS = (500, 2000, 8000)
ROUNDS, WARM_ROUNDS = 6, 4
BATCH = 64


def segments_of_round(number: int, streams: int, template: QualityEvent) -> Sequence[QualityEvent]:
    """The next segment of each stream."""
    random = Random(number)
    events = []
    for stream in range(streams):
        segment = replace(
            template.segment,
            rendition=replace(template.segment.rendition, stream_id=f"stream-{stream:05}"),
            sequence=number,
            starts_at=factories.START + timedelta(seconds=4 * number),
        )
        score = replace(template.scores[0], value=70 + random.gauss(0, 1))
        events.append(replace(template, id=f"{stream}/{number}", segment=segment, scores=(score,)))
    return events


def measure(rules: Sequence[AlertRule], streams: int) -> Mapping[str, float]:
    """Microseconds per segment: of the judge of the streams, of the judge of the groups with its states; and bytes."""
    values: list[MemberValue] = []
    judge, groups = Judge(rules, gather=lambda shard, value: values.append(value)), GroupJudge(rules)
    template = factories.event()
    streams_seconds = groups_seconds = message_bytes = 0.0
    for number in range(WARM_ROUNDS + ROUNDS):
        is_counted = number >= WARM_ROUNDS
        events = segments_of_round(number, streams, template)
        began_at = time.process_time()
        for event in events:
            judge.judge(event)
        streams_seconds += is_counted * (time.process_time() - began_at)
        judge.drain_changes()
        began_at = time.process_time()
        for first in range(0, len(values), BATCH):
            groups.judge(values[first : first + BATCH])
            for state in groups.drain_changes().values():
                if state is not None:
                    encode_state(state)
        groups_seconds += is_counted * (time.process_time() - began_at)
        if is_counted:
            batches = (values[first : first + BATCH] for first in range(0, len(values), BATCH))
            message_bytes += sum(len(encode_member_values(batch)) for batch in batches)
        values.clear()
    count = streams * ROUNDS
    return {
        "streams": streams_seconds * 1e6 / count,
        "groups": groups_seconds * 1e6 / count,
        "bytes": message_bytes / count,
    }


def main() -> None:
    """Print one line per size of a fleet."""
    rules = parse_rules(RULES.read_text(encoding="utf-8"), origin=str(RULES))
    for streams in STREAMS:
        cost = measure(rules, streams)
        print(
            f"{streams:6} streams: judge {cost['streams']:6.1f} us, groups {cost['groups']:5.1f} us, "
            f"{cost['bytes']:4.0f} bytes gathered per segment"
        )


if __name__ == "__main__":
    main()
