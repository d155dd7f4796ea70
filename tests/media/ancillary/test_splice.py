"""Splice messages of SCTE 35: published samples, messages made by hand, and damage."""

import base64

import pytest

from vqmon.media.ancillary.splice import SpliceMessage, choose_message, parse_segmentation_type, parse_splice

# ANSI/SCTE 35 2023, clause 14: sample time_signal and splice_insert messages
PLACEMENT_START = "/DA0AAAAAAAA///wBQb+cr0AUAAeAhxDVUVJSAAAjn/PAAGlmbAICAAAAAAsoKGKNAIAmsnRfg=="
INSERT = "/DAvAAAAAAAA///wFAVIAACPf+/+c2nALv4AUsz1AAAAAAAKAAhDVUVJAAABNWLbowo="
PLACEMENT_END = "/DAvAAAAAAAA///wBQb+dGKQoAAZAhdDVUVJSAAAjn+fCAgAAAAALKChijUCAKnMZ1g="
PROGRAM_START_END = (
    "/DBIAAAAAAAA///wBQb+ek2ItgAyAhdDVUVJSAAAGH+fCAgAAAAALMvDRBEAAAIXQ1VFSUgAABl/nwgIAAAAACyk26AQAACZcuND"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLACEMENT_START, SpliceMessage(begins=True, seconds=307.0, pts=0x072BD0050)),
        (INSERT, SpliceMessage(begins=True, seconds=60.293567, pts=0x07369C02E)),
        (PLACEMENT_END, SpliceMessage(begins=False, pts=0x0746290A0)),
        # the end and start of programmes are no ad breaks
        (PROGRAM_START_END, None),
    ],
)
def test_the_samples_of_the_standard(text: str, message: SpliceMessage | None) -> None:
    parsed = parse_splice(base64.b64decode(text))
    if message is None or parsed is None:
        assert parsed is message
        return
    assert (parsed.begins, parsed.pts) == (message.begins, message.pts)
    assert parsed.seconds == pytest.approx(message.seconds, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Comcast/scte35-js #26 and #13
        ("/DAxAAAAAAAAAP/wFAUAAAD5f+//vbeKtH4AUmNiAAAAAAAMAQpDVUVJUJ8xMjEqiKYAKA==", (True, 59.9933)),
        ("/DAlAAAAAAAAAP/wFAUAAqbVf+/+AAAAAH4AUmXAAAAAAAAAdIQsGg==", (True, 60.0)),
        # the command has no length: tsduck #764, gpac #3890
        ("/DAlAAAAAAAAAP//8AUAAqbVf+/+AAAAAH4AUmXAAAAAAAAAdIQsGg==", (True, 60.0)),
        # the start of a chapter: tsduck #1456
        (
            base64.b64encode(
                bytes.fromhex(
                    "fc303a00000000000000fff00506fe794e32480024022243554549040031767fc000001499700e0c"
                    "41594c3030303030303030332001010101e9b86e1a"
                )
            ).decode(),
            None,
        ),
    ],
)
def test_messages_of_bug_reports(text: str, message: tuple[bool, float] | None) -> None:
    parsed = parse_splice(base64.b64decode(text))
    assert (parsed and (parsed.begins, round(parsed.seconds, 4))) == message


def test_the_clock_may_be_adjusted() -> None:
    """By pts_adjustment, modulo 2^33."""
    section = bytearray(base64.b64decode(INSERT))
    section[4:9] = ((1 << 33) - 1).to_bytes(5, "big")
    parsed = parse_splice(bytes(section))
    assert parsed is not None
    assert parsed.pts == 0x07369C02D


@pytest.mark.parametrize("text", [PLACEMENT_START, INSERT, PLACEMENT_END, PROGRAM_START_END])
def test_damage_is_no_message(text: str) -> None:
    """Cut off anywhere, of another table, encrypted; whatever byte is wrong, nothing is raised."""
    section = base64.b64decode(text)
    assert [parse_splice(section[:size]) for size in range(len(section))] == [None] * len(section)
    assert parse_splice(b"\x02" + section[1:]) is None
    assert parse_splice(section[:4] + b"\x80" + section[5:]) is None
    for position in range(len(section)):
        for value in (0, 0x40, 0xFF):
            parse_splice(section[:position] + bytes([value]) + section[position + 1 :])


def test_what_begins_and_what_ends_a_break() -> None:
    """SCTE 35 table 23; programmes, chapters and overlays do neither."""
    assert [parse_segmentation_type(number) for number in (0x22, 0x23, 0x30, 0x37)] == [True, False, True, False]
    assert [parse_segmentation_type(number) for number in (0x10, 0x11, 0x20, 0x38, 0x50)] == [None] * 5


def test_between_two_ads_the_break_goes_on() -> None:
    """One message with the end of an ad and the start of the next, in this order."""
    section = base64.b64decode(PROGRAM_START_END)
    ads = section.replace(b"\x44\x11\0\0", b"\x44\x31\0\0").replace(b"\xa0\x10\0\0", b"\xa0\x30\0\0")
    assert parse_splice(ads) == SpliceMessage(begins=True, pts=0x07A4D88B6)


def test_of_what_begins_at_once_the_longest_counts() -> None:
    """An ad within a break is no end of the break; what states no length ends by a message."""
    ad, pod = (SpliceMessage(begins=True, seconds=seconds) for seconds in (30.0, 120.0))
    assert choose_message([ad, pod, None, SpliceMessage(begins=False)]) is pod
    assert choose_message([pod, unknown := SpliceMessage(begins=True)]) is unknown
    assert choose_message([None]) is None
