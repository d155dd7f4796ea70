"""The parts that every command opens, with settings changed by its options."""

import asyncio
from pathlib import Path

import pytest

from pipelines.service import wiring
from pipelines.service.history_thread import open_history_thread
from tests import factories
from vqmon.errors import StoreError
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.settings.load import Settings
from vqmon.settings.sections import DecodeSettings, SourceSettings, WatchedStream
from vqmon.testing import make_segment
from vqmon.transport.recovery.spool import HistoryWrite, Spool


def test_score_has_a_long_decode_deadline_by_default() -> None:
    """A deadline of the option or of the settings is used instead; other commands have the short default."""
    own = Settings(decode=DecodeSettings(deadline_seconds=25))

    assert wiring.settings_for_score(Settings()).decode.deadline_seconds == 600
    assert wiring.settings_for_score(Settings(), deadline_seconds=3).decode.deadline_seconds == 3
    assert wiring.settings_for_score(own).decode.deadline_seconds == 25


def test_scorers_that_a_person_names_are_the_only_ones() -> None:
    """Also one that the settings have on trial, as docs/how-to/add-a-scorer.md does."""
    own = Settings.model_validate({"scoring": {"shadows": ["brisque"], "heavy": ["lite_open"]}})
    chosen = wiring.settings_for_score(own, scorers=["brisque"]).scoring
    assert (chosen.scorers, chosen.shadows, chosen.heavy) == (("brisque",), (), ())
    assert wiring.settings_for_score(own).scoring.shadows == ("brisque",)


def test_score_waits_for_slow_scorers() -> None:
    """A scorer that another one holds up loses no verdict; a deadline of the owner holds."""
    assert wiring.settings_for_score(Settings(), scorers=["liqe", "lite"]).scoring.deadline_seconds == 86_400
    own = Settings.model_validate({"scoring": {"deadline_seconds": 25}})
    assert wiring.settings_for_score(own).scoring.deadline_seconds == 25
    assert Settings().decode.deadline_seconds == 10


def test_streams_with_one_id_are_arms_whose_segments_pair(tmp_path: Path) -> None:
    """Their renditions differ by name only: `compare` pairs segments of one stream by their moment."""
    film = {"id": "film", "url": "https://cdn.example/{arm}.m3u8", "reference": "https://o.example/{rendition}/{name}"}
    streams = [WatchedStream.model_validate(film | {"labels": {"arm": arm}}) for arm in ("v1", "v2")]
    settings = Settings(source=SourceSettings(streams=tuple(streams)))
    with open_history_thread(tmp_path / "history.db", mode="write") as thread:
        fetcher = Fetcher(wiring.fetch_policy(settings))
        sources = wiring.open_sources(settings, fetcher=fetcher, thread=thread, stop=asyncio.Event())
    assert [id for id, _ in sources] == ["film", "film"]
    segment = make_segment(7, stream="film", rendition="720p@v2")
    reference = streams[1].reference_of(segment)
    assert reference is not None
    assert reference.url.startswith("https://o.example/720p/")
    with pytest.raises(ValueError, match="another label `arm`"):
        SourceSettings(streams=(streams[0], streams[0]))


def test_the_folder_of_a_folder_source_may_be_read(tmp_path: Path) -> None:
    """It need not be listed in fetch.file_roots."""
    settings = Settings(source=SourceSettings(kind="folder", folder=tmp_path))

    assert wiring.fetch_policy(settings).file_roots == (tmp_path,)


def test_histories_of_one_name_do_not_take_each_others_spool(tmp_path: Path) -> None:
    """Two daemons whose files have one name may have one folder for states; a file that was moved keeps its spool."""

    def open_spool(folder: str) -> Spool:
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / "vqmon.db"
        settings = Settings.model_validate({"daemon": {"state_folder": tmp_path}, "history": {"path": path}})
        with open_history_thread(path, mode="write") as thread:
            return wiring.open_spool(settings, identity=thread.history.queries.identity())

    open_spool("one").append(HistoryWrite(outcomes=[factories.event()]))
    assert len(open_spool("one").read()) == 1
    with pytest.raises(StoreError, match=r"vqmon\.db\.spool: holds what belongs to another history"):
        open_spool("two").read()
    (tmp_path / "one" / "vqmon.db").rename(tmp_path / "two" / "vqmon.db")
    assert len(open_spool("two").read()) == 1
    # and what is at the place of the history that it was made for takes it, such as a sound one for a damaged one
    assert len(open_spool("one").read()) == 1
