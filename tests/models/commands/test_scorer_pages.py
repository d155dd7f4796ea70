"""The pages of docs/scorers: their commands run as they stand, on files laid out as the trainers write them."""

import io
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageFilter

torch = pytest.importorskip("torch")

import skimage.data  # noqa: E402

from models import __main__ as command  # noqa: E402
from models.commands import feature_scorers, train  # noqa: E402
from models.commands import owl as owl_command  # noqa: E402
from models.export.assembly import picture_scorers, published  # noqa: E402
from models.networks.backbones.clip import ClipVisual  # noqa: E402
from models.networks.backbones.convnext3d import ConvNextConfig  # noqa: E402
from models.networks.fragments.cover import Cover  # noqa: E402
from models.networks.fragments.dover import Dover  # noqa: E402
from models.networks.pictures.topiq import Topiq, TopiqConfig  # noqa: E402
from tests.media.clips import clip, x264  # noqa: E402
from tests.models.owl_weights import CONFIG, random_weights  # noqa: E402
from tests.models.served.test_hidden import CLIPS, MAKE, SCALE, WORDS  # noqa: E402
from vqmon.cli.main import main  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

PAGES = Path(__file__).parents[3] / "docs" / "scorers"
SLOW = ("aligniqa", "compare2score", "rqvqa", "srvqa")
SMALL: Mapping[str, Callable[[], Any]] = {
    **MAKE,
    "dover": lambda: Dover(CLIPS, ConvNextConfig(widths=(8, 16), depths=(3, 1))),
    "cover": lambda: Cover(CLIPS, ConvNextConfig(widths=(8, 16), depths=(3, 1))),
    "clip": lambda: ClipVisual(WORDS),
    "topiq": lambda: Topiq(TopiqConfig(depths=(1, 1, 1, 1), width=16)),
}
RESULTS = {"validation_results": (np.float64(0.87), np.float32(0.88)), "optimizer": {"state": {}, "param_groups": []}}
LAYOUTS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "FAST_VQA_B_1_4.pth": lambda table: {"state_dict": table, **RESULTS},
    "DOVER.pth": dict,
    "COVER.pth": lambda table: {
        "state_dict": {**table, "semantic_backbone.prompt_learner.ctx": torch.zeros(2, 16, 768)},
        **RESULTS,
    },
    "ViT-L-14.pt": lambda table: {
        **{name: tensor.half() for name, tensor in table.items()},
        "transformer.resblocks.0.ln_1.bias": torch.zeros(768),
        "logit_scale": torch.ones(()),
    },
    "cfanet_nr_koniq_res50-9a73138b.pth": lambda table: {"params": table},
    "LIQE.pt": lambda table: {name: tensor.half() for name, tensor in table.items()},
    "SLOWFAST_8x8_R50.pyth": lambda table: {
        "model_state": {**table, "blocks.0.multipathway_blocks.0.conv.weight": torch.zeros(64, 3, 1, 7, 7)},
        "cfg": "MODEL: x\n",
    },
    "ckpts/FOLD.pth": lambda table: {f"module.{name}": tensor for name, tensor in table.items()},
}
"""File as published -> what its trainer saves, of a table of tensors by their names in the network."""
SHORT = ("warm_up=2", "validate_every=12", "steps=24", "share=0.7", "network.width=16", "learning_rate=0.002")
NETWORK_OF = {
    "FAST_VQA_B_1_4.pth": "fast_vqa", "DOVER.pth": "dover", "COVER.pth": "cover", "ViT-L-14.pt": "clip",
    "LIQE.pt": "liqe", "SLOWFAST_8x8_R50.pyth": "slowfast",
    "ckpts/FOLD.pth": "rq_vqa", "cfanet_nr_koniq_res50-9a73138b.pth": "topiq",
}  # fmt: skip


def small_kits() -> dict[str, published.PublishedScorer]:
    """The published scorers over small networks."""
    return {
        name: replace(kit, files={key: replace(file, build=SMALL[key]) for key, file in kit.files.items()})
        for name, kit in published.PUBLISHED_SCORERS.items()
        if kit.files.keys() <= SMALL.keys()
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip, a photo, two data sets and every file that the pages download, all of small networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VQMON_DECODE__WORKERS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(published, "PUBLISHED_SCORERS", small_kits())
    topiq = picture_scorers.PICTURE_SCORERS["topiq"]
    crops = replace(topiq.crops, side=64, short_side=64)
    monkeypatch.setattr(picture_scorers, "PICTURE_SCORERS", {"topiq": replace(topiq, crops=crops)})
    # threads that wait for one another spin: see _one_thread
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    plan = train.read_training_config
    monkeypatch.setattr(train, "read_training_config", lambda file, overrides: plan(file, [*SHORT, *overrides]))
    for module in (owl_command, feature_scorers):
        monkeypatch.setattr(module, "OwlConfig", lambda: CONFIG)
    Path("clip.mp4").write_bytes(clip(*x264(), seconds=2, size="256x256", container="mp4"))
    return tmp_path


def write_file(name: str) -> None:
    """A published file of random weights."""
    torch.manual_seed(len(name))
    network = SMALL[NETWORK_OF[name]]()
    published.randomize_weights(network)
    Path(name).parent.mkdir(exist_ok=True)
    torch.save(LAYOUTS[name](dict(network.state_dict())), name)


def write_shards(folder: str) -> None:
    """A folder as the hub gives it: two shards of half precision, and their index."""
    weights, index = random_weights(CONFIG), {}
    Path(folder).mkdir()
    for number, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2]), start=1):
        shard = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: weights[name].to(torch.bfloat16) for name in names}, Path(folder) / shard)
        index |= dict.fromkeys(names, shard)
    (Path(folder) / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))


def write_pictures(folder: str, count: int) -> list[str]:
    Path(folder).mkdir(parents=True, exist_ok=True)
    names = [f"{number}.jpg" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 60 + 15 * number, (240, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).save(Path(folder) / name, quality=90)
    return names


def write_koniq() -> None:
    names = write_pictures("koniq10k/1024x768", 10)
    rows = [f"{name},{20 + 10 * number},10,100" for number, name in enumerate(names)]
    Path("koniq10k/koniq10k_scores.csv").write_text("\n".join(["image_name,MOS,SD,c_total", *rows]))


def write_konvid() -> None:
    Path("KoNViD_1k/KoNViD_1k_videos").mkdir(parents=True)
    for number in range(10):
        media = clip(*x264("-crf", str(20 + 3 * number)), seconds=1, size="256x256", container="mp4")
        Path(f"KoNViD_1k/KoNViD_1k_videos/{number}.mp4").write_bytes(media)
    rows = [f"{number},{4 - 0.3 * number}" for number in range(10)]
    Path("KoNViD_1k/KoNViD_1k_mos.csv").write_text("\n".join(["flickr_id,MOS", *rows]))


def write_scores() -> None:
    """Sharp crops of a photo above blurred ones: a training of a moment tells them apart."""
    photo, rows = Image.fromarray(skimage.data.chelsea()), ["path,score,group"]
    for number in range(6):
        crop = photo.crop((15 * number, 10 * number, 15 * number + 200, 10 * number + 150))
        for blur in (0, 4):
            crop.filter(ImageFilter.GaussianBlur(blur)).save(f"{number}-{blur}.png")
            rows.append(f"{number}-{blur}.png,{4 - blur / 2 + number / 100},{number}")
    Path("scores.csv").write_text("\n".join(rows))


NEEDS: Mapping[str, Callable[[], None]] = {
    **{name: (lambda name=name: write_file(name)) for name in LAYOUTS},  # type: ignore[misc]
    "one-align": lambda: write_shards("one-align"),
    "compare2score": lambda: write_shards("compare2score"),
    "anchors": lambda: (write_pictures("anchors", 5), None)[1],
    "koniq10k": write_koniq,
    "KoNViD_1k": write_konvid,
    "scores.csv": write_scores,
    "cover.toml": lambda: (Path("cover.toml").write_text(SCALE), None)[1],
    "rq-vqa.toml": lambda: (Path("rq-vqa.toml").write_text(SCALE), None)[1],
}
"""What a page names -> how it comes to be there."""


def commands_of(page: Path) -> list[list[str]]:
    """The words of each `vqmon` command and `export` in the blocks of a page, lines that go on joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[0] in ("vqmon", "export")]


def outputs_of(page: Path) -> list[str]:
    """The lines that a page says a command prints."""
    blocks = re.findall(r"^```text\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line.strip() for line in "".join(blocks).splitlines() if line.strip()]


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command in this process; returns what it prints."""
    if words[0] == "export":
        name, _, value = words[1].partition("=")
        monkeypatch.setenv(name, value)
        return ""
    if words[1] == "models":
        output = io.StringIO()
        with redirect_stdout(output):
            command.main(words[2:])
        return output.getvalue()
    result = CliRunner().invoke(main, words[1:], env={**os.environ, "COLUMNS": "200"})
    assert result.exit_code == 0, f"{shlex.join(words)}: {result.output}"
    return result.output


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else [])
        for page in sorted(PAGES.glob("*.md"))
        if page.stem != "index"
    ],
)
def test_the_commands_of_a_page_run_and_print_what_it_says(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """From the downloaded file to a score and its correlation; numbers and hashes differ with the weights."""
    page = PAGES / f"{name}.md"
    commands = commands_of(page)
    text = " ".join(word for words in commands for word in words)
    for needed, make in NEEDS.items():
        if needed in text:
            make()
    printed = "\n".join(run(words, monkeypatch) for words in commands)
    seen = {_pattern(line) for line in printed.splitlines()}
    assert any("score" in words for words in commands)
    for line in outputs_of(page):
        assert _pattern(line) in seen, f"{line}\n\n{printed}"


def _pattern(line: str) -> str:
    """A line without its numbers, hashes, bands of scores and widths of columns."""
    line = re.sub(r"\b[0-9a-f]{64}\b", "#", line)
    line = re.sub(r"\b(very )?(high|medium|low)\b", "BAND", line)
    return " ".join(re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "0", line).split())
