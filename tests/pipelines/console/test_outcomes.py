"""Outcomes and alerts as a terminal shows them."""

from dataclasses import replace
from datetime import UTC, datetime

from pipelines.console import outcomes
from tests import factories
from vqmon.core.types import Rendition, Segment, failure_from_error
from vqmon.errors import FetchError

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def test_control_characters_of_names_are_escaped() -> None:
    """A file name cannot control the terminal; a line about an alert names its rule."""
    segment = Segment(
        rendition=Rendition(stream_id="a\x1b[2J.ts", name="file"), sequence=0, url="file:///a%1B[2J.ts", starts_at=NOW
    )
    table = outcomes.outcomes_table([failure_from_error(segment, FetchError("file"), observed_at=NOW)])

    assert "a\\x1b[2J.ts" in list(table.lines(200, styled=True))[1]
    assert "too-dark" in outcomes.alert_line(factories.alert(rule="too-dark"))


def test_a_still_picture_has_no_length() -> None:
    """A table names it a still, and gives the length of anything else."""
    table = outcomes.outcomes_table([factories.event(media=factories.STILL_MEDIA), factories.event()])
    assert list(table.columns[-1].cells) == ["jpeg 1920x1080 still", "h264 1920x1080 4.0 s"]


def test_the_table_has_the_sound_where_it_was_measured() -> None:
    """Loudness, and silence if there is any; or why there is none; nothing without [audio]."""
    events = [
        replace(factories.event(), audio=factories.audio(loudness_lufs=-23.04, silent_share=0.0)),
        replace(factories.event(), audio=factories.audio(loudness_lufs=-31.0, silent_share=0.25)),
        replace(factories.event(), audio=factories.audio(loudness_lufs=None, silent_share=1.0)),
        replace(factories.event(), audio=factories.audio(loudness_lufs=None, silent_share=0.0)),
        replace(factories.event(), unmeasured_audio="no_audio"),
        factories.event(),
    ]
    cells = outcomes.outcomes_table(events).columns[-1].cells
    pictures = [str(cell).removeprefix("h264 1920x1080 4.0 s") for cell in cells]
    assert pictures[:3] == [", sound -23.0 LUFS", ", sound -31.0 LUFS, silent 25%", ", sound silent"]
    assert pictures[3] == ", sound too quiet or too short for a loudness"
    assert pictures[4] == ", sound: the segment has no sound track"
    assert pictures[5] == ""


def test_a_scorer_that_failed_is_named_beside_the_scores() -> None:
    """In the table a row of its own, and in a line its reason."""
    event = replace(factories.event(), scorer_failures=(factories.scorer_failure(),))
    table = outcomes.outcomes_table([event])
    assert list(table.columns[1].cells) == ["[bold]70.0[/bold]", "–"]
    assert list(table.columns[5].cells)[1] == "[red]no score: timeout[/red] owl@1"
    assert "[red]owl@1 timeout[/red]" in outcomes.outcome_line(event)


def test_a_playlist_that_fails_is_shown_by_its_address() -> None:
    """It is no segment with a number; what could be a secret in the address is not shown."""
    segment = factories.segment(
        sequence=1796008045, url="https://u:pw@origin.example/news/live.m3u8;at=20261120T120000.5Z?token=s3cr3t"
    )
    line = outcomes.outcome_line(
        replace(factories.failure(segment=segment, reason="playlist"), detail="not_found: 404")
    )
    assert "https://origin.example/news/live.m3u8 [red]unscored: playlist[/red] not_found: 404" in line
    assert not any(text in line for text in ("1796008045", "s3cr3t", "pw@"))
