"""The stored form of ids, texts, times and measures."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from vqmon.core.timeline import TimelinePoint
from vqmon.core.types import Outcome, ReferenceScore
from vqmon.transport.history.rows import (
    encode_facts,
    from_microseconds,
    outcome_columns,
    pack_event_id,
    point_from_row,
    scores_in_facts,
    segment_digest,
    storable_text,
    to_microseconds,
    unpack_event_id,
)


@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)))
def test_any_event_id_comes_back(event_id: str) -> None:
    """Hexadecimal or not."""
    assert unpack_event_id(pack_event_id(event_id)) == event_id


@given(st.binary(min_size=16, max_size=16))
def test_an_id_of_32_hexadecimal_digits_takes_16_bytes(packed: bytes) -> None:
    """Every one of them, so that no text can have the same stored form."""
    assert pack_event_id(packed.hex()) == packed
    assert unpack_event_id(packed) == packed.hex()


def test_an_id_in_capitals_is_stored_as_text() -> None:
    """Its bytes would come back in small letters."""
    assert len(pack_event_id("AB" * 16)) > 16


def test_times_of_any_zone_are_stored_as_microseconds_since_the_epoch() -> None:
    """Also before 1970."""
    assert to_microseconds(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert from_microseconds(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.parametrize(("text", "stored"), [("n\u00f6", "n\u00f6"), ("caf\udce9", "caf?"), ("a\0b", "a\ufffdb")])
def test_text_that_a_database_refuses_is_replaced(text: str, stored: str) -> None:
    """Lone surrogates and NUL; all else stays."""
    assert storable_text(text) == stored


def test_a_segment_digest_is_a_signed_64_bit_integer() -> None:
    """The first eight bytes of SHA-256; existing histories hold them."""
    assert segment_digest("a") == int.from_bytes(bytes.fromhex("ca978112ca1bbdca"), "big", signed=True)
    assert -(2**63) <= segment_digest("caf\udce9") < 2**63


def point_of(outcome: Outcome) -> TimelinePoint:
    """The point that the stored form of an outcome gives."""
    return point_from_row((1, pack_event_id(outcome.id), "s", "r", 0, None, encode_facts(outcome)))


def test_facts_hold_scores_signals_labels_and_frames() -> None:
    """All that charts and the public views need."""
    event = factories.event(sequence=0, score=42.0)
    point = point_of(event)
    assert point.scores == {score.scorer: score.value for score in event.scores}
    assert point.lowest == {score.scorer: score.min for score in event.scores}
    assert point.signals == {name: signal.max for name, signal in event.signals.items()}
    assert point.labels == {"team": "sr"}
    assert scores_in_facts(encode_facts(event)) == [(score.scorer, score.value, score.p5) for score in event.scores]
    assert json.loads(encode_facts(event))["scores"][0]["frames"] == list(event.scores[0].frame_values)


def test_a_label_of_the_segment_replaces_that_of_its_rendition() -> None:
    """And what a database refuses is replaced in both."""
    segment = replace(factories.segment(sequence=0), labels={"team": "caf\udce9", "arm": "v\0"})
    event = replace(factories.event(sequence=0), segment=segment)
    assert point_of(event).labels == {"team": "caf?", "arm": "v\ufffd"}


def test_numbers_that_json_has_not_are_refused() -> None:
    """A database would refuse them later, without saying of what."""
    event = factories.event(sequence=0)
    with pytest.raises(ValueError, match="JSON"):
        encode_facts(replace(event, times_seconds=(float("nan"),)))


def test_a_failure_has_a_reason_and_no_score() -> None:
    """And a scored outcome the opposite."""
    assert outcome_columns(factories.failure(sequence=0))[-2:] == ("not_found", None)
    event = factories.event(sequence=0, score=42.0)
    assert outcome_columns(event)[-2:] == (None, event.scores[0].value)


def test_reference_measures_are_stored_by_name() -> None:
    """On their own scales."""
    reference = ReferenceScore(measure="psnr", value=38.5, frame_values=(38.5,), unit="dB", higher_is_better=True)
    assert point_of(replace(factories.event(), references=(reference,))).references == {"psnr": 38.5}
