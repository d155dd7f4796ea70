"""The rungs of a ladder for teachers: how each degraded form of a clean scene of 960 x 540 px is made.

A scene is a quarter of a 1080-line picture, so a size of `h` lines stands for a rendition of `h` lines of which the
scene is a quarter. A poor scene is what a bad source shows of it: fewer lines, coded, noisy or soft, and its ladder is
about what is lost on top of that. Every family draws its strengths from a generator, always in the same order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

SCENE_WIDTH, SCENE_HEIGHT = 960, 540
_Random = np.random.Generator
_LINES = 1080
LOSSLESS = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-threads", "1")
LOSSLESS_444 = (*LOSSLESS, "-pix_fmt", "yuv444p")
_CODECS = ("x264", "x265", "av1", "vp9", "mpeg2", "mpeg4", "jpeg", "vp8")
_SCALED_CODECS = ("x264", "x265", "av1", "vp9", "mpeg2", "x264")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One degraded form of a scene: ffmpeg's filters and encoder, and what they do to it.

    `damage` is the codec's place in its range of rates, about 0 (best) .. 1; `lines` the rendition's lines, of 1080;
    `factor` that of a downscaling and upscaling; `amount` in the unit of the kind: weight of an unsharp mask, levels of
    noise, px of blur, levels per band. A `pair` joins a soft scene and its sharpened forms.
    """

    kind: str
    encoder: tuple[str, ...]
    # None: the frames are made here, by a network or as grain
    filters: str | None = "null"
    amount: float = 0.0
    damage: float = 0.0
    codec: str | None = None
    lines: int | None = None
    factor: float | None = None
    pair: int | None = None
    network: str | None = None
    grain_sigma: float | None = None


def _x264(crf: float, preset: str = "veryfast", *more: str) -> tuple[str, ...]:
    return ("-c:v", "libx264", "-preset", preset, "-crf", str(crf), "-threads", "1", *more)


_NEARLY_LOSSLESS = _x264(10, "ultrafast")


def _encoder(codec: str, damage: float, random: _Random) -> tuple[str, ...]:
    """ffmpeg's arguments of a codec at a damage of about 0 .. 1."""
    qscale = str(max(1, int(2 + 29 * damage**1.3)))
    if codec == "x264":
        return _x264(18 + 33 * damage, random.choice(["superfast", "veryfast", "medium"]))
    if codec == "x265":
        options = "log-level=0:pools=1:frame-threads=1"
        return ("-c:v", "libx265", "-preset", "superfast", "-x265-params", options, "-crf", str(18 + 33 * damage))
    if codec == "av1":
        return ("-c:v", "libsvtav1", "-preset", "10", "-svtav1-params", "lp=1", "-crf", str(int(20 + 43 * damage)))
    if codec == "vp9":
        fast = ("-deadline", "realtime", "-cpu-used", "7", "-b:v", "0", "-threads", "1")
        return ("-c:v", "libvpx-vp9", *fast, "-crf", str(int(15 + 48 * damage)))
    if codec == "vp8":
        quantizer = int(4 + 58 * damage)
        fast = ("-deadline", "realtime", "-cpu-used", "6", "-b:v", "8M", "-threads", "1")
        return ("-c:v", "libvpx", *fast, "-qmin", str(quantizer), "-qmax", str(quantizer + 1))
    if codec == "mpeg2":
        return ("-c:v", "mpeg2video", "-qscale:v", qscale, "-threads", "1", "-g", "12")
    if codec == "mpeg4":
        return ("-c:v", "mpeg4", "-qscale:v", qscale, "-threads", "1")
    return ("-c:v", "mjpeg", "-qscale:v", qscale, "-threads", "1", "-strict", "-1")


def _downscaling(width: int, height: int, random: _Random) -> str:
    return f"scale={width}:{height}:flags={random.choice(['lanczos', 'bicubic', 'area'])}"


def _even_size(scale: float) -> tuple[int, int]:
    return round(SCENE_WIDTH * scale / 2) * 2, round(SCENE_HEIGHT * scale / 2) * 2


def _upscaling(kernel: str) -> str:
    return f"scale={SCENE_WIDTH}:{SCENE_HEIGHT}:flags={kernel}"


def _clean(random: _Random) -> Iterator[Rung]:
    """Without loss, nearly so, and with full chroma."""
    yield Rung(kind="clean", encoder=LOSSLESS)
    yield Rung(kind="clean", encoder=_x264(int(random.integers(4, 14)), "ultrafast"))
    yield Rung(kind="clean444", encoder=LOSSLESS_444)


def _sizes(random: _Random) -> Iterator[Rung]:
    """Renditions of fewer lines, at hardly any loss by coding."""
    for lines in (90, 120, 180, 240, 360, 480, 720, 900):
        width, height = _even_size(lines / _LINES)
        filters = _downscaling(width, height, random)
        yield Rung(kind="size", lines=lines, filters=filters, encoder=_NEARLY_LOSSLESS)


def _kernels(random: _Random) -> Iterator[Rung]:
    """Downscaled, and upscaled by a resampling kernel before coding."""
    for _ in range(5):
        factor = float(random.choice([1.5, 2, 2, 3, 3, 4, 6, 8]))
        kernel = str(random.choice(["neighbor", "bilinear", "bicubic", "lanczos", "spline"]))
        filters = f"{_downscaling(*_even_size(1 / factor), random)},{_upscaling(kernel)}"
        yield Rung(kind="kernel", factor=factor, filters=filters, encoder=_x264(int(random.integers(4, 24))))


def _sharpened_soft(random: _Random) -> Iterator[Rung]:
    """Two soft scenes, each followed by the same with an unsharp mask of four strengths."""
    for _ in range(2):
        factor = float(random.choice([1.5, 2, 2, 2, 3, 4]))
        soft = f"{_downscaling(*_even_size(1 / factor), random)},"
        soft += _upscaling(random.choice(["bicubic", "lanczos", "bilinear"]))
        if random.random() < 0.25:
            soft = f"gblur=sigma={random.uniform(0.8, 2.5):.2f}"
        encoder, pair = _x264(int(random.integers(4, 20))), int(random.integers(1e9))
        yield Rung(kind="soft", factor=factor, pair=pair, filters=soft, encoder=encoder)
        side = int(random.choice([3, 5, 7, 7, 9]))
        for strength in (0.5, 1.2, 2.0, 3.5):
            amount = strength * random.uniform(0.85, 1.15)
            filters = f"{soft},unsharp={side}:{side}:{amount:.2f}"
            yield Rung(
                kind="softsharp", factor=factor, pair=pair, amount=amount, filters=filters, encoder=encoder
            )  # fmt: skip


def _sharpened(random: _Random) -> Iterator[Rung]:
    side = int(random.choice([3, 5, 7]))
    for amount in (0.6, 1.5, 3.0):
        filters = f"unsharp={side}:{side}:{amount * random.uniform(0.8, 1.2):.2f}"
        yield Rung(kind="sharp", amount=amount, filters=filters, encoder=_NEARLY_LOSSLESS)


def _codecs(random: _Random) -> Iterator[Rung]:
    """Three codecs over their range of rates."""
    for codec in map(str, random.choice(_CODECS, 3, replace=False)):
        for step in (0.12, 0.4, 0.65, 0.92):
            damage = step + random.uniform(-0.1, 0.08)
            yield Rung(kind="codec", codec=codec, damage=damage, encoder=_encoder(codec, damage, random))


def _sizes_and_codecs(random: _Random) -> Iterator[Rung]:
    """Two codecs over their range of rates, at fewer lines."""
    for codec in map(str, random.choice(_SCALED_CODECS, 2, replace=False)):
        lines = int(random.choice([180, 240, 360, 360, 480, 480, 720, 720]))
        width, height = _even_size(lines / _LINES)
        for step in (0.1, 0.35, 0.6, 0.9):
            damage = step + random.uniform(-0.1, 0.09)
            filters = _downscaling(width, height, random)
            encoder = _encoder(codec, damage, random)
            yield Rung(
                kind="sizecodec", codec=codec, lines=lines, damage=damage, filters=filters, encoder=encoder
            )  # fmt: skip


def _noise(random: _Random) -> Iterator[Rung]:
    """White noise, then grain: low-passed noise of a standard deviation of a third of its amount."""
    flags = str(random.choice(["t", "t", "t+u", "u"]))
    for amount in (4, 9, 18, 34):
        filters = f"noise=alls={int(amount * random.uniform(0.8, 1.2))}:allf={flags}"
        encoder = _x264(int(random.integers(6, 16)), "ultrafast")
        yield Rung(kind="noise", amount=amount, filters=filters, encoder=encoder)
    sigma = random.uniform(0.5, 1.1)
    for amount in (10, 25):
        encoder = _x264(int(random.integers(6, 16)), "ultrafast")
        yield Rung(kind="grain", amount=amount, grain_sigma=sigma, filters=None, encoder=encoder)


def _blurs(random: _Random) -> Iterator[Rung]:
    for amount in (0.6, 1.2, 2.2, 4.0):
        filters = f"gblur=sigma={amount * random.uniform(0.85, 1.15):.2f}"
        yield Rung(kind="blur", amount=amount, filters=filters, encoder=_NEARLY_LOSSLESS)
    horizontal = random.random() < 0.5
    length = int(random.integers(2, 9))
    filters = f"avgblur=sizeX={length}:sizeY=1" if horizontal else f"avgblur=sizeX=1:sizeY={length}"
    yield Rung(kind="motionblur", amount=1, filters=filters, encoder=_NEARLY_LOSSLESS)


def _tones(random: _Random) -> Iterator[Rung]:
    """Bands of equal luma, less contrast, another exposure."""
    for step in (6, 10, 16, 28):
        half = max(2, step // 2)
        chroma = f"floor((val-128)/{half}+.5)*{half}+128"
        filters = f"lutyuv=y=floor((val-16)/{step})*{step}+16+{step // 2}:u={chroma}:v={chroma}"
        yield Rung(kind="banding", amount=step, filters=filters, encoder=_NEARLY_LOSSLESS)
    contrast = f"eq=contrast={random.uniform(0.4, 0.7):.2f}"
    yield Rung(kind="contrast", amount=1, filters=contrast, encoder=_NEARLY_LOSSLESS)
    exposure = f"eq=gamma={random.choice([0.45, 0.6, 1.7, 2.2])}"
    yield Rung(kind="exposure", amount=1, filters=exposure, encoder=_NEARLY_LOSSLESS)


def _torn(random: _Random) -> Iterator[Rung]:
    """Bytes of nearly every packet after the first are changed, at random distances."""
    for _ in range(2):
        crf, distance = int(random.integers(18, 28)), random.integers(200, 2500)
        damage = f"noise=amount='if(eq(n,0),0,if(lt(random(0),0.9),{distance},0))'"
        yield Rung(kind="torn", encoder=_x264(crf, "veryfast", "-bsf:v", damage))


def _super_resolution(random: _Random) -> Iterator[Rung]:
    """Downscaled, and upscaled by a network; the last one coded at two rates."""
    for _ in range(4):
        network = str(random.choice(["espcn", "fsrcnn", "oversharp", "hallucinating"]))
        factor = int(random.choice([2, 3, 4]))
        encoder = _x264(int(random.integers(4, 24)))
        yield Rung(kind="sr", network=network, factor=factor, filters=None, encoder=encoder)
    network = str(random.choice(["espcn", "oversharp", "hallucinating"]))
    factor = int(random.choice([2, 3, 4]))
    for damage in (0.3, 0.6):
        yield Rung(
            kind="srcodec", network=network, factor=factor, damage=damage, filters=None, encoder=_x264(18 + 33 * damage)
        )  # fmt: skip


_FAMILIES: tuple[Callable[[_Random], Iterator[Rung]], ...] = (
    _clean, _sizes, _kernels, _sharpened_soft, _sharpened, _codecs, _sizes_and_codecs, _noise, _blurs, _tones, _torn,
    _super_resolution,
)  # fmt: skip


def draw_rungs(random: _Random) -> list[Rung]:
    """The rungs of one ladder; the first one is without loss, a soft scene comes before its sharpened forms."""
    return [rung for family in _FAMILIES for rung in family(random)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoorSource:
    """How a clean scene is made poor: its size (width, height) in px, ffmpeg's filters, and an encoder."""

    size: tuple[int, int]
    filters: str
    encoder: tuple[str, ...]


def draw_poor_source(random: _Random) -> PoorSource:
    """A source of 270 to 1080 lines, coded; one of five noisy, one of seven soft."""
    width, height = _even_size(int(random.choice([270, 360, 360, 480, 480, 540, 720, 720, 1080])) / _LINES)
    codec = str(random.choice(["x264", "x264", "x265", "mpeg2", "jpeg", "vp9"]))
    damage = random.uniform(0.05, 0.75)
    filters = f"scale={width}:{height}:flags=lanczos"
    if random.random() < 0.2:
        filters += f",noise=alls={random.integers(3, 12)}:allf=t"
    if random.random() < 0.15:
        filters += f",gblur=sigma={random.uniform(0.5, 1.5):.2f}"
    return PoorSource(size=(width, height), filters=filters, encoder=_encoder(codec, damage, random))


def draw_poor_rungs(random: _Random, size: tuple[int, int]) -> list[Rung]:
    """The rungs of the ladder of a poor scene of a size (width, height); the first one is the scene without loss."""
    families = (_poor_sizes(random, size), _poor_sharpened(random, size), _poor_codecs(random), _poor_faults(random))
    nearly_clean = _x264(int(random.integers(4, 12)), "ultrafast")
    clean = [Rung(kind="clean", encoder=LOSSLESS), Rung(kind="clean", encoder=nearly_clean)]
    return clean + [rung for family in families for rung in family]


def _poor_sizes(random: _Random, size: tuple[int, int]) -> Iterator[Rung]:
    """`lines` are those of a rendition of a 1000-line original that is reduced as much."""
    for share in (0.2, 0.28, 0.4, 0.55, 0.7, 0.85):
        filters = _downscaling(*(max(16, round(side * share / 2) * 2) for side in size), random)
        yield Rung(kind="size", lines=round(1000 * share), filters=filters, encoder=_NEARLY_LOSSLESS)


def _poor_sharpened(random: _Random, size: tuple[int, int]) -> Iterator[Rung]:
    factor = float(random.choice([1.5, 2, 2, 3]))
    soft = _downscaling(*(max(16, round(side / factor / 2) * 2) for side in size), random)
    soft += f",scale={size[0]}:{size[1]}:flags={random.choice(['bicubic', 'lanczos', 'bilinear'])}"
    encoder, pair = _x264(int(random.integers(4, 16))), int(random.integers(1e9))
    yield Rung(kind="soft", factor=factor, pair=pair, filters=soft, encoder=encoder)
    side = int(random.choice([3, 5, 7, 7]))
    for amount in (0.6, 1.2, 2.0, 3.5):
        filters = f"{soft},unsharp={side}:{side}:{amount}"
        yield Rung(
            kind="softsharp", factor=factor, pair=pair, amount=amount, filters=filters, encoder=encoder
        )  # fmt: skip
    yield from _sharpened(random)


def _poor_codecs(random: _Random) -> Iterator[Rung]:
    drawn = random.choice(["x264", "x265", "vp9", "mpeg2", "mpeg4", "vp8"], 2, replace=False)
    for codec in ("av1", *map(str, drawn)):
        for step in (0.05, 0.25, 0.45, 0.65, 0.95):
            damage = max(step + random.uniform(-0.05, 0.05), 0)
            yield Rung(kind="codec", codec=codec, damage=damage, encoder=_encoder(codec, damage, random))


def _poor_faults(random: _Random) -> Iterator[Rung]:
    flags = str(random.choice(["t", "t", "t+u", "u"]))
    for amount in (5, 10, 18):
        filters = f"noise=alls={int(amount * random.uniform(0.8, 1.2))}:allf={flags}"
        encoder = _x264(int(random.integers(6, 14)), "ultrafast")
        yield Rung(kind="noise", amount=amount, filters=filters, encoder=encoder)
    yield Rung(kind="grain", amount=12, grain_sigma=0.7, filters=None, encoder=_NEARLY_LOSSLESS)
    for amount in (0.6, 1.5):
        filters = f"gblur=sigma={amount * random.uniform(0.85, 1.15):.2f}"
        yield Rung(kind="blur", amount=amount, filters=filters, encoder=_NEARLY_LOSSLESS)
    banding = "lutyuv=y=floor((val-16)/16)*16+24"
    yield Rung(kind="banding", amount=16, filters=banding, encoder=_NEARLY_LOSSLESS)
