"""The commands that pages show on lines of their own are run as they stand, in a folder that has what they name."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage import io

from tests.docs.test_pages import PAGES
from tests.media.clips import clip, ffmpeg, x264

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^(?: {4,}|[$] )?(vqmon (?:--config \S+ )?(?:[a-z-]+)\b.*)$", re.MULTILINE)
FENCED = re.compile(r"^ *```(?:sh|text)?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
HERE = {
    "https://host/live.m3u8": "live.m3u8",
    "https://host/vod.m3u8": "live.m3u8",
    "/backup/": "backup/",
    "/data/": "data/",
    "/tmp/vqmon-files": "vqmon-files",
}
"""Places of pages -> those of the test."""

ELSEWHERE = {
    r"vqmon web|vqmon --config \S+ web": "serves until Ctrl-C: tests/docs/test_tutorial.py",
    r"vqmon (topics|publish|tail|notify)\b.*|vqmon --config \S+ record": "needs a broker: tests/acceptance/kafka",
    r"vqmon models .*": "needs torch: tests/models/commands",
    r"vqmon evaluate .*q-align.*": "needs published weights: tests/pipelines/commands/evaluation",
    r"vqmon ladder .*": "encodes for half a minute: tests/pipelines/commands/evaluation/ladder/test_ladder.py",
    r"vqmon (tune|scorers bridge)\b.*": "needs hours of segments: tests/pipelines/commands",
    r"vqmon calibrate .*": "needs fifty rated items: tests/pipelines/commands/evaluation",
    r"vqmon end .*": "needs that rendition: tests/pipelines/daemon/test_stream_ends.py",
}
"""What does not run here, as a pattern -> why, and where it does."""

EXIT_CODES = {"vqmon score out/ --min 60": 1}
"""The pages say so."""

SETTINGS = """
[source]
streams = [{{ id = "news", url = "{folder}/live.m3u8" }}]
[fetch]
file_roots = ["{folder}"]
"""


def commands_of(page: Path) -> list[str]:
    """The lines of code of a page that begin with `vqmon`, up to a comment or a command of others."""
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    shown = "\n".join(FENCED.findall(text)) + "\n" + "\n".join(re.findall(r"^ {4,}.*$", text, re.MULTILINE))
    return [re.split(r" +# | && ", match[1])[0].strip() for match in LINE.finditer(shown)]


def reason_elsewhere(command: str) -> str:
    """Why a command is not run here; "" when it is."""
    return next((why for pattern, why in ELSEWHERE.items() if re.fullmatch(pattern, command)), "")


RUN_HERE = [
    page
    for page in PAGES
    if not {"tutorial", "scorers", "kafka.md"} & set(page.parts)
    and any(not reason_elsewhere(c) for c in commands_of(page))
]
"""Pages of the tutorial have a test of their own; those of scorers and of Kafka begin with weights or a broker."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished stream that was watched, folders of encodes, pictures, human scores and rules."""
    folder = tmp_path_factory.mktemp("pages")
    small = clip(*x264("-crf", "20"), size="160x90", seconds=2, container="mp4")
    smaller = clip(*x264("-crf", "40"), size="160x90", seconds=2, container="mp4")
    for name in ("encodes-a", "encodes-b", "a", "b", "out", "results", "recordings", "backup", "data"):
        (folder / name).mkdir()
    for number in range(2):
        for name in ("encodes-a", "a", "out", "results", "recordings"):
            (folder / name / f"{number}.mp4").write_bytes(small)
        for name in ("encodes-b", "b"):
            (folder / name / f"{number}.mp4").write_bytes(smaller)
    for name in ("clip.mp4", "film.mp4"):
        (folder / name).write_bytes(small)
    noise = np.random.default_rng(5).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    for name in ("photo.jpg", "upscaled.png"):
        io.imsave(folder / name, noise, check_contrast=False)
    pattern = "testsrc2=size=160x90:rate=10"
    ffmpeg(
        *("-f", "lavfi", "-i", pattern, "-t", "8", *x264(gop=20), "-hls_time", "2"),
        *("-hls_playlist_type", "vod", str(folder / "live.m3u8")),
    )
    rated = [
        ("clip.mp4", 4.4),
        ("film.mp4", 4.2),
        *(
            (f"{name}/{number}.mp4", score + 0.1 * number)
            for name, score in (("a", 4.0), ("b", 1.5))
            for number in (0, 1)
        ),
        *(
            (f"{name}/{number}.mp4", score + 0.1 * number)
            for name, score in (("out", 3.5), ("encodes-b", 1.0))
            for number in (0, 1)
        ),
    ]
    rows = ["path,score,reference,scale", *(f"{name},{score},out/0.mp4,2" for name, score in rated)]
    (folder / "scores.csv").write_text("\n".join([*rows, ""]), encoding="utf-8")
    (folder / "vqmon.toml").write_text(SETTINGS.format(folder=folder), encoding="utf-8")
    for name in ("rules.toml", "new.toml"):
        shutil.copy(ROOT / "config" / "rules.toml", folder / name)
    (folder / "incidents.csv").write_text(
        "stream,rendition,began,ended\nnews,main,2026-01-01T00:00:00Z,2026-01-01T00:01:00Z\n", encoding="utf-8"
    )
    run = run_command("vqmon run", folder)
    assert run.returncode == 0, run.stdout
    return folder


def run_command(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a line in the folder, with the `vqmon` of the tests."""
    for place, here in HERE.items():
        command = command.replace(place, here)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VQMON_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run(page: Path, prepared: Path, tmp_path: Path) -> None:
    """One after the other; exit code 0, but where the page says otherwise."""
    folder = tmp_path / "page"
    shutil.copytree(prepared, folder)
    (folder / "vqmon.toml").write_text(SETTINGS.format(folder=folder), encoding="utf-8")
    for command in dict.fromkeys(commands_of(page)):
        if not reason_elsewhere(command):
            if command.startswith("vqmon init"):
                (folder / "vqmon.toml").unlink()
            if command.startswith("vqmon files out"):
                shutil.rmtree(folder / "out")
            run = run_command(command, folder)
            assert run.returncode == EXIT_CODES.get(command, 0), f"{command}\n{run.stdout}"


def test_what_runs_elsewhere_is_shown_by_a_page() -> None:
    """No reason outlives its command, and most commands are run here."""
    commands = [command for page in PAGES for command in commands_of(page)]
    assert [pattern for pattern in ELSEWHERE if not any(re.fullmatch(pattern, c) for c in commands)] == []
    assert len(RUN_HERE) >= 10
