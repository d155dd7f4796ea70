"""Posting: what counts as taken, what is tried again, what is refused, and where nobody posts to."""

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pipelines.service.delivery.notifications import open_http_client
from tests.ports import free_port
from tests.receivers import receiving
from vqmon.errors import DeliveryError, SettingsError
from vqmon.settings.load import Settings
from vqmon.transport.notify.http import PooledHttpClient


async def failure(url: str, **options: float) -> DeliveryError:
    async with PooledHttpClient(**options) as client:
        with pytest.raises(DeliveryError) as caught:
            await client.post(url, b"{}", {})
    return caught.value


async def test_a_post_arrives_whole_over_one_connection() -> None:
    """Body and headers as given."""
    with receiving() as receiver:
        async with PooledHttpClient() as client:
            for number in range(3):
                await client.post(f"{receiver.url}/hook?a=b", b"%d" % number, {"webhook-id": "x"})
        assert [(path, body) for path, _, body, _ in receiver.came] == [("/hook?a=b", b"%d" % n) for n in range(3)]
        headers = receiver.came[0][1]
        assert headers["webhook-id"] == "x"
        assert headers["Host"] == receiver.url.removeprefix("http://")


@pytest.mark.parametrize(
    ("status", "headers", "reason", "after"),
    [
        (400, {}, "refused", None),
        (301, {"Location": "http://127.0.0.1:1/"}, "refused", None),
        (401, {}, "refused", None),
        (410, {}, "gone", None),
        (429, {"Retry-After": "7"}, "busy", 7.0),
        (503, {"Retry-After": "999999"}, "busy", 3600.0),
        (503, {"Retry-After": "soon"}, "busy", None),
        (500, {}, "busy", None),
        # of proxies before the receiver
        (522, {}, "busy", None),
    ],
)
async def test_answers_are_judged(status: int, headers: dict[str, str], reason: str, after: float | None) -> None:
    """Redirects are not followed; Retry-After is read, within an hour."""
    with receiving() as receiver:
        receiver.answers = [(status, headers)]
        error = await failure(receiver.url + "/hook?token=secret")
        assert (error.reason, error.retry_after_seconds) == (reason, after)
        assert "secret" not in str(error)
        assert len(receiver.came) == 1


async def test_a_date_to_retry_after_is_read_too() -> None:
    """HTTP allows both forms."""
    with receiving() as receiver:
        receiver.answers = [(503, {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=100))})]
        error = await failure(receiver.url)
    assert error.retry_after_seconds is not None
    assert 90 < error.retry_after_seconds <= 100


async def test_nobody_there_and_nobody_answers() -> None:
    """Both may heal."""
    assert (await failure(f"http://127.0.0.1:{free_port()}/")).reason == "unreachable"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = await failure(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_seconds=0.3)
    assert error.reason == "timeout"


async def test_a_name_that_leads_into_the_house_is_refused() -> None:
    """An address written as such is meant; a name must lead to a public address, or to a network that is allowed."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    with receiving() as receiver:
        named = f"http://hooks.example.org:{receiver.url.rsplit(':', 1)[-1]}"
        for networks, url, is_taken in (((), named, False), (("127.0.0.0/8",), named, True), ((), receiver.url, True)):
            settings = Settings(notify={"alertmanagers": [url], "allowed_networks": networks})  # type: ignore[arg-type]
            async with open_http_client(settings, resolve=resolve) as client:
                if is_taken:
                    await client.post(url, b"{}", {})
                else:
                    with pytest.raises(DeliveryError, match="not a public address"):
                        await client.post(url, b"{}", {})
        assert len(receiver.came) == 2


def test_an_address_with_a_password_is_refused_at_once() -> None:
    """Secrets stand in files."""
    settings = Settings(notify={"alertmanagers": ["http://me:secret@am.example.org:9093"]})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"notify: .*user names and passwords") as caught:
        open_http_client(settings)
    assert "secret" not in str(caught.value)
