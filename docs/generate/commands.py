"""The page of the command line: every command with its arguments and options, from click's own tree."""

import inspect
import re
from collections.abc import Iterator

import click

from docs.generate.markdown import page, sentence
from vqmon.cli.main import main

_INTRODUCTION = """\
Every command of `vqmon` with its arguments and options, as `vqmon COMMAND --help` prints them. Exit codes: 0
success, 1 a check failed, 2 wrong settings or usage, 3 something could not be scored, or compared with its
reference, 4 a history that exists cannot be opened, read or written. Any other file that cannot
be, such as a report or an export, is wrong usage: 2. Results are written to the standard
output, all else to the standard error."""


def commands_page() -> str:
    """The page."""
    return page("Command line", _INTRODUCTION, *_sections(main, ["vqmon"]), source="vqmon/cli")


def _sections(command: click.Command, path: list[str]) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(path))
    level = min(len(path), 2) + 1 if len(path) > 1 else 2
    yield f"{'#' * level} {' '.join(path)}"
    if len(path) > 1:
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"```text\n{' '.join(path)} {usage}\n```"
    yield from _help(command)
    for parameter in command.params:
        if entry := _parameter(parameter, context):
            yield entry
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            if not command.commands[name].hidden:
                yield from _sections(command.commands[name], [*path, name])


def _help(command: click.Command) -> Iterator[str]:
    """The paragraphs of the help; those that click does not rewrap stay as they are."""
    for part in re.split(r"\n\n|\n(?=\x08\n)", inspect.cleandoc(command.help or "")):
        if part.startswith("\b"):
            yield "```text\n" + part.removeprefix(chr(8)).strip(chr(10)) + "\n```"
        elif part:
            yield _as_code(part.replace("\n", " "))


def _parameter(parameter: click.Parameter, context: click.Context) -> str:
    if not isinstance(parameter, click.Option):
        return ""
    name, meaning = parameter.get_help_record(context) or ("", "")
    text, bracket, limits = " ".join(meaning.split()).partition("[")
    return f"`{name}`\n: {_as_code(sentence(text))} {_as_code(bracket + limits)}".rstrip()


def _as_code(text: str) -> str:
    """Options, globs and variables that Markdown would read as marks become code."""
    return re.sub(r"(?<![`\w])(--[a-z][\w-]*|\$?[A-Z]+(?:_[A-Z]+)+|\"[^\"`]*[*\[][^\"`]*\")(?![`\w])", r"`\1`", text)
