"""The OpenAPI description matches the code and the responses."""

import json
import re
from pathlib import Path
from typing import Any

import httpx

from tests.web.api.json_client import get
from tests.web.stored_history import StoredHistory
from vqmon.core.types import QualityEvent
from vqmon.web.api.framework import PREFIX
from vqmon.web.api.openapi import OPERATIONS, openapi_document

CONFIG = Path(__file__).parents[3] / "config"


def fits(value: Any, schema: dict[str, Any], known: dict[str, Any], where: str) -> None:
    """What of JSON Schema the description uses."""
    if "$ref" in schema:
        schema = known[schema["$ref"].rsplit("/", 1)[-1]]
    if "anyOf" in schema:
        errors = []
        for choice in schema["anyOf"]:
            try:
                return fits(value, choice, known, where)
            except AssertionError as error:
                errors.append(error)
        raise AssertionError(f"{where}: fits none: {errors}")
    kinds = {"object": dict, "array": list, "string": str, "null": type(None), "boolean": bool, "integer": int}
    kind = schema.get("type")
    assert kind is None or isinstance(value, (int, float) if kind == "number" else kinds[kind]), (where, value)
    if kind == "object" and "properties" in schema:
        assert set(schema.get("required", ())) <= set(value) <= set(schema["properties"]), where
        for name, part in value.items():
            fits(part, schema["properties"][name], known, f"{where}.{name}")
    if kind == "array" and isinstance(schema.get("items"), dict):
        for part in value:
            fits(part, schema["items"], known, f"{where}[]")
    return None


def test_the_description_is_generated_from_the_code() -> None:
    """Regenerate: python -m vqmon.web.api.openapi config"""
    assert (CONFIG / "openapi.yaml").read_text() == openapi_document()


def test_the_description_is_complete() -> None:
    """Every reference leads somewhere, every path parameter is described, every operation has a name of its own."""
    description = json.loads(openapi_document())
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', openapi_document()))
    assert refs <= set(description["components"]["schemas"])
    assert set(description["components"]["schemas"]) <= refs | {"Problem"}
    names = [path["get"]["operationId"] for path in description["paths"].values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)
    for path, item in description["paths"].items():
        in_path = {parameter["name"] for parameter in item["get"]["parameters"] if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))


async def test_responses_match_their_schemas(client: httpx.AsyncClient, history: StoredHistory) -> None:
    """Each answer has every property that its schema requires, and no other."""
    description = await get(client, "/openapi.json")
    event = next(outcome for outcome in history.outcomes() if isinstance(outcome, QualityEvent))
    requested_paths = {
        "/outcomes": "/outcomes?stream=weather",
        "/outcomes/{event_id}": f"/outcomes/{event.id}",
        "/alerts/{alert_id}": f"/alerts/{history.store.queries.alerts()[0].id}",
        "/experiments/{name}": "/experiments/sr v2/night",
        "/comparison": "/comparison?a=weather/480p&b=weather/1080p",
    }
    for operation in OPERATIONS:
        schema = description["paths"][PREFIX + operation.path]["get"]["responses"]["200"]["content"][
            "application/json"
        ]["schema"]
        fits(
            await get(client, requested_paths.get(operation.path, operation.path)),
            schema,
            description["components"]["schemas"],
            operation.path,
        )
