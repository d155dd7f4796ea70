"""Deploy markers are kept beside whoever writes the history, and travel as records."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.outcomes import scored
from vqmon.core.planned import Marker
from vqmon.errors import WireError
from vqmon.transport.markers import HEADER, TYPE, encode_marker, is_marker, parse_marker
from vqmon.transport.places import Place
from vqmon.transport.store import open_history

AT = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def marker(number: int) -> Marker:
    return Marker(id=f"{number:032}", at=AT + timedelta(minutes=number), name=f"encoder {number}", stream="news-*")


def test_markers_are_added_while_another_writes(place: Place) -> None:
    """The same again changes nothing; the newest are given, oldest first."""
    with open_history(place, "write") as history:
        history.publish([scored(0)])
        with open_history(place, "mark") as beside:
            for number in (2, 1, 3, 2):
                beside.add_marker(marker(number))
        history.publish([scored(1)])
        assert list(history.markers()) == [marker(1), marker(2), marker(3)]
        assert list(history.markers(limit=2)) == [marker(2), marker(3)]
        assert list(history.outcomes_in_order()) == [scored(0), scored(1)]


@given(name=words, stream=words, at=st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)))  # noqa: DTZ001
def test_a_marker_comes_back_as_it_was(name: str, stream: str, at: datetime) -> None:
    """As a CloudEvent, known by its header."""
    it = Marker(id="a" * 32, at=at, name=name, stream=stream)
    assert parse_marker(encode_marker(it, source="test")) == it
    assert is_marker({HEADER: TYPE.encode()})
    assert not is_marker({})


@pytest.mark.parametrize("value", [b"{}", b"no json", b'{"type": "org.vqmon.segment.v1"}'])
def test_what_is_no_marker_is_refused(value: bytes) -> None:
    """With the place in the document."""
    with pytest.raises(WireError):
        parse_marker(value)
