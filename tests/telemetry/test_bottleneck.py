"""What is short is the stage that took longest within the last minute."""

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
