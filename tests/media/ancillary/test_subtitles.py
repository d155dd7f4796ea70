"""Cues are counted in WebVTT and TTML, as plain text and in MP4; hostile bytes are refused."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from vqmon.media.ancillary.subtitles import count_cues

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
VTT = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n\n"
TTML = '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:smpte="http://smpte" xml:lang="en"><body>{}</body></tt>'


def box(name: bytes, content: bytes = b"") -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + name + content


def fragment(samples: bytes) -> bytes:
    return box(b"styp", b"msdh") + box(b"moof", box(b"mfhd", bytes(8))) + box(b"mdat", samples)


@pytest.mark.parametrize(
    ("media", "cues"),
    [
        (VTT, 0),
        ("\ufeffWEBVTT - a title\n", 0),
        (f"{VTT}00:01.000 --> 00:02.000\nGood evening.\n", 1),
        # an id, settings, hours, and a second cue whose text takes two lines
        (f"{VTT}7\n00:00:01.000 --> 00:00:02.000 line:85%\nGood\n\n00:03.000 --> 00:04.000\nevening\nall\n", 2),
        (f"{VTT}NOTE 00:01.000 --> 00:02.000\nno cue\n\nSTYLE\n::cue {{ color: red }}\n", 0),
        # nothing to show
        (f"{VTT}00:01.000 --> 00:02.000\n\n00:03.000 --> 00:04.000\n   \n", 0),
        (f"{VTT}00:01.000 --> 00:02.000\nGood evening.\n".replace("\n", "\r\n"), 1),
        (TTML.format("<div/>"), 0),
        (TTML.format("<div><p begin='1s' end='2s'><span>Good</span></p><p> </p></div>"), 1),
        (TTML.format("<div smpte:backgroundImage='#a'/><div><image src='b.png'/></div>"), 2),
        ("<?xml version='1.0'?>\n" + TTML.format("<div><p>1</p><p>2</p></div>"), 2),
    ],
)
def test_text(media: str, cues: int) -> None:
    assert count_cues(media.encode()) == cues


@pytest.mark.parametrize(
    ("samples", "cues"),
    [
        (box(b"vtte"), 0),
        (box(b"vttc", box(b"payl", b"Good")) + box(b"vtte") + box(b"vttc", box(b"sttg", b"x") + box(b"payl", b"b")), 2),
        (box(b"vttc", box(b"payl", b" ")), 0),
        (TTML.format("<div><p>1</p></div>").encode(), 1),
        # two samples, and a picture after the document
        (TTML.format("<p>1</p>").encode() + b"\x89PNG\r\n<tt>" + TTML.format("<p>2</p>").encode(), None),
        (TTML.format("<p>1</p>").encode() * 2, 2),
        (b"", 0),
    ],
)
def test_fragments(samples: bytes, cues: int | None) -> None:
    if cues is None:
        with pytest.raises(ValueError, match="TTML"):
            count_cues(fragment(samples))
    else:
        assert count_cues(fragment(samples)) == cues


@pytest.mark.parametrize(
    ("media", "message"),
    [
        (b"", "no bytes"),
        (b"<html><body>not found</body></html>", "not TTML"),
        (b"WEBVTTX\n", "neither WebVTT nor TTML"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nSubRip\n", "neither WebVTT nor TTML"),
        (TTML.format("<p>cut")[:-12].encode(), "cannot be parsed"),
        (b"<!DOCTYPE tt [<!ENTITY a 'aaaa'>]><tt><p>&a;</p></tt>", "DTDForbidden"),
        (TTML.format("<div>" * 200 + "</div>" * 200).encode(), "100 levels"),
        (b"WEBVTT\n" + b" " * 4_000_000, "4000000 bytes"),
        (fragment(b"\x01\x02\x03 encrypted"), "may be encrypted"),
        (fragment(box(b"vtte"))[:-3], "cut off"),
        (fragment(b"<tt><p>never closed"), "cut off"),
        (box(b"free"), "without fragments"),
    ],
)
def test_what_cannot_be_read_says_why(media: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_cues(media)


def test_ttml_in_mp4_of_ffmpeg(tmp_path: Path) -> None:
    """`stpp` of another muxer than ours."""
    source = tmp_path / "source.vtt"
    source.write_text("WEBVTT\n\n00:00.500 --> 00:01.000\nGood\n\n00:01.500 --> 00:02.000\nevening\n")
    target = tmp_path / "subtitles.mp4"
    command = [FFMPEG, "-v", "error", "-i", str(source), "-c:s", "ttml", "-movflags", "frag_keyframe", str(target)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    assert count_cues(target.read_bytes()) == 2
