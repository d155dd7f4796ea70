"""The video renditions of an HLS master playlist; raises SegmentError("playlist") or ("no_video")."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vqmon.errors import SegmentError
from vqmon.media.sources.hls.tags import M3u8Dict
from vqmon.media.sources.hls.variables import resolve_reference
from vqmon.media.sources.media_playlist import (
    MAX_SUBTITLES,
    MAX_TRACKS,
    Origin,
    ParseWarnings,
    SubtitleTrack,
    Track,
    assign_names,
    has_only_other_codecs,
    subtitle_name,
)
from vqmon.media.sources.steering import SteeringServer

_RESOLUTION = re.compile(r"(\d{1,5})(?:\.0*)?\s*x\s*(\d{1,5})(?:\.0*)?", re.IGNORECASE)

# What distinguishes variants that are not copies of each other on other servers (RFC 8216 6.2.4). Audio groups and
# pathways differ between such copies.
_IDENTITY = ("bandwidth", "average_bandwidth", "resolution", "codecs", "frame_rate", "video_range", "video", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterPlaylist:
    """The video renditions of a master playlist, and the variables that its media playlists may import."""

    tracks: tuple[Track, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    steering: SteeringServer | None = None
    # what the playlist says that could not be used
    warnings: tuple[str, ...] = ()


def parse_master(
    tree: M3u8Dict, base: str, *, variables: Mapping[str, str], steering: Mapping[str, str], warnings: ParseWarnings
) -> MasterPlaylist:
    """The master playlist; a variant that cannot be used is left out with a warning."""
    tracks = _parse_tracks(tree, base, warnings)
    server = None
    if steering.get("server_uri"):
        try:
            server_url = resolve_reference(base, steering["server_uri"])
            server = SteeringServer(url=server_url, default=steering.get("pathway_id", ""))
        except SegmentError as error:
            warnings.add(f"EXT-X-CONTENT-STEERING: {error.detail}")
    return MasterPlaylist(tracks=tracks, variables=variables, steering=server, warnings=warnings.texts)


def _parse_tracks(tree: M3u8Dict, base: str, warnings: ParseWarnings) -> tuple[Track, ...]:
    """The variants with video, and alternative video renditions (camera angles) that have playlists of their own."""
    if len(tree["playlists"]) + len(tree["media"]) > MAX_TRACKS:
        raise SegmentError("playlist", "the playlist lists too many renditions")
    collected = _Tracks()
    problem = ""
    for variant in tree["playlists"]:
        attributes = variant["stream_info"]
        if _has_no_video(attributes):
            continue
        try:
            track = _parse_track(attributes, resolve_reference(base, variant["uri"]))
            track = replace(
                track,
                audio_url=_audio_url(tree, attributes, base, warnings),
                subtitles=_subtitles(tree, attributes, base, warnings),
            )
            angles = [
                (angle, resolve_reference(base, angle["uri"]))
                for angle in tree["media"]
                if _is_angle_of(angle, attributes)
            ]
        except SegmentError as error:
            problem = f"{attributes['where']}: {error.detail}; the rendition is left out"
            warnings.add(problem)
            continue
        if collected.add_variant(track, attributes):
            for angle, url in angles:
                collected.add_angle(track, angle, url)
    if not collected.tracks:
        raise SegmentError("playlist" if problem else "no_video", problem or "the master playlist offers no video")
    return assign_names(list(collected.tracks.values()), list(collected.hints.values()))


class _Tracks:
    """The tracks of a master playlist by their URLs, each once, with copies on other servers as backups."""

    def __init__(self) -> None:
        self.tracks: dict[str, Track] = {}
        # names that the playlist gives
        self.hints: dict[str, str] = {}
        self._first_urls: dict[tuple[object, ...], str] = {}

    def add_variant(self, track: Track, attributes: M3u8Dict) -> bool:
        """Add a variant; False for a copy of an earlier one, which becomes its backup."""
        identity = _identity(attributes)
        first = self.tracks.get(self._first_urls.get(identity, ""))
        if first is not None and track.url not in self.tracks:
            if track.url not in first.urls:
                origin = Origin(url=track.url, pathway=track.pathway)
                self.tracks[first.url] = replace(first, backups=(*first.backups, origin))
            return False
        if self.tracks.setdefault(track.url, track) is track:
            self.hints[track.url] = attributes.get("name", "")
            self._first_urls[identity or (track.url,)] = track.url
        return True

    def add_angle(self, track: Track, angle: M3u8Dict, url: str) -> None:
        """Add an alternative video rendition of a variant."""
        self.tracks.setdefault(url, replace(track, url=url))
        self.hints.setdefault(url, f"{assign_names([track])[0].name}-{angle.get('name') or 'angle'}")


def _identity(attributes: M3u8Dict) -> tuple[object, ...]:
    """What copies of a variant on several servers have in common; empty when too little is said to tell."""
    is_told = attributes["bandwidth"] and (attributes.get("resolution") or attributes.get("codecs"))
    return tuple(attributes.get(name, "") for name in _IDENTITY) if is_told else ()


def _is_angle_of(angle: M3u8Dict, variant: M3u8Dict) -> bool:
    return bool(angle.get("type") == "VIDEO" and angle.get("uri") and angle.get("group_id") == variant.get("video"))


def _audio_url(tree: M3u8Dict, variant: M3u8Dict, base: str, warnings: ParseWarnings) -> str:
    """The playlist of the sound that a player begins with: the default of the variant's group, else its first.

    Empty when that has no playlist, as its sound is in the segments of the variant (RFC 8216 4.3.4.1).
    """
    group = [
        rendition
        for rendition in tree["media"]
        if rendition.get("type") == "AUDIO" and rendition.get("group_id", "") == variant.get("audio", "")
    ]
    if not group:
        return ""
    chosen = max(group, key=lambda rendition: rendition.get("default", "").upper() == "YES")
    try:
        return resolve_reference(base, chosen["uri"]) if chosen.get("uri") else ""
    except SegmentError as error:
        warnings.add(f"{chosen['where']}: {error.detail}; the sound is not measured")
        return ""


def _subtitles(tree: M3u8Dict, variant: M3u8Dict, base: str, warnings: ParseWarnings) -> tuple[SubtitleTrack, ...]:
    """The renditions of the subtitle group of a variant (RFC 8216 4.3.4.1), each name once."""
    group = variant.get("subtitles", "")
    tracks: dict[str, SubtitleTrack] = {}
    for rendition in tree["media"] if group else ():
        if rendition.get("type") != "SUBTITLES" or rendition.get("group_id", "") != group or not rendition.get("uri"):
            continue
        language = rendition.get("language") or ""
        name = subtitle_name(language, rendition.get("name") or "")
        if len(tracks) == MAX_SUBTITLES:
            warnings.add(f"the subtitle group {group!r} has more than {MAX_SUBTITLES} renditions; the rest is left out")
            break
        try:
            url = resolve_reference(base, rendition["uri"])
        except SegmentError as error:
            warnings.add(f"{rendition['where']}: {error.detail}; these subtitles are not watched")
            continue
        is_forced = rendition.get("forced", "").upper() == "YES"
        tracks.setdefault(name, SubtitleTrack(name=name, language=language, url=url, is_forced=is_forced))
    return tuple(tracks.values())


def _has_no_video(attributes: M3u8Dict) -> bool:
    return not attributes.get("resolution") and has_only_other_codecs(attributes.get("codecs", ""))


def _parse_track(attributes: M3u8Dict, url: str) -> Track:
    size = _RESOLUTION.fullmatch(attributes.get("resolution", ""))
    bandwidth = attributes["average_bandwidth"] or attributes["bandwidth"]
    return Track(
        name="",
        url=url,
        pathway=attributes.get("pathway_id", ""),
        width=int(size[1]) if size else None,
        height=int(size[2]) if size else None,
        bitrate_kbps=bandwidth / 1000 if 0 < bandwidth < 1e12 else None,
        codecs=attributes.get("codecs") or None,
    )
