"""The first request of `vqmon watch`: which addresses are refused before anything is stored, and which waited for."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.daemon.first_request import check_first_request
from pipelines.service.wiring import settings_for_watch
from tests import factories
from tests.media.clips import clip, x264
from tests.media.loopback import Answer, serving
from vqmon.cli.main import main
from vqmon.core.types import LaneCursor
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.transport.history.history import open_history

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\ns.ts\n"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQMON_FETCH__RETRIES", "0")
    yield
    logging.getLogger("vqmon").setLevel(logging.NOTSET)


async def problem_of(answer: Answer | bytes) -> str:
    """What is said of an address with this answer; "" when it is followed."""
    async with serving() as server:
        server.answers["/live.m3u8"] = answer
        settings = settings_for_watch(Settings(), server.url("/live.m3u8"), stream_id="", history=None)
        try:
            await check_first_request(settings)
        except SettingsError as error:
            return str(error)
    return ""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(status=404), "status 404: the server has no such playlist; check the address"),
        (Answer(status=410), "status 410: the server has no such playlist"),
        (Answer(status=403), "status 403: the server refuses access"),
        (b"<!DOCTYPE html><title>Hi</title>", "neither an HLS playlist nor a DASH MPD: the content is a web page"),
        (b"hello\n", "neither an HLS playlist nor a DASH MPD: the content is text"),
        (Answer(status=302, headers={"Location": "https://other.example/x"}), "other.example is not in fetch.allowed"),
        (PLAYLIST, ""),
        (b'<?xml version="1.0"?><MPD>', ""),
        # away, not wrong
        (Answer(status=500), ""),
        (Answer(status=503), ""),
        (b"", ""),
    ],
)
async def test_what_the_first_answer_rules_out_is_refused(answer: Answer | bytes, message: str) -> None:
    problem = await problem_of(answer)
    assert message in problem
    assert bool(message) == bool(problem)


async def test_media_instead_of_a_playlist_names_the_command_for_it() -> None:
    problem = await problem_of(clip(*x264(), size="192x108", seconds=0.2, container="mp4"))
    assert "a media file (MP4), not an HLS or DASH playlist; score it with `vqmon score`" in problem


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("htp://cdn.example/a.m3u8", "write http://"),
        ("cdn.example/a.m3u8", "write the scheme, https://cdn.example/a.m3u8"),
        ("gone.m3u8", "gone.m3u8: No such file or directory; `vqmon watch` takes an HLS or DASH playlist"),
        (".", "Is a directory; `vqmon watch` takes an HLS or DASH playlist"),
        ("https://no-such-host.invalid/a.m3u8", "the host name no-such-host.invalid cannot be resolved"),
    ],
)
def test_watch_refuses_in_one_line_and_stores_nothing(address: str, message: str, tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["watch", address, "--for", "1"])
    assert (run.exit_code, run.stdout) == (2, "")
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


async def test_an_address_that_worked_once_is_waited_for(tmp_path: Path) -> None:
    """The server has forgotten the playlist since; the history of another stream makes no difference."""
    file = tmp_path / "watched.db"
    with open_history(file, mode="write") as history:
        segment = factories.segment()
        cursor = LaneCursor(lane="tv/main", sequence=1, segment_key=segment.key, ends_at=segment.ends_at)
        history.publish([], cursors=[cursor])
    async with serving() as server:
        url = server.url("/gone.m3u8")
        await check_first_request(settings_for_watch(Settings(), url, stream_id="tv", history=file))
        with pytest.raises(SettingsError, match="status 404"):
            await check_first_request(settings_for_watch(Settings(), url, stream_id="radio", history=file))
