"""What the nouns refuse, and which ids and keys they give."""

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256

import pytest

from tests import factories
from tests.factories import RENDITION, START
from vqmon.core.types import (
    Alert,
    AlertEvidence,
    AudioAddress,
    ByteRange,
    Encryption,
    Reference,
    Rendition,
    SegmentFailure,
    View,
    alert_id,
    event_id,
)


def test_a_segment_key_holds_no_query_and_tells_byte_ranges_apart() -> None:
    """The key is the same with another token and differs for another part of the same file."""
    segment = factories.segment(sequence=7)
    assert replace(segment, url=segment.url + "?token=secret").key == segment.key
    assert "secret" not in replace(segment, url=segment.url + "?token=secret").key
    part = replace(segment, byte_range=ByteRange(offset_bytes=100, length_bytes=10))
    assert part.key != segment.key


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://cdn.example:8443/a/b.ts", "https://cdn.example:8443/a/b.ts"),
        ("https://user:pass@cdn.example/a.ts?token=x&e=a@b#k", "https://cdn.example/a.ts"),
        ("https://user:pa@ss@cdn.example/a@2x.ts", "https://cdn.example/a@2x.ts"),
        ("https://cdn.example?token=x", "https://cdn.example"),
        ("https://user:pa?ss@cdn.example/a.ts", "https://"),
        ("file:///srv/a%3Fb.ts", "file:///srv/a%3Fb.ts"),
        ("vqmon:unlisted", "vqmon:unlisted"),
    ],
)
def test_a_segment_for_the_world_has_no_secret_in_any_address(url: str, public: str) -> None:
    encryption = Encryption(method="AES-128", key_url=url)
    reference = Reference(url=url, init_url=url, encryption=encryption)
    sound = AudioAddress(url=url, init_url=url, encryption=encryption)
    segment = replace(factories.segment(), url=url, init_url=url, encryption=encryption, reference=reference)
    shown = replace(segment, audio=sound).without_secrets()
    assert shown.reference is not None
    assert shown.reference.encryption is not None
    assert shown.encryption is not None
    addresses = {shown.url, shown.init_url, shown.encryption.key_url}
    addresses |= {shown.reference.url, shown.reference.init_url, shown.reference.encryption.key_url}
    assert shown.audio is not None
    assert shown.audio.encryption is not None
    addresses |= {shown.audio.url, shown.audio.init_url, shown.audio.encryption.key_url}
    assert addresses == {public}
    if public != "https://":
        assert shown.key == segment.key
    assert factories.segment().without_secrets() == factories.segment()


def test_event_ids_depend_on_segment_and_scorers_only() -> None:
    """The order of scorers and the moment of observation do not matter, another scorer does."""
    segment = factories.segment(sequence=7)
    assert event_id(segment, ("a@1", "b@1")) == event_id(segment, ("b@1", "a@1"))
    assert event_id(segment, ("a@1",)) != event_id(segment, ("a@2",))
    assert (
        factories.failure(sequence=7).id
        == replace(factories.failure(sequence=7, reason="timeout"), observed_at=START).id
    )
    assert factories.failure(sequence=7).id != factories.event(sequence=7).id


def test_a_prompt_is_part_of_an_events_id_and_of_no_segments_key() -> None:
    """Another prompt is another verdict on the same segment; ids of segments without one are what they were."""
    segment = factories.segment(sequence=7)
    asked = replace(segment, prompt="A fox")
    assert asked.key == segment.key
    assert event_id(segment, ("lite@1",)) == sha256(f"{segment.key}\nlite@1".encode()).hexdigest()[:32]
    assert len({event_id(each, ("a@1",)) for each in (segment, asked, replace(segment, prompt="A cat"))}) == 3
    replace(segment, prompt="x" * 2000)
    with pytest.raises(ValueError, match="prompt: 2001 characters; at most 2000"):
        replace(segment, prompt="x" * 2001)


def test_moments_must_be_utc() -> None:
    """A naive moment or one of another zone is refused."""
    for moment in (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))):  # noqa: DTZ001
        with pytest.raises(ValueError, match="starts_at must be aware UTC"):
            replace(factories.segment(sequence=1), starts_at=moment)


def test_an_alert_id_is_the_same_for_the_same_moment_in_any_zone() -> None:
    """Rule, series and beginning make the id."""
    assert alert_id("r", "s", START) == alert_id("r", "s", START.astimezone(timezone(timedelta(hours=5))))
    assert alert_id("r", "s", START) != alert_id("r", "s", START + timedelta(microseconds=1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ByteRange(offset_bytes=-1, length_bytes=1),
        lambda: ByteRange(offset_bytes=0, length_bytes=0),
        lambda: Rendition(stream_id="", name="x"),
        lambda: replace(factories.segment(sequence=1), duration_seconds=-1.0),
        lambda: View(kind="tiles", width=224, height=224),
        lambda: View(kind="tiles", width=448, height=448, short_side=224, columns=2, rows=2),
        lambda: SegmentFailure(
            id="x", segment=factories.segment(), observed_at=START, stage="fetch", reason="nonsense", detail=""
        ),
        lambda: Alert(
            id="x",
            rule="r",
            series="s",
            stream_id="s",
            rendition="r",
            severity="page",
            state="resolved",
            began_at=START,
            opened_at=START,
            resolved_at=None,
            summary="",
            evidence=AlertEvidence(event_id="e", reading="", value=None, threshold=None),
        ),
    ],
)  # fmt: skip
def test_nonsense_is_refused_on_construction(make) -> None:
    """What cannot be is a ValueError at once, not a surprise later."""
    with pytest.raises(ValueError, match=r"\w"):
        make()


def test_outcomes_are_frozen_and_scores_are_found_by_name_or_identity() -> None:
    """Nobody changes an event; a score is found with and without its version."""
    event = factories.event(sequence=1, score=63.0)
    with pytest.raises(FrozenInstanceError):
        event.id = "other"
    assert event.score_of("lite") is event.score_of("lite@1") is event.scores[0]
    assert event.score_of("lite@2") is None
    assert event.segment.ends_at == datetime(2026, 11, 20, 20, 0, 8, tzinfo=UTC)
    assert RENDITION.key == "news-1/1080p"
