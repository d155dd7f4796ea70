"""The errors of vqmon: their family, their stages, and the reason codes of segments."""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from vqmon import errors
from vqmon.errors import (
    REASONS,
    DecodeError,
    DeliveryError,
    FetchError,
    ScoreError,
    SegmentError,
    Stage,
    StoreError,
    StoreUnreachableError,
    VqmonError,
)

ROOT = Path(__file__).parents[1]
CLASSES = {name: value for name, value in vars(errors).items() if inspect.isclass(value) and name.endswith("Error")}
SEGMENT_ERRORS = (SegmentError, FetchError, DecodeError, ScoreError)


@cache
def program() -> dict[Path, str]:
    """The text of every module but the one under test."""
    files = [file for folder in ("vqmon", "pipelines") for file in (ROOT / folder).rglob("*.py")]
    return {file: file.read_text("utf-8") for file in files if file != ROOT / "vqmon" / "errors.py"}


def raised_reasons() -> Iterator[tuple[str, str]]:
    """Where a segment error is made with a literal reason, and that reason."""
    names = {kind.__name__ for kind in SEGMENT_ERRORS}
    for file, text in program().items():
        if not any(f"{name}(" in text for name in names):
            continue
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in names
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield f"{file.relative_to(ROOT)}:{node.lineno}:{node.col_offset}", node.args[0].value


def test_every_reason_that_the_program_raises_is_known() -> None:
    raised = dict(raised_reasons())
    assert len(raised) > 40
    assert {place: reason for place, reason in raised.items() if reason not in REASONS} == {}


@pytest.mark.parametrize("reason", REASONS)
def test_a_known_reason_is_used_by_the_program(reason: str) -> None:
    assert any(f'"{reason}"' in text for text in program().values())


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_a_short_code_and_its_meaning_continues_a_sentence(reason: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason)
    meaning = REASONS[reason]
    assert meaning == meaning.strip()
    assert meaning[0].islower()
    assert not meaning.endswith(".")


def test_no_two_reasons_mean_the_same() -> None:
    assert len(set(REASONS.values())) == len(REASONS)


@pytest.mark.parametrize("kind", SEGMENT_ERRORS)
def test_a_segment_error_without_detail_says_what_its_reason_means(kind: type[SegmentError]) -> None:
    error = kind("empty")
    assert (error.reason, error.detail) == ("empty", "there are no bytes")
    assert str(error) == "empty: there are no bytes"


@pytest.mark.parametrize("kind", SEGMENT_ERRORS)
def test_a_segment_error_keeps_its_detail(kind: type[SegmentError]) -> None:
    error = kind("timeout", "not done in 5 s")
    assert error.detail == "not done in 5 s"
    assert str(error) == "timeout: not done in 5 s"


@pytest.mark.parametrize("reason", ["", "Empty", "empty ", "no-video", "unheard_of"])
def test_an_unknown_reason_is_refused(reason: str) -> None:
    with pytest.raises(ValueError, match="unknown reason") as caught:
        DecodeError(reason, "detail")
    assert repr(reason) in str(caught.value)


def test_each_stage_has_one_segment_error() -> None:
    assert [kind.stage for kind in SEGMENT_ERRORS] == list(get_args(Stage))
    assert set(SegmentError.__subclasses__()) == set(SEGMENT_ERRORS[1:])


def test_the_family_tree_in_the_docstring_is_that_of_the_classes() -> None:
    parents: dict[str, str] = {}
    ancestors: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"( +)(\w+Error)\b", line):
            indent, name = len(match[1]), match[2]
            ancestors = [ancestor for ancestor in ancestors if ancestor[0] < indent]
            parents[name] = ancestors[-1][1] if ancestors else "Exception"
            ancestors.append((indent, name))
    assert parents == {name: kind.__base__.__name__ for name, kind in CLASSES.items()}


def test_every_error_is_one_of_vqmon() -> None:
    assert {name for name, kind in CLASSES.items() if not issubclass(kind, VqmonError)} == set()


def test_an_unreachable_store_is_handled_wherever_a_store_error_is() -> None:
    with pytest.raises(StoreError):
        raise StoreUnreachableError("no answer")


@pytest.mark.parametrize("seconds", [None, 0.0, 12.5])
def test_a_delivery_error_carries_what_the_receiver_asked_for(seconds: float | None) -> None:
    error = DeliveryError("busy", "status 429", retry_after_seconds=seconds)
    assert str(error) == "busy: status 429"
    assert (error.reason, error.retry_after_seconds) == ("busy", seconds)


def test_a_delivery_error_asks_for_no_wait_by_default() -> None:
    assert DeliveryError("gone", "status 410").retry_after_seconds is None
