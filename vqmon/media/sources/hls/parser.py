"""Parsing of HLS playlists (RFC 8216) with the `m3u8` library; raises SegmentError("playlist") only."""

import re
from collections.abc import Mapping

import m3u8

from vqmon.errors import SegmentError
from vqmon.media.sources.hls.master import MasterPlaylist, parse_master
from vqmon.media.sources.hls.media import parse_media
from vqmon.media.sources.hls.tags import TagReader, number_lines
from vqmon.media.sources.hls.variables import substitute_variables
from vqmon.media.sources.media_playlist import MAX_ENTRIES, MediaPlaylist, ParseWarnings

# what Python takes for the end of a line too, and HLS does not (RFC 8216 4.1): it may stand in a title
_NO_LINE_END = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")


def parse_hls(text: str, url: str, *, variables: Mapping[str, str] | None = None) -> MasterPlaylist | MediaPlaylist:
    """Parse a master or a media playlist; `url` is its own, `variables` are those of its master playlist.

    An invalid line costs what it describes: a segment becomes an entry with a `problem`, everything else a warning.
    """
    if text.count("#EXTINF") > MAX_ENTRIES or text.count("\n") > 8 * MAX_ENTRIES:
        raise SegmentError("playlist", "the playlist is too long")
    text = _NO_LINE_END.sub(" ", text)
    text, defined = substitute_variables(text, url, imported=variables or {})
    warnings = ParseWarnings()
    if not text.lstrip().startswith("#EXTM3U"):
        warnings.add("line 1: EXTM3U: the playlist does not begin with it")
    lines = number_lines(text, warnings)
    reader = TagReader(lines.numbers, warnings)
    try:
        tree = m3u8.parse("\n".join(lines.lines), custom_tags_parser=reader.intercept)
    except Exception as error:  # the library does not document what it raises on invalid input
        raise SegmentError("playlist", f"the HLS playlist cannot be parsed ({type(error).__name__})") from None
    if tree["is_variant"]:
        return parse_master(tree, url, variables=defined, steering=reader.steering, warnings=warnings)
    if "#EXT-X-I-FRAME-STREAM-INF" in text and not tree["segments"]:
        raise SegmentError("playlist", "the master playlist lists key frames only (EXT-X-I-FRAME-STREAM-INF)")
    return parse_media(tree, reader, url, address_numbers=lines.address_numbers, warnings=warnings)
