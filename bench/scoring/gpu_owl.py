"""Measures OneAlign at full size with random weights on a GPU: torch eager, torch.compile and ONNX Runtime.

python bench/scoring/gpu_owl.py needs a CUDA device with 40 GB of memory and 20 GB of disk

python bench/scoring/gpu_owl.py --size tiny --device cpu runs the same steps, small, anywhere: shows that the script
works

Every rate is compared with the card's own matrix rate, measured here, and with the operations that the network needs.
The expected level of two pictures is compared with that of torch in float32; ends with exit code 1 when a form differs
by more than `models verify` allows it.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.export import graphs  # noqa: E402
from models.export.owl import PRECISIONS, LevelScorerRecipe, default_dtype, write_encoder, write_language  # noqa: E402
from models.export.owl_recipes import q_align_recipe  # noqa: E402
from models.export.owl_streaming import expected_shapes, head_rows, iterate_layers, text_embeddings  # noqa: E402
from models.export.pair import read_manifest_facts  # noqa: E402
from models.networks.owl import q_align  # noqa: E402
from models.networks.owl.exportable import (  # noqa: E402
    FrameEncoder,
    LanguageScorer,
    ScorerConstants,
    compute_constants,
    split_prompt,
)
from models.networks.owl.owl import Owl, OwlConfig, tiny_config  # noqa: E402
from models.verify.owl_flops import encoder_flops, language_flops, reference_language_flops  # noqa: E402
from models.verify.owl_runner import misplaced_operators, with_exact_float32  # noqa: E402

PREFIX, TEXT, PICTURE = 18, 15, 65
CLIP = 8
Encode = Callable[[Tensor], Tensor]
Answer = Callable[[Tensor, Tensor], Tensor]


class RandomWeights(Mapping[str, Tensor]):
    """Tensors of the published names and shapes, made from one block of noise each time they are read."""

    def __init__(self, config: OwlConfig, *, device: str = "cpu") -> None:
        self._shapes = {name: shape for name, shape in expected_shapes(config).items() if "pos_embed" not in name}
        self._block = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).to(device)

    def __getitem__(self, name: str) -> Tensor:
        shape = torch.Size(self._shapes[name])
        noise = self._block.repeat(-(-shape.numel() // len(self._block)))[: shape.numel()].view(shape)
        if len(shape) > 1:
            return noise * (0.5 if "embed_tokens" in name else 1.5 / shape[1:].numel() ** 0.5)
        return noise * 0.1 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Device, type, network sizes and batches of the measurement."""

    config: OwlConfig
    device: torch.device
    dtype: torch.dtype
    # pictures per batch
    batches: tuple[int, ...]
    seconds: float
    # one element: the device's matrix rate in operations per second
    peak_flops: list[float] = field(default_factory=list)
    # expected level of the compared pictures, as a share of the span of levels; empty until torch in float32 gave it
    reference: list[Tensor] = field(default_factory=list)
    # forms that differ too much from it
    failures: list[str] = field(default_factory=list)

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"


def measure(setting: Setting, run: Callable[[], object]) -> float:
    """Seconds per run, after a warm-up."""
    for _ in range(2):
        run()
    _wait(setting)
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < setting.seconds or count < 3:
        run()
        _wait(setting)
        count += 1
    return elapsed / count


def _wait(setting: Setting) -> None:
    if setting.on_cuda:
        torch.cuda.synchronize()


def matrix_rate(setting: Setting) -> float:
    """Operations per second of a large square product: the upper limit of every rate below."""
    side = 8192 if setting.on_cuda else 512
    left, right = (torch.randn(side, side, device=setting.device, dtype=setting.dtype) for _ in range(2))
    return 2.0 * side**3 / measure(setting, lambda: left @ right)


def prompt_constants(recipe: LevelScorerRecipe, weights: Mapping[str, Tensor]) -> ScorerConstants:
    """What the exported language model holds of its prompts, in float32 on the CPU."""
    questions = [split_prompt(each.ids, text_embeddings(weights, each.ids)) for each in recipe.prompts]
    head = head_rows(weights, list(recipe.levels.values()))
    layers = iterate_layers(weights, recipe.config)
    return compute_constants(questions, layers, config=recipe.config.language, head=head)


def build(
    setting: Setting, constants: ScorerConstants, weights: Mapping[str, Tensor]
) -> tuple[FrameEncoder, LanguageScorer]:
    """Both exported modules in torch, on the device."""
    config = setting.config
    with setting.device, default_dtype(setting.dtype):
        encoder = FrameEncoder(config)
    _fill(encoder, weights)
    with setting.device, default_dtype(setting.dtype):
        scorer = LanguageScorer(config, constants.to(setting.dtype))
    _fill(scorer, weights)
    return encoder.to(setting.device).eval(), scorer.to(setting.device).eval()


def _fill(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.data.copy_(weights[f"model.{name}"])


def expected_level(setting: Setting, encode: Encode, answer: Answer) -> Tensor:
    """Expected level of two pictures of noise, 0 (lowest) to 1 (highest)."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (2, 3, q_align.SIDE, q_align.SIDE), dtype=torch.uint8, generator=generator)
    question = torch.zeros(2, dtype=torch.int64, device=setting.device)
    logits = answer(encode(pixels.to(setting.device))[:, None], question).float().cpu()
    return logits.softmax(1) @ torch.linspace(1, 0, logits.shape[1])


def report_parity(setting: Setting, name: str, encode: Encode, answer: Answer, *, precision: str) -> None:
    """Print how far the expected level is from that of torch in float32, as a share of the span of levels."""
    (reference,), limit = setting.reference, PRECISIONS[precision].tolerance
    difference = float((expected_level(setting, encode, answer) - reference).abs().max())
    print(f"{name:14} parity      {difference:8.5f} of the span of levels; {limit:g} at most", flush=True)
    if not difference <= limit:
        setting.failures.append(f"{name} by {difference:.4f}")


def report(setting: Setting, name: str, encode: Encode, answer: Answer, *, precision: str) -> None:
    """Print parity, pictures per second by batch, the cost of a second task, clips per second and memory."""
    report_parity(setting, name, encode, answer, precision=precision)
    if setting.on_cuda:
        torch.cuda.reset_peak_memory_stats()
    config = setting.config
    total_flops = encoder_flops(config) + language_flops(config, tokens=PICTURE + TEXT, earlier=PREFIX)
    for batch in setting.batches:
        pixels = torch.randint(0, 256, (batch, 3, q_align.SIDE, q_align.SIDE), dtype=torch.uint8, device=setting.device)
        question = torch.zeros(batch, dtype=torch.int64, device=setting.device)
        features = encode(pixels)
        first = measure(setting, lambda p=pixels: encode(p))
        second = measure(setting, lambda f=features, q=question: answer(f[:, None], q))
        share = batch * total_flops / (first + second) / setting.peak_flops[0]
        print(
            f"{name:14} batch {batch:3}   {batch / (first + second):8.1f} pictures/s   {share:5.1%} of the device   "
            f"encoder {first / batch * 1000:8.2f} ms, a second task {second / batch * 1000:8.2f} ms per picture"
        )
    clip_flops = CLIP * encoder_flops(config) + language_flops(config, tokens=CLIP * PICTURE + TEXT, earlier=PREFIX)
    clip = torch.randint(0, 256, (CLIP, 3, q_align.SIDE, q_align.SIDE), dtype=torch.uint8, device=setting.device)
    video = torch.full((1,), 2, device=setting.device)
    seconds = measure(setting, lambda: answer(encode(clip)[None], video))
    print(
        f"{name:14} clip of {CLIP}   {1 / seconds:8.2f} clips/s      "
        f"{clip_flops / seconds / setting.peak_flops[0]:5.1%}"
    )
    if setting.on_cuda:
        print(f"{name:14} memory      {torch.cuda.max_memory_allocated() / 2**30:8.2f} GiB at most, by torch")


def report_plain(setting: Setting, weights: Mapping[str, Tensor]) -> None:
    """Measure the published form: one picture at a time, the whole prompt, the head at every position."""
    with setting.device, default_dtype(setting.dtype):
        network = Owl(setting.config)
    for name, parameter in network.named_parameters():
        parameter.data.copy_(weights[name])
    network.eval()
    pixels = torch.randn(1, 3, q_align.SIDE, q_align.SIDE, device=setting.device, dtype=setting.dtype)
    ids = q_align.PROMPTS["quality"]
    seconds = measure(setting, lambda: network.lm_head(network.hidden_states(ids, [network.encode_pictures(pixels)])))
    flops = encoder_flops(setting.config) + reference_language_flops(setting.config, tokens=len(ids) - 1 + PICTURE)
    print(
        f"{'plain eager':14} batch   1   {1 / seconds:8.1f} pictures/s   {flops / seconds / setting.peak_flops[0]:5.1%}"
    )


class OrtPart:
    """One graph in ONNX Runtime; its inputs are device tensors, without copies."""

    def __init__(self, setting: Setting, file: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        kind = "CUDAExecutionProvider" if setting.on_cuda else "CPUExecutionProvider"
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if setting.on_cuda:
            onnxruntime.preload_dlls(directory="")
        self._session = onnxruntime.InferenceSession(str(file), options, providers=[with_exact_float32(kind)])
        if kind not in self._session.get_providers():
            raise RuntimeError(f"{kind} cannot start; install onnxruntime-gpu and the CUDA libraries that it needs")
        if away := misplaced_operators(self._session, kind):
            raise RuntimeError(f"{', '.join(sorted(away))} of {file.name} do not run on {kind}")
        self._setting = setting

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype, **inputs: Tensor) -> Tensor:
        binding, device_type = self._session.io_binding(), self._setting.device.type
        held = {name: tensor.contiguous() for name, tensor in inputs.items()}
        for name, tensor in held.items():
            binding.bind_input(name, device_type, 0, _onnx_type(tensor.dtype), list(tensor.shape), tensor.data_ptr())
        output = torch.empty(shape, dtype=dtype, device=self._setting.device)
        name = self._session.get_outputs()[0].name
        binding.bind_output(name, device_type, 0, _onnx_type(dtype), list(shape), output.data_ptr())
        self._session.run_with_iobinding(binding)
        return output


def _onnx_type(dtype: torch.dtype) -> Any:
    import onnx

    names = {"uint8": "UINT8", "int64": "INT64", "float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}
    return getattr(onnx.TensorProto, names[str(dtype).removeprefix("torch.")])


def report_ort(
    setting: Setting, recipe: LevelScorerRecipe, weights: Mapping[str, Tensor], *, precision: str, folder: Path
) -> None:
    """Measure ONNX Runtime with graphs that are written here."""
    files = [folder / f"gpu.{part}.onnx" for part in ("encoder", "language")]
    start = time.perf_counter()
    write_encoder(
        recipe.config,
        weights,
        precision=PRECISIONS[precision],
        target=files[0],
        max_embedded_bytes=graphs.MAX_EMBEDDED_BYTES,
    )
    write_language(
        recipe, weights, precision=PRECISIONS[precision], target=files[1], max_embedded_bytes=graphs.MAX_EMBEDDED_BYTES
    )
    size = sum(graphs.hash_graph(file)[1] for file in files) / 2**30
    print(f"{'written':14} {size:.2f} GiB as {precision} in {time.perf_counter() - start:.0f} s")
    encoder, language = (OrtPart(setting, file) for file in files)
    width, dtype = setting.config.language.width, PRECISIONS[precision].dtype
    report(
        setting,
        f"ORT {precision}",
        lambda pixels: encoder((len(pixels), PICTURE, width), dtype, pixels=pixels),
        lambda features, question: language(
            (len(question), len(recipe.levels)), torch.float32, features=features, question=question
        ),
        precision=precision,
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each figure is measured")
    parser.add_argument("--without", action="append", default=[], choices=("plain", "compile", "ort"))
    parser.add_argument("--folder", type=Path, help="where graphs are written; else a folder that is removed after")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: no CUDA device; for a small run anywhere add: --size tiny --device cpu")
    on_cuda = options.device == "cuda"
    config = OwlConfig() if options.size == "full" else tiny_config()
    device, dtype = torch.device(options.device), torch.bfloat16 if on_cuda else torch.float32
    batches = (1, 2, 4, 8, 16) if on_cuda else (1, 2)
    setting = Setting(config=config, device=device, dtype=dtype, batches=batches, seconds=options.seconds)
    with torch.no_grad():
        run(setting, without=options.without, folder=options.folder)
    if setting.failures:
        raise SystemExit(f"error: not the expected levels of torch in float32: {', '.join(setting.failures)}")


def _free(setting: Setting) -> None:
    """Return the memory of tensors that are gone to the device."""
    if setting.on_cuda:
        torch.cuda.empty_cache()


def run(setting: Setting, *, without: list[str], folder: Path | None) -> None:
    """All measurements one after the other; each frees the device before the next."""
    setting.peak_flops.append(matrix_rate(setting))
    name = torch.cuda.get_device_name() if setting.on_cuda else "CPU"
    print(f"{'device':14} {name}, {setting.dtype}, {setting.peak_flops[0] / 1e12:.2f} TFLOP/s of matrix products")
    config = setting.config
    total_flops = encoder_flops(config) + language_flops(config, tokens=PICTURE + TEXT, earlier=PREFIX)
    print(
        f"{'ceiling':14} {total_flops / 1e9:.1f} GFLOP per picture: "
        f"{setting.peak_flops[0] / total_flops:.1f} pictures/s at most"
    )
    recipe = q_align_recipe(read_manifest_facts(ROOT / "models" / "q_align.facts.toml"), config=config)
    weights = RandomWeights(config)
    on_device = RandomWeights(config, device=setting.device.type) if setting.on_cuda else weights
    constants = prompt_constants(recipe, weights)
    exact = replace(setting, dtype=torch.float32)
    setting.reference.append(expected_level(setting, *build(exact, constants, on_device)))
    _free(setting)
    if "plain" not in without:
        report_plain(setting, on_device)
    encoder, scorer = build(setting, constants, on_device)
    precision = "bf16" if setting.on_cuda else "fp32"
    report(setting, "torch eager", encoder, scorer, precision=precision)
    if "compile" not in without:
        compiled = (torch.compile(network, dynamic=False) for network in (encoder, scorer))
        report(setting, "torch.compile", *compiled, precision=precision)
    del encoder, scorer
    _free(setting)
    if "ort" not in without:
        with contextlib.ExitStack() as stack:
            graph_folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for precision in ("bf16", "fp16") if setting.on_cuda else ("fp32",):
                report_ort(setting, recipe, weights, precision=precision, folder=graph_folder)


if __name__ == "__main__":
    main()
