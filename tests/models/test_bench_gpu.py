"""The GPU bench runs, small and on a CPU; and the operations it counts are those that torch counts."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from bench.scoring import gpu, gpu_features, gpu_owl  # noqa: E402
from models.networks.owl.owl import tiny_config  # noqa: E402
from models.networks.sr_vqa import SrVqa, SrVqaConfig  # noqa: E402
from tests.media.clips import clip, x264  # noqa: E402
from tests.models.export.assembly.test_writer import PICTURES, WIDTHS, joined, small  # noqa: E402
from tests.scoring.tiny_onnx import write_bundle  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_the_script_runs_small_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    """Every part prints its figures, ONNX Runtime among them."""
    gpu_owl.main(["--size", "tiny", "--device", "cpu", "--seconds", "0.01", "--without", "compile"])
    output = capsys.readouterr().out
    for part in ("device", "ceiling", "plain eager", "torch eager    clip", "ORT fp32       batch   2", "written"):
        assert part in output
    differences = [float(line.split("parity")[1].split()[0]) for line in output.splitlines() if "parity" in line]
    assert len(differences) == 2
    assert max(differences) <= 0.0005


def test_a_form_that_is_not_the_network_fails_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    """Its expected levels are compared with those of torch in float32, and its name is in the error."""
    setting = gpu_owl.Setting(
        config=tiny_config(), device=torch.device("cpu"), dtype=torch.float32, batches=(1,), seconds=0.01
    )
    setting.reference.append(torch.tensor([0.5, 0.5]))
    levels = torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0])
    gpu_owl.report_parity(
        setting, "odd", lambda pixels: pixels, lambda features, question: levels.expand(2, 5), precision="bf16"
    )
    assert setting.failures == ["odd by 0.4997"]
    assert "0.49969 of the span of levels; 0.02 at most" in capsys.readouterr().out


def test_a_torch_bench_that_fails_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By its exit code, whatever the other one says, and the whole script ends with 1."""
    (tmp_path / "gpu_owl.py").write_text("raise SystemExit('error: no CUDA device')\n")
    (tmp_path / "gpu_features.py").write_text("print('figures')\n")
    assert not gpu.run_torch_benches(is_small=True, folder=tmp_path)
    output, errors = capfd.readouterr()
    assert "figures" in output
    assert "torch  gpu_owl.py failed with exit code 1" in output
    assert "no CUDA device" in errors
    (tmp_path / "gpu_owl.py").write_text("")
    assert gpu.run_torch_benches(is_small=True, folder=tmp_path)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_devices_are_compared_with_the_cpu(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A device that is not there is said to be refused, and fails the run, as NVDEC's absence does not."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "clip.ts").write_bytes(clip(*x264()))
    write_bundle(tmp_path)
    common = ["--scorer", "tiny", "--folder", str(tmp_path), "--clips", str(tmp_path / "clips"), "--seconds", "0.01"]
    code = gpu.main([*common, "--device", device, "--without-torch"])
    output = capsys.readouterr().out
    assert "0.0000 of 100 apart  cpu" in output
    assert "differs by 0 levels" in output
    if device == "cpu":
        assert code == 0
    elif not torch.cuda.is_available():
        assert code == 1
        assert "refused: " in output
        assert "nvdec  cuda:0 cannot be used: " in output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, with the small form as the way out."""
    with pytest.raises(SystemExit, match="--size tiny --device cpu"):
        gpu_owl.main([])
    with pytest.raises(SystemExit):
        gpu_features.main([])
    assert "--device cpu" in capsys.readouterr().err


def test_composites_are_measured_small_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    """Torch eager and ONNX Runtime agree with torch in float32, and a step of training changes weights."""
    torch.manual_seed(0)
    setting = gpu_features.Setting(device="cpu", units=2, rounds=1)
    assert gpu_features.report(small(joined()), setting, forms=["fp32"]) == []
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("  ")[0] for row in rows] == ["torch eager fp32", "ORT fp32"]
    assert all(float(row.split()[-2]) <= 1e-4 for row in rows)
    far = np.array([1.0])
    assert gpu_features.show("ORT fp32", 1.0, 0.0, far, far * 1.001) == ["ORT fp32 is 1.0e-03 apart"]
    network = SrVqa(SrVqaConfig(features=WIDTHS, swin=PICTURES, hidden=8))
    before = [each.detach().clone() for each in network.parameters()]
    assert gpu_features.train_step(network, setting, batch=4) > 0
    assert any(not torch.equal(parameter, other) for parameter, other in zip(before, network.parameters(), strict=True))
