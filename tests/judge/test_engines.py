"""Runtimes: each gives ONNX Runtime's numbers within a bound, or says that it does not."""

from __future__ import annotations

import concurrent.futures
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import assay
from assay.errors import AssayError, BundleError, MissingExtra
from assay.judge import bundle
from assay.judge.engine import Engine, runtimes
from assay.judge.engines import RUNTIMES, onnxruntime, openvino
from assay.judge.probe import made_up
from assay.types import Runtime
from tiny import WEIGHTS, tiny_graph

pytest.importorskip("openvino")

Folder = tuple[Path, str, npt.NDArray[np.float32]]

APART: dict[Runtime, float] = {"openvino": 1e-4, "openvino-bf16": 0.05}
"""Largest difference from ONNX Runtime in float32, as a share of the largest number."""

HERE = runtimes()


def apart(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`traced(name)`: a folder with the graphs of a small transformer or CNN, made once."""
    torch = pytest.importorskip("torch")
    from assay.learn.export import export
    from assay.learn.nn.backbones import build
    from assay.learn.recipe import Backbone

    @functools.cache
    def made(name: str) -> Path:
        torch.manual_seed(3)
        trunk = build(Backbone(name=name), 64)
        with torch.no_grad():
            for parameter in trunk.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        folder = tmp_path_factory.mktemp(name)
        for file, content in export(trunk.eval(), 64, "t", "fp32").items():
            (folder / file).write_bytes(content)
        return folder

    return made


@pytest.fixture(scope="module", params=["texture", "test_vit", "test_vit in fp16", "test_vit in int8", "test_convnext"])
def network(
    request: pytest.FixtureRequest, traced: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Folder:
    """A folder with graphs, the trunk's name, and views for it."""
    if request.param == "texture":
        folder = bundle.find("assay-texture")
        return folder, "texture", bundle.read(folder).card.streams[0].view.tensor(made_up(192, 5))
    from assay.learn import graph

    name, _, precision = request.param.partition(" in ")
    folder = traced(name)
    if precision:
        model = graph.load(folder, "t")
        graph.narrow(model, precision)  # type: ignore[arg-type]
        folder = tmp_path_factory.mktemp(precision)
        for file, content in graph.files(model, "t").items():
            (folder / file).write_bytes(content)
    return folder, "t", np.random.default_rng(0).standard_normal((5, 3, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("engine", [name for name in RUNTIMES if name in HERE and name != "onnxruntime"])
def test_every_runtime_gives_onnx_runtimes_numbers_in_both_graphs(network: Folder, engine: Runtime) -> None:
    folder, stem, views = network
    one = Engine(folder, stem, threads=1, device="cpu")
    other = Engine(folder, stem, threads=2, device="cpu", crops=4, engine=engine)
    assert apart(other.run(views), one.run(views)) <= APART[engine]
    explained, expected = other.explain(views), one.explain(views)
    assert list(explained) == list(expected)
    for name in expected:
        assert apart(explained[name], expected[name]) <= APART[engine], name


def test_a_runtime_that_is_asked_for_is_the_one_that_runs(network: Folder) -> None:
    folder, stem, views = network
    assert not np.array_equal(Engine(folder, stem, engine="openvino").run(views), Engine(folder, stem).run(views))


# ── counting without a runtime ───────────────────────────────────────────────────────────────────────────────────────


def test_what_is_counted_is_what_the_graph_gives() -> None:
    folder = bundle.find("assay-texture")
    (stream,) = bundle.read(folder).card.streams
    assert stream.runs is not None
    crops = made_up(192, 5)
    graph = Engine(folder, stream.trunk, device="cpu")
    expected = graph.embed(stream.view, crops)
    for threads, most in ((1, None), (2, None), (4, 3)):
        engine = Engine(folder, stream.trunk, threads, "cpu", most, counting=stream.runs)
        assert engine.embed(stream.view, crops) == pytest.approx(expected, abs=1e-6)
        assert np.array_equal(engine.embed(stream.view, crops), engine.run(stream.view.tensor(crops)))
    assert engine.explain(stream.view.tensor(crops))["embedding"] == pytest.approx(expected, abs=1e-6)


def test_a_detector_that_counts_needs_no_graph_to_judge_and_any_runtime_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((Path(__file__).parents[2] / "samples").glob("*/*.jpg"))
    expected = [assay.load(engine=engine).judge(file) for engine in HERE if "bf16" not in engine for file in files]
    monkeypatch.setattr(Engine, "_load", None)
    detector = assay.load()
    found = [detector.judge(file) for file in files]
    assert (detector.name, detector.version) == ("assay-texture", expected[0].detector["version"])
    for number, one in enumerate(expected):
        assert one.score == pytest.approx(found[number % len(files)].score, abs=1e-6)
        assert one.verdict == found[number % len(files)].verdict
        assert one.detector == found[0].detector


FIRST = """
import sys, threading
import numpy as np
from assay.judge.engine import Engine
sys.setswitchinterval(1e-6)
engine = Engine(sys.argv[1], "tiny", threads=2, crops=4, engine="openvino")
engine._session("judge")
begin = threading.Barrier(4)
def run():
    begin.wait()
    engine.run(np.zeros((4, 3, 32, 32), np.float32))
threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_that_are_the_first_to_run_a_graph_do_not_wait_for_each_other(bundle_folder: Path) -> None:
    """Without care, one process in six stands still."""
    for _ in range(4):
        subprocess.run([sys.executable, "-c", FIRST, str(bundle_folder)], check=True, timeout=60)


def test_each_view_keeps_its_place_where_many_threads_run_one_graph(bundle_folder: Path) -> None:
    engine = Engine(bundle_folder, "tiny", threads=2, crops=4, engine="openvino")
    batches = [np.random.default_rng(n).standard_normal((1 + n % 7, 3, 32, 32)).astype(np.float32) for n in range(40)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine.run, batches))
    for batch, embedding in zip(batches, found, strict=True):
        np.testing.assert_allclose(embedding[:, :3], batch.mean(axis=(2, 3)), atol=1e-6)


def test_parts_of_one_batch_that_run_one_after_another_keep_their_numbers(bundle_folder: Path) -> None:
    views = np.random.default_rng(0).standard_normal((9, 3, 32, 32)).astype(np.float32)
    engine = Engine(bundle_folder, "tiny", threads=1, crops=2, engine="openvino")
    np.testing.assert_allclose(engine.run(views)[:, :3], views.mean(axis=(2, 3)), atol=1e-6)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("location", ["../secret", "{tmp}/secret", "sub/../../secret", "link"])
def test_weights_outside_the_folder_are_never_read(parts: Any, tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    parts.files["tiny.judge.onnx"] = tiny_graph(location.format(tmp=tmp_path))
    folder = parts.write(tmp_path / "tiny").folder
    if location == "link":
        (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match="can't be run") as caught:
        Engine(folder, "tiny", engine="openvino").run(np.zeros((1, 3, 32, 32), np.float32))
    assert caught.value.kind == "invalid"


@pytest.mark.parametrize(
    ("graph", "words"), [(b"", ""), (b"not a graph", ""), (tiny_graph(views="pixels"), r"it takes \['pixels'\]")]
)
def test_a_graph_that_is_none_or_takes_something_else_is_refused(
    parts: Any, tmp_path: Path, graph: bytes, words: str
) -> None:
    parts.files["tiny.judge.onnx"] = graph
    engine = Engine(parts.write(tmp_path / "tiny").folder, "tiny", engine="openvino")
    with pytest.raises(BundleError, match=rf"tiny\.judge\.onnx can't be run: {words}"):
        engine.run(np.zeros((1, 3, 32, 32), np.float32))


def test_views_that_the_graph_does_not_take_are_refused(bundle_folder: Path) -> None:
    with pytest.raises(BundleError, match="can't be run"):
        Engine(bundle_folder, "tiny", engine="openvino").run(np.zeros((1, 4, 32, 32), np.float32))


def test_an_unknown_engine_and_a_gpu_for_openvino_are_usage_errors(bundle_folder: Path) -> None:
    with pytest.raises(AssayError, match="no engine called 'openvin'; did you mean openvino") as caught:
        assay.load(bundle_folder, engine="openvin")  # type: ignore[arg-type]
    assert caught.value.kind == "device"
    with pytest.raises(AssayError, match="openvino runs on the CPU") as caught:
        assay.load(bundle_folder, engine="openvino", device="cuda")
    assert caught.value.kind == "device"


def test_without_openvino_the_extra_is_named_and_nothing_else_needs_it(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "installed", lambda: False)
    with pytest.raises(MissingExtra, match=r'pip install "assay\[openvino\]"'):
        assay.load(bundle_folder, engine="openvino")
    assert runtimes() == ("onnxruntime",)
    assert assay.load(bundle_folder).engine("grey").runtime == "onnxruntime"


def test_bfloat16_is_refused_where_the_processor_has_no_arithmetic_for_it(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "has_bf16", lambda: False)
    with pytest.raises(AssayError, match="no arithmetic for bfloat16") as caught:
        assay.load(bundle_folder, engine="openvino-bf16")
    assert caught.value.kind == "device"
    assert runtimes() == ("onnxruntime", "openvino")


# ── what a detector makes of it ──────────────────────────────────────────────────────────────────────────────────────


def test_a_detector_says_the_same_by_either_runtime(bundle_folder: Path, flat: Callable[..., Any]) -> None:
    one = assay.load(bundle_folder, threads=1, device="cpu")
    other = assay.load(bundle_folder, threads=1, engine="openvino")
    assert other.engine("grey").runtime == "openvino"
    assert (other.name, other.sha256) == (one.name, one.sha256)
    for grey in (30, 120, 127, 220):
        first, second = one.judge(flat(grey)), other.judge(flat(grey))
        assert first.score == pytest.approx(second.score, abs=1e-5)
        assert first.detector == second.detector


def test_a_detector_in_bfloat16_is_told_apart(
    bundle_folder: Path, flat: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "has_bf16", lambda: True)
    plain, rough = assay.load(bundle_folder), assay.load(bundle_folder, engine="openvino-bf16")
    assert rough.name == "tiny-bf16"
    assert rough.sha256 != plain.sha256
    signature = rough.judge(flat(200)).detector
    assert (signature["name"], signature["sha256"], signature["card"]) == ("tiny-bf16", rough.sha256, plain.sha256)


def test_the_precision_that_is_asked_for_reaches_openvino(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    core = openvino._core()

    class Watched:
        def compile_model(self, model: Any, device: str, options: dict[str, Any]) -> Any:
            asked.append(options)
            return core.compile_model(model, device, options)

        def __getattr__(self, name: str) -> Any:
            return getattr(core, name)

    monkeypatch.setattr(openvino, "_core", Watched)
    monkeypatch.setattr(openvino, "has_bf16", lambda: True)
    for engine in ("openvino", "openvino-bf16"):
        Engine(bundle_folder, "tiny", threads=2, engine=engine).run(np.zeros((2, 3, 32, 32), np.float32))
    assert [options["INFERENCE_PRECISION_HINT"] for options in asked] == ["f32", "bf16"]
    assert [options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] for options in asked] == [0, 0]
    assert [(options["INFERENCE_NUM_THREADS"], options["NUM_STREAMS"]) for options in asked] == [(2, 2), (2, 2)]


# ── int8 graphs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def eight_bits(tmp_path: Path) -> Path:
    """A graph that rounds its views to 8 bits."""
    scale, zero = numpy_helper.from_array(np.float32(0.05), "scale"), numpy_helper.from_array(np.uint8(128), "zero")
    nodes = [
        helper.make_node("QuantizeLinear", ["views", "scale", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["rounded"]),
        helper.make_node("ReduceMean", ["rounded"], ["embedding"], axes=[2, 3], keepdims=0),
    ]
    made = helper.make_graph(
        nodes,
        "rounded",
        [helper.make_tensor_value_info("views", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3])],
        [scale, zero],
    )
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "t.judge.onnx"
    )
    return tmp_path


def test_an_int8_graph_runs_where_openvino_makes_the_same_of_it(eight_bits: Path) -> None:
    views = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
    found, expected = (Engine(eight_bits, "t", engine=name).run(views) for name in ("openvino", "onnxruntime"))
    np.testing.assert_allclose(found, expected, atol=0.002)


def test_an_int8_graph_is_refused_where_openvino_makes_something_else_of_it(
    eight_bits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off(onnxruntime.Loaded):
        def run(self, *given: Any) -> Any:
            return [1.5 * output for output in super().run(*given)]

    monkeypatch.setattr(onnxruntime, "Loaded", Off)
    with pytest.raises(BundleError, match="33% away from ONNX Runtime's on this processor; take engine onnxruntime"):
        Engine(eight_bits, "t", engine="openvino").run(np.zeros((1, 3, 16, 16), np.float32))
