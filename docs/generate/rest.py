"""The page of the REST API: every operation with its parameters and answer, from the code's own list."""

from collections.abc import Iterator
from typing import get_args, get_origin

from pydantic import TypeAdapter

from docs.generate.markdown import definition, page, paragraphs, sentence, table, type_text
from docs.generate.source_comments import field_comments
from vqmon.core.types import Alert, QualityEvent
from vqmon.web.api.framework import PREFIX, Operation, Page, Parameter
from vqmon.web.api.openapi import OPERATIONS

_INTRODUCTION = """\
Every operation of the REST API that `vqmon web` serves: read-only, JSON, `GET`. Times are UTC, scores are 0
to 100. The OpenAPI 3.1 description is served at `/api/v1/openapi.json`, and is in `config/openapi.yaml`. A
list answers with `items` and `next`, the address of the following part (null at the end). An error answers
with `error` and `remedy`: what to request instead."""

_KINDS = {
    "text": "string",
    "moment": "moment (RFC 3339)",
    "position": "moment or number of a write",
    "label": "KEY:VALUE",
    "count": "integer",
}


def rest_page() -> str:
    """The page."""
    return page(
        "REST API", _INTRODUCTION, *(part for item in OPERATIONS for part in _operation(item)), source="vqmon/web/api"
    )


def _operation(operation: Operation) -> Iterator[str]:
    yield f"## `GET {PREFIX}{operation.path}`\n\n{operation.summary}"
    for parameter in operation.parameters:
        yield definition(
            parameter.name, _facts(parameter), parameter.meaning, anchor=f"{operation.name}.{parameter.name}"
        )
    yield from _answer(operation)


def _facts(parameter: Parameter) -> str:
    kind = " or ".join(f"`{choice}`" for choice in parameter.choices) or _KINDS[parameter.kind]
    place = ", in the path" if parameter.is_path else ""
    default = f"; default `{parameter.default}`" if parameter.default is not None else ""
    limits = f", {parameter.min:,} to {parameter.max:,}" if parameter.kind == "count" else ""
    return f"{kind}{limits}{place}{'; required' if parameter.is_required else ''}{default}"


def _answer(operation: Operation) -> Iterator[str]:
    """The fields of the answer, of a list those of an item; or where they are described."""
    arguments = get_args(operation.response_type)
    is_list = get_origin(operation.response_type) is Page
    cls = arguments[0] if arguments else operation.response_type
    if cls in (Alert, QualityEvent):
        what = "Alerts" if cls is Alert else "Outcomes: what is `data`"
        yield f"{what} in [Events](events.md#{cls.__name__.lower()})."
        return
    schema, comments = TypeAdapter(cls).json_schema(mode="serialization")["properties"], field_comments(cls)
    yield f"**{'Each item' if is_list else 'The answer'}.** {paragraphs(cls.__doc__)}"
    rows = [(f"`{name}`", type_text(schema[name]), sentence(comments.get(name, ""))) for name in schema]
    yield table(("field", "type", "meaning"), rows)
