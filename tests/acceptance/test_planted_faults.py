"""Every fault that is planted into a stream raises the alert of its shipped rule, and no other one."""

import re
import subprocess
import sys
from pathlib import Path

from tests.acceptance.streams import serving, write_story
from tests.media import faulty_segments
from tests.media.damage import cut_off, flip_bits
from vqmon.transport.history.history import open_history

RULES = Path(__file__).parents[2] / "config" / "rules.toml"
PLANTED = {
    "frozen": "freeze",
    "black": "black",
    "flat": "one-colour",
    "blocky": "blockiness",
    "flicker": "flicker",
    "shimmering": "shimmer",
    "banded": "banding",
    "boxed": "borders",
    "flipped": "decode-errors",
    "cut": "decode-errors",
    "broken": "unreadable",
}
GOOD_AFTER = 3
SCORE_RULES = {"low-score", "collapse", "regression", "paired-regression", "repeat-regression"}


def story() -> tuple[list[bytes], dict[str, range]]:
    """The segments in order, and those of each fault."""
    good = [faulty_segments.segment(number=number) for number in range(3)]
    segments, places = [*good], dict[str, range]()
    for fault in PLANTED:
        if fault in ("flipped", "cut", "broken"):
            damage = {"flipped": lambda media: flip_bits(media, 20), "cut": lambda media: cut_off(media, 0.6)}
            planted = [damage[fault](good[0]) if fault in damage else bytes(range(256)) * 40]
        else:
            planted = [faulty_segments.segment(fault, number=number) for number in range(3 if fault == "boxed" else 2)]
        places[fault] = range(len(segments), len(segments) + len(planted))
        segments += planted + good[:GOOD_AFTER]
    return segments, places


def vqmon(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "vqmon", *arguments]
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_each_planted_fault_raises_its_alert_live_and_on_replay(tmp_path: Path) -> None:
    """In the segments of the fault; nothing is raised by the good ones, and every alert resolves.

    Pictures that lost their reference may also be grey, and so of one colour.
    """
    segments, places = story()
    history = tmp_path / "faults.db"
    with serving(write_story(tmp_path / "story", segments, seconds=faulty_segments.SECONDS).parent) as origin:
        vqmon("watch", f"{origin}/story.m3u8", "--stream", "tv", "--history", str(history), cwd=tmp_path)
    with open_history(history, mode="read") as stored:
        outcomes = list(stored.documents.outcomes_in_write_order())
        alerts = sorted(stored.queries.alerts(), key=lambda alert: alert.opened_at)
    start = outcomes[0].segment.starts_at
    found = [
        (alert.rule, int((alert.began_at - start).total_seconds() / faulty_segments.SECONDS + 0.01))
        for alert in alerts
        if alert.rule not in SCORE_RULES
    ]
    found = [(rule, place) for rule, place in found if rule != "one-colour" or place not in places["flipped"]]
    assert [rule for rule, _ in found] == list(PLANTED.values()), f"{found}"
    for (rule, place), fault in zip(found, PLANTED, strict=True):
        assert place in places[fault], (rule, fault)
    assert {alert.state for alert in alerts if alert.rule not in SCORE_RULES} == {"resolved"}

    text = vqmon("replay", "--rules", str(RULES), "--history", str(history), cwd=tmp_path)
    assert re.search(rf"\b{len(alerts)} alerts with the old rules", text) or "new only" not in text
    assert "new only" not in text
    assert "old only" not in text
