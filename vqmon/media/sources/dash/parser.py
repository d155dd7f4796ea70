"""Parsing of DASH MPDs (ISO/IEC 23009-1); raises SegmentError("playlist") or ("no_video")."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from vqmon.errors import SegmentError
from vqmon.media.sources.dash import xml
from vqmon.media.sources.dash.clock import ClockSource
from vqmon.media.sources.dash.content import is_sound, is_subtitles, is_video, parse_ad_breaks, parse_encryption
from vqmon.media.sources.dash.links import UNRESOLVED, RemoteDocument, find_links, resolve_links
from vqmon.media.sources.dash.manifest import Manifest, Period
from vqmon.media.sources.dash.segments import Representation
from vqmon.media.sources.media_playlist import (
    MAX_SUBTITLES,
    MAX_TRACKS,
    Origin,
    ParseWarnings,
    SubtitleTrack,
    Track,
    add_seconds,
    assign_names,
    parse_seconds,
    parse_timestamp,
    plausible_time,
    resolve_url,
    subtitle_name,
)
from vqmon.media.sources.steering import SteeringServer

# An earlier start of a VOD presentation is not a real time: its media times just count from zero.
_EARLIEST_ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)
_MAX_ORIGINS = 5


def parse_mpd(body: bytes, url: str, *, remote: Mapping[str, RemoteDocument] | None = None) -> Manifest:
    """Parse an MPD; `url` is its own, `remote` holds what its links refer to.

    An invalid attribute or set costs what it describes and is a warning; a period that cannot be used is listed as one
    segment with a `problem`.
    """
    root = xml.parse_mpd_xml(body)
    links = find_links(root, url)
    resolve_links(root, url, remote or {})
    parser = _MpdParser(root, url)
    is_dynamic = root.get("type", "static") == "dynamic"
    duration = parser.duration_seconds(root, "mediaPresentationDuration", "MPD")
    if duration == 0:
        parser.warnings.add("MPD: mediaPresentationDuration is 0; it counts as not given")
        duration = None
    periods = parser.periods(root, duration)
    elements = xml.find_children(root, "Period")
    location = xml.find_child(root, "Location")
    return Manifest(
        is_dynamic=is_dynamic,
        available_at=_find_origin(root, periods, is_dynamic=is_dynamic),
        window_seconds=parser.duration_seconds(root, "timeShiftBufferDepth", "MPD"),
        duration_seconds=duration,
        is_updated=is_dynamic and "minimumUpdatePeriod" in root.attrib,
        periods=periods,
        tracks=_name_tracks(root, periods, url, may_grow=bool(links) and remote is None),
        location=resolve_url(url, location.text) if location is not None and location.text else url,
        links=links,
        clocks=_clock_sources(root, url) if is_dynamic else (),
        steering=parser.steering(root),
        ad_breaks=parse_ad_breaks(
            [(element, period.start_seconds) for element, period in zip(elements, periods, strict=False)]
        ),
        warnings=parser.warnings.texts,
    )


class _MpdParser:
    """Parses the periods of one MPD and collects what could not be used."""

    def __init__(self, root: Element, url: str) -> None:
        self._root = root
        self._url = url
        self.warnings = ParseWarnings()

    def duration_seconds(self, element: Element, name: str, where: str) -> float | None:
        """A duration attribute; None when it is absent or invalid."""
        try:
            return xml.parse_duration_seconds(element.attrib, name)
        except SegmentError as error:
            self.warnings.add(f"{where}: {error.detail}")
            return None

    def periods(self, root: Element, total_seconds: float | None) -> list[Period]:
        """The periods whose start is known."""
        base = self._base_urls((Origin(url=self._url),), root)
        elements = xml.find_children(root, "Period")
        labels = [f"Period {element.get('id') or number}" for number, element in enumerate(elements, 1)]
        starts_of = [
            self.duration_seconds(element, "start", label) for element, label in zip(elements, labels, strict=True)
        ]
        periods: list[Period] = []
        starts: float | None = 0.0
        for number, (element, label) in enumerate(zip(elements, labels, strict=True)):
            start_of = starts_of[number]
            starts = start_of if start_of is not None else starts
            if starts is None:
                # an early available period, whose start is not known yet
                break
            length = self.duration_seconds(element, "duration", label)
            next_start = starts_of[number + 1] if number + 1 < len(elements) else total_seconds
            if length is None and next_start is not None:
                length = max(0.0, next_start - starts)
            periods.append(self._parse_period(element, label, base, start_seconds=starts, duration_seconds=length))
            starts = starts + length if length is not None else None
        return periods

    def steering(self, root: Element) -> SteeringServer | None:
        """The steering server of the MPD."""
        element = xml.find_child(root, "ContentSteering")
        if element is None or not element.text:
            return None
        try:
            url = resolve_url(self._url, element.text)
        except SegmentError as error:
            self.warnings.add(f"ContentSteering: {error.detail}")
            return None
        return SteeringServer(url=url, default=element.get("defaultServiceLocation", "").split(" ")[0])

    def _parse_period(
        self,
        element: Element,
        label: str,
        base: tuple[Origin, ...],
        *,
        start_seconds: float,
        duration_seconds: float | None,
    ) -> Period:
        representations: list[Representation] = []
        sound: list[Representation] = []
        subtitles: dict[SubtitleTrack, Sequence[Representation]] = {}
        problem = element.get(UNRESOLVED, "")
        try:
            origins = self._base_urls(base, element)
            for number, adaptation_set in enumerate(xml.find_children(element, "AdaptationSet"), 1):
                try:
                    if UNRESOLVED in adaptation_set.attrib:
                        raise SegmentError("playlist", adaptation_set.attrib[UNRESOLVED])
                    representations += self._parse_set(element, adaptation_set, origins, is_video)
                    if not sound or _is_main(adaptation_set):
                        sound = list(self._parse_set(element, adaptation_set, origins, is_sound)) or sound
                    texts = list(self._parse_set(element, adaptation_set, origins, is_subtitles))
                    if texts and len(subtitles) < MAX_SUBTITLES:
                        subtitles.setdefault(_subtitle_track(adaptation_set), texts)
                except SegmentError as error:
                    detail = f"AdaptationSet {adaptation_set.get('id') or number}: {error.detail}"
                    self.warnings.add(f"{label}, {detail}")
                    problem = problem or detail
        except SegmentError as error:
            problem = error.detail
        return Period(
            start_seconds=start_seconds,
            duration_seconds=duration_seconds,
            representations=representations,
            sound=sound,
            subtitles=subtitles,
            problem=f"{label}: {problem}" if problem and not representations else "",
        )

    def _parse_set(
        self,
        period: Element,
        adaptation_set: Element,
        origins: tuple[Origin, ...],
        is_wanted: Callable[[Element, Element], bool],
    ) -> Iterator[Representation]:
        set_origins = self._base_urls(origins, adaptation_set)
        for element in xml.find_children(adaptation_set, "Representation"):
            if not is_wanted(adaptation_set, element):
                continue
            own_origins = self._base_urls(set_origins, element)
            attributes = {**adaptation_set.attrib, **element.attrib}
            bandwidth = self._integer(attributes, "bandwidth")
            yield Representation(
                track=Track(
                    name="",
                    url=own_origins[0].url,
                    id=attributes.get("id", "") if "id" in element.attrib else "",
                    width=self._integer(attributes, "width") or None,
                    height=self._integer(attributes, "height") or None,
                    bitrate_kbps=bandwidth / 1000 if 0 < bandwidth < 10**12 else None,
                    codecs=attributes.get("codecs"),
                ),
                bandwidth=bandwidth,
                origins=own_origins,
                addressing=xml.find_addressing((period, adaptation_set, element)),
                base_offset=_base_offset((self._root, period, adaptation_set, element)),
                encryption=parse_encryption((adaptation_set, element), own_origins[0].url),
            )

    def _integer(self, attributes: Mapping[str, str], name: str) -> int:
        """An integer that only describes a representation; 0 when it is absent or invalid."""
        try:
            return max(0, xml.parse_integer(attributes, name, 0))
        except SegmentError as error:
            self.warnings.add(f"Representation {attributes.get('id', '')}: {error.detail}")
            return 0

    def _base_urls(self, origins: tuple[Origin, ...], element: Element) -> tuple[Origin, ...]:
        """The base URLs of an element: its own ones, each relative to each of the level above, the preferred first."""
        children = [child for child in xml.find_children(element, "BaseURL") if child.text and child.text.strip()]
        if not children:
            return origins
        resolved: dict[str, Origin] = {}
        failures: list[SegmentError] = []
        for child in sorted(children, key=_priority):
            for origin in origins:
                try:
                    url = resolve_url(origin.url, child.text or "")
                except SegmentError as error:
                    failures.append(error)
                    continue
                resolved.setdefault(url, Origin(url=url, pathway=child.get("serviceLocation") or origin.pathway))
        if not resolved:
            raise failures[0]
        for failure in failures:
            self.warnings.add(f"BaseURL: {failure.detail}")
        return tuple(resolved.values())[:_MAX_ORIGINS]


def _subtitle_track(adaptation_set: Element) -> SubtitleTrack:
    roles = [role.get("value", "") for role in xml.find_children(adaptation_set, "Role")]
    label = next((child.text or "" for child in xml.find_children(adaptation_set, "Label")), "")
    language = adaptation_set.get("lang", "")
    is_forced = any(role.lower().replace("_", "-") == "forced-subtitle" for role in roles)
    return SubtitleTrack(name=subtitle_name(language, label or " ".join(roles)), language=language, is_forced=is_forced)


def _is_main(adaptation_set: Element) -> bool:
    """Whether a set has the role of the main one (ISO/IEC 23009-1 5.8.5.5)."""
    return any(role.get("value", "").lower() == "main" for role in xml.find_children(adaptation_set, "Role"))


def _priority(base_url: Element) -> float:
    """DVB-DASH (ETSI TS 103 285, 10.8.2.1): the lowest number is preferred; 1 without one."""
    text = next((value for name, value in base_url.attrib.items() if name.rpartition("}")[2] == "priority"), "")
    return parse_seconds(text) if text else 1.0


def _base_offset(levels: Sequence[Element]) -> str:
    """The availabilityTimeOffset of the innermost BaseURL that has one."""
    base_urls = [base_url for level in levels for base_url in xml.find_children(level, "BaseURL")[:1]]
    offsets = [base_url.get("availabilityTimeOffset", "") for base_url in base_urls]
    return next((offset for offset in reversed(offsets) if offset), "")


def _find_origin(root: Element, periods: Sequence[Period], *, is_dynamic: bool) -> datetime | None:
    origin = plausible_time(parse_timestamp(root.get("availabilityStartTime", "")))
    if origin is None or is_dynamic:
        return origin
    first = periods[0].start_seconds if periods else 0.0
    return origin if add_seconds(origin, first) >= _EARLIEST_ORIGIN else None


def _clock_sources(root: Element, base: str) -> tuple[ClockSource, ...]:
    """The clocks that the MPD offers (UTCTiming), in order."""
    elements = [
        (element.get("schemeIdUri", ""), element.get("value", "")) for element in xml.find_children(root, "UTCTiming")
    ]
    return tuple(
        ClockSource(scheme=scheme, value=text, base_url=base) for scheme, value in elements for text in value.split()
    )


def _name_tracks(root: Element, periods: Sequence[Period], url: str, *, may_grow: bool) -> tuple[Track, ...]:
    """Name the tracks of the longest period, because advertisement periods have ladders of their own."""
    with_video = [period for period in periods if period.representations]
    if not with_video and may_grow:
        # the video may be behind a link
        return ()
    if not with_video:
        problems = [period.problem for period in periods if period.problem]
        if problems:
            raise SegmentError("playlist", problems[0])
        has_media = any(xml.local_name(element) == "Representation" for element in root.iter())
        raise SegmentError("no_video" if has_media else "playlist", "the MPD offers no video")

    def length(period: Period) -> float:
        return period.duration_seconds if period.duration_seconds is not None else math.inf

    main = max(with_video, key=length)
    if len(main.representations) > MAX_TRACKS:
        raise SegmentError("playlist", "the MPD lists too many renditions")
    return assign_names([replace(representation.track, url=url) for representation in main.representations])
