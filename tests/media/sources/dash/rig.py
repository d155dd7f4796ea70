"""Small MPDs for the tests of DASH."""

import struct
from datetime import UTC, datetime, timedelta

from vqmon.media.sources.dash.manifest import Manifest
from vqmon.media.sources.dash.parser import parse_mpd
from vqmon.media.sources.dash.segments import Indexes
from vqmon.media.sources.media_playlist import MediaPlaylist

URL = "https://cdn.example.com/live/stream.mpd?token=1"


BASE = "https://cdn.example.com/live"


ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)


STATIC = 'type="static" mediaPresentationDuration="PT20S"'


DYNAMIC = 'type="dynamic" availabilityStartTime="2026-01-01T00:00:00Z" minimumUpdatePeriod="PT2S"'


VIDEO = '<Representation id="v" bandwidth="800000" width="1280" height="720" codecs="avc1.64001f"/>'


def parse_mpd_body(attributes: str, body: str) -> Manifest:
    xmlns = 'xmlns="urn:mpeg:dash:schema:mpd:2011"'
    return parse_mpd(f'<?xml version="1.0"?><MPD {xmlns} {attributes}>{body}</MPD>'.encode(), URL)


def period(addressing: str, *, attributes: str = "", representations: str = VIDEO) -> str:
    return f"""<Period {attributes}><AdaptationSet contentType="video">{addressing}{representations}</AdaptationSet>
    </Period>"""


def list_segments(manifest: Manifest, *, at: float = 0.0, indexes: Indexes | None = None) -> MediaPlaylist:
    return manifest.media_playlist(manifest.tracks[0], ORIGIN + timedelta(seconds=at), indexes or {})


def file_names(listing: MediaPlaylist) -> list[str]:
    return [entry.url.removeprefix(f"{BASE}/") for entry in listing.entries]


def sidx(sizes: list[tuple[int, int]], *, timescale: int = 10, first: int = 0, version: int = 0) -> bytes:
    form = ">IIHH" if version == 0 else ">QQHH"
    body = struct.pack(">II", 1, timescale) + struct.pack(form, 0, first, 0, len(sizes))
    body += b"".join(struct.pack(">III", size, length, 0x90000000) for size, length in sizes)
    return struct.pack(">I4sI", len(body) + 12, b"sidx", version << 24) + body
