"""Experiments on real encodes, scored by the real pipeline into a real history: what `vqmon compare` says of them."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import skimage
from click.testing import CliRunner, Result

from pipelines.experiments.compare import compare_arms, load_experiment
from pipelines.observe.observer import Observation
from pipelines.service.wiring import fetch_policy, open_observer
from tests.media.clips import ffmpeg
from vqmon.cli.main import main
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import Comparison
from vqmon.core.types import Rendition, Segment
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.settings.load import Settings
from vqmon.settings.scoring import ScoringSettings
from vqmon.settings.sections import DecodeSettings, FetchSettings
from vqmon.transport.history.history import open_history

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
SIZE = "640x360"
CLIPS = ("bigbuckbunny", "bikes", "chaplin", "cockatoo", "fire2", "carphone_pristine")
PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
SEGMENTS = 2

ARMS: dict[str, tuple[str, ...]] = {
    "a": ("-crf", "34"),
    # another encode of the same quality: other bits, the same look
    "again": ("-crf", "34", "-preset", "faster"),
    "finer": ("-crf", "28"),
    "sharp": ("-crf", "28", "-vf", "unsharp=7:7:4"),
}

EXPERIMENTS = """
[experiments.same]
question = "Are two encodes of the same quality the same?"
scorers = ["lite@2"]
control = "a"
planned_clusters = 10
segments_per_cluster = 2
delta_min = 1.5
margin = 2.5
[experiments.same.arms.a]
[experiments.same.arms.again]

[experiments.finer]
scorers = ["lite@2"]
control = "a"
planned_clusters = 10
segments_per_cluster = 2
delta_min = 1.0
slices = ["label:kind"]
[experiments.finer.arms.a]
[experiments.finer.arms.finer]
[experiments.finer.guardrails.flicker]
of = "signal:flicker"
margin = 0.1

[experiments.sharp]
scorers = ["lite@1"]
control = "a"
planned_clusters = 10
segments_per_cluster = 2
[experiments.sharp.arms.a]
[experiments.sharp.arms.sharp]
"""


@pytest.fixture(scope="module")
def history(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten contents in four arms, scored by the real pipeline."""
    folder = tmp_path_factory.mktemp("arms")
    inputs = {name: ("-i", str(shared / "clips" / f"{name}.mp4")) for name in CLIPS}
    inputs |= {name: _panned(name, folder) for name in PHOTOS}
    segments = [
        _encoded(folder, name, arm, number, inputs[name], hour)
        for hour, name in enumerate(inputs)
        for arm in ARMS
        for number in range(SEGMENTS)
    ]
    path = folder / "h.db"
    with open_history(path, "write") as stored:
        observations = asyncio.run(_observed(folder, segments))
        # As arms come in life: one after the other, not pair by pair.
        for arm in ARMS:
            stored.publish(
                [
                    observation.outcome
                    for observation in observations
                    if observation.outcome.segment.rendition.labels["arm"] == arm
                ]
            )
    return path


def _panned(name: str, folder: Path) -> tuple[str, ...]:
    """A photo that a camera moves over, as ffmpeg's input."""
    picture = np.asarray(getattr(skimage.data, name)())[..., :3]
    height, width = picture.shape[:2]
    raw = folder / f"{name}.rgb"
    raw.write_bytes(np.ascontiguousarray(picture).tobytes())
    shape = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-stream_loop", "60", "-r", "25")
    pan = f"crop={width * 3 // 4}:{height * 3 // 4}:x=n*{width}/250:y=n*{height}/400"
    return (*shape, "-i", str(raw), "-filter_complex", pan)


def _encoded(folder: Path, name: str, arm: str, number: int, source: tuple[str, ...], hour: int) -> Segment:
    file = folder / f"{name}-{arm}-{number}.ts"
    options = dict(zip(ARMS[arm][::2], ARMS[arm][1::2], strict=True))
    filters = [source[source.index("-filter_complex") + 1]] if "-filter_complex" in source else []
    filters += [f"scale={SIZE}", *([options.pop("-vf")] if "-vf" in options else [])]
    before = source[: source.index("-i")]
    given = source[source.index("-i") : source.index("-i") + 2]
    preset = options.pop("-preset", "veryfast")
    flat = [part for pair in options.items() for part in pair]
    ffmpeg(
        *(*before, *given, "-ss", str(number), "-t", "1", "-map", "0:v:0", "-vf", ",".join(filters)),
        *("-c:v", "libx264", "-preset", preset, *flat, "-pix_fmt", "yuv420p", "-f", "mpegts", str(file)),
    )
    kind = "photo" if name in PHOTOS else "film"
    rendition = Rendition(
        stream_id=name, name=arm, labels={"arm": arm, "kind": kind, "bytes": str(file.stat().st_size)}
    )
    starts_at = START + timedelta(hours=hour, seconds=number)
    return Segment(rendition=rendition, sequence=number, url=file.as_uri(), starts_at=starts_at, duration_seconds=1.0)


async def _observed(folder: Path, segments: Sequence[Segment]) -> Sequence[Observation]:
    settings = Settings(
        decode=DecodeSettings(workers=2, thumbnail_width=0),
        fetch=FetchSettings(file_roots=(folder,)),
        scoring=ScoringSettings(scorers=("lite@2", "lite@1")),
    )
    async with Fetcher(fetch_policy(settings)) as fetcher, open_observer(settings, fetcher=fetcher) as observer:
        return [await observer.observe(segment) for segment in segments]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The experiments file."""
    path = tmp_path / "experiments.toml"
    path.write_text(EXPERIMENTS, encoding="utf-8")
    return path


def answer(history: Path, file: Path, name: str) -> Comparison:
    with open_history(history, "read") as stored:
        return compare_arms(stored, load_experiment(name, file))


def vqmon(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_two_encodes_of_the_same_quality_have_no_winner(history: Path, file: Path) -> None:
    """An A/A experiment on real clips is undecided or equivalent; every segment found its partner."""
    comparison = answer(history, file, "same")
    result = comparison.answers[0]

    assert result.verdict.kind in ("undecided", "equivalent"), result.verdict
    assert comparison.outcomes == 2 * SEGMENTS * len((*CLIPS, *PHOTOS))
    assert (result.missing_in_arm, result.missing_in_control) == (0, 0)
    checks = (*comparison.checks, *result.checks)
    assert [check for check in checks if not check.is_good and check.weight == "blocks"] == []
    assert any(line.difference != 0 for line in result.effects[0].by_cluster)


def test_a_planted_gain_is_found_with_the_planned_clusters(history: Path, file: Path) -> None:
    """CRF 28 against 34: better, with every content counted once, at a cost that is told."""
    comparison = answer(history, file, "finer")
    result = comparison.answers[0]
    effect = result.effects[0]

    assert result.verdict.kind == "better", result.verdict
    assert effect.scorer == "lite@2"
    assert (effect.clusters, effect.segments) == (10, 20)
    assert effect.reading is not None
    assert effect.reading.kind == "final"
    assert effect.reading.low > 0
    assert effect.p_sign_flip is not None
    assert effect.p_sign_flip < 0.05
    control, arm = comparison.arms
    assert (arm.bitrate_kbps or 0) > (control.bitrate_kbps or 0) > 0
    assert (result.points_per_extra_mbps or 0) > 0
    assert {(part.value, part.clusters) for part in effect.slices} == {("film", 6), ("photo", 4)}
    assert [rail.state for rail in result.guardrails] == ["held"]


def test_an_over_sharpened_winner_goes_to_a_person(history: Path, file: Path) -> None:
    """lite@1 likes it; what it likes is sharpening, and only votes of people settle it."""
    result = answer(history, file, "sharp").answers[0]

    assert result.verdict.kind == "needs human look", result.verdict
    assert "over_sharpness" in result.verdict.sentence
    over_sharpness = next(check for check in result.looks if check.signal == "over_sharpness")
    assert over_sharpness.exceeds_limit
    assert over_sharpness.difference > 0
    votes = [Vote(pair_id=pair.id, choice="a", voter="ann", at=START) for pair in result.pairs_with_role("review")]
    with open_history(history, "read") as stored:
        settled = compare_arms(stored, load_experiment("sharp", file), votes=votes).answers[0].verdict
    assert (settled.kind, settled.is_settled_by_people) == ("worse", True)


def test_the_command_says_it_in_three_forms(history: Path, file: Path, tmp_path: Path) -> None:
    """Words, JSON and one HTML file that loads nothing, with the same verdict; a wrong name is told the nearest."""
    html = tmp_path / "finer.html"
    common = ("--file", file, "--history", history)
    text_result = vqmon("compare", "finer", *common, "--html", html)
    document = json.loads(vqmon("compare", "finer", *common, "--json").stdout)
    page = html.read_text(encoding="utf-8")

    assert text_result.exit_code == 0, text_result.output
    assert "finer is better than a" in text_result.stdout
    assert document["answers"][0]["verdict"]["kind"] == "better"
    assert document["answers"][0]["verdict"]["sentence"] in re.sub(r"\s+", " ", text_result.stdout)
    assert page.startswith("<!doctype html>")
    assert "finer is better than a" in page
    assert not re.search(r"(?:src|href)=[\"'](?!#)", page)
    wrong = vqmon("compare", "finner", *common)
    assert wrong.exit_code == 2
    assert "did you mean 'finer'" in wrong.stderr


def test_sql_has_the_numbers_of_the_command(history: Path, file: Path) -> None:
    """Differences by content, means and counts by arm: the views and `compare --json` agree."""
    document = json.loads(vqmon("compare", "finer", "--file", file, "--history", history, "--json").stdout)
    effect = document["answers"][0]["effects"][0]
    paired = (
        "SELECT a.stream_id, avg(b.value - a.value), count(*) FROM v_experiments a JOIN v_experiments b"
        " ON b.stream_id = a.stream_id AND b.starts_at = a.starts_at AND b.scorer = a.scorer"
        " WHERE a.arm = 'a' AND b.arm = 'finer' AND a.scorer = 'lite@2' GROUP BY 1"
    )
    by_arm = (
        "SELECT arm, avg(mean), sum(scored) FROM (SELECT arm, stream_id, avg(value) AS mean, count(*) AS scored"
        " FROM v_experiments WHERE scorer = 'lite@2' GROUP BY 1, 2) GROUP BY 1"
    )
    with closing(sqlite3.connect(history)) as database:
        differences = {name: (mean, count) for name, mean, count in database.execute(paired)}
        arms = {arm: (mean, count) for arm, mean, count in database.execute(by_arm)}
    lines = {line["cluster"]: (line["difference"], line["segments"]) for line in effect["by_cluster"]}
    assert set(lines) == set(differences) == {*CLIPS, *PHOTOS}
    for name, (mean, count) in differences.items():
        assert lines[name] == (pytest.approx(mean), count)
    for arm in document["arms"]:
        assert arms[arm["arm"]] == (pytest.approx(arm["mean"]["lite@2"]), arm["scored"])


def test_a_pilot_sizes_the_next_experiment(history: Path, file: Path) -> None:
    """The spread of the pairs so far, or what a person says; without either an error that says what to give."""
    common = ("--file", file, "--history", history)
    pilot = vqmon("plan", "finer", "--difference", "2", *common)
    result = vqmon("plan", "--difference", "1.25", "--sd", "5")
    nothing = vqmon("plan", "--difference", "1.25")

    assert pilot.exit_code == 0, pilot.output
    assert "planned_clusters" in pilot.stdout
    assert "67 clusters of 30 segments when you look at any time" in result.stdout
    assert nothing.exit_code == 2
    assert "--sd" in nothing.stderr


def test_check_reads_the_experiments_of_the_settings(file: Path, tmp_path: Path) -> None:
    """How many there are, or what is wrong with them."""
    config = tmp_path / "vqmon.toml"
    config.write_text('[experiments]\npath = "experiments.toml"\n', encoding="utf-8")
    good = vqmon("--config", config, "check", "--offline").stdout
    file.write_text(EXPERIMENTS.replace("planned_clusters", "plannd_clusters", 1), encoding="utf-8")
    wrong = vqmon("--config", config, "check", "--offline").stdout

    assert "3 in" in good
    assert "did you mean 'planned_clusters'" in wrong
