"""Decisions about inputs from published outcomes to a real receiver, recorded in a real history."""

import asyncio
import base64
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.service.delivery.inputs import open_input_client, open_input_decider, open_input_hooks
from pipelines.service.history_thread import HistoryThread, open_history_thread
from tests import factories
from tests.receivers import Receiver, receiving, wait_until
from vqmon.core.types import Outcome
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings, load_settings
from vqmon.telemetry.metrics import Meters
from vqmon.transport.notify.webhook import verify_signature

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
HOOK = """
[inputs.hooks.matrix]
url = "{url}/hook"
streams = ["news-*"]
for_seconds = 8
return_seconds = 8
min_hold_seconds = 0
{more}
"""


@pytest.fixture
def thread(tmp_path: Path) -> Iterator[HistoryThread]:
    with open_history_thread(tmp_path / "vqmon.db", mode="write") as thread:
        yield thread


def settings_of(folder: Path, *, url: str, more: str = 'secret_variables = ["MATRIX_KEY"]') -> Settings:
    file = folder / "vqmon.toml"
    file.write_text(HOOK.format(url=url, more=more), encoding="utf-8")
    return load_settings(file)


def outcomes(*values: float, ending: datetime | None = None) -> Sequence[Outcome]:
    """Segments of 4 s, the last of which ends now."""
    ends_at = ending or datetime.now(UTC)
    return [
        factories.event(
            segment=factories.segment(
                sequence=number, starts_at=ends_at - timedelta(seconds=4 * (len(values) - number))
            ),
            score=value,
        )
        for number, value in enumerate(values)
    ]


async def decide(
    settings: Settings, thread: HistoryThread, *published: Sequence[Outcome], until: Callable[[], object] = lambda: True
) -> None:
    async with open_input_decider(settings, thread, meters=Meters()) as decider:
        assert decider is not None
        for each in published:
            decider.consider(each)
        await asyncio.to_thread(wait_until, until)


def stored(thread: HistoryThread) -> list[tuple[str, str, int]]:
    return [(record.decision.kind, record.delivery, record.attempts) for record in thread.history.decisions.newest()]


async def test_a_receiver_gets_signed_decisions_and_the_history_has_them(
    tmp_path: Path, thread: HistoryThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch that is answered 503 at first, and after a restart the return from it."""
    monkeypatch.setenv("MATRIX_KEY", SECRET)
    with receiving() as receiver:
        settings = settings_of(tmp_path, url=receiver.url)
        receiver.answers = [(503, {"Retry-After": "0"})]
        await decide(settings, thread, outcomes(70, 20, 20), until=lambda: len(receiver.came) == 2)
        await decide(settings, thread, outcomes(20, 90, 90), until=lambda: len(receiver.came) == 3)
    assert stored(thread) == [("return", "delivered", 1), ("switch", "delivered", 2)]
    check_requests(receiver)
    with closing(sqlite3.connect(tmp_path / "vqmon.db")) as database:
        rows = database.execute("SELECT kind, input, delivery, value FROM v_decisions ORDER BY decided_at").fetchall()
    assert rows == [("switch", "backup", "delivered", 20.0), ("return", "primary", "delivered", 90.0)]


def check_requests(receiver: Receiver) -> None:
    for _, headers, body, _ in receiver.came:
        verify_signature(body, headers, keys=[KEY], now_seconds=datetime.now(UTC).timestamp())
    messages = receiver.notifications
    assert [message["data"]["kind"] for message in messages] == ["switch", "switch", "return"]
    assert len({message["id"] for message in messages}) == 2
    assert messages[0]["type"] == "org.vqmon.input.decision.v1"
    ids = [json.loads(headers["Idempotency-Key"]) for _, headers, _, _ in receiver.came]
    assert ids == [message["id"] for message in messages]


@pytest.mark.parametrize("left_hooks", ["", '[inputs.hooks.other]\nurl = "http://127.0.0.1:9"\ndry_run = true\n'])
async def test_what_a_removed_hook_left_waiting_ends(
    tmp_path: Path, thread: HistoryThread, monkeypatch: pytest.MonkeyPatch, left_hooks: str
) -> None:
    """Its decisions are given up when the daemon starts, whether or not another hook is left."""
    monkeypatch.setenv("MATRIX_KEY", SECRET)
    settings = settings_of(tmp_path, url="http://127.0.0.1:9")
    await decide(settings, thread, outcomes(70, 20, 20))
    assert [delivery for _, delivery, _ in stored(thread)] == ["waiting"]
    file = tmp_path / "vqmon.toml"
    file.write_text(left_hooks, encoding="utf-8")
    async with open_input_decider(load_settings(file), thread, meters=Meters()) as decider:
        assert (decider is None) == (not left_hooks)
    (record,) = thread.history.decisions.newest()
    assert (record.delivery, record.error) == ("expired", "inputs.hooks.matrix is not in the settings any more")


async def test_old_segments_switch_nothing(tmp_path: Path, thread: HistoryThread) -> None:
    """Those of a backfill."""
    settings = settings_of(tmp_path, url="http://127.0.0.1:9", more="dry_run = true")
    old = datetime.now(UTC) - timedelta(seconds=90)
    await decide(settings, thread, outcomes(20, 20, 20, ending=old))
    assert stored(thread) == []


async def test_a_dry_run_is_recorded_and_needs_no_receiver(tmp_path: Path, thread: HistoryThread) -> None:
    """It is in the log all the same."""
    settings = settings_of(tmp_path, url="http://127.0.0.1:9", more="dry_run = true")
    await decide(settings, thread, outcomes(20, 20, 20))
    assert stored(thread) == [("switch", "dry_run", 0)]


async def test_a_real_run_does_not_go_on_from_a_dry_one(
    tmp_path: Path, thread: HistoryThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has followed the switch of the dry run: a stream that is still bad is switched now; dry, it goes on."""
    monkeypatch.setenv("MATRIX_KEY", SECRET)
    with receiving() as receiver:
        dry = settings_of(tmp_path, url=receiver.url, more="dry_run = true")
        await decide(dry, thread, outcomes(20, 20, 20))
        await decide(dry, thread, outcomes(20, 20, 20))
        assert stored(thread) == [("switch", "dry_run", 0)]
        real = settings_of(tmp_path, url=receiver.url)
        await decide(real, thread, outcomes(20, 20, 20), until=lambda: len(receiver.came) == 1)
    assert stored(thread) == [("switch", "delivered", 1), ("switch", "dry_run", 0)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("", "inputs.hooks.matrix.secret_files: name the file"),
        ('secret_variables = ["NOT_SET_ANYWHERE"]', "the environment variable NOT_SET_ANYWHERE is not set"),
        ("dry_run = true\nbelow = 70", "inputs.hooks.matrix.above: must be at least"),
        ("dry_run = true\nbelw = 70", "unknown setting 'inputs.hooks.matrix.belw'; did you mean 'below'"),
        ('dry_run = true\nbackup = "{arm}"', "inputs.hooks.matrix.backup: only {stream}"),
    ],
)
async def test_wrong_settings_are_named(tmp_path: Path, more: str, message: str) -> None:
    """When the file is read, or when `vqmon check` and `vqmon run` open the hooks."""

    async def open_all() -> None:
        settings = settings_of(tmp_path, url="http://127.0.0.1:9", more=more)
        async with open_input_client(settings) as client:
            open_input_hooks(settings, client, meters=Meters(), record=lambda record: None)

    with pytest.raises(SettingsError, match=re.escape(message)):
        await open_all()
