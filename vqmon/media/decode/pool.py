"""A pool of decoder processes that turns the bytes of a segment into views and signals, and kills workers that hang."""

import asyncio
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vqmon.core.scores import ReferenceComparison
from vqmon.core.types import SIGNALS, DecodedSegment, Sampling, View
from vqmon.errors import DecodeError, SettingsError
from vqmon.media.decode.process import DecoderProcess, UnaskedAnswerError
from vqmon.media.decode.protocol import DecodeLimits, DecodeRequest, HdrMode, parse_answer, parse_stored_pictures
from vqmon.media.decode.sandbox.jail import Isolation, IsolationReport
from vqmon.media.decode.tries import ReferenceMedia, SegmentTries, Work, current_tries, tries_of_one_segment
from vqmon.media.reference.answer import add_values, pack_unscored
from vqmon.media.reference.libvmaf.program import FfmpegProgram, ProgramError

__all__ = ["DecodeLimits", "DecoderPool", "ReferenceMedia", "tries_of_one_segment"]

_INVALID_ANSWER = "the decoder process sent an invalid answer"


class DecoderPool:
    """Up to `size` decoder processes; an async context manager.

    A worker that exceeds the deadline, dies, sends an invalid answer or one that nobody asked for is killed, and the
    next decode starts a new one; so is a worker that refused a segment, which may have harmed it, or has decoded
    `recycle_after` segments. The pool opens also when no worker starts; then each decode raises DecodeError("worker")
    until one does. `on_replace` is called with the reason: "timeout", "crashed", "refused", "cancelled" or
    "recycled". With the isolation "full" the pool does not open without all of its protections. `program` computes the
    measures of libvmaf. `hardware` names a GPU whose decoder is used where it can; its workers have no isolation.
    """

    def __init__(
        self,
        size: int,
        *,
        limits: DecodeLimits | None = None,
        isolation: Isolation = "best",
        recycle_after: int = 500,
        on_replace: Callable[[str], None] | None = None,
        program: FfmpegProgram | None = None,
        socket_path: Path | None = None,
        hardware: str = "",
    ) -> None:
        if size < 1 or recycle_after < 1:
            raise ValueError(f"size and recycle_after must be at least 1, got {size} and {recycle_after}")
        self.size = size
        self.limits = limits or DecodeLimits()
        self.versions: Mapping[str, str] = {}
        self.isolation = IsolationReport(in_force={}, missing={})
        self._isolation: Isolation = isolation
        self._recycle_after = recycle_after
        self._on_replace = on_replace
        self._program = program
        self._socket_path = socket_path
        self._hardware = hardware
        self._free_workers = asyncio.Semaphore(size)
        self._idle: list[DecoderProcess] = []
        # killed, and not yet reaped
        self._killed: list[DecoderProcess] = []
        self._replacements: dict[str, int] = {}
        self._is_open = False

    async def __aenter__(self) -> Self:
        try:
            await self._start_all()
        except BaseException:
            await self._close()
            raise
        self._is_open = True
        return self

    async def _start_all(self) -> None:
        """Start all workers at once; those that do not start are tried again by the decodes that need them."""
        try:
            for _ in range(self.size):
                self._idle.append(await self._start_worker())
        except DecodeError:
            if self._isolation == "full":
                raise
        for worker in list(self._idle):
            try:
                await self._receive_facts(worker)
            except DecodeError:
                if self._isolation == "full":
                    raise
                self._idle.remove(worker)
                self._replace(worker, "crashed")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        await self._close()

    @property
    def replacements(self) -> Mapping[str, int]:
        """How many workers were replaced so far, by reason."""
        return dict(self._replacements)

    @property
    def idle_pids(self) -> tuple[int, ...]:
        """Process ids of the workers that are idle."""
        return tuple(worker.pid for worker in self._idle)

    async def decode(
        self,
        media: bytes,
        *,
        views: Sequence[View],
        sampling: Sampling = "exact",
        fps: float = 1.0,
        density: int = 1,
        from_seconds: float = 0.0,
        hdr: HdrMode = "tonemap",
        thumbnail_width: int = 0,
        signals: Collection[str] = tuple(SIGNALS),
        with_heat_maps: bool = False,
        with_audio: bool = False,
        measures: Sequence[str] = (),
        reference: ReferenceMedia | None = None,
        sound_media: bytes = b"",
    ) -> DecodedSegment:
        """Decode one segment, its initialization section and media joined, and compare it with its reference.

        `fps` is the rate at which frames are sampled; with a `density` above 1 only the frames that make these so many
        times as many are decoded. `from_seconds` leaves out frames less than that after the first one; where it leaves
        none, the last frame is sampled. `thumbnail_width` is in pixels, 0 for no thumbnails; `with_heat_maps` adds what
        heat maps are computed from, and the map against the reference, `with_audio` what is measured of the sound: of
        that in `sound_media` where it is not in the segment. Raises DecodeError for the segment. `measures` are those
        of the segment alone. A reference, sound or measure that fails is said in the result.
        """
        self._check(media)
        request = DecodeRequest(
            views=tuple(dict.fromkeys(views)),
            sampling=sampling,
            fps=fps,
            density=density,
            from_seconds=from_seconds,
            hdr=hdr,
            thumbnail_width=thumbnail_width,
            signals=tuple(signals),
            with_heat_maps=with_heat_maps,
            with_audio=with_audio,
            measures=tuple(measures),
            sound_bytes=len(sound_media),
            # derived from the bytes, so that fragments are cut alike at every replay and on every worker
            seed=zlib.crc32(media) if any(view.kind == "fragments" for view in views) else 0,
            limits=self.limits,
        )
        work = Work(media=media, request=request, sound_media=sound_media)
        await self._acquire_worker_slot()
        try:
            return await self._decode_with_reference(work, reference)
        finally:
            self._free_workers.release()

    def _check(self, media: bytes) -> None:
        if not self._is_open:
            raise RuntimeError("the decoder pool is not open")
        if not media:
            raise DecodeError("empty")
        if len(media) > self.limits.max_media_bytes:
            raise DecodeError("too_long", f"{len(media)} bytes; at most {self.limits.max_media_bytes} are decoded")

    async def _decode_with_reference(self, work: Work, reference: ReferenceMedia | None) -> DecodedSegment:
        if reference is None:
            return await self._decode_most(work)
        if not 0 < len(reference.media) <= self.limits.max_media_bytes:
            unscored = ReferenceComparison(unscored="decode", detail="the reference is empty or has too many bytes")
            return replace(await self._decode_most(work), reference=unscored)
        return await self._decode_most(work.with_reference(reference))

    async def _decode_most(self, work: Work) -> DecodedSegment:
        """Decode all that is asked for; when that is too much, less of it, so that no part loses the score."""
        tries = current_tries()
        for left_out in tries.choices(work):
            try:
                decoded = await self._decode(work.without(left_out), tries)
            except DecodeError as error:
                tries.fail(error, is_last=left_out == work.parts)
            else:
                return work.describe_left_out(left_out, tries.error, decoded)
        raise AssertionError("the last try is made or raises")

    async def _acquire_worker_slot(self) -> None:
        try:
            async with asyncio.timeout(self.limits.wait_seconds):
                await self._free_workers.acquire()
        except TimeoutError:
            raise DecodeError("timeout", f"no decoder was free within {self.limits.wait_seconds:g} s") from None

    async def _decode(self, work: Work, tries: SegmentTries) -> DecodedSegment:
        for _ in range(2):
            limit_seconds = tries.limit_seconds(work)
            worker = await self._idle_or_new_worker()
            is_new = worker.segment_count == 0
            try:
                with tries.measured():
                    content, raw = await self._ask(worker, work, limit_seconds=limit_seconds)
            except UnaskedAnswerError:
                # a late word about an earlier segment costs this one no verdict; a hostile one is not asked for ever
                if is_new:
                    break
            else:
                return await self._accept(worker, content, raw, work.request)
        raise DecodeError("crashed", _INVALID_ANSWER)

    async def _ask(self, worker: DecoderProcess, work: Work, *, limit_seconds: float) -> tuple[object, bytearray]:
        """The answer of a worker, unchecked; one that gives none is replaced.

        Raises DecodeError, and UnaskedAnswerError where it answers another request.
        """
        try:
            async with asyncio.timeout(limit_seconds):
                return await worker.request_decode(
                    work.media, work.request, reference_media=work.reference_media, sound_media=work.sound_media
                )
        except TimeoutError:
            self._replace(worker, "timeout")
            limit = f"{limit_seconds:.3g} s, decode.deadline_seconds (--deadline)"
            raise DecodeError("timeout", f"decoding took more than {limit}") from None
        except (EOFError, OSError):
            self._replace(worker, "crashed")
            raise DecodeError("crashed") from None
        except UnaskedAnswerError:
            self._replace(worker, "crashed")
            raise
        except ValueError:
            self._replace(worker, "crashed")
            raise DecodeError("crashed", _INVALID_ANSWER) from None
        except BaseException:
            self._replace(worker, "cancelled")
            raise

    async def _accept(
        self, worker: DecoderProcess, content: object, raw: bytearray, request: DecodeRequest
    ) -> DecodedSegment:
        """Check the answer of a worker; one that refused the segment or answered nonsense is replaced."""
        try:
            content = await self._with_libvmaf(content, worker, request)
            decoded = parse_answer(content, raw, worker.shared_memory, request)
        except DecodeError:
            self._replace(worker, "refused")
            raise
        # whatever an attacker makes of an answer, it is the worker that is wrong
        except Exception:
            self._replace(worker, "crashed")
            raise DecodeError("crashed", _INVALID_ANSWER) from None
        except BaseException:
            self._replace(worker, "cancelled")
            raise
        pairs = decoded.reference.pictures.values() if decoded.reference else ()
        picture_bytes = sum(each.reference.nbytes + each.segment.nbytes for each in pairs)
        if request.reference is not None and request.reference.libvmaf_measures:
            picture_bytes = len(worker.shared_memory)
        worker.release_memory(request.bytes_per_sample * len(decoded.times_seconds) + picture_bytes)
        self._return_worker(worker)
        return decoded

    async def _with_libvmaf(self, content: Any, worker: DecoderProcess, request: DecodeRequest) -> Any:
        """A worker's answer with the measures of libvmaf, or with the reason why there are none.

        The worker is held meanwhile, because its memory holds the pictures.
        """
        pictures = parse_stored_pictures(content, worker.shared_memory, request)
        if pictures is None or request.reference is None:
            return content
        try:
            if self._program is None:
                raise ProgramError("program", "no program is named")
            values = await self._program.measure(
                pictures, request.reference.libvmaf_measures, deadline_seconds=self.limits.deadline_seconds
            )
        except ProgramError as error:
            return {**content, "reference": pack_unscored(error.reason, str(error))}
        return {**content, "reference": add_values(content["reference"], values)}

    async def _idle_or_new_worker(self) -> DecoderProcess:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive and not worker.has_unasked_bytes:
                return worker
            self._replace(worker, "crashed")
        worker = await self._start_worker()
        try:
            await self._receive_facts(worker)
        except BaseException:
            self._kill(worker)
            raise
        return worker

    async def _start_worker(self) -> DecoderProcess:
        if self._socket_path is not None:
            return await self._connect_worker(self._socket_path)
        try:
            return await DecoderProcess.start(self.limits, isolation=self._isolation, hardware=self._hardware)
        except OSError as error:
            raise DecodeError("worker", f"no decoder process could be started: {error.strerror}") from error

    async def _connect_worker(self, path: Path) -> DecoderProcess:
        try:
            return await DecoderProcess.connect(path, self.limits, isolation=self._isolation)
        except OSError as error:
            reason = error.strerror or "no connection was accepted in time"
            remedy = "see `systemctl status vqmon-decoder.socket`, and whether this user may connect"
            raise DecodeError("worker", f"no decoder behind {path} (decode.socket): {reason}; {remedy}") from error

    async def _receive_facts(self, worker: DecoderProcess) -> None:
        """Wait until a worker is in its jail."""
        try:
            facts = await worker.receive_facts()
        except (TimeoutError, EOFError, OSError, ValueError) as error:
            raise DecodeError("worker", "a decoder process ended before it was ready, or took too long") from error
        self.versions, self.isolation = facts.versions, facts.isolation
        if self._isolation == "full" and not facts.isolation.is_full:
            missing = "; ".join(f"{name}: {why}" for name, why in sorted(facts.isolation.missing.items()))
            raise SettingsError(
                f'decode.isolation: "full" cannot be had here ({missing}); use a kernel or container that allows it, '
                'or set "best" to decode with what is left'
            )

    def _return_worker(self, worker: DecoderProcess) -> None:
        if not self._is_open:
            self._kill(worker)
        elif worker.segment_count >= self._recycle_after:
            self._replace(worker, "recycled")
        else:
            self._idle.append(worker)

    def _replace(self, worker: DecoderProcess, reason: str) -> None:
        self._kill(worker)
        self._replacements[reason] = self._replacements.get(reason, 0) + 1
        if self._on_replace is not None:
            self._on_replace(reason)

    def _kill(self, worker: DecoderProcess) -> None:
        worker.kill()
        self._killed = [*(process for process in self._killed if process.is_alive), worker]

    async def _close(self) -> None:
        while self._idle:
            self._kill(self._idle.pop())
        for worker in self._killed:
            await worker.wait_for_exit()
