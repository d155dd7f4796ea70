"""The pages of the tutorial: their commands are run word for word, and must print what the pages show."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM

import imageio_ffmpeg
import pytest

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
BLOCK = re.compile(r"^```(?P<kind>sh|text)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d.:-]*")
RESULT_TOLERANCE = 0.3
"""Encoders and scorers give the same on every machine, but for the last bits."""
SERVE = "vqmon web\n"
"""The command that runs until Ctrl-C."""


def blocks(page: Path, kind: str) -> list[str]:
    """The commands of a page, or what it shows of their output."""
    matches = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [match["text"] for match in matches if match["kind"] == kind]


def without_numbers(text: str) -> str:
    """A line of an output without its numbers and column widths."""
    return " ".join(NUMBER.sub("#", text).split())


def decimals(text: str) -> list[float]:
    """The results in a line: numbers with a decimal point; times, dates and counts have none."""
    return [float(number) for number in re.findall(r"(?<![\d.:])\d+\.\d+(?![\d.:])", text)]


def agrees(shown: str, printed: str) -> bool:
    """Whether a printed line says what the page shows: the same words, and results that differ by rounding at most."""
    return without_numbers(shown) in without_numbers(printed) and all(
        abs(number - other) <= RESULT_TOLERANCE
        for number, other in zip(decimals(shown), decimals(printed), strict=False)
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple["subprocess.Popen[bytes]", Path, int]]]:
    """All pages at once, each in a folder: page -> its shell, the file of its output, the port of its web pages."""
    commands = tmp_path_factory.mktemp("bin")
    (commands / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    (commands / "vqmon").symlink_to(Path(sys.executable).with_name("vqmon"))
    started = {}
    for page in PAGES:
        folder, port = tmp_path_factory.mktemp(page.stem), free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VQMON_")},
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "VQMON_WEB__PORT": str(port),
            "COLUMNS": "200",
        }
        with (folder / "output").open("wb") as output:
            shell = subprocess.Popen(
                ["bash", "-eu", "-c", "".join(blocks(page, "sh"))],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started[page.stem] = shell, folder / "output", port
    yield started
    for shell, _, _ in started.values():
        if shell.poll() is None:
            os.killpg(shell.pid, SIGTERM)
            shell.wait()


def wait_for_pages(shell: "subprocess.Popen[bytes]", port: int) -> str:
    """The fleet page, as soon as it is served."""
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                text: bytes = answer.read()
                return text.decode()
        except OSError:
            assert shell.poll() is None, "the commands ended before the pages were served"
            time.sleep(0.05)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_print_what_it_shows(
    page: Path, runs: dict[str, tuple["subprocess.Popen[bytes]", Path, int]]
) -> None:
    """Every shown line with its results, in their order; the last command of the first page serves the stream."""
    shell, output, port = runs[page.stem]
    if blocks(page, "sh")[-1] == SERVE:
        assert "live" in wait_for_pages(shell, port)
    else:
        assert shell.wait(timeout=600) == 0, output.read_text(encoding="utf-8")
    text = output.read_text(encoding="utf-8")
    printed = iter(text.splitlines())

    shown = [line for block in blocks(page, "text") for line in block.splitlines()]
    assert shown
    assert [line for line in shown if not any(agrees(line, other) for other in printed)] == [], text


def test_the_four_pages_are_there() -> None:
    """In the order of the table of contents."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")

    assert re.findall(r"^tutorial/(.*)$", index, re.MULTILINE) == [
        "first-stream",
        "first-alert",
        "first-ab",
        "first-reference",
    ]
