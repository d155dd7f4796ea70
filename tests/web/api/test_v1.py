"""The REST interface: its description, its pages, its errors."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.web.kept import Kept
from vqmon.core.types import QualityEvent
from vqmon.web.api.framework import PREFIX
from vqmon.web.api.openapi import OPERATIONS, openapi_document

CONFIG = Path(__file__).parents[3] / "config"


async def get(client: httpx.AsyncClient, path: str, *, status: int = 200) -> Any:
    reply = await client.get(PREFIX + path)
    assert reply.status_code == status, reply.text[:300]
    assert reply.headers["content-type"] == "application/json"
    return reply.json()


async def every(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """All items of a list, part by part."""
    items: list[dict[str, Any]] = []
    address: str | None = path
    while address is not None:
        part = await get(client, address.removeprefix(PREFIX))
        items += part["items"]
        address = part["next"]
        assert len(items) < 2000
    return items


def test_description_is_made_from_the_code() -> None:
    """Regenerate: python -m vqmon.web.api.openapi config"""
    assert (CONFIG / "openapi.yaml").read_text() == openapi_document()


def test_description_is_whole() -> None:
    """Every reference leads somewhere, every path parameter is described, every operation has a name of its own."""
    it = json.loads(openapi_document())
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', openapi_document()))
    assert refs <= set(it["components"]["schemas"])
    assert set(it["components"]["schemas"]) <= refs | {"Problem"}
    names = [path["get"]["operationId"] for path in it["paths"].values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)
    for path, item in it["paths"].items():
        in_path = {one["name"] for one in item["get"]["parameters"] if one["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))


async def test_answers_have_the_shape_that_is_described(client: httpx.AsyncClient, history: Kept) -> None:
    """Each answer has every property that its schema requires, and no other."""
    it = await get(client, "/openapi.json")
    event = next(one for one in history.outcomes() if isinstance(one, QualityEvent))
    asked = {
        "/outcomes": "/outcomes?stream=weather",
        "/outcomes/{event_id}": f"/outcomes/{event.id}",
        "/alerts/{alert_id}": f"/alerts/{history.store.queries.alerts()[0].id}",
        "/experiments/{name}": "/experiments/sr v2/night",
        "/comparison": "/comparison?a=weather/480p&b=weather/1080p",
    }
    for one in OPERATIONS:
        schema = it["paths"][PREFIX + one.path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        fits(await get(client, asked.get(one.path, one.path)), schema, it["components"]["schemas"], one.path)


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


async def test_lists_come_in_parts_without_loss(client: httpx.AsyncClient, history: Kept) -> None:
    """Following `next` gives every item once: renditions, streams, outcomes that share their moments."""
    renditions = await every(client, "/renditions?limit=5&q=p")
    assert len({(it["stream_id"], it["rendition"]) for it in renditions}) == len(renditions) == 16
    assert len(await every(client, "/streams?limit=3")) == 8
    for limit in (1, 7, 100):
        ids = [it["event_id"] for it in await every(client, f"/outcomes?stream=weather&limit={limit}")]
        assert len(ids) == len(set(ids)) == len(history.outcomes("weather"))


async def test_filters(client: httpx.AsyncClient) -> None:
    """State, words, stream and time narrow the lists."""
    assert {it["state"] for it in (await get(client, "/renditions?state=unscored"))["items"]} == {"unscored"}
    assert len((await get(client, "/streams?q=kids"))["items"]) == 1
    opened = (await get(client, "/alerts?state=open"))["items"]
    resolved = (await get(client, "/alerts?state=resolved&stream=sports one"))["items"]
    assert {it["state"] for it in opened} == {"open"}
    assert len(resolved) == 1
    within = "since=2026-11-20T14:29:00Z&until=2026-11-20T14:29:20+00:00"
    assert len((await get(client, f"/outcomes?stream=weather&rendition=480p&{within}"))["items"]) == 5


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/streams?limt=3", 400, "Did you mean 'limit'?"),
        ("/streams?limit=0", 400, "from 1 to 1000"),
        ("/streams?limit=x", 400, "whole number"),
        ("/outcomes", 400, "The stream."),
        ("/outcomes?stream=x&since=yesterday", 400, "ISO 8601"),
        ("/renditions?sort=beauty", 400, "Give one of"),
        ("/outcomes/none", 404, "older than"),
        ("/alerts/none", 404, "/api/v1/alerts"),
        ("/experiments/none", 404, "/api/v1/experiments"),
        ("/comparison?a=x&b=y", 404, "/api/v1/renditions"),
        ("/nothing", 404, "openapi.json"),
    ],
)
async def test_errors_say_what_to_do(client: httpx.AsyncClient, path: str, status: int, words: str) -> None:
    """An error is JSON with what is wrong and a remedy."""
    problem = await get(client, path, status=status)
    assert set(problem) == {"error", "remedy"}
    assert words in problem["remedy"]


async def test_only_by_its_names_and_only_to_read(client: httpx.AsyncClient) -> None:
    """The same guard as for the pages; nothing can be written."""
    assert (await client.get(f"{PREFIX}/streams", headers={"Host": "evil.example"})).status_code == 400
    assert (await client.post(f"{PREFIX}/streams")).status_code == 405
