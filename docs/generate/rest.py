"""The page of the REST API: every operation with its parameters and answer, from the code's own list."""

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from docs.generate.markdown import definition, page, table, type_text
from vqmon.web.api.framework import PREFIX, Operation, Parameter
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
    """The fields of the answer, or where they are described."""
    schema = TypeAdapter(operation.response_type).json_schema(mode="serialization")
    definitions = schema.get("$defs", {})
    name, properties = _item(schema, definitions)
    if name in ("Alert", "QualityEvent", ""):
        target = "Alert" if name == "Alert" else "QualityEvent"
        what = "An alert" if name == "Alert" else "An outcome"
        yield f"{what}, as in [{target}](events.md#{target.lower()})."
        return
    yield f"**{'Each item has' if 'items' in schema.get('properties', {}) else 'The answer has'}**"
    yield table(("field", "type"), [(f"`{key}`", _short(value)) for key, value in properties.items()])


def _item(schema: dict[str, Any], definitions: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and fields of the answer; of a list those of an item."""
    if "items" in schema.get("properties", {}):
        reference = schema["properties"]["items"]["items"]
        if "$ref" not in reference:
            return "", {}
        name = reference["$ref"].rsplit("/", 1)[-1]
        return name, definitions[name].get("properties", {})
    return schema.get("title", ""), schema.get("properties", {})


def _short(schema: dict[str, Any]) -> str:
    return type_text(schema)
