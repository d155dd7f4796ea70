"""Ad breaks that an MPD announces in its event streams."""

import pytest

from tests.media.ancillary.test_splice import INSERT, PLACEMENT_END, PLACEMENT_START
from tests.media.sources.dash.rig import list_segments, parse_mpd_body, period

TEMPLATE = '<SegmentTemplate media="$Number$" duration="10"/>'
SCHEME = "urn:scte:scte35:2014:xml+bin"


def marked(events: str, *, scheme: str = SCHEME, attributes: str = 'timescale="10"') -> list[int]:
    """The numbers of the segments of 10 s, the first 0, that are in an ad break."""
    stream = f'<EventStream schemeIdUri="{scheme}" {attributes}>{events}</EventStream>'
    body = period(TEMPLATE, attributes='start="PT0S" duration="PT200S"')
    text = body.replace("<AdaptationSet", f"{stream}<AdaptationSet", 1)
    entries = list_segments(parse_mpd_body('type="static"', text), at=0).entries
    assert len(entries) == 20
    return [number for number, entry in enumerate(entries) if entry.is_ad_break]


def binary(message: str, rest: str = "") -> str:
    return f"<Event {rest}><Signal><Binary>{message}</Binary></Signal></Event>"


@pytest.mark.parametrize(
    ("events", "scheme", "numbers"),
    [
        (binary(INSERT, 'presentationTime="300" duration="200"'), SCHEME, [3, 4]),
        # the length is that of the message, 60.3 s
        (binary(INSERT, 'presentationTime="300"'), SCHEME, [3, 4, 5, 6, 7, 8]),
        (
            binary(PLACEMENT_START, 'presentationTime="300"') + binary(PLACEMENT_END, 'presentationTime="500"'),
            SCHEME,
            [3, 4],
        ),
        (f'<Event presentationTime="100" duration="100">{INSERT}</Event>', "urn:scte:scte35:2013:bin", [1]),
        (f'<Event presentationTime="100" duration="100" messageData="{INSERT}"/>', "urn:scte:scte35:2013:bin", [1]),
        (
            '<Event presentationTime="0"><SpliceInfoSection><SpliceInsert outOfNetworkIndicator="true">'
            '<BreakDuration autoReturn="true" duration="900000"/></SpliceInsert></SpliceInfoSection></Event>',
            "urn:scte:scte35:2013:xml",
            [0],
        ),
        (
            '<Event presentationTime="0"><SpliceInfoSection><TimeSignal/><SegmentationDescriptor '
            'segmentationTypeId="52" segmentationDuration="1800000"/></SpliceInfoSection></Event>',
            "urn:scte:scte35:2013:xml",
            [0, 1],
        ),
        # two ads, one behind the other: in one event, and in two of which the start is listed first
        (
            '<Event presentationTime="100"><SpliceInfoSection><TimeSignal/><SegmentationDescriptor '
            'segmentationTypeId="49"/><SegmentationDescriptor segmentationTypeId="48" segmentationDuration="1800000"/>'
            "</SpliceInfoSection></Event>",
            SCHEME,
            [1, 2],
        ),
        (
            binary(INSERT, 'presentationTime="100" duration="200"')
            + binary(INSERT, 'presentationTime="300" duration="200"')
            + binary(PLACEMENT_END, 'presentationTime="300"'),
            SCHEME,
            [1, 2, 3, 4],
        ),
        # nothing that can be read, and nothing that is about breaks
        (binary("!!!") + binary("QUJD"), SCHEME, []),
        (binary(INSERT, 'presentationTime="x"'), SCHEME, []),
        (binary(INSERT), "urn:mpeg:dash:event:2012", []),
        ('<Event><SegmentationDescriptor segmentationTypeId="16"/></Event>', "urn:scte:scte35:2013:xml", []),
    ],
)
def test_segments_within_an_announced_break_are_marked(events: str, scheme: str, numbers: list[int]) -> None:
    assert marked(events, scheme=scheme) == numbers


def test_times_count_from_the_offset_of_the_stream() -> None:
    """A scale of zero is none."""
    event = binary(INSERT, 'presentationTime="1300" duration="100"')
    assert marked(event, attributes='timescale="10" presentationTimeOffset="1000"') == [3]
    assert marked(event, attributes='timescale="0"') == []
