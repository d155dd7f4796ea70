"""Log lines: an event name with fields, as text for people and as JSON for machines."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from vqmon.telemetry.logs import configure_logging, log_event


@pytest.fixture(autouse=True)
def root_logging_is_restored() -> Iterator[None]:
    yield
    logging.basicConfig(force=True)
    logging.getLogger("vqmon").setLevel(logging.NOTSET)


def lines(form: Literal["text", "json"], *, level: str = "info") -> tuple[io.StringIO, logging.Logger]:
    """Configure logging to a buffer; returns it with a logger."""
    stream = io.StringIO()
    configure_logging(level, form, stream=stream)
    return stream, logging.getLogger("vqmon.test")


def test_a_text_line_has_the_event_name_and_its_fields() -> None:
    """Values with spaces and empty values are quoted, floats have three decimals."""
    stream, log = lines("text")
    log.warning(**log_event("segment.failed", stage="decode", detail="two words", seconds=0.12345, reason=""))

    assert stream.getvalue().split(" ", 1)[1] == (
        'warning segment.failed stage=decode detail="two words" seconds=0.123 reason=""\n'
    )


def test_a_json_line_has_the_systemd_priority_and_all_fields() -> None:
    """Its prefix is that of sd-daemon(3): 4 for a warning, 3 for an error."""
    stream, log = lines("json")
    log.warning(**log_event("segment.failed", stage="decode"))
    log.error(**log_event("daemon.failed"))
    first, second = stream.getvalue().splitlines()

    assert (first[:3], second[:3]) == ("<4>", "<3>")
    line = json.loads(first[3:])
    assert (line["event"], line["level"], line["stage"]) == ("segment.failed", "warning", "decode")


def test_an_exception_is_part_of_the_line() -> None:
    """In JSON as a field, so that one event is one line."""
    stream, log = lines("json")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        log.exception(**log_event("segment.crashed"))

    (line,) = stream.getvalue().splitlines()
    assert "ZeroDivisionError" in json.loads(line[3:])["exception"]


def test_libraries_log_from_warning_on() -> None:
    """The level of the settings applies to vqmon's loggers only."""
    stream, log = lines("text", level="debug")
    log.debug(**log_event("own.debug"))
    logging.getLogger("library").info("library info")
    logging.getLogger("library").warning("library warning")

    assert [text.split()[2] for text in stream.getvalue().splitlines()] == ["own.debug", "library"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_address_in_a_line_has_a_secret(form: Literal["text", "json"]) -> None:
    """Neither in the fields, at any depth, nor in the message of an exception; JSON stays JSON."""
    stream, log = lines(form)
    try:
        raise ValueError('bad "https://u:s3cr3t@h/a?s3cr3t"')
    except ValueError:
        log.exception(**log_event("segment.internal", url="https://h/a?s3cr3t", more=[{"key": "https://h/k#s3cr3t"}]))
    text = stream.getvalue()
    assert ("s3cr3t" in text, "https://h/a" in text, "https://h/k" in text) == (False, True, True)
    assert form == "text" or 'bad "https://h/a"' in json.loads(text[3:])["exception"]
