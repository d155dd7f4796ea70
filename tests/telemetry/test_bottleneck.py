"""What is short is the stage that took longest within the last minute."""

import tracemalloc
from itertools import count

from vqmon.telemetry.bottleneck import Bottleneck


def test_the_stage_of_the_last_minute_counts() -> None:
    """Several stages of one kind add up; what is not known to be short is left out."""
    seconds = [0.0]
    bottleneck = Bottleneck(lambda: seconds[0])
    assert bottleneck.stage == "decode"
    bottleneck.record_stage("score", 50.0)
    seconds[0] = 61.0
    for stage in ("fetch", "fetch_reference"):
        bottleneck.record_stage(stage, 2.0)
    bottleneck.record_stage("score", 3.0)
    bottleneck.record_stage("publish", 30.0)
    assert bottleneck.stage == "fetch"
    assert bottleneck.describe("nothing was lost") == (
        "vqmon cannot keep up, fetch is short; nothing was lost; the network or the origins are slow: raise "
        "daemon.in_flight, or watch fewer renditions"
    )


def test_what_is_older_than_a_minute_takes_no_memory() -> None:
    """While vqmon keeps up nobody asks which stage is short; a day of segments is forgotten all the same."""
    seconds = count()
    bottleneck = Bottleneck(lambda: float(next(seconds)))
    tracemalloc.start()
    try:
        for _ in range(20_000):
            bottleneck.record_stage("decode", 0.1)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 100_000
