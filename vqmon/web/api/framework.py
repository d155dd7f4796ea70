"""The REST interface as data: what can be asked, with which parameters, and the shape of every answer."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.web.addresses import with_query
from vqmon.web.model.time_range import YEARS
from vqmon.web.site import Site

PREFIX = "/api/v1"
MAX_ITEMS = 1000
DEFAULT_ITEMS = 100

Item = TypeVar("Item")
Kind = Literal["text", "moment", "count", "choice"]


class ApiError(HTTPException):
    """What a program is told when it asks for something that cannot be, with what to do instead."""

    def __init__(self, status_code: int, text: str, *, remedy: str) -> None:
        super().__init__(status_code, text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Every answer that is an error."""

    error: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Item]):
    """A part of a list; `next` is the address of the part after it, null at the end."""

    items: Sequence[Item]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One word of a query."""

    name: str
    meaning: str
    kind: Kind = "text"
    is_required: bool = False
    choices: Sequence[str] = ()
    # of a count
    least: int = 1
    most: int = MAX_ITEMS
    default: int | None = None
    # part of the path instead of the query
    is_path: bool = False


Values = Mapping[str, Any]

LIMIT = Parameter(name="limit", meaning="At most so many items.", kind="count", default=DEFAULT_ITEMS)
AFTER = Parameter(
    name="after", meaning="Where to go on; taken from `next`.", kind="count", least=0, most=10**9, default=0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One address: what it answers, from which values."""

    path: str
    name: str
    summary: str
    # a dataclass or a union of such
    answer: Any
    make: Callable[[Site, Values], Any]
    parameters: Sequence[Parameter] = ()

    def respond(self, site: Site, request: Request) -> Response:
        """Answer a request as JSON."""
        values = read(self.parameters, request)
        return Response(_adapter(self.answer).dump_json(self.make(site, values)), media_type="application/json")


_adapters: dict[int, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Built once per kind: building takes longer than answering."""
    if id(kind) not in _adapters:
        _adapters[id(kind)] = TypeAdapter(kind)
    return _adapters[id(kind)]


# ---- reading a query


def read(parameters: Sequence[Parameter], request: Request) -> dict[str, Any]:
    """The values of a request by parameter; None where optional and not given. Raises ApiError."""
    known = {it.name: it for it in parameters if not it.is_path}
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known) or 'none'}."
            raise ApiError(400, f"There is no parameter {name!r}.", remedy=remedy)
    values: dict[str, Any] = {}
    for it in parameters:
        given = request.path_params.get(it.name) if it.is_path else request.query_params.get(it.name)
        if given in (None, "") and it.is_required:
            raise ApiError(400, f"The parameter {it.name!r} is missing.", remedy=it.meaning)
        values[it.name] = it.default if given in (None, "") else _READERS[it.kind](it, str(given))
    return values


def _count(it: Parameter, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and it.least <= int(text) <= it.most):
        remedy = f"Give a whole number from {it.least} to {it.most}."
        raise ApiError(400, f"{it.name}={text[:40]!r} is no such number.", remedy=remedy)
    return int(text)


def _moment(it: Parameter, text: str) -> datetime:
    try:
        # A plus sign that was not escaped arrives as a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        if at.year not in YEARS:
            raise ValueError(f"the year {at.year}")
        return at
    except (ValueError, OverflowError):
        remedy = "Write it as ISO 8601, e.g. 2026-11-20T14:30:00Z."
        raise ApiError(400, f"{it.name}={text[:40]!r} is no moment.", remedy=remedy) from None


def _choice(it: Parameter, text: str) -> str:
    if text not in it.choices:
        raise ApiError(400, f"{it.name}={text[:40]!r} is not known.", remedy=f"Give one of: {', '.join(it.choices)}.")
    return text


_READERS: dict[Kind, Callable[[Parameter, str], Any]] = {
    "text": lambda it, text: text,
    "count": _count,
    "moment": _moment,
    "choice": _choice,
}


# ---- pages of a list


def page_of(items: Sequence[Item], path: str, values: Values) -> Page[Item]:
    """The part of a list that `after` and `limit` ask for."""
    begin, count = values["after"], values["limit"]
    more = begin + count < len(items)
    return Page(items=items[begin : begin + count], next=next_url(path, values, after=begin + count) if more else None)


def next_url(path: str, values: Values, **changed: object) -> str:
    """The same question with something changed."""
    plain = {name: _plain(value) for name, value in {**values, **changed}.items() if value is not None}
    return with_query(PREFIX + path, **plain)


def _plain(value: object) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
