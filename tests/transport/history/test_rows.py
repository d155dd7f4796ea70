"""The stored form of ids, texts, times and measures."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import factories
from vqmon.core.types import ReferenceScore
from vqmon.transport.history.rows import (
    MeasureLayout,
    from_microseconds,
    measure_layout,
    outcome_columns,
    pack_event_id,
    pack_measures,
    point_from_row,
    segment_digest,
    storable_text,
    to_microseconds,
    unpack_event_id,
    unpack_scores,
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


def test_measures_are_scores_by_scorer_and_then_the_maximum_of_each_signal() -> None:
    """The layout tells which, and comes back from its stored text."""
    event = factories.event(sequence=0, score=42.0)
    layout = measure_layout(event)
    assert MeasureLayout.from_json(layout.to_json()) == layout
    measures = pack_measures(event, layout)
    assert len(measures) == 8 * (3 * len(event.scores) + len(event.signals))
    assert unpack_scores(layout, measures) == [(score.scorer, score.value, score.p5) for score in event.scores]


def test_a_failure_has_a_reason_and_no_score() -> None:
    """And a scored outcome the opposite."""
    assert outcome_columns(factories.failure(sequence=0))[-2:] == ("not_found", None)
    event = factories.event(sequence=0, score=42.0)
    assert outcome_columns(event)[-2:] == (None, event.scores[0].value)


def test_reference_measures_are_stored_behind_the_signals_and_older_layouts_are_read() -> None:
    """Without references the stored text is that of histories that had none."""
    reference = ReferenceScore(measure="psnr", value=38.5, frame_values=(38.5,), unit="dB", higher_is_better=True)
    event = replace(factories.event(), references=(reference,))
    layout = measure_layout(event)
    assert MeasureLayout.from_json(layout.to_json()) == layout
    row = (1, pack_event_id(event.id), "s", "r", 0, None, 7, pack_measures(event, layout))
    point = point_from_row(row, {7: layout})
    assert point.references == {"psnr": 38.5}
    assert point.signals == {name: signal.max for name, signal in event.signals.items()}
    older = MeasureLayout.from_json('[["lite@1"],["blur"]]')
    assert (older.references, older.to_json()) == ((), '[["lite@1"],["blur"]]')
