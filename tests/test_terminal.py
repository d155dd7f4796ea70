"""Styled lines, tables and progress, as a terminal and as a file get them."""

import io
import logging
import os
import pty
import re
import select
import sys
import termios

import pytest

from vqmon.telemetry.logs import configure_logging
from vqmon.terminal import Console, Progress, Table, display_width, escape, fold, render


class Terminal(io.StringIO):
    """Text that is written to what says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Have standard output and standard error be a terminal of 40 columns."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


@pytest.mark.parametrize(
    ("markup", "plain", "styled"),
    [
        ("[red]no[/red]", "no", "\x1b[0;31mno\x1b[0m"),
        ("[bold cyan]a[/] b", "a b", "\x1b[0;1;36ma\x1b[0m b"),
        ("[dim]a [red]b[/red] c[/dim]", "a b c", "\x1b[0;2ma \x1b[0;2;31mb\x1b[0;2m c\x1b[0m"),
        ("[rules.low] [1] []", "[rules.low] [1] []", "[rules.low] [1] []"),
        ("a[/] b", "a b", "a\x1b[0m b"),
    ],
)
def test_tags_are_styles_and_other_brackets_stay(markup: str, plain: str, styled: str) -> None:
    assert render(markup, styled=False) == plain
    assert render(markup, styled=True) == styled


@pytest.mark.parametrize("text", ["[red]news", r"\[red]", r"c:\[bold]\\", "[/]", r"\\", "plain", "[[red]]"])
def test_escaped_text_comes_out_as_it_was(text: str) -> None:
    for is_styled in (False, True):
        assert render(escape(text), styled=is_styled) == text


def test_a_wide_character_takes_two_columns() -> None:
    assert display_width("新闻") == 4
    assert display_width("e\N{COMBINING ACUTE ACCENT}") == 1


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("新闻频道", 5, ["新闻", "频道"]),
        ("a  b", 10, ["a  b"]),
        ("", 5, [""]),
    ],
)
def test_text_is_folded_at_spaces_or_within_words(text: str, width: int, lines: list[str]) -> None:
    assert fold(text, width) == lines


def table() -> Table:
    scores = Table(title="3 scores", caption="the end")
    scores.add_column("segment", folds=True)
    scores.add_column("score", justify="right")
    scores.add_column("state")
    scores.add_row("a.mp4", "[bold]9.5[/bold]", "high\n[dim]1 lost[/dim]")
    scores.add_row("新闻.mp4", "100.0")
    scores.add_row("a long name of a segment.mp4", "1", "x")
    return scores


def test_columns_of_a_table_are_aligned() -> None:
    assert list(table().lines(200, styled=False)) == [
        "3 scores",
        "segment                       score  state",
        "a.mp4                           9.5  high",
        "                                     1 lost",
        "新闻.mp4                      100.0",
        "a long name of a segment.mp4      1  x",
        "the end",
    ]


def test_styles_take_no_columns() -> None:
    plain = list(table().lines(200, styled=False))
    (line,) = (line for line in table().lines(200, styled=True) if line.startswith("a.mp4"))
    assert line == plain[2].replace("9.5", "\x1b[0;1m9.5\x1b[0m")


def test_a_column_that_folds_makes_room() -> None:
    assert list(table().lines(24, styled=False)) == [
        "3 scores",
        "segment    score  state",
        "a.mp4        9.5  high",
        "                  1 lost",
        "新闻.mp4   100.0",
        "a long         1  x",
        "name of a",
        "segment.m",
        "p4",
        "the end",
    ]


def test_what_cannot_fold_stays_whole() -> None:
    """A terminal breaks the line where it must."""
    wide = Table()
    wide.add_column("scorer")
    wide.add_row("a-name-of-more-than-ten-columns")
    assert list(wide.lines(10, styled=False)) == ["scorer", "a-name-of-more-than-ten-columns"]


def test_a_table_without_rows_is_its_headings() -> None:
    empty = Table()
    empty.add_column("rule")
    empty.add_column("alerts", justify="right")
    assert list(empty.lines(80, styled=False)) == ["rule  alerts"]


def test_a_row_has_no_more_cells_than_columns() -> None:
    with pytest.raises(ValueError, match="zip"):
        table().add_row("a", "b", "c", "d")


def test_a_terminal_gets_styles_and_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    Console().print("[red]bad[/red]")
    Console(stderr=True).print("[red]", style="yellow", markup=False)
    assert terminal.getvalue() == "\x1b[0;31mbad\x1b[0m\n\x1b[0;33m[red]\x1b[0m\n"
    terminal.truncate(0)
    Console().print(table())
    assert "a long name of a segment.mp4" not in terminal.getvalue()


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_styles_gets_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    terminal = use_terminal(monkeypatch)
    monkeypatch.setenv(name, value)
    Console().print("[red]bad[/red]", style="bold")
    assert terminal.getvalue() == "bad\n"


def test_a_file_gets_lines_that_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    Console().print("[red]" + "long " * 100 + "[/red]")
    Console(stderr=True).print("wrong", style="red", end=" ")
    captured = capsys.readouterr()
    assert captured.out == "long " * 100 + "\n"
    assert captured.err == "wrong "


def test_progress_is_overwritten_and_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with Progress("scoring") as progress:
        progress.update(total=3)
        progress.advance()
        progress.update(label="a name that is longer than the terminal of forty columns", done=3)
    shown = terminal.getvalue().split("\r\x1b[K")
    assert [line.rstrip("\r") for line in shown] == [
        "",
        "scoring 0:00",
        "scoring 0/3 0:00",
        "scoring 1/3 0:00",
        "a name that is longer than the terminal",
        "",
    ]


def screen_of(output: str, *, columns: int) -> list[str]:
    """The lines that a terminal shows; a wide character stands in its first column, "" in its second."""
    lines, row, column = [[" "] * columns], 0, 0
    for token in re.findall(r"\x1b\[K|.", output, re.DOTALL):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            lines += [[" "] * columns] * (row == len(lines))
        elif token == "\x1b[K":
            lines[row][column:] = [" "] * (columns - column)
        else:
            if column + display_width(token) > columns:
                row, column = row + 1, 0
                lines += [[" "] * columns] * (row == len(lines))
            lines[row][column : column + display_width(token)] = [token, ""][: display_width(token)]
            column += display_width(token)
    return ["".join(line).rstrip() for line in lines]


@pytest.mark.parametrize("columns", [80, 40])
def test_nothing_of_a_longer_line_remains(columns: int) -> None:
    """On a pseudo-terminal: after shorter progress, a printed line and a log line, and with wide characters."""
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, columns))
    log = logging.getLogger("vqmon.test")
    with os.fdopen(writer, "w", encoding="utf-8") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(sys, "stdout", stream)
        configure_logging("info", "text", stream=stream)
        with Progress("音声の名前がとても長いファイル" * 4, total=9) as progress:
            progress.update(label="lens\n" * 30)
            progress.update(label="short")
            progress.update(label="a name that fills the whole line and more of the terminal " * 2)
            Console().print("a.mp4 61")
            progress.advance()
            log.info("ready")
            progress.update(label="音" * 60)
        logging.basicConfig(force=True, handlers=[])
        output = b""
        while select.select([reader], [], [], 0)[0]:
            output += os.read(reader, 4096)
        text = output.decode()
        lines = screen_of(text, columns=columns)
        assert (lines[0], lines[1][9:], lines[2:]) == ("a.mp4 61", "info    ready", [""])
        longest = [screen_of(part, columns=columns) for part in text.split("\r\x1b[K")]
        assert all(len(part) == 1 or part[1:] == [""] for part in longest)
    os.close(reader)


def test_progress_is_no_part_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("scoring", total=2) as progress:
        progress.advance()
    assert capsys.readouterr().err == ""


def test_a_real_terminal_is_noticed() -> None:
    """A pseudo-terminal in place of standard output."""
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        original, sys.stdout = sys.stdout, stream
        try:
            Console().print("[green]ok[/green]")
        finally:
            sys.stdout = original
        assert os.read(reader, 100).decode().replace("\r", "") in ("\x1b[0;32mok\x1b[0m\n", "ok\n")
    os.close(reader)


def test_text_of_users_is_printed_as_it_is() -> None:
    """Whatever it ends with or holds: backslashes, brackets, codes of a terminal, marks of direction."""
    for text in ("C:\\", "[red", "]x", "[/bold]", "\\[red]", "a\\\\"):
        assert render(f"[bold]{escape(text)}[/bold] next", styled=False) == f"{text} next"
    assert render(escape("[red") + escape("]x"), styled=True) == "[red]x"
    assert render(escape("p\x1b[31m\u202e\n.png"), styled=True) == "p\\x1b[31m\\u202e\\n.png"


def test_titles_and_captions_have_styles_too() -> None:
    table = Table(title=f"rule {escape('[red]x')}", caption="[dim]note[/dim]")
    table.add_column("a")
    lines = list(table.lines(40, styled=False))
    assert (lines[0], lines[-1]) == ("rule [red]x", "note")


def test_what_an_output_cannot_show_is_written_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Console().print("✓ é.mp4", markup=False)
    assert raw.getvalue() == rb"\u2713 \xe9.mp4" + b"\n"
