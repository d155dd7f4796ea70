"""Inputs of `../shared/fixtures/cases`, which failed once: each is listed and observed as its sound twin is."""

import asyncio
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.observe.observer import Observer
from pipelines.service.wiring import fetch_policy, open_observer, utc_now
from tests.media.clips import ffmpeg
from tests.media.loopback import Answer, serving
from vqmon.core.types import Outcome, QualityEvent
from vqmon.errors import WireError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.sources.playlist import discover_segments
from vqmon.settings.load import Settings
from vqmon.settings.scoring import ScoringSettings
from vqmon.settings.sections import DecodeSettings, FetchSettings
from vqmon.transport.wire.segment_messages import parse_segment

TAGS = "h264_metadata=matrix_coefficients"
SOUND = ("0", "1", "2", "3")
"""The four segments that most playlists of the cases list."""

PLAYLISTS: dict[str, tuple[str, Sequence[str]]] = {
    "d02-xlink-period": ("90p", ["0", "1", "0", "1"]),
    "d03c-external-index": ("90p", ["0", "1", "2", "3"]),
    "d14-muxed-contentcomponent": ("90p", ["0", "1"]),
    "d19b-thumb-contenttype-video": ("90p", ["0", "1", "2", "3"]),
    "d33b-duration-13-digits": ("90p", ["0", "1", "2", "3", "file: m4.m4s: No such file or directory"]),
    "h01-gzip-header": ("main", ["0", "1"]),
    "h01c-gzip-segments": ("main", ["0", "1"]),
    "m61-clearlead-two-entries": ("main", ["0", "1"]),
    "p01-data-uri-key": ("main", ["0", "1"]),
    "p02b-data-uri-segment": ("main", ["0"]),
    "p04c-extinf-empty-song": ("main", ["0", "1"]),
    "p05d-average-bandwidth-empty": ("90p", ["0"]),
    "p07b-byterange-at-without-offset": ("main", ["0", "1"]),
    "p11c-mediaseq-empty": ("main", ["0"]),
    "p11e-mediaseq-negative": ("main", ["0"]),
    "p21-redundant-variants": ("90p", ["0"]),
    "p40-ts-after-fmp4-discontinuity": ("main", ["0", "0"]),
}
"""Rendition, and of each listed segment the sound one that it equals, or why it is not scored."""


@dataclass(frozen=True)
class Shown:
    """What is said of the pictures of a file, and the arguments of ffmpeg that make its sound twin."""

    size: str
    colour: str = "bt601/limited (guessed)"
    frames: int = 4
    notes: tuple[str, ...] = ()
    # none: that it is shown is enough
    twin: tuple[str, ...] = ("-bsf:v", f"{TAGS}=2", "-f", "mpegts", "-")


REMUXED = ("-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "-")
FILES: dict[str, Shown | str] = {
    "m01-csp-gbr-420": Shown("320x180"),
    "m02e-trc-log316": Shown("320x180", "bt709/limited", twin=("-bsf:v", f"{TAGS}=1", "-f", "mpegts", "-")),
    "m02p-mat-cd-cl": Shown("320x180", "bt709/limited (guessed)", twin=("-bsf:v", f"{TAGS}=1", "-f", "mpegts", "-")),
    "m02r-mat-bt2020c": Shown("320x180", "bt2020/limited (guessed)", twin=("-bsf:v", f"{TAGS}=9", "-f", "mpegts", "-")),
    "m02u-mat-ipt-c2": "colour: the colours are coded as IPT-C2",
    "m04-ictcp-pq": "colour: the colours are coded as ICtCp",
    "m05-back-jump-ts": Shown(
        "320x180",
        frames=6,
        notes=("the timestamps jump back at 3.0 s; the jump was closed",),
        twin=("-f", "mpegts", "-"),
    ),
    "m15-mbaff-sar": Shown("512x288", frames=3, twin=REMUXED),
    "m23-av1-in-ts": "unsupported_codec: AV1 in MPEG-TS is not supported",
    "m26a-adts-id3": "no_video: the bytes are audio alone (AAC)",
    "m54-8k": "too_many_pixels: 7680x4320 has 33177600 pixels; at most 8847360 by decode.max_pixels",
    "m60a-sar-h264-ts": Shown("512x288", frames=3, twin=REMUXED),
    "m62b-dv5-mkv": "hdr: Dolby Vision profile 5 ",
    "m78-4k-limit-vertical": Shown("2160x4096", frames=1, twin=()),
}
"""What is said of the pictures, or why they are not scored."""

MESSAGES = {
    "k01-offset-time": "2026-11-29T01:00:00+00:00",
    "k03-confluent-prefix": "schema registry",
    "k05-bom": "2026-11-29T01:00:00+00:00",
}
"""When the segment of a message starts, or a part of why it is refused."""

pytestmark = pytest.mark.fixtures


@pytest.fixture(scope="module")
def outcomes(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Outcome]]:
    """The outcomes of each case and, under "... twin", of its twin; one pool and one scorer observe them all."""
    return asyncio.run(_observed(shared / "cases", tmp_path_factory.mktemp("twins")))


async def _observed(cases: Path, twins: Path) -> Mapping[str, Sequence[Outcome]]:
    settings = Settings(
        fetch=FetchSettings(
            file_roots=(cases, twins),
            allow_http=True,
            allowed_hosts=("127.0.0.1",),
            allowed_networks=("127.0.0.0/8",),
        ),
        decode=DecodeSettings(workers=1),
        scoring=ScoringSettings(scorers=("lite_fast",), standard_error_points=0.0),
    )
    paths = _make_twins(cases, twins)
    async with serving() as server:
        settings = settings.model_copy(
            update={"fetch": settings.fetch.model_copy(update={"allowed_ports": (server.port,)})}
        )
        addresses = {f"{path.stem} twin": path.as_uri() for path in paths}
        for case in (*PLAYLISTS, *FILES):
            addresses[case] = next((cases / case).glob("in.*"), cases / case / "v.m3u8").as_uri()
        for case, is_compressed in (("h01-gzip-header", {".m3u8"}), ("h01c-gzip-segments", {".m3u8", ".ts"})):
            addresses[case] = server.url(f"/{case}/v.m3u8")
            for file in (cases / case).iterdir():
                body = file.read_bytes()
                server.answers[f"/{case}/{file.name}"] = (
                    Answer(gzip.compress(body), headers={"Content-Encoding": "gzip"})
                    if file.suffix in is_compressed
                    else body
                )
        async with Fetcher(fetch_policy(settings)) as fetcher, open_observer(settings, fetcher=fetcher) as observer:
            return {name: await _outcomes_of(url, fetcher, observer) for name, url in addresses.items()}


def _make_twins(cases: Path, twins: Path) -> Sequence[Path]:
    folder = cases / "d19b-thumb-contenttype-video"
    for name in SOUND:
        (twins / f"{name}.mp4").write_bytes((folder / "init.mp4").read_bytes() + (folder / f"m{name}.m4s").read_bytes())
    for case, shown in FILES.items():
        if isinstance(shown, Shown) and shown.twin:
            (path,) = (cases / case).glob("in.*")
            (twins / f"{case}.twin").write_bytes(ffmpeg("-i", str(path), "-c", "copy", *shown.twin))
    return list(twins.iterdir())


async def _outcomes_of(url: str, fetcher: Fetcher, observer: Observer) -> Sequence[Outcome]:
    listed = await discover_segments(url, fetcher=fetcher, now=utc_now())
    return [(await observer.observe(item)).outcome for item in listed.items]


def _values(outcome: Outcome) -> tuple[float, ...]:
    assert isinstance(outcome, QualityEvent), outcome
    return outcome.scores[0].frame_values


@pytest.mark.parametrize("case", PLAYLISTS)
def test_a_playlist_lists_every_segment_as_it_is(case: str, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    """Each has the frame values of the sound segment, and they are numbered from 0."""
    rendition, expected = PLAYLISTS[case]
    assert [(each.segment.rendition.name, each.segment.sequence) for each in outcomes[case]] == [
        (rendition, number) for number in range(len(expected))
    ]
    for outcome, name in zip(outcomes[case], expected, strict=True):
        if name in SOUND:
            assert _values(outcome) == _values(outcomes[f"{name} twin"][0])
        else:
            assert not isinstance(outcome, QualityEvent)
            reason, _, detail = name.partition(": ")
            assert (outcome.reason, outcome.detail.endswith(detail)) == (reason, True)


@pytest.mark.parametrize("case", FILES)
def test_pictures_are_shown_as_their_twin_or_not_for_a_reason(
    case: str, outcomes: Mapping[str, Sequence[Outcome]]
) -> None:
    """The twin has the same pictures without the oddity, or the same packets in another container."""
    shown, (outcome,) = FILES[case], outcomes[case]
    if isinstance(shown, str):
        assert not isinstance(outcome, QualityEvent)
        assert f"{outcome.reason}: {outcome.detail}".startswith(shown)
        return
    assert isinstance(outcome, QualityEvent), outcome
    media = outcome.media
    assert f"{media.width}x{media.height}" == shown.size
    assert (media.colour, media.notes, len(outcome.times_seconds)) == (shown.colour, shown.notes, shown.frames)
    if shown.twin:
        assert _values(outcome) == pytest.approx(_values(outcomes[f"{case} twin"][0]), abs=1e-3)


@pytest.mark.parametrize("case", MESSAGES)
def test_a_segment_message_is_taken_or_refused_by_name(case: str, shared: Path) -> None:
    (path,) = (shared / "cases" / case).glob("msg.*")
    try:
        answer = parse_segment(b"s", path.read_bytes(), {}).starts_at.isoformat()
    except WireError as error:
        answer = str(error)
    assert MESSAGES[case] in answer.lower() or MESSAGES[case] == answer


def test_no_case_is_left_out(shared: Path) -> None:
    assert {path.name for path in (shared / "cases").iterdir() if path.is_dir()} == {*PLAYLISTS, *FILES, *MESSAGES}
