"""Addresses in texts lose what may be secret, and nothing else changes."""

import pytest

from vqmon.telemetry.redaction import redact_addresses


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (
            "get https://u:s3@cdn.example:8443/a.ts?token=s3#s3: status 403",
            "get https://cdn.example:8443/a.ts: status 403",
        ),
        ('{"url": "http://h/a?s3", "b": 1}', '{"url": "http://h/a", "b": 1}'),
        ("netloc 'u:s3@h\u2100' contains invalid characters", "netloc contains invalid characters"),
        ("line 7: 12:30:01, key=value? no", "line 7: 12:30:01, key=value? no"),
        ("(see https://h/a?s3, or ftp://u:s3@h/b).", "(see https://h/a, or ftp://h/b)."),
    ],
)
def test_addresses_lose_what_may_be_secret(text: str, redacted: str) -> None:
    assert redact_addresses(text) == redacted


def test_the_content_of_a_data_address_is_not_shown() -> None:
    assert "QUJD" not in redact_addresses("cannot read data:text/plain;base64,QUJD as a key")
