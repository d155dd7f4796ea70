"""Metrics of requests, and the answers to probes and Prometheus."""

import threading
from collections import Counter

import httpx
import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from vqmon.errors import StoreError
from vqmon.telemetry.metrics import Meters
from vqmon.web.serving import measurement
from vqmon.web.serving.measurement import Measurement, Probes


def points(reader: InMemoryMetricReader, name: str) -> Counter[tuple[str, ...]]:
    """The values of a counter or gauge, or the counts of a histogram, by the values of its labels."""
    collected = reader.get_metrics_data()
    assert collected
    metrics = [metric for metric in collected.resource_metrics[0].scope_metrics[0].metrics if metric.name == name]
    return Counter(
        {
            tuple(str(value) for value in (point.attributes or {}).values()): getattr(point, "value", 0)
            or getattr(point, "count", 0)
            for metric in metrics
            for point in metric.data.data_points
        }
    )


async def test_requests_are_counted_by_route_method_and_status() -> None:
    """Never by the path, which anybody may invent; live events have no duration."""

    async def respond(request: Request) -> Response:
        if request.path_params.get("name") == "broken":
            raise RuntimeError
        return PlainTextResponse("ok")

    reader = InMemoryMetricReader()
    app = Starlette(routes=[Route("/streams/{name}", respond), Route("/live", respond)])
    measured = Measurement(app, meters=Meters(reader), live_count=lambda: 3)
    transport = httpx.ASGITransport(measured, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for path in ("/streams/a", "/streams/b", "/streams/broken", "/invented", "/live"):
            await client.get(path)
        await client.request("INVENTED", "/streams/a")
    assert points(reader, "vqmon.web.request.count") == {
        ("/streams/{name}", "GET", "200"): 2,
        ("/streams/{name}", "GET", "500"): 1,
        ("/streams/{name}", "other", "405"): 1,
        ("none", "GET", "404"): 1,
        ("/live", "GET", "200"): 1,
    }
    assert points(reader, "vqmon.web.request.duration") == {("/streams/{name}",): 4, ("none",): 1}
    assert points(reader, "vqmon.web.live") == {(): 3}


async def test_probes_say_whether_the_history_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer is not waited for, by the probes after it neither, and takes two threads at most."""
    monkeypatch.setattr(measurement, "_PROBE_SECONDS", 0.05)
    reader, end = InMemoryMetricReader(), threading.Event()
    answer: list[int | StoreError | threading.Event] = [7]

    def read_tip() -> int:
        if isinstance(answer[0], threading.Event):
            answer[0].wait(10)
            return 0
        if isinstance(answer[0], StoreError):
            raise answer[0]
        return answer[0]

    probes = Probes(read_tip=read_tip, meters=Meters(reader))
    routes = [Route("/healthz", probes.healthz), Route("/readyz", probes.readyz)]
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://a"
    ) as client:
        replies = [await client.get(path) for path in ("/healthz", "/readyz")]
        assert [(reply.status_code, reply.text) for reply in replies] == [(200, "history at 7\n"), (200, "ready\n")]
        assert points(reader, "vqmon.web.history.readable") == {(): 1}
        answer[0] = StoreError("the disk is gone")
        failed = await client.get("/readyz")
        assert (failed.status_code, failed.text) == (503, "The history cannot be read: the disk is gone\n")
        answer[0] = end
        late, full = "the history has not answered for 0.05 s", "earlier probes still wait for it"
        for reason in (late, late, f"The history cannot be read: {full}", f"The history cannot be read: {full}"):
            stuck = await client.get("/readyz")
            assert (stuck.status_code, stuck.text) == (503, f"{reason}\n")
        end.set()
    assert points(reader, "vqmon.web.history.readable") == {(): 0}
