"""The building blocks of the REST API: operations, their parameters, errors and pagination."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.web.model.time_range import ACCEPTED_YEARS
from vqmon.web.site import Site
from vqmon.web.urls import with_query

PREFIX = "/api/v1"
_MAX_ITEMS = 1000
_DEFAULT_ITEMS = 100

Item = TypeVar("Item")
ParameterKind = Literal["text", "moment", "position", "label", "count", "choice"]
"""`position`: a moment, or the number of a write. `label`: KEY:VALUE."""


class ApiError(HTTPException):
    """An error response with a remedy: what to request instead."""

    def __init__(self, status_code: int, text: str, *, remedy: str) -> None:
        super().__init__(status_code, text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """The body of every error response."""

    error: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """A part of a list; `next` is the URL of the following part, null at the end."""

    items: Sequence[Item]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a request, in the query or in the path."""

    name: str
    # its description
    meaning: str
    kind: ParameterKind = "text"
    is_required: bool = False
    choices: Sequence[str] = ()
    # bounds of a count
    min: int = 1
    max: int = _MAX_ITEMS
    default: int | None = None
    is_path: bool = False


ParameterValues = Mapping[str, Any]

LIMIT_PARAMETER = Parameter(name="limit", meaning="At most this many items.", kind="count", default=_DEFAULT_ITEMS)
AFTER_PARAMETER = Parameter(
    name="after", meaning="Number of items to skip; taken from `next`.", kind="count", min=0, max=10**9, default=0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A GET request: its path, parameters and response."""

    path: str
    # operationId in the OpenAPI description
    name: str
    summary: str
    # type of the response: a dataclass or a union of dataclasses
    response_type: Any
    compute: Callable[[Site, ParameterValues], Any]
    parameters: Sequence[Parameter] = ()

    def respond(self, site: Site, request: Request) -> Response:
        """Answer a request with JSON; raises ApiError."""
        result = self.compute(site, read_parameters(self.parameters, request))
        if isinstance(result, Page) and result.next is not None:
            result = replace(result, next=site.root_path + result.next)
        return Response(_adapter(self.response_type).dump_json(result), media_type="application/json")


_adapters: dict[int, TypeAdapter[Any]] = {}


def _adapter(response_type: Any) -> TypeAdapter[Any]:
    """One adapter per type: building one takes longer than using it."""
    if id(response_type) not in _adapters:
        _adapters[id(response_type)] = TypeAdapter(response_type)
    return _adapters[id(response_type)]


# ---- parameters


def read_parameters(parameters: Sequence[Parameter], request: Request) -> dict[str, Any]:
    """The values of a request by parameter name; the default, or None, where not given. Raises ApiError."""
    allowed = [parameter.name for parameter in parameters if not parameter.is_path]
    for name in request.query_params:
        if name not in allowed:
            raise _unknown_parameter(name, allowed)
    values: dict[str, Any] = {}
    for parameter in parameters:
        source = request.path_params if parameter.is_path else request.query_params
        text = source.get(parameter.name)
        if text in (None, "") and parameter.is_required:
            raise ApiError(400, f"The parameter {parameter.name!r} is missing.", remedy=parameter.meaning)
        is_given = text not in (None, "")
        values[parameter.name] = _PARSERS[parameter.kind](parameter, str(text)) if is_given else parameter.default
    return values


def _unknown_parameter(name: str, allowed: Sequence[str]) -> ApiError:
    similar = difflib.get_close_matches(name, allowed, n=1)
    remedy = f"Did you mean {similar[0]!r}?" if similar else f"Allowed parameters: {', '.join(allowed) or 'none'}."
    return ApiError(400, f"There is no parameter {name!r}.", remedy=remedy)


def _parse_count(parameter: Parameter, text: str) -> int:
    is_count = text.isascii() and text.isdecimal() and len(text) < 12
    if not (is_count and parameter.min <= int(text) <= parameter.max):
        remedy = f"Give a whole number from {parameter.min} to {parameter.max}."
        raise ApiError(400, f"{parameter.name}={text[:40]!r} is not a valid number.", remedy=remedy)
    return int(text)


def _parse_moment(parameter: Parameter, text: str) -> datetime:
    try:
        # A plus sign that was not escaped arrives as a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        if at.year not in ACCEPTED_YEARS:
            raise ValueError(f"the year {at.year}")
        return at
    except (ValueError, OverflowError):
        remedy = "Write it as ISO 8601, e.g. 2026-11-20T14:30:00Z."
        raise ApiError(400, f"{parameter.name}={text[:40]!r} is not a valid moment.", remedy=remedy) from None


def _parse_position(parameter: Parameter, text: str) -> datetime | int:
    if text.isascii() and text.isdecimal() and len(text) < 19:
        return int(text)
    try:
        return _parse_moment(parameter, text)
    except ApiError as error:
        message = f"{parameter.name}={text[:40]!r} is neither a moment nor a number."
        remedy = "Write a moment as ISO 8601, e.g. 2026-11-20T14:30:00Z, or a number: 0, or the `number` of an outcome."
        raise ApiError(400, message, remedy=remedy) from error


def _parse_label(parameter: Parameter, text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not (key and colon):
        remedy = "Write it as KEY:VALUE, e.g. arm:sr-v2."
        raise ApiError(400, f"{parameter.name}={text[:40]!r} is not a label.", remedy=remedy)
    return key, value


def _parse_choice(parameter: Parameter, text: str) -> str:
    if text not in parameter.choices:
        remedy = f"Give one of: {', '.join(parameter.choices)}."
        raise ApiError(400, f"{parameter.name}={text[:40]!r} is not a valid value.", remedy=remedy)
    return text


_PARSERS: dict[ParameterKind, Callable[[Parameter, str], Any]] = {
    "text": lambda parameter, text: text,
    "count": _parse_count,
    "position": _parse_position,
    "label": _parse_label,
    "moment": _parse_moment,
    "choice": _parse_choice,
}


# ---- pagination


def paginate(items: Sequence[Item], path: str, values: ParameterValues) -> Page[Item]:
    """The part of a list that the parameters `after` and `limit` select."""
    begin, end = values["after"], values["after"] + values["limit"]
    next_page = next_url(path, values, after=end) if end < len(items) else None
    return Page(items=items[begin:end], next=next_page)


def next_url(path: str, values: ParameterValues, **changes: object) -> str:
    """The URL of the same request with some parameters changed."""
    query = {name: _query_text(value) for name, value in {**values, **changes}.items() if value is not None}
    return with_query(PREFIX + path, **query)


def _query_text(value: object) -> str:
    if isinstance(value, tuple):
        return ":".join(value)
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
