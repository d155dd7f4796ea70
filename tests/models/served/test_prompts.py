"""Align-IQA for generated pictures in the daemon: prompts as CLIP reads them, and the score that torch gives."""

import argparse
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from models import __main__ as command  # noqa: E402
from models.commands import feature_scorers  # noqa: E402
from models.export.assembly import composite, published  # noqa: E402
from models.export.assembly.assembly import GraphAssembly, PixelInput, run_in_torch  # noqa: E402
from models.networks.align_iqa import AlignIqa, AlignIqaConfig  # noqa: E402
from models.networks.backbones.clip import Clip, ClipConfig  # noqa: E402
from models.networks.backbones.swin import SwinConfig  # noqa: E402
from models.weights import WeightsError  # noqa: E402
from pipelines.observe.observer import Observer  # noqa: E402
from pipelines.observe.open_scorers import open_scorer_tiers  # noqa: E402
from pipelines.observe.scoring_tiers import ScoringCascade  # noqa: E402
from vqmon.core.types import DecodedSegment, QualityEvent, SegmentFailure  # noqa: E402
from vqmon.errors import ScoreError, ScorerError  # noqa: E402
from vqmon.media.decode.pool import DecoderPool  # noqa: E402
from vqmon.scoring.runtime.graph import Placement  # noqa: E402
from vqmon.scoring.scorers.clip_tokenizer import ClipTokenizer, load_clip_tokenizer  # noqa: E402
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers  # noqa: E402
from vqmon.settings.scoring import ScoringSettings  # noqa: E402
from vqmon.telemetry.metrics import Meters  # noqa: E402
from vqmon.testing import STREAM_STARTS_AT, make_segment  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

CPU = ScorerOptions(placement=Placement(device="cpu"))
TEXT = """A fox in the snow, painted with oil; the fox's tail isn't red. Two 3-year-old foxes at night, 50 mm film!
We've asked for a photo of naïve café owners, they'll smile (they're happy), I'd say: don't. Łódź, Straße, Ελλάδα,
東京の夜景, 한국어, Привет мир, ½ ² Ⅷ — “quotes” … 100% \N{FOX FACE}\N{FIRE} ＡＢＣ don''t __init__ 's 've x'll"""
CONFIG = AlignIqaConfig(
    swin=SwinConfig(
        frames=1, side=64, patch=(1, 4, 4), width=8, depths=(1, 2, 1), heads=(1, 2, 4), window=(1, 4, 4), gated_stages=0
    ),
    width=16,
    guidance=4,
)


def trained(count: int) -> list[tuple[str, str]]:
    """Merges learnt from TEXT as byte pairs are: the most frequent pair first."""
    plain = ClipTokenizer(merges=())
    names = {number: name for name, number in plain.ids.items()}
    tokens = [[names[byte] for byte in plain._encode_word(word)] for word in TEXT.lower().split()]
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs = Counter(pair for word in tokens for pair in pairwise(word))
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        tokens = [_merged(word, best) for word in tokens]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in word:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


MERGES = trained(300)
WORDS = ClipConfig(
    side=64, patch=16, width=64, depth=1, text_width=64, text_depth=1, joint=8, vocabulary=len(MERGES) + 514
)


def test_prompts_are_read_as_transformers_reads_them() -> None:
    """The same ids for real sentences, other scripts, endings, digits, signs, random bits of all, and long ones."""
    ours = ClipTokenizer(merges=tuple(MERGES))
    theirs = transformers.CLIPTokenizer(vocab=dict(ours.ids), merges=list(MERGES))
    draw = random.Random(3)
    texts = [*TEXT.splitlines(), *TEXT.split(), "", "  ", "\t a\n\nb ", "a" * 300, TEXT * 3]
    texts += ["".join(draw.choices(TEXT, k=draw.randrange(1, 40))) for _ in range(300)]
    for text in texts:
        if "Σ" in text or "&" in text:
            continue
        expected = theirs(text, truncation=True, max_length=77)["input_ids"]
        token_ids = ours.encode_batch([text], context_length=77)[0]
        assert token_ids[: len(expected)].tolist() == expected, text
        assert not token_ids[len(expected) :].any()


class Built:
    """What the command wrote of small networks, with the torch side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kits = {name: published.PUBLISHED_SCORERS[name] for name in ("align_iqa", "align_iqa_generated")}
        make = {"align_iqa": lambda: AlignIqa(CONFIG), "clip": lambda: Clip(WORDS)}
        self.kits = {
            name: replace(kit, files={key: replace(spec, build=make[key]) for key, spec in kit.files.items()})
            for name, kit in kits.items()
        }
        for at, (key, part) in enumerate(make.items()):
            torch.manual_seed(at)
            network = part()
            published.randomize_weights(network)
            torch.save(network.state_dict(), folder / f"{key}.pt")
        lines = "\n".join(("#version: 0.2", *(" ".join(pair) for pair in MERGES), "never used"))
        (folder / "bpe.txt").write_text(lines)

    def options(self, name: str, *arguments: str) -> argparse.Namespace:
        folder = self.folder
        clip = ("--part", f"clip={folder / 'clip.pt'}") if name == "align_iqa_generated" else ()
        own = ("--weights", str(folder / "align_iqa.pt"), "--built", str(folder), "--dtype", "fp32")
        return command.build_parser().parse_args(["export", name, *own, *clip, *arguments])

    def assembly(self) -> GraphAssembly:
        return feature_scorers.build_assembly(
            self.options("align_iqa_generated", "--vocabulary", str(self.folder / "bpe.txt"))
        )[0]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both forms of Align-IQA over the same weights."""
    made = Built(tmp_path_factory.mktemp("prompts"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "PUBLISHED_SCORERS", made.kits)
        for name, arguments in (
            ("align_iqa", ()),
            ("align_iqa_generated", ("--vocabulary", str(made.folder / "bpe.txt"))),
        ):
            feature_scorers.export(made.options(name, *arguments))
            options = made.options(name, *arguments)
            assert any("against torch" in line for line in feature_scorers.verify(options))
        yield made


async def seen(shared: Path, scorer: Any, prompt: str) -> DecodedSegment:
    media = (shared / "clips" / "carphone_pristine.mp4").read_bytes()
    async with DecoderPool(1) as pool:
        return replace(await pool.decode(media, views=scorer.views), prompt=prompt)


async def test_a_real_clip_with_a_prompt_is_scored_as_torch_scores_it(built: Built, shared: Path) -> None:
    """The prompt's ids, CLIP's text tower, places and the quality network; another prompt is another score, the same
    one the same, and its tower runs once for all seconds."""
    runs: list[float] = []
    async with open_scorers(["align-iqa-generated-fp32"], [built.folder], replace(CPU, on_run=runs.append)) as (
        scorer,
    ):
        decoded = await seen(shared, scorer, "A fox in the snow")
        rows = len(decoded.times_seconds)
        score = await scorer.score(decoded)
        assert len(runs) == 1 + 2 * rows
        other = await scorer.score(replace(decoded, prompt="100% café, two foxes"))
        assert len(runs) == 1 + 2 * rows + 1 + rows
        repeated = await scorer.score(replace(decoded, prompt="a FOX  in the snow"))
        assert len(runs) == 1 + 2 * rows + 1 + rows
        with pytest.raises(ScoreError, match="no_prompt"):
            await scorer.score(replace(decoded, prompt=""))
    assembly = built.assembly()
    vocabulary = load_clip_tokenizer((built.folder / "bpe.txt").read_bytes(), vocabulary_size=WORDS.vocabulary)
    for prompt_score, prompt in ((score, "A fox in the snow"), (other, "100% café, two foxes")):
        given: dict[str, Any] = {"prompt": vocabulary.encode_batch([prompt] * rows, context_length=77)}
        for source in assembly.inputs:
            if isinstance(source, PixelInput):
                pixels = decoded.views[composite.view_of_input(source)]
                given[source.name] = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        expected = np.ravel(run_in_torch(assembly, given)["align-iqa-generated"])
        assert prompt_score.native_value == pytest.approx(float(expected.mean()), rel=1e-4)
        assert prompt_score.frame_values == pytest.approx((100 * expected).tolist(), abs=0.01)
    assert repeated == score
    assert abs(other.native_value - score.native_value) > 1e-5


async def test_a_vocabulary_that_was_changed_is_refused(built: Built, tmp_path: Path) -> None:
    """Another byte, or none at all: named, with the remedy."""
    file = copied(built.folder, tmp_path)
    for content, match in ((file.read_bytes() + b"x y\n", "the manifest says"), (None, "cannot be read")):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ScorerError, match=match):
            async with open_scorers(["align-iqa-generated-fp32"], [tmp_path], CPU):
                pass


def copied(folder: Path, other: Path) -> Path:
    """A folder's files elsewhere; gives the list of merges there."""
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (file,) = other.glob("clip-merges-*.txt")
    return file


async def test_generated_segments_get_both_and_natural_ones_saliency_alone(built: Built, shared: Path) -> None:
    """With both forms set; alone, the form for generated pictures leaves natural ones unscored, and says why."""
    media = (shared / "clips" / "h265_video.mp4").read_bytes()

    async def fetch(segment: Any) -> bytes:
        return media

    natural, generated = make_segment(1), replace(make_segment(2), prompt="A fox in the snow")
    for names in (("align-iqa-fp32", "align-iqa-generated-fp32"), ("align-iqa-generated-fp32",)):
        settings = ScoringSettings(scorers=names, folders=(built.folder,), device="cpu")
        async with open_scorer_tiers(settings, meters=Meters()) as tiers, DecoderPool(1) as pool:
            observer = Observer(
                fetch=fetch,
                cascade=ScoringCascade(
                    decode=lambda media, views, pool=pool: pool.decode(media, views=views), scorers=tiers.scorers
                ),
                sampling="exact", versions={}, now=lambda: STREAM_STARTS_AT,
            )  # fmt: skip
            first, second = [(await observer.observe(each)).outcome for each in (natural, generated)]
        assert isinstance(second, QualityEvent)
        assert [score.scorer for score in second.scores] == [f"{name}@1" for name in names]
        assert second.segment.prompt == "A fox in the snow"
        if len(names) == 2:
            assert isinstance(first, QualityEvent)
            assert [score.scorer for score in first.scores] == ["align-iqa-fp32@1"]
        else:
            assert isinstance(first, SegmentFailure)
            assert (first.stage, first.reason) == ("score", "no_prompt")


def test_a_list_that_does_not_fit_is_refused(built: Built, tmp_path: Path) -> None:
    """None named, none there, too few merges for the tower's table."""
    with pytest.raises(WeightsError, match=r"--vocabulary bpe_simple_vocab_16e6\.txt\.gz"):
        feature_scorers.export(built.options("align_iqa_generated"))
    for content, match in ((None, "cannot be read"), ("a b\n", rf"has 1 merges, but {WORDS.vocabulary} token ids")):
        if content is not None:
            (tmp_path / "bpe.txt").write_text(content)
        with pytest.raises(WeightsError, match=match):
            feature_scorers.export(built.options("align_iqa_generated", "--vocabulary", str(tmp_path / "bpe.txt")))
