"""Parameters, errors and pagination of the REST API."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from vqmon.web.api.framework import (
    AFTER_PARAMETER,
    LIMIT_PARAMETER,
    PREFIX,
    ApiError,
    Parameter,
    next_url,
    paginate,
    read_parameters,
)


async def get(client: httpx.AsyncClient, path: str, *, status: int = 200) -> Any:
    reply = await client.get(PREFIX + path)
    assert reply.status_code == status, reply.text[:300]
    assert reply.headers["content-type"] == "application/json"
    return reply.json()


@pytest.mark.parametrize(
    ("path", "status", "remedy"),
    [
        ("/streams?limt=3", 400, "Did you mean 'limit'?"),
        ("/streams?limit=0", 400, "from 1 to 1000"),
        ("/streams?limit=x", 400, "whole number"),
        ("/outcomes", 400, "since=NUMBER"),
        ("/outcomes?since=0&until=2026-11-20", 400, "order of writing"),
        ("/outcomes?since=0&label=arm", 400, "KEY:VALUE"),
        ("/outcomes?stream=x&since=yesterday", 400, "ISO 8601"),
        ("/outcomes?stream=x&since=-1", 400, "or a number: 0, or the `number` of an outcome"),
        ("/alerts?since=yesterday", 400, "ISO 8601"),
        ("/renditions?sort=beauty", 400, "Give one of"),
        ("/outcomes/none", 404, "older than"),
        ("/alerts/none", 404, "/api/v1/alerts"),
        ("/experiments/none", 404, "/api/v1/experiments"),
        ("/comparison?a=x&b=y", 404, "/api/v1/renditions"),
        ("/nothing", 404, "openapi.json"),
    ],
)
async def test_an_error_has_a_remedy(client: httpx.AsyncClient, path: str, status: int, remedy: str) -> None:
    """An error is JSON with what is wrong and a remedy."""
    problem = await get(client, path, status=status)
    assert set(problem) == {"error", "remedy"}
    assert remedy in problem["remedy"]


async def test_the_api_is_read_only_and_checks_the_host_name(client: httpx.AsyncClient) -> None:
    """The same guard as for the pages; nothing can be written."""
    assert (await client.get(f"{PREFIX}/streams", headers={"Host": "evil.example"})).status_code == 400
    assert (await client.post(f"{PREFIX}/streams")).status_code == 405


PARAMETERS = (
    Parameter(name="stream", meaning="The stream.", is_required=True),
    Parameter(name="since", meaning="A moment.", kind="moment"),
    LIMIT_PARAMETER,
    AFTER_PARAMETER,
)


def request(query: str) -> Request:
    return Request({"type": "http", "path": "/", "query_string": query.encode(), "headers": [], "path_params": {}})


def test_missing_parameters_have_their_defaults() -> None:
    values = read_parameters(PARAMETERS, request("stream=a%2Fb&limit="))
    assert values == {"stream": "a/b", "since": None, "limit": 100, "after": 0}


@pytest.mark.parametrize("text", ["2026-11-20T14:30:00Z", "2026-11-20T15:30:00+01:00", "2026-11-20T14:30:00"])
def test_a_moment_is_utc_unless_it_says_otherwise(text: str) -> None:
    """A plus sign that the client did not escape arrives as a space and is accepted."""
    values = read_parameters(PARAMETERS, request(f"stream=x&since={text}"))
    assert values["since"] == datetime(2026, 11, 20, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize("limit", ["-1", "1.5", "1001", "²", "9" * 50])
def test_a_limit_outside_its_bounds_is_an_error(limit: str) -> None:
    with pytest.raises(ApiError) as error:
        read_parameters(PARAMETERS, request(f"stream=x&limit={limit}"))
    assert error.value.status_code == 400


def test_an_unknown_parameter_without_a_similar_name_lists_all() -> None:
    with pytest.raises(ApiError) as error:
        read_parameters(PARAMETERS, request("stream=x&zzzz=1"))
    assert error.value.remedy == "Allowed parameters: stream, since, limit, after."


@pytest.mark.parametrize(
    ("after", "items", "next_after"), [(0, [0, 1], 2), (2, [2, 3], 4), (4, [4], None), (9, [], None)]
)
def test_a_page_links_to_the_next_one_until_the_end(after: int, items: list[int], next_after: int | None) -> None:
    values = {"q": "a b", "since": None, "limit": 2, "after": after}
    page = paginate(range(5), "/streams", values)
    assert list(page.items) == items
    expected = None if next_after is None else f"/api/v1/streams?q=a+b&limit=2&after={next_after}"
    assert page.next == expected


def test_the_next_url_can_be_read_again() -> None:
    """Moments are written so that they are parsed to the same moment."""
    since = datetime(2026, 11, 20, 14, 30, 0, 250_000, tzinfo=UTC)
    url = next_url("/outcomes", {"stream": "a b", "since": since, "limit": 5, "after": 0})
    values = read_parameters(PARAMETERS, request(url.partition("?")[2]))
    assert (values["stream"], values["since"]) == ("a b", since)
