"""A worker that was taken over answers as it likes: the daemon lives, and no other segment gets its verdict."""

import asyncio
import select

import pytest

from tests.media.decode.rig import SMALL, moving_clip
from tests.media.decode.sandbox.hostile_worker import MARK
from vqmon.errors import DecodeError
from vqmon.media.decode import process
from vqmon.media.decode.pool import DecodeLimits, DecoderPool
from vqmon.media.decode.protocol import DecodeRequest

FORGE = """
def send(text, request_id=request_id, raw=b"", raw_bytes=None, magic=b"vqm2"):
    size = len(raw) if raw_bytes is None else raw_bytes
    answers.write(protocol.HEADER.pack(magic, request_id, len(text), size) + text + raw)
    answers.flush()
"""
REFUSAL = """b'{"ok":false,"reason":"corrupt","detail":"forged"}'"""

INVALID = {
    "nested lists": "send(b'[' * 3_800_000)",
    "nested objects": """send(b'{"ok":' * 600_000)""",
    # UTF-16, where the quote of "\u2230" would end the text if it was read by bytes
    "nested lists in another encoding": (
        r"""send(b'[\0"\0\x30\x22"\0,\0' + b'[\0' * 100_000 + b'"\0x\0"\0' + b']\0' * 100_001)"""
    ),
    "a byte order mark": """send(b'\\xef\\xbb\\xbf{"ok":false,"reason":"corrupt"}')""",
    "a large number": """send(b'{"ok":true,"times":[' + b'9' * 4000 + b']}')""",
    "a number of too many digits": """send(b'{"ok":true,"times":[' + b'9' * 100_000 + b']}')""",
    "not a number": """send(b'{"ok":true,"times":[NaN,Infinity]}')""",
    "no JSON": "send(bytes(range(256)))",
    "a lone surrogate": """send(b'{"ok":false,"reason":"\\\\ud800"}')""",
    "no object": "send(b'[]')",
    "nothing": "send(b'')",
    "two million numbers": """send(b'{"ok":true,"times":[' + b'1,' * 1_900_000 + b'2]}')""",
    "a million keys": """send(b'{' + b'"a":1,' * 600_000 + b'"ok":true}')""",
    "a reason of another stage": """send(b'{"ok":false,"reason":"stale"}')""",
    "a reason that is no text": """send(b'{"ok":false,"reason":{"corrupt":1}}')""",
    "more raw bytes than there are thumbnails": "send(b'{}', raw_bytes=1 << 40)",
    "thumbnails that nobody asked for": "send(b'{}', raw=b'jpeg')",
    "the id of another request": f"send({REFUSAL}, request_id=request_id ^ 1)",
    "the id of the first message": f"send({REFUSAL}, request_id=0)",
    "another magic number": f"send({REFUSAL}, magic=b'vqm1')",
    "half a header": "answers.write(b'vqm2'); answers.flush(); os._exit(1)",
    "a closed socket": "os._exit(0)",
    "a crash": "os.abort()",
}


@pytest.fixture(autouse=True)
def hostile_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_WORKER_MODULE", "tests.media.decode.sandbox.hostile_worker")


async def test_an_invalid_answer_costs_the_worker_and_nothing_else() -> None:
    """Each is a crash of that segment; the segment after it is decoded by a new worker."""
    reasons = {}
    async with DecoderPool(1) as pool:
        for name, program in INVALID.items():
            try:
                await pool.decode(MARK + (FORGE + program).encode(), views=[SMALL], signals=())
                reasons[name] = "decoded"
            except DecodeError as error:
                reasons[name] = error.reason
        assert pool.replacements == {"crashed": len(INVALID)}
        assert len((await pool.decode(moving_clip(), views=[SMALL])).times_seconds) == 3
    assert reasons == dict.fromkeys(INVALID, "crashed")


@pytest.mark.parametrize(
    "second", ["send({0})", "send({0}, request_id=0)", "answers.write(b'v'); answers.flush()"], ids=str
)
async def test_an_extra_answer_is_never_the_verdict_of_the_next_segment(second: str) -> None:
    """The worker that sent it is replaced: its next answer could be forged as well."""
    program = f"{FORGE}send({REFUSAL})\n{second.format(REFUSAL)}\n"
    async with DecoderPool(1) as pool:
        with pytest.raises(DecodeError, match="forged"):
            await pool.decode(MARK + program.encode(), views=[SMALL])
        assert len((await pool.decode(moving_clip(), views=[SMALL])).times_seconds) == 3


async def test_bytes_after_a_valid_answer_cost_the_worker() -> None:
    """A worker that decoded well and sent something more is not asked again."""
    program = (
        "send_message = __import__('sys').modules['__main__'].worker._write_message\n"
        "def twice(answers, request_id, answer, raw=()):\n"
        "    send_message(answers, request_id, answer, raw)\n"
        "    send_message(answers, request_id, answer, raw)\n"
        "__import__('sys').modules['__main__'].worker._write_message = twice\n"
    )
    async with DecoderPool(1, isolation="off") as pool:
        worker = pool._idle[0]
        await worker.request_decode(MARK + program.encode(), DecodeRequest(views=()))
        await asyncio.to_thread(select.select, [worker._connection], [], [], 10)
        assert worker.has_unasked_bytes
        assert len((await pool.decode(moving_clip(), views=[SMALL])).times_seconds) == 3
        assert pool.replacements == {"crashed": 1}


async def test_a_late_answer_about_an_earlier_segment_costs_no_other_its_verdict() -> None:
    """A worker that sends one when it is asked next is replaced, and that segment is decoded by another."""
    program = f"""{FORGE}
worker = __import__('sys').modules['__main__'].worker
unpack_header = worker.unpack_header
def unpack_late(header, **options):
    send({REFUSAL}, request_id=5)
    return unpack_header(header, **options)
worker.unpack_header = unpack_late
"""
    async with DecoderPool(1) as pool:
        await pool._idle[0].request_decode(MARK + program.encode(), DecodeRequest(views=()))
        assert len((await pool.decode(moving_clip(), views=[SMALL])).times_seconds) == 3
        assert pool.replacements == {"crashed": 1}


async def test_a_worker_that_never_ends_its_answer_is_a_timeout() -> None:
    """The deadline is that of the segment."""
    program = FORGE + "answers.write(b'vqm2'); answers.flush(); signal.pause()"
    async with DecoderPool(1, limits=DecodeLimits(deadline_seconds=1.0), isolation="off") as pool:
        with pytest.raises(DecodeError) as caught:
            await pool.decode(MARK + program.encode(), views=[SMALL])
        assert caught.value.reason == "timeout"
