"""What commands print: styled lines, tables and a line of progress; without styles where the output is no terminal."""

import os
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from types import TracebackType
from typing import ClassVar, Literal, Self, TextIO

PLAIN_WIDTH = 200
"""Columns of a table in a file or a pipe."""

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36}
_STYLE = rf"(?:{'|'.join(_CODES)})"
_STYLES = rf"{_STYLE}(?: {_STYLE})*"
_TAG = re.compile(rf"\\(?P<plain>[\\\[])|\[(?:(?P<style>{_STYLES})|/(?:{_STYLES})?)\]")
_NOT_PRINTED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode: controls, marks of direction, halves of characters, ends of lines and paragraphs."""

_GAP = "  "
_LEAST_FOLDED_WIDTH = 8


def escape(text: str) -> str:
    r"""Text that is printed as it is, not read as markup.

    >>> escape("[red]news")
    '\\[red]news'
    """
    return _without_tags(_printable(text, keep=""))


def _without_tags(text: str) -> str:
    return re.sub(r"[\\\[]", r"\\\g<0>", text)


def render(markup: str, *, styled: bool) -> str:
    """Replace the tags: `[bold]`, `[red]`, `[bold red]` until `[/]` or `[/red]`; other brackets stay.

    `styled` = with the terminal's codes, else without any.
    """
    open_styles: list[str] = []

    def replace(tag: re.Match[str]) -> str:
        if tag["plain"]:
            return tag["plain"]
        if tag["style"]:
            open_styles.append(tag["style"])
        elif open_styles:
            open_styles.pop()
        codes = [str(_CODES[name]) for style in open_styles for name in style.split()]
        return f"\x1b[{';'.join(['0', *codes])}m" if styled else ""

    return _TAG.sub(replace, _printable(markup))


def _printable(text: str, *, keep: str = "\n\t") -> str:
    """What would move the cursor, or turn the line around, as an escape."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _NOT_PRINTED and character not in keep
        else character
        for character in text
    )


def display_width(text: str) -> int:
    """Columns that a terminal takes for a plain line: two for a wide character, none for a combining one."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _cut(text: str, width: int) -> str:
    """The beginning of a plain line that takes at most `width` columns.

    >>> _cut("\u97f3\u58f0 one", 3)
    '\u97f3'
    """
    columns = accumulate(map(display_width, text))
    return "".join(character for character, end in zip(text, columns, strict=True) if end <= width)


def fold(text: str, width: int) -> list[str]:
    """Plain text in lines of at most `width` columns: broken at spaces, else within a word.

    >>> fold("premium sport one", 9)
    ['premium', 'sport one']
    """
    lines = [""]
    for word in re.findall(r"\S+\s*|\s+", text):
        if lines[-1] and display_width(lines[-1] + word.rstrip()) > width:
            lines.append("")
        for character in word:
            if lines[-1] and not character.isspace() and display_width(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return [line.rstrip() for line in lines]


@dataclass(slots=True)
class Column:
    """A column of a table; `folds` = its cells are broken into lines where the table is too wide."""

    heading: str
    justify: Literal["left", "right"] = "left"
    folds: bool = False
    cells: list[str] = field(default_factory=list)

    def width(self) -> int:
        """Columns of the widest line of heading and cells."""
        lines = (line for cell in (self.heading, *self.cells) for line in cell.split("\n"))
        return max(display_width(render(line, styled=False)) for line in lines)


@dataclass(slots=True)
class Table:
    """Rows of cells with markup below a line of headings."""

    title: str = ""
    caption: str = ""
    columns: list[Column] = field(default_factory=list)

    def add_column(self, heading: str, *, justify: Literal["left", "right"] = "left", folds: bool = False) -> None:
        """Append a column; rows are added after all columns."""
        self.columns.append(Column(heading, justify, folds))

    def add_row(self, *cells: str) -> None:
        """Append a row; cells that are left out at its end are empty."""
        for column, cell in zip(self.columns, [*cells, *[""] * (len(self.columns) - len(cells))], strict=True):
            column.cells.append(cell)

    def lines(self, width: int, *, styled: bool) -> Iterator[str]:
        """The lines of the table, in `width` columns where columns that fold allow it."""
        widths = self._widths(width)
        if self.title:
            yield render(self.title, styled=styled)
        headings = [f"[bold]{column.heading}[/]" for column in self.columns]
        for row in (headings, *zip(*(column.cells for column in self.columns), strict=True)):
            cells = [
                _cell_lines(cell, column_width, column, styled=styled)
                for cell, column_width, column in zip(row, widths, self.columns, strict=True)
            ]
            for number in range(max(map(len, cells))):
                line = (
                    lines[number] if number < len(lines) else " " * column_width
                    for lines, column_width in zip(cells, widths, strict=True)
                )
                yield _GAP.join(line).rstrip()
        if self.caption:
            yield render(self.caption, styled=styled)

    def _widths(self, width: int) -> list[int]:
        widths = [column.width() for column in self.columns]
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
        while excess > 0:
            folding = [number for number, column in enumerate(self.columns) if column.folds]
            widest = max(folding, key=lambda number: widths[number], default=None)
            if widest is None or widths[widest] <= _LEAST_FOLDED_WIDTH:
                break
            widths[widest] -= 1
            excess -= 1
        return widths


def _cell_lines(cell: str, width: int, column: Column, *, styled: bool) -> list[str]:
    """The lines of a cell, each filled up to `width`; a line that is folded loses its styles."""
    lines = []
    for line in cell.split("\n"):
        plain = render(line, styled=False)
        folds = display_width(plain) > width
        for part in fold(plain, width) if folds else [plain]:
            fill = " " * (width - display_width(part))
            text = part if folds else render(line, styled=styled)
            lines.append(fill + text if column.justify == "right" else text + fill)
    return lines


def _columns(terminal: TextIO) -> int:
    """The columns of a terminal, which need not be that of standard output."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or shutil.get_terminal_size().columns
    except OSError:
        return shutil.get_terminal_size().columns


class Console:
    """Prints to standard output, or to standard error."""

    def __init__(self, *, stderr: bool = False) -> None:
        self.stderr = stderr

    @property
    def stream(self) -> TextIO:
        """Where lines go now."""
        return sys.stderr if self.stderr else sys.stdout

    @property
    def is_styled(self) -> bool:
        """Whether a person reads a terminal that knows styles (`NO_COLOR`, https://no-color.org)."""
        return self.stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def print(self, content: str | Table, *, style: str = "", markup: bool = True, end: str = "\n") -> None:
        """Print text, which is not wrapped, or a table; `style` is that of the whole text."""
        if isinstance(content, Table):
            width = _columns(self.stream) if self.stream.isatty() else PLAIN_WIDTH
            lines = content.lines(width, styled=self.is_styled)
            text = "\n".join(lines)
        else:
            text = content if markup else _without_tags(content)
            text = render(f"[{style}]{text}[/]" if style else text, styled=self.is_styled)
        erase_progress()
        try:
            self.stream.write(text + end)
        except UnicodeEncodeError as error:
            self.stream.write((text + end).encode(error.encoding, "backslashreplace").decode(error.encoding))
        self.stream.flush()


class Progress:
    """One line on standard error that says how far a command is; shown on a terminal only, and erased at the end."""

    shown: ClassVar["Progress | None"] = None

    def __init__(self, label: str, *, total: int | None = None) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        Progress.shown = self
        self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.erase()
        Progress.shown = None

    def erase(self) -> None:
        """Remove the line until something changes."""
        self._write("")

    def update(self, *, label: str | None = None, done: int | None = None, total: int | None = None) -> None:
        """Show what has changed."""
        self.label = self.label if label is None else label
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self._show()

    def advance(self) -> None:
        """One more is done."""
        self.update(done=self.done + 1)

    def _show(self) -> None:
        counted = f" {self.done}/{'?' if self.total is None else self.total}" if self.done or self.total else ""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self._write(f"{self.label}{counted} {minutes}:{seconds:02}")

    def _write(self, text: str) -> None:
        if sys.stderr.isatty():
            # the cursor stays at the beginning, so that what else is written begins there
            sys.stderr.write(f"\r\x1b[K{_cut(_printable(text, keep=''), _columns(sys.stderr) - 1)}\r")
            sys.stderr.flush()


def erase_progress() -> None:
    """To be called before something is written to the terminal: it may be shorter than the line of progress."""
    if Progress.shown is not None:
        Progress.shown.erase()
