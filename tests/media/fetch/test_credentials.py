"""Secrets for one host: sent to it as a header or a query, to no other host, and never shown."""

import pytest

from tests.media.fetch.rig import LIMIT, Fetcher, loopback_policy
from tests.media.loopback import Answer, serving
from vqmon.errors import SettingsError
from vqmon.media.fetch.credentials import HostCredential


async def test_a_secret_goes_to_its_host_alone() -> None:
    """Another host that the first redirects to gets neither header nor query; an own query stays as it is."""
    async with serving() as server:
        server.answers["/away"] = Answer(
            status=302, headers={"Location": server.url("/b").replace("127.0.0.1", "a.test")}
        )
        server.answers["/b"] = server.answers["/own"] = Answer(body=b"there")
        for header in ("Authorization", ""):
            credential = HostCredential(host="127.0.0.1", header=header, secret="sig=s3cr3t&e=1")
            policy = loopback_policy(server, credentials=(credential,))

            async def resolve(host: str, port: int) -> list[str]:
                return ["127.0.0.1"]

            async with Fetcher(policy, resolve=resolve) as fetcher:
                server.requests.clear()
                for name in ("/away", "/own?sig=2"):
                    await fetcher.get(server.url(name), max_bytes=LIMIT)
            seen = [(request.path, request.headers.get("authorization")) for request in server.requests]
            if header:
                assert seen == [("/away", "sig=s3cr3t&e=1"), ("/b", None), ("/own?sig=2", "sig=s3cr3t&e=1")]
            else:
                assert seen == [("/away?sig=s3cr3t&e=1", None), ("/b", None), ("/own?sig=2", None)]
        assert "s3cr3t" not in repr(policy)


@pytest.mark.parametrize(
    ("header", "secret", "message"),
    [
        ("Host", "s3cr3t", "header: 'Host' cannot be set"),
        ("X y", "s3cr3t", "header: 'X y' cannot be set"),
        ("Cookie", "s3cr3t\r\nX: y", "must be one line of printable ASCII"),
        ("", "?a=s3cr3t#x y", "must be percent-encoded"),
    ],
)
def test_what_cannot_stand_in_a_request_is_refused_without_being_shown(header: str, secret: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        HostCredential(host="h", header=header, secret=secret)
    assert "s3cr3t" not in str(caught.value)
