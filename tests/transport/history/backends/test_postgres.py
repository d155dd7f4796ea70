"""PostgreSQL as the place of a history: who may write, servers that go away, and secrets that stay secret."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import factories
from tests.postgres import PASSWORD, PostgresServer
from vqmon.errors import SettingsError, StoreError, StoreUnreachableError
from vqmon.settings.sections import HistorySettings
from vqmon.transport.history.backends.location import PostgresAddress, parse_location
from vqmon.transport.history.history import open_history

pytestmark = pytest.mark.postgres


@pytest.fixture
def place(postgres: PostgresServer) -> Iterator[PostgresAddress]:
    """An empty database."""
    with postgres.empty_database() as url:
        yield PostgresAddress(url=url, password_file=postgres.password_file)


def test_one_daemon_writes_or_many_recorders(place: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon keeps everybody out; recorders keep only a daemon out; readers are always let in."""
    monkeypatch.setattr("vqmon.transport.history.backends.postgres.FIRST_LOCK_SECONDS", 0.2)
    with open_history(place, "write"):
        for mode in ("write", "record"):
            with pytest.raises(StoreError, match="another vqmon writes postgresql://"), open_history(place, mode):
                pass
        with open_history(place, "read") as reader:
            assert reader.queries.tip() == 0
    with open_history(place, "record") as first, open_history(place, "record") as second:
        first.publish([factories.event(sequence=0)])
        second.publish([factories.event(sequence=0), factories.event(sequence=1)])
        with pytest.raises(StoreError, match="another vqmon writes"), open_history(place, "write"):
            pass
        assert [outcome.segment.sequence for outcome in first.documents.outcomes_in_write_order()] == [0, 1]


def test_many_write_at_once(place: PostgresAddress) -> None:
    """Writers take turns: numbers rise without a gap, and what both know is there once."""
    with open_history(place, "record") as first, open_history(place, "record") as second:

        def write(history: object, begin: int) -> None:
            for number in range(begin, begin + 60):
                history.publish([factories.event(sequence=number)])  # type: ignore[attr-defined]

        threads = [
            threading.Thread(target=write, args=arguments) for arguments in ((first, 0), (second, 30), (first, 60))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stored = list(first.documents.outcomes_in_write_order())
        assert sorted(outcome.segment.sequence for outcome in stored) == list(range(120))
        assert first.queries.tip() == first.queries.counts().scored == 120


def test_a_server_that_restarts_is_waited_for(
    postgres: PostgresServer, place: PostgresAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """A write that cannot be done waits and says so, and is there once; readers come back by themselves."""
    with open_history(place, "write") as history, open_history(place, "read") as reader:
        history.publish([factories.event(sequence=0)])
        assert reader.queries.tip() == 1
        postgres.stop(number=signal.SIGINT)
        with pytest.raises(StoreUnreachableError, match=r"postgresql://vqmon@127.0.0.1.*is the server up"):
            reader.queries.tip()
        timer = threading.Timer(1.0, postgres.start)
        timer.start()
        with caplog.at_level(logging.WARNING):
            history.publish([factories.event(sequence=0), factories.event(sequence=1)])
        timer.join()
        assert [outcome.segment.sequence for outcome in reader.documents.outcomes_in_write_order()] == [0, 1]
    messages = [record.getMessage() for record in caplog.records if record.name == "vqmon.history"]
    assert messages == ["history.unreachable", "history.reachable"]
    assert PASSWORD not in caplog.text


def test_a_server_that_stays_away_ends_the_write(
    postgres: PostgresServer, place: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its patience a write fails, as with any history that cannot be written; so does opening."""
    monkeypatch.setattr("vqmon.transport.history.history.RETRY_TIMEOUT_SECONDS", 0.5)
    with open_history(place, "write") as history:
        postgres.stop()
        try:
            with pytest.raises(StoreUnreachableError, match="is the server up"):
                history.publish([factories.event(sequence=0)])
            with pytest.raises(StoreUnreachableError, match="is the server up"), open_history(place, "read"):
                pass
        finally:
            postgres.start()
        history.publish([factories.event(sequence=0)])
        assert history.queries.tip() == 1


def test_a_killed_writer_holds_nothing(place: PostgresAddress) -> None:
    """The server frees the right to write with the connection."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open_history(place, "write") as history:
                history.publish([factories.event(sequence=0)])
                os.write(write_end, b".")
                signal.pause()
        finally:
            os._exit(1)
    assert os.read(read_end, 1) == b"."
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read_end)
    os.close(write_end)
    with open_history(place, "write") as history:
        assert history.queries.tip() == 1


def test_secrets_stay_secret(postgres: PostgresServer, place: PostgresAddress, tmp_path: Path) -> None:
    """An address with a password is refused without being shown; a wrong one is not shown either."""
    secret = "hunter2-secret"
    for url in (
        f"postgresql://vqmon:{secret}@127.0.0.1:{postgres.port}/x",
        f"postgresql://127.0.0.1/x?password={secret}",
        f"postgresql://vqmon:{secret}@[::1/x",
    ):
        with (
            pytest.raises(SettingsError, match=r"history\.(url|password_file)") as caught,
            open_history(PostgresAddress(url=url), "write"),
        ):
            pass
        assert secret not in str(caught.value)
    (tmp_path / "wrong").write_text(secret)
    with (
        pytest.raises(StoreError, match="password authentication failed") as failed,
        open_history(replace(place, password_file=tmp_path / "wrong"), "read"),
    ):
        pass
    assert secret not in str(failed.value)
    with (
        pytest.raises(SettingsError, match="cannot read this secret"),
        open_history(replace(place, password_file=tmp_path / "none"), "read"),
    ):
        pass


def test_what_is_no_history_says_so(postgres: PostgresServer, place: PostgresAddress) -> None:
    """An empty database cannot be read; a newer one is left alone; one that belongs to others is added to."""
    with pytest.raises(SettingsError, match="no history yet; run"), open_history(place, "read"):
        pass
    name = place.url.rsplit("/", 1)[1]
    postgres.run_sql("CREATE TABLE outcome (mine integer)", name)
    with open_history(place, "write") as history:
        history.publish([factories.event(sequence=0)])
    assert postgres.run_sql("SELECT count(*) FROM public.outcome", name) == [(0,)]
    postgres.run_sql("DROP TABLE public.outcome", name)
    postgres.run_sql("UPDATE vqmon.about SET version = 99", name)
    for mode in ("write", "read"):
        with pytest.raises(StoreError, match="newer vqmon"), open_history(place, mode):
            pass
    with (
        pytest.raises(StoreError, match='database "none" does not exist'),
        open_history(replace(place, url=postgres.url("none")), "read"),
    ):
        pass


def test_settings_name_a_file_or_a_database(tmp_path: Path) -> None:
    """One setting chooses: an address is a server, anything else a file; what is neither is refused."""
    file = HistorySettings(path=tmp_path / "a.db")
    server = HistorySettings(url="postgresql://db/vqmon", password_file=Path("pg"))
    assert file.location == tmp_path / "a.db"
    assert server.location == PostgresAddress(url="postgresql://db/vqmon", password_file=Path("pg"))
    assert server.at_location(str(tmp_path / "b.db")).location == tmp_path / "b.db"
    assert server.at_location("postgres://other/x").location == PostgresAddress(
        url="postgres://other/x", password_file=Path("pg")
    )
    assert server.at_location(None) is server
    for wrong in ("mysql://db/x", "user:secret@db"):
        with pytest.raises(SettingsError, match="no postgresql:// address"):
            _ = HistorySettings(url=wrong).location
    with pytest.raises(SettingsError, match="'mysql' is not a kind of history"):
        parse_location("mysql://db/x")
