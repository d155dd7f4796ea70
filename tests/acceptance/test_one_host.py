"""The daemon on one host, as a process, on real media: nothing lost, nothing doubled, alerts that open and close."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.streams import BLACK, serving, write_story, write_vod
from tests.conftest import need
from tests.media.clips import MOTION, clip, ffmpeg, x264
from tests.media.decode.test_splices import SECTION, with_event
from vqmon.core.alerts.annotations import StreamEnd
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import AD_BREAK_LABEL, Outcome, QualityEvent, SegmentFailure
from vqmon.errors import NoHistoryError, StoreError
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.history import open_history
from vqmon.transport.recovery.spool import Spool

KILLS = 8
RULES = parse_rules((Path(__file__).parents[2] / "config" / "rules.toml").read_text())
STILL = "testsrc2=s={size}:r={rate}:d=0.04,loop=-1:1,trim=duration={seconds}"


def vqmon(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "vqmon", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_a_vod_playlist_is_whole_after_sigkills_at_random_moments(tmp_path: Path) -> None:
    """Killed again and again and started again, the history ends with every segment exactly once."""
    playlist = write_vod(tmp_path / "vod", segments=120)
    history = tmp_path / "kills.db"
    chance = random.Random(11)
    kills = 0
    with serving(playlist.parent) as origin:
        watch = [sys.executable, "-m", "vqmon", "watch", f"{origin}/vod.m3u8", "--history", str(history)]
        while kills < KILLS:
            with subprocess.Popen(watch, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
                assert daemon.stdout is not None
                # Wait for some verdicts so that every kill falls into work, and hits no segment at every start.
                for _ in range(chance.randint(3, 9)):
                    daemon.stdout.readline()
                time.sleep(chance.uniform(0, 0.25))
                kills += daemon.poll() is None
                daemon.send_signal(signal.SIGKILL)
                if daemon.wait() == 0:
                    break
        last = vqmon("watch", f"{origin}/vod.m3u8", "--history", str(history), cwd=tmp_path)
    outcomes = stored_outcomes(history)

    assert last.returncode == 0, last.stderr
    assert [outcome.segment.sequence for outcome in outcomes] == list(range(120))
    assert [(outcome.reason, outcome.detail) for outcome in outcomes if isinstance(outcome, SegmentFailure)] == []
    assert kills >= 3


def test_a_segment_that_kills_the_daemon_at_every_start_is_passed_after_the_second(tmp_path: Path) -> None:
    """And the daemon goes on behind it."""
    playlist = write_vod(tmp_path / "vod", segments=4)
    history = tmp_path / "vqmon.db"
    daemons: list[subprocess.Popen[bytes]] = []

    def kill(path: str) -> None:
        if not path.endswith("s0001.ts"):
            return
        # what is stored is not observed again: then the second process has observed nothing but this segment
        while not stored_outcomes(history):
            time.sleep(0.02)
        daemons[-1].kill()

    with serving(playlist.parent, on_request=kill) as origin:
        watch = [sys.executable, "-m", "vqmon", "watch", f"{origin}/vod.m3u8", "--history", str(history)]
        for _ in range(3):
            one_at_a_time = {**os.environ, "VQMON_DAEMON__IN_FLIGHT": "1", "VQMON_DECODE__WORKERS": "1"}
            daemons.append(subprocess.Popen(watch, cwd=tmp_path, env=one_at_a_time, stdout=subprocess.DEVNULL))
            daemons[-1].wait(timeout=100)
    outcomes = stored_outcomes(history)

    assert [daemon.returncode for daemon in daemons] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert [getattr(outcome, "reason", "") for outcome in outcomes] == ["", "poison", "", ""]


def test_a_kill_within_an_ad_break_loses_no_label(tmp_path: Path) -> None:
    """The splice message is in a segment that is not observed again."""
    source, flags = MOTION.format(size="192x108", rate="25", seconds=1), "empty_moov+frag_keyframe+default_base_moof"
    media = ffmpeg("-f", "lavfi", "-i", source, *x264(), "-movflags", flags, "-f", "mp4", "-")
    folder, history = tmp_path / "ads", tmp_path / "vqmon.db"
    # 30 s from the end of the second segment on
    write_story(folder, [media, with_event(media, SECTION, time=100), *[media] * 5], seconds=1)
    daemons: list[subprocess.Popen[bytes]] = []

    def kill(path: str) -> None:
        if not path.endswith("4.ts") or len(daemons) > 1:
            return
        while len(stored_outcomes(history)) < 4:
            time.sleep(0.02)
        daemons[-1].kill()

    with serving(folder, on_request=kill) as origin:
        watch = [sys.executable, "-m", "vqmon", "watch", f"{origin}/story.m3u8", "--history", str(history)]
        for _ in range(2):
            one_at_a_time = {**os.environ, "VQMON_DAEMON__IN_FLIGHT": "1", "VQMON_DECODE__WORKERS": "1"}
            daemons.append(subprocess.Popen(watch, cwd=tmp_path, env=one_at_a_time, stdout=subprocess.DEVNULL))
            daemons[-1].wait(timeout=100)
    outcomes = stored_outcomes(history)

    assert [daemon.returncode for daemon in daemons] == [-signal.SIGKILL, 0]
    labels = [outcome.segment.labels.get(AD_BREAK_LABEL) for outcome in outcomes]
    assert labels == [None, None, *["yes"] * 5]


def stored_outcomes(history: Path) -> list[Outcome]:
    with open_history(history, mode="read") as stored:
        return list(stored.documents.outcomes_in_write_order())


def test_what_a_replaced_history_does_not_take_outlives_a_kill(tmp_path: Path) -> None:
    """The next start goes on behind it, while the history is still away; when it is back all is written, once."""
    playlist = write_vod(tmp_path / "vod", segments=12)
    history, spool = tmp_path / "vqmon.db", tmp_path / "other-disk" / "vqmon.db.spool"
    spool.parent.mkdir()
    environment = {
        **os.environ,
        "VQMON_DAEMON__STATE_FOLDER": str(spool.parent),
        "VQMON_DAEMON__IN_FLIGHT": "1",
        "VQMON_DECODE__WORKERS": "1",
    }
    requests: list[str] = []
    with serving(playlist.parent, on_request=requests.append) as origin:
        watch = [sys.executable, "-m", "vqmon", "watch", f"{origin}/vod.m3u8", "--history", str(history)]
        with subprocess.Popen(watch, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as daemon:
            assert daemon.stdout is not None
            daemon.stdout.readline()
            history.rename(tmp_path / "away.db")
            history.write_text("no history", encoding="utf-8")
            while len(spooled_outcomes(spool, history)) < 2:
                time.sleep(0.02)
            daemon.kill()
            daemon.wait()
        left = [outcome.segment for outcome in spooled_outcomes(spool, history)]
        requests.clear()
        (tmp_path / "vqmon.toml").write_text(
            f'[source]\nstreams = [{{ id = "vod", url = "{origin}/vod.m3u8" }}]\n[fetch]\nallow_http = true\n'
            'allowed_hosts = ["127.0.0.1"]\nallowed_networks = ["127.0.0.0/8"]\n'
            f"allowed_ports = [{origin.rpartition(':')[2]}]\n",
            encoding="utf-8",
        )
        run = [sys.executable, "-m", "vqmon", "run"]
        with subprocess.Popen(run, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as daemon:
            while len(spooled_outcomes(spool, history)) <= len(left) and daemon.poll() is None:
                time.sleep(0.02)
            (tmp_path / "away.db").rename(history)
            _, log = daemon.communicate(timeout=100)

    assert daemon.returncode == 0, log
    assert "history.unopened" in log
    assert "history.opened" in log
    assert len(left) >= 2
    assert not any(request.endswith(segment.url.rpartition("/")[2]) for segment in left for request in requests)
    assert stored_sequences(history, "vod") == list(range(12))
    assert not spool.exists()


def test_a_full_disk_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """The message has the file and the reason; when there is room every segment is written, once."""
    playlist, disk = write_vod(tmp_path / "vod", segments=4), tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    can = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    need("mount", present=can, remedy="run as root, where a tmpfs can be mounted")
    history, ballast, state = disk / "vqmon.db", disk / "ballast", tmp_path / "state"
    state.mkdir()
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with serving(playlist.parent) as origin:
            (tmp_path / "vqmon.toml").write_text(
                f'[source]\nstreams = [{{ id = "vod", url = "{origin}/vod.m3u8" }}]\n[fetch]\nallow_http = true\n'
                'allowed_hosts = ["127.0.0.1"]\nallowed_networks = ["127.0.0.0/8"]\n'
                f"allowed_ports = [{origin.rpartition(':')[2]}]\n"
                f'[history]\npath = "{history}"\n[daemon]\nstate_folder = "{state}"\n',
                encoding="utf-8",
            )
            run = [sys.executable, "-m", "vqmon", "run"]
            with subprocess.Popen(run, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as daemon:
                while not spooled_outcomes(state / "vqmon.db.spool", history):
                    assert daemon.poll() is None
                    time.sleep(0.05)
                ballast.unlink()
                _, log = daemon.communicate(timeout=100)
        assert daemon.returncode == 0, log
        assert f"{history}: database or disk is full" in log
        assert stored_sequences(history, "vod") == list(range(4))
        assert not (state / "vqmon.db.spool").exists()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def spooled_outcomes(spool: Path, history: Path) -> list[Outcome]:
    writes = Spool(spool, history=str(history.resolve())).read()
    return [outcome for write in writes for outcome in write.outcomes]


@pytest.mark.slow
def test_a_hundred_reloads_lose_and_double_no_segment(tmp_path: Path) -> None:
    """SIGHUP after SIGHUP while a playlist is scored, the last with a new stream in the settings."""
    playlist = write_vod(tmp_path / "vod", segments=60)
    settings, history = tmp_path / "vqmon.toml", tmp_path / "vqmon.db"
    with serving(playlist.parent) as origin:
        streams = [f'{{ id = "{name}", url = "{origin}/vod.m3u8" }}' for name in ("first", "second")]
        text = (
            '[source]\nstreams = [{streams}]\n[fetch]\nallowed_hosts = ["127.0.0.1"]\nallow_http = true\n'
            'allowed_networks = ["127.0.0.0/8"]\nallowed_ports = [{port}]\n[decode]\nworkers = 1\n'
        )
        port = origin.rpartition(":")[2]
        settings.write_text(text.format(streams=streams[0], port=port), encoding="utf-8")
        with subprocess.Popen([sys.executable, "-m", "vqmon", "run"], cwd=tmp_path) as daemon:
            wait_for_an_outcome(history, "first")
            for number in range(100):
                if number == 99:
                    settings.write_text(text.format(streams=", ".join(streams), port=port), encoding="utf-8")
                daemon.send_signal(signal.SIGHUP)
                time.sleep(0.03)
            assert daemon.wait(timeout=250) == 0

    for stream in ("first", "second"):
        assert stored_sequences(history, stream) == list(range(60)), stream


def wait_for_an_outcome(history: Path, stream: str) -> None:
    """Until the daemon has made its history and written to it."""
    for _ in range(1000):
        try:
            if stored_sequences(history, stream):
                return
        except (NoHistoryError, StoreError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"{history}: nothing of {stream}")


def stored_sequences(history: Path, stream: str) -> list[int]:
    """The numbers of the stored segments of one stream, in the order of writing."""
    with open_history(history, mode="read") as stored:
        outcomes = list(stored.documents.outcomes_in_write_order())
    return [outcome.segment.sequence for outcome in outcomes if outcome.segment.rendition.stream_id == stream]


def test_black_freeze_loss_and_damage_are_told_apart_and_alert(tmp_path: Path) -> None:
    """A stream that goes black, freezes, loses a segment and breaks one gives the right outcomes and closed alerts."""
    good = clip(*x264(), size="320x180", seconds=4)
    black = clip(*x264(), size="320x180", seconds=4, source=BLACK)
    still = clip(
        *x264(), size="320x180", seconds=4, source="testsrc2=s={size}:r={rate}:d=0.04,loop=-1:1,trim=duration={seconds}"
    )
    broken = bytes(range(256)) * 40
    playlist = write_story(
        tmp_path / "story", [good, good, black, good, still, good, b"", broken, good, good], seconds=4
    )
    history = tmp_path / "story.db"
    with serving(playlist.parent) as origin:
        run = vqmon("watch", f"{origin}/story.m3u8", "--stream", "tv", "--history", str(history), cwd=tmp_path)
    with open_history(history, mode="read") as stored:
        outcomes = list(stored.documents.outcomes_in_write_order())
        alerts = {alert.rule: alert for alert in stored.queries.alerts()}
        pictures = stored.queries.evidence(alerts["black"].id)

    assert run.returncode == 0, run.stderr
    assert [o.reason if isinstance(o, SegmentFailure) else "scored" for o in outcomes] == (
        ["scored"] * 6 + ["not_found", "not_media"] + ["scored"] * 2
    )
    assert {name for name in alerts if name in ("black", "freeze", "missing")} == {"black", "freeze"}
    assert {alerts[name].state for name in ("black", "freeze")} == {"resolved"}
    assert alerts["black"].evidence.event_id == outcomes[2].id
    assert pictures[0].startswith(b"\xff\xd8")
    assert "ALERT" in run.stdout
    assert "RESOLVED" in run.stdout


def test_segments_are_compared_with_those_of_a_second_playlist(tmp_path: Path) -> None:
    """Of other durations; a playlist of another content is refused, and one that is too short has nothing for some."""
    for name, options, source, segment_seconds, seconds in (
        ("poor", x264("-crf", "38"), MOTION, 1, 6),
        ("good", x264("-crf", "10"), MOTION, 2, 6),
        ("short", x264("-crf", "10"), MOTION, 1, 2),
        ("other", x264(), "mandelbrot=s={size}:r={rate},trim=duration={seconds}", 1, 6),
    ):
        media = tmp_path / f"{name}.ts"
        media.write_bytes(clip(*options, size="320x180", seconds=seconds, source=source))
        hls = ["-f", "hls", "-hls_time", str(segment_seconds), "-hls_playlist_type", "vod"]
        ffmpeg("-i", str(media), "-c", "copy", *hls, str(tmp_path / f"{name}.m3u8"))
    with serving(tmp_path) as origin:
        streams = "".join(
            f'[[source.streams]]\nid = "{name}"\nurl = "{origin}/poor.m3u8"\nreference = "{origin}/{name}.m3u8"\n'
            for name in ("good", "short", "other")
        )
        (tmp_path / "vqmon.toml").write_text(
            f'{streams}[fetch]\nallowed_hosts = ["127.0.0.1"]\nallow_http = true\nallowed_networks = ["127.0.0.0/8"]\n'
            f'allowed_ports = [{origin.rpartition(":")[2]}]\n[scoring]\nreferences = ["psnr"]\n[decode]\nworkers = 1\n',
            encoding="utf-8",
        )
        run = vqmon("run", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    with open_history(tmp_path / "vqmon.db", mode="read") as stored:
        outcomes = list(stored.documents.outcomes_in_write_order())

    events: dict[str, list[QualityEvent]] = {"good": [], "short": [], "other": []}
    for outcome in outcomes:
        assert isinstance(outcome, QualityEvent)
        events[outcome.segment.rendition.stream_id].append(outcome)
    pairings = [event.reference_pairing for event in events["good"]]
    # segments of one second in those of two
    assert [round(pairing.offset_seconds, 2) for pairing in pairings if pairing] == [0.0, 1.0] * 3
    values = [reference.value for event in events["good"] for reference in event.references]
    assert len(values) == 6
    assert all(20 < value < 40 for value in values), values
    assert [event.unscored_reference for event in events["short"]] == ["", "", *["missing"] * 4]
    assert {event.unscored_reference for event in events["other"]} == {"misaligned"}


def test_an_alert_that_is_open_when_its_stream_ends_or_is_watched_no_more_closes(tmp_path: Path) -> None:
    """A programme that ends in black; and one whose watching was cut short, then left out of the settings."""
    good = clip(*x264(), size="320x180", seconds=4)
    black = clip(*x264(), size="320x180", seconds=4, source=BLACK)
    history = tmp_path / "story.db"
    with serving(write_story(tmp_path / "story", [good, black], seconds=4).parent) as origin:
        for name in ("tv", "other"):
            run = vqmon("watch", f"{origin}/story.m3u8", "--stream", name, "--history", str(history), cwd=tmp_path)
            assert run.returncode == 0, run.stderr
            assert "RESOLVED" in run.stdout
    with open_history(history, mode="write") as stored:
        alerts = [alert for alert in stored.queries.alerts() if alert.rule == "black"]
        assert [alert.state for alert in alerts] == ["resolved"] * 2
        assert all(alert.summary.endswith("closed: the stream has ended") for alert in alerts)
        judge, outcomes = Judge(RULES), list(stored.documents.outcomes_in_write_order(stream_id="tv"))
        left = [in_stream("left", outcome) for outcome in outcomes]
        opened = [alert for outcome in left for alert in judge.judge(outcome)]
        assert opened[-1].state == "open"
        stored.publish(left, alerts=opened, states=judge.drain_changes())
    with serving(tmp_path / "story") as origin:
        for _ in range(2):
            vqmon("watch", f"{origin}/story.m3u8", "--stream", "tv", "--history", str(history), cwd=tmp_path)
    with open_history(history, mode="read") as stored:
        closed = [alert for alert in stored.queries.alerts() if alert.stream_id == "left"]
        inputs = list(stored.documents.judge_inputs())
    assert [alert.state for alert in closed] == ["resolved"] * len(opened)
    assert all(alert.summary.endswith("closed: the stream is no longer watched") for alert in closed)
    # Also with nothing open, and once each.
    name = outcomes[0].segment.rendition.name
    assert [(end.stream_id, end.rendition, end.why) for end in inputs if isinstance(end, StreamEnd)] == [
        ("tv", name, "ended"),
        ("other", name, "ended"),
        ("left", "*", "unwatched"),
    ]


def in_stream(stream_id: str, outcome: Outcome) -> Outcome:
    """The same as if another stream had shown it."""
    segment = outcome.segment
    segment = replace(segment, rendition=replace(segment.rendition, stream_id=stream_id))
    return replace(outcome, id=f"{stream_id}-{outcome.id}", segment=segment)


def test_replay_finds_the_same_ids_and_scores(tmp_path: Path) -> None:
    """Looking at stored segments again gives the same verdicts to the last digit."""
    playlist = write_vod(tmp_path / "vod", segments=6)
    history = tmp_path / "replay.db"
    first = vqmon("watch", str(playlist), "--history", str(history), cwd=tmp_path)
    second_run = vqmon("replay", "--again", "--history", str(history), cwd=tmp_path)

    assert first.returncode == 0, first.stderr
    assert second_run.returncode == 0, second_run.stdout + second_run.stderr
    assert second_run.stdout.count("the same") == 6


def test_replay_shows_what_other_rules_would_have_said(tmp_path: Path) -> None:
    """A stricter rule on stored events gives the alert that the old rules did not."""
    playlist = write_vod(tmp_path / "vod", segments=6)
    history = tmp_path / "rules.db"
    strict = tmp_path / "strict.toml"
    strict.write_text(
        '[rules.never-good]\nkind = "floor"\nseverity = "ticket"\nscorer = "lite"\nbelow = 100\nfor_seconds = 2\n'
        "recover_above = 100\nrecover_seconds = 2\n",
        encoding="utf-8",
    )
    vqmon("watch", str(playlist), "--history", str(history), cwd=tmp_path)
    run = vqmon("replay", "--rules", str(strict), "--history", str(history), cwd=tmp_path)

    assert run.returncode == 0, run.stderr
    assert "new only" in run.stdout
    assert "never-good" in run.stdout


def test_sigterm_finishes_what_is_in_flight_and_the_next_start_goes_on(tmp_path: Path) -> None:
    """A stopped daemon exits with 0; started again it goes on behind the last segment."""
    playlist = write_vod(tmp_path / "vod", segments=60)
    history = tmp_path / "stop.db"
    with serving(playlist.parent) as origin:
        watch = [sys.executable, "-m", "vqmon", "watch", f"{origin}/vod.m3u8", "--history", str(history)]
        with subprocess.Popen(watch, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
            assert daemon.stdout is not None
            daemon.stdout.readline()
            daemon.send_signal(signal.SIGTERM)
            daemon.stdout.read()
            code = daemon.wait(timeout=40)
        with open_history(history, mode="read") as stored:
            before = [outcome.segment.sequence for outcome in stored.documents.outcomes_in_write_order()]
        vqmon("watch", f"{origin}/vod.m3u8", "--history", str(history), cwd=tmp_path)
    with open_history(history, mode="read") as stored:
        after = [outcome.segment.sequence for outcome in stored.documents.outcomes_in_write_order()]

    assert code == 0
    assert before == list(range(len(before)))
    assert after == list(range(60))


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_export_writes_every_outcome(tmp_path: Path, form: str) -> None:
    """Each format holds the six segments."""
    playlist = write_vod(tmp_path / "vod", segments=6)
    history = tmp_path / "export.db"
    vqmon("watch", str(playlist), "--history", str(history), cwd=tmp_path)
    file = tmp_path / f"out.{form}"
    run = vqmon("export", str(file), "--history", str(history), cwd=tmp_path)

    assert run.returncode == 0, run.stderr
    if form == "ndjson":
        events = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert [event["data"]["segment"]["sequence"] for event in events] == list(range(6))
        assert {event["specversion"] for event in events} == {"1.0"}
    elif form == "csv":
        assert len(file.read_text(encoding="utf-8").splitlines()) == 7
    else:
        import pyarrow.parquet as parquet

        assert parquet.read_table(file).num_rows == 6


def test_the_folder_source_takes_each_finished_file_once(tmp_path: Path) -> None:
    """Files that are there and files that come later are scored once each, also after a restart."""
    incoming = tmp_path / "incoming" / "720p"
    incoming.mkdir(parents=True)
    config = tmp_path / "vqmon.toml"
    config.write_text(
        '[source]\nkind = "folder"\nfolder = "incoming"\nfolder_settle_seconds = 0.3\n[history]\npath = "folder.db"\n',
        encoding="utf-8",
    )
    small = clip(*x264(), size="192x108", seconds=1)
    for name in ("a.ts", "b.ts"):
        (incoming / name).write_bytes(small)
    first = vqmon("--config", str(config), "run", "--for", "4", cwd=tmp_path)
    (incoming / "c.ts").write_bytes(small)
    second = vqmon("--config", str(config), "run", "--for", "4", cwd=tmp_path)
    with open_history(tmp_path / "folder.db", mode="read") as stored:
        names = [outcome.segment.url.rsplit("/", 1)[-1] for outcome in stored.documents.outcomes_in_write_order()]

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert sorted(names) == ["a.ts", "b.ts", "c.ts"]


def test_wrong_usage_is_told_in_one_line_with_exit_code_2(tmp_path: Path) -> None:
    """Unknown scorer, missing history and nothing to watch name the remedy and show no traceback."""
    (tmp_path / "vqmon.toml").write_text('[scoring]\nscorers = ["lit"]\n', encoding="utf-8")
    (tmp_path / "a.ts").write_bytes(clip(*x264(), size="192x108", seconds=1))
    runs = [
        (vqmon("score", "a.ts", cwd=tmp_path), "did you mean 'lite'"),
        (vqmon("web", "--history", "none.db", cwd=tmp_path), "no history yet"),
        (vqmon("run", cwd=tmp_path), "nothing to watch"),
        (vqmon("--config", "none.toml", "run", cwd=tmp_path), "no such settings file"),
    ]

    for run, message in runs:
        assert run.returncode == 2, run.stderr
        assert message in run.stderr.replace("\n", " ")
        assert "Traceback" not in run.stderr


def test_check_names_what_is_wrong(tmp_path: Path) -> None:
    """A host that is not allowed is found before the daemon starts, with the setting that mends it."""
    playlist = write_vod(tmp_path / "vod", segments=2)
    with serving(playlist.parent) as origin:
        text = f'[source]\nstreams = [{{ id = "tv", url = "{origin}/vod.m3u8" }}]\n'
        (tmp_path / "vqmon.toml").write_text(text, encoding="utf-8")
        refused = vqmon("check", cwd=tmp_path)
        allowed = '[fetch]\nallowed_hosts = ["127.0.0.1"]\nallowed_networks = ["127.0.0.0/8"]\nallow_http = true\n'
        port = origin.rsplit(":", 1)[-1]
        (tmp_path / "vqmon.toml").write_text(f"{text}{allowed}allowed_ports = [{port}]\n", encoding="utf-8")
        fine = vqmon("check", cwd=tmp_path)

    assert refused.returncode == 1
    assert "fetch.allow_http" in refused.stdout
    assert fine.returncode == 0, fine.stdout
    assert "tv: 2 segments" in fine.stdout


def test_score_tells_scores_and_reasons(tmp_path: Path) -> None:
    """One line per file; a damaged file makes the exit code 3 and does not stop the others."""
    (tmp_path / "good.ts").write_bytes(clip(*x264(), size="192x108", seconds=2))
    (tmp_path / "bad.ts").write_bytes(b"\x47" + os.urandom(4000))
    table = vqmon("score", "good.ts", "bad.ts", cwd=tmp_path)
    events = vqmon("score", "--json", "good.ts", cwd=tmp_path)

    assert table.returncode == 3
    assert "unscored" in table.stdout
    assert "good.ts" in table.stdout
    assert events.returncode == 0
    assert len(json.loads(events.stdout)["data"]["scores"][0]["frame_values"]) == 2
