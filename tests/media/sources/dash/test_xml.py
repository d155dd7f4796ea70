"""MPD XML: inheritance and size limits."""

import pytest

from tests.media.sources.dash.rig import STATIC, VIDEO, file_names, list_segments, parse_mpd_body, period
from vqmon.core.types import ByteRange
from vqmon.errors import SegmentError
from vqmon.media.sources.dash import xml


def test_addressing_is_inherited_and_overridden() -> None:
    """Attributes from Period, AdaptationSet and Representation; the nearest one counts."""
    body = """<Period><SegmentTemplate timescale="10" duration="40" media="p-$Number$"/>
      <AdaptationSet mimeType="video/mp4" width="64"><SegmentTemplate startNumber="5" media="a-$Number$"/>
        <Representation id="x"><SegmentTemplate duration="100"/></Representation>
      </AdaptationSet></Period>"""
    assert file_names(list_segments(parse_mpd_body(STATIC, body))) == ["a-5", "a-6"]


def test_a_large_or_wide_mpd_is_refused() -> None:
    """Before it becomes a tree a hundred times its size, and before names are compared with each other."""
    with pytest.raises(SegmentError, match="bytes"):
        parse_mpd_body(STATIC, "<a/>" * 1_000_001)
    with pytest.raises(SegmentError, match="renditions"):
        parse_mpd_body(STATIC, period("", representations=VIDEO * 1001))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0S", 0),
        ("PT1M30.5S", 90.5),
        ("P1DT2H", 93_600),
        (" PT6S ", 6),
        ("P1Y", 31_536_000),
        ("P1M", 2_592_000),
        ("P2W", 1_209_600),
        ("PT8.0399780273438S", 8.0399780273438),
        ("PT0,5M", 30),
    ],
)
def test_iso_8601_durations_are_seconds(text: str, seconds: float) -> None:
    """Years and months count as 365 and 30 days."""
    assert xml.parse_duration_seconds({"duration": text}, "duration") == seconds


@pytest.mark.parametrize("text", ["6", "PT", "PT-6S", "PT1e3S", ""])
def test_other_durations_fail_the_mpd(text: str) -> None:
    """`P` and `PT` alone are zero; nothing else is guessed."""
    if text == "PT":
        assert xml.parse_duration_seconds({"d": text}, "d") == 0
        return
    with pytest.raises(SegmentError, match="not a duration"):
        xml.parse_duration_seconds({"d": text}, "d")


def test_integers_are_bounded_in_digits_and_sign() -> None:
    """More than 18 digits, fractions and text are refused; zero is not positive."""
    assert xml.parse_integer({"n": " -5 "}, "n", 1) == -5
    assert xml.parse_integer({}, "n", 7) == 7
    for text in ("1" * 19, "1.5", "x", ""):
        with pytest.raises(SegmentError, match="not an integer"):
            xml.parse_integer({"n": text}, "n", 1)
    with pytest.raises(SegmentError, match="must be positive"):
        xml.parse_positive_integer({"n": "0"}, "n", 1)


def test_byte_ranges_are_inclusive() -> None:
    """`0-99` are a hundred bytes; a range that ends before it begins is refused."""
    assert xml.parse_byte_range({"range": "0-99"}, "range") == ByteRange(offset_bytes=0, length_bytes=100)
    assert xml.parse_byte_range({}, "range") is None
    for text in ("9-8", "1-", "-5", "a-b", ""):
        with pytest.raises(SegmentError, match="range is no byte range"):
            xml.parse_byte_range({"range": text}, "range")


def test_document_types_are_refused() -> None:
    """Entities can make a huge document of a small one."""
    with pytest.raises(SegmentError, match="cannot be parsed"):
        xml.parse_mpd_xml(b'<!DOCTYPE MPD [<!ENTITY a "aaaa">]><MPD>&a;</MPD>')
    with pytest.raises(SegmentError, match="not an MPD: its root is html"):
        xml.parse_mpd_xml(b"<html/>")
    assert xml.local_name(xml.parse_mpd_xml(b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>')) == "MPD"
