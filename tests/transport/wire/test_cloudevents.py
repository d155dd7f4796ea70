"""Types become CloudEvents and come back unchanged; what others wrote is checked; schemas only grow."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from tests.factories import START
from vqmon.core.scores import ScorerTier
from vqmon.core.types import (
    PROMOTION_REASONS,
    PROMOTION_SKIP_REASONS,
    Alert,
    AlertEvidence,
    ByteRange,
    Encryption,
    MediaFacts,
    Promotion,
    Provenance,
    QualityEvent,
    Rendition,
    Score,
    ScorerFailure,
    ScorerIdentity,
    Segment,
    SegmentFailure,
    SignalSummary,
)
from vqmon.errors import REASONS, WireError
from vqmon.transport.wire import cloudevents

FIXTURES = Path(__file__).parent / "fixtures"
SCHEMAS = Path(__file__).parents[3] / "config" / "schemas"

ALERT = replace(
    factories.alert(rule="low-score", began_at=START, opened_at=START + timedelta(seconds=12)),
    id="a" * 32,
    series="news-1/1080p/lite",
    summary="lite@1 23.4 below 40 for 12 s",
    evidence=AlertEvidence(
        event_id="b" * 32, reading="lite@1 23.4 below 40", value=23.4, threshold=40.0, worst_times_seconds=(3.0, 0.0)
    ),
)
FAILURE = cloudevents.encode_outcome(factories.failure(sequence=1), source="x")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
labels = st.dictionaries(texts, texts, max_size=3)
ranges = st.builds(ByteRange, offset_bytes=counts, length_bytes=st.integers(1, 2**40))
series = st.lists(numbers, max_size=5).map(tuple)

segments = st.builds(
    Segment,
    rendition=st.builds(
        Rendition,
        stream_id=names,
        name=names,
        width=st.none() | counts,
        height=st.none() | counts,
        bitrate_kbps=st.none() | numbers,
        codecs=st.none() | texts,
        labels=labels,
    ),
    sequence=counts,
    url=texts.map(lambda text: f"https://example.org/{text}"),
    starts_at=moments,
    duration_seconds=st.floats(0, 1e6),
    byte_range=st.none() | ranges,
    init_url=st.none() | texts,
    init_byte_range=st.none() | ranges,
    encryption=st.none() | st.builds(Encryption, method=texts, key_url=st.none() | texts, iv_hex=st.none() | texts),
    is_discontinuity=st.booleans(),
    labels=labels,
    prompt=texts,
)  # fmt: skip

scores = st.builds(
    Score, scorer=texts, value=numbers, native_value=numbers, p5=numbers, min=numbers, pooling=texts,
    frame_values=series, levels=st.dictionaries(texts, numbers, max_size=2), entropy=st.none() | numbers,
)  # fmt: skip

promotions = st.builds(
    Promotion, reasons=st.lists(st.sampled_from(sorted(PROMOTION_REASONS)), min_size=1, unique=True).map(tuple),
    left_out=st.sampled_from(["", *PROMOTION_SKIP_REASONS]),
)  # fmt: skip

events = st.builds(
    QualityEvent,
    id=texts,
    segment=segments,
    observed_at=moments,
    scores=st.lists(scores, max_size=2).map(tuple),
    scorer_failures=st.lists(
        st.builds(ScorerFailure, scorer=texts, tier=st.sampled_from(get_args(ScorerTier)),
                  reason=st.sampled_from(sorted(REASONS)), detail=texts), max_size=2,
    ).map(tuple),
    signals=st.dictionaries(
        texts, st.builds(SignalSummary, mean=numbers, max=numbers, frame_values=series), max_size=2
    ),
    times_seconds=series,
    edges=st.tuples(texts, texts),
    media=st.builds(
        MediaFacts,
        container=texts,
        codec=texts,
        width=counts,
        height=counts,
        fps=numbers,
        duration_seconds=numbers,
        frame_count=counts,
        pixel_format=texts,
        colour=texts,
        transfer=texts,
        rotation_degrees=st.integers(-360, 360),
        is_interlaced=st.booleans(),
        tone_mapping=st.none() | texts,
        notes=st.lists(texts, max_size=2).map(tuple),
    ),
    provenance=st.builds(
        Provenance,
        scorers=st.lists(
            st.builds(
                ScorerIdentity,
                scorer=texts,
                sha256=texts,
                preprocessing=texts,
                calibration_version=counts,
                device=texts,
                licence=texts,
            ),
            max_size=2,
        ).map(tuple),
        sampling=st.sampled_from(["exact", "keyframes"]),
        versions=labels,
    ),
    shadow_scores=st.lists(scores, max_size=1).map(tuple),
    disagreement=st.none() | numbers,
    promotion=st.none() | promotions,
)  # fmt: skip

failures = st.builds(
    SegmentFailure,
    id=texts,
    segment=segments,
    observed_at=moments,
    stage=st.sampled_from(["source", "fetch", "decode", "score"]),
    reason=st.sampled_from(sorted(REASONS)),
    detail=texts,
)  # fmt: skip


@given(events | failures)
def test_an_outcome_comes_back_unchanged(outcome: QualityEvent | SegmentFailure) -> None:
    """Every number, text and moment survives, to the last bit and microsecond, and JSON stays plain JSON."""
    document = cloudevents.encode_outcome(outcome, source="vqmon://host")
    assert cloudevents.parse_outcome(document) == outcome
    assert cloudevents.parse_outcome(json.dumps(json.loads(document))) == outcome
    assert b"\n" not in document


@given(st.builds(replace, st.just(ALERT), summary=texts, series=texts), st.none() | st.timedeltas(timedelta(0)))
def test_an_alert_comes_back_unchanged(alert: Alert, lasted: timedelta | None) -> None:
    """Open and resolved ones alike."""
    if lasted is not None:
        alert = replace(alert, state="resolved", resolved_at=alert.opened_at + min(lasted, timedelta(days=9)))
    assert cloudevents.parse_alert(cloudevents.encode_alert(alert, source="vqmon://host")) == alert


def test_the_envelope_is_a_cloudevent() -> None:
    """Attributes are those of CloudEvents 1.0, moments RFC 3339 with Z."""
    event, failure = factories.event(sequence=3), factories.failure(sequence=4)
    envelope = json.loads(cloudevents.encode_outcome(event, source="vqmon://host"))
    data = envelope.pop("data")
    assert envelope == {
        "specversion": "1.0",
        "type": "org.vqmon.quality.v1",
        "id": event.id,
        "source": "vqmon://host",
        "subject": "news-1/1080p",
        "time": "2026-11-20T20:00:17Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:vqmon:schema:org.vqmon.quality.v1#/properties/data",
    }
    assert data["segment"]["starts_at"] == "2026-11-20T20:00:12Z"
    assert json.loads(cloudevents.encode_outcome(failure, source="x"))["type"] == "org.vqmon.unscored.v1"


def test_opening_and_resolving_are_two_messages_about_one_alert() -> None:
    """Their ids differ, `data.id` and subject do not, and each has its own moment."""
    resolved = replace(ALERT, state="resolved", resolved_at=START + timedelta(minutes=1))
    opening, resolution = (json.loads(cloudevents.encode_alert(alert, source="x")) for alert in (ALERT, resolved))
    assert (opening["id"], resolution["id"]) == (f"{ALERT.id}.open", f"{ALERT.id}.resolved")
    assert opening["data"]["id"] == resolution["data"]["id"] == ALERT.id
    assert opening["subject"] == resolution["subject"] == ALERT.series
    assert (opening["type"], resolution["type"]) == ("org.vqmon.alert.opened.v1", "org.vqmon.alert.resolved.v1")
    assert (opening["time"], resolution["time"]) == ("2026-11-20T20:00:12Z", "2026-11-20T20:01:00Z")


def test_numbers_that_are_not_finite_never_leave() -> None:
    """NaN and infinity are no JSON; a text that says so is."""
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            cloudevents.encode_outcome(replace(factories.event(sequence=1), times_seconds=(value,)), source="x")
    named = replace(factories.failure(sequence=1), detail="NaN and Infinity")
    assert cloudevents.parse_outcome(cloudevents.encode_outcome(named, source="x")) == named


def test_text_in_an_unknown_encoding_does_not_stop_anything() -> None:
    """What is no valid Unicode is replaced."""
    strange = replace(factories.failure(sequence=1), detail="caf\udce9")
    assert cloudevents.parse_outcome(cloudevents.encode_outcome(strange, source="x")).detail == "caf?"


def changed(change: dict[str, Any], document: bytes | None = None) -> str:
    """A message with some places changed: dotted path -> value; None takes the place out."""
    tree = json.loads(document or cloudevents.encode_outcome(factories.event(sequence=3), source="x"))
    for path, value in change.items():
        *parents, last = path.split(".")
        place = tree
        for step in parents:
            place = place[int(step) if step.isdigit() else step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ("", "document: Invalid JSON"),
        ("[]", "document: "),
        ("{}", "document: Unable to extract tag"),
        (changed({"type": "org.vqmon.quality.v2"}), "org.vqmon.quality.v2"),
        (changed({"specversion": "0.3"}), "specversion: "),
        (changed({"data": None}), "data: Field required"),
        (changed({"time": "yesterday"}), "time: "),
        (changed({"data.segment.sequence": None}), "data.segment.sequence: Field required"),
        (changed({"data.segment.sequence": "3"}), "data.segment.sequence: "),
        (changed({"data.segment.starts_at": "2026-11-20T20:00:12"}), "data.segment: "),
        (changed({"data.segment.rendition.stream_id": ""}), "data.segment.rendition: "),
        (changed({"data.scores": {}}), "data.scores: "),
        (changed({"data.provenance.sampling": "random"}), "data.provenance.sampling: "),
        (changed({"data.media.fps": math.inf}), "data.media.fps: "),
        (changed({"data.reason": "lost"}, FAILURE), "data: "),
        (changed({"data.stage": "x"}, FAILURE), "data.stage: "),
        (cloudevents.encode_alert(ALERT, source="x").decode(), "org.vqmon.alert.opened.v1"),
    ],
)  # fmt: skip
def test_what_does_not_follow_the_schema_is_refused_with_its_path(document: str, path: str) -> None:
    """The error names the path within the document."""
    with pytest.raises(WireError) as refused:
        cloudevents.parse_outcome(document)
    assert path in str(refused.value)


def test_what_a_later_version_adds_is_ignored() -> None:
    """New attributes, fields and labels do not disturb a reader of today."""
    document = changed(
        {"traceparent": "00-x", "data.vmaf": 3, "data.segment.cdn": {"a": [1]}, "data.scores.0.opinions": [1, 2]}
    )
    assert cloudevents.parse_outcome(document) == factories.event(sequence=3)


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("*.json")))
def test_messages_of_earlier_versions_are_still_read(name: str) -> None:
    """The frozen files must never be changed; a new field in `core.types` needs a default, or this fails."""
    document = (FIXTURES / name).read_bytes()
    tree = json.loads(document)
    is_alert = ".alert." in tree["type"]
    parsed = cloudevents.parse_alert(document) if is_alert else cloudevents.parse_outcome(document)
    encoded = (
        cloudevents.encode_alert(parsed, source="x") if is_alert else cloudevents.encode_outcome(parsed, source="x")
    )
    assert_holds(json.loads(encoded)["data"], tree["data"], "data")


def assert_holds(new: Any, old: Any, path: str) -> None:
    """All that `old` says is in `new`, which may say more."""
    if isinstance(old, dict):
        for key in old:
            assert key in new, f"{path}.{key} is gone"
            assert_holds(new[key], old[key], f"{path}.{key}")
    elif isinstance(old, list):
        assert len(new) == len(old), path
        for at, (new_item, old_item) in enumerate(zip(new, old, strict=True)):
            assert_holds(new_item, old_item, f"{path}.{at}")
    else:
        assert new == old, path


def test_the_committed_schemas_are_those_of_the_code() -> None:
    """Regenerate: python -c 'from pathlib import Path; from vqmon.transport.wire.cloudevents import write_schemas;
    write_schemas(Path("config/schemas"))'
    """
    committed = {path.stem: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    assert committed == cloudevents.schemas(), test_the_committed_schemas_are_those_of_the_code.__doc__


def test_schemas_name_every_field_of_a_message() -> None:
    """Each message type has a schema that requires the envelope and describes the data."""
    for name, schema in cloudevents.schemas().items():
        assert schema["properties"]["type"] == {"const": name, "title": "Type", "type": "string"}
        assert {"id", "source", "time", "data", "type"} <= set(schema["required"])
        assert schema["$id"] == f"urn:vqmon:schema:{name}"
