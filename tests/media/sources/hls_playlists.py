"""Parsing of a short HLS media playlist from lines."""

from vqmon.media.sources.hls.parser import parse_hls
from vqmon.media.sources.media_playlist import MediaPlaylist

URL = "https://cdn.example.com/live/index.m3u8?token=1"


def parse_media_playlist(*lines: str, url: str = URL) -> MediaPlaylist:
    read = parse_hls("\n".join(("#EXTM3U", "#EXT-X-TARGETDURATION:6", *lines)), url)
    assert isinstance(read, MediaPlaylist)
    return read
