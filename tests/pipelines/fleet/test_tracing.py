"""The spans and log lines of a fleet's records, as a real OTLP receiver gets them."""

import logging

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from pipelines.observe.observer import Observation
from tests.acceptance.kafka.observers import outcome_of_segment
from tests.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.pipelines.memory_fleet import NAMES, MemoryFleet, segment
from tests.transport.wire.test_member_values import VALUE
from vqmon.core.types import Segment
from vqmon.telemetry.logs import log_event
from vqmon.telemetry.otlp import exported_logs, exported_traces, span
from vqmon.transport.wire.member_values import encode_member_values

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


async def observe_with_spans(segment: Segment) -> Observation:
    """As the observer does, with a log line."""
    with span("observe") as context, span("decode"):
        logging.getLogger("vqmon.fleet").warning(
            **log_event("segment.slow", seconds=3.5, url="https://user:pass@example.org/a.ts?token=t")
        )
        return Observation(outcome=outcome_of_segment(segment), span_context=context)


async def traced(fleet: MemoryFleet, count: int, *, monkeypatch: pytest.MonkeyPatch) -> OtlpReceiver:
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        with exported_traces("1"), exported_logs("1"):
            await fleet.drain(fleet.context(observe_with_spans, gather_seconds=0.05), count)
        return receiver


def by_name(receiver: OtlpReceiver, name: str) -> list[Span]:
    return [span for span in receiver.spans if span.name == name]


async def test_a_record_is_consumed_in_the_trace_of_its_message_and_published_with_a_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """consume -> observe -> decode; publish -> judge, transaction, linked to each record of the batch."""
    fleet = MemoryFleet(partitions=1)
    fleet.put(0, segment(0), ("traceparent", f"00-{TRACE}-{PARENT}-01".encode()))
    fleet.put(0, segment(1))
    receiver = await traced(fleet, 2, monkeypatch=monkeypatch)
    consumed = by_name(receiver, "consume")
    assert {span.kind for span in consumed} == {Span.SPAN_KIND_CONSUMER}
    first = next(span for span in consumed if span.trace_id.hex() == TRACE)
    assert first.parent_span_id.hex() == PARENT
    attributes = {item.key: item.value.string_value or item.value.int_value for item in first.attributes}
    assert attributes["messaging.system"] == "kafka"
    assert attributes["messaging.destination.name"] == NAMES.segments
    assert (attributes["messaging.destination.partition.id"], attributes["messaging.kafka.offset"]) == ("0", 0)
    observed = next(span for span in by_name(receiver, "observe") if span.trace_id.hex() == TRACE)
    assert observed.parent_span_id == first.span_id
    published = by_name(receiver, "publish")
    assert {span.kind for span in published} == {Span.SPAN_KIND_PRODUCER}
    assert sorted(link.span_id for span in published for link in span.links) == sorted(
        span.span_id for span in consumed
    )
    parents = {span.span_id for span in published}
    for name in ("judge", "transaction"):
        assert {span.parent_span_id for span in by_name(receiver, name)} == parents


async def test_log_lines_are_exported_with_their_trace_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is the body, its fields are attributes."""
    fleet = MemoryFleet(partitions=1)
    fleet.put(0, segment(0), ("traceparent", f"00-{TRACE}-{PARENT}-01".encode()))
    receiver = await traced(fleet, 1, monkeypatch=monkeypatch)
    (line,) = [record for record in receiver.log_records if record.body.string_value == "segment.slow"]
    assert line.trace_id.hex() == TRACE
    assert line.span_id == by_name(receiver, "decode")[0].span_id
    assert line.severity_text == "WARNING"
    attributes = {item.key: item.value.string_value or item.value.double_value for item in line.attributes}
    assert attributes["vqmon.seconds"] == 3.5
    assert "pass" not in str(attributes)
    assert "token=t" not in str(attributes)


async def test_a_batch_of_the_gathered_topic_is_one_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records are no segments, and have no span to link to."""
    fleet = MemoryFleet(partitions=1)
    fleet.broker.append(NAMES.gathered, 0, b"news", encode_member_values([VALUE]))
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        with exported_traces("1"):
            await fleet.judge_gathered()
    (published,) = by_name(receiver, "publish")
    for name in ("judge", "transaction"):
        assert [span.parent_span_id for span in by_name(receiver, name)] == [published.span_id]
