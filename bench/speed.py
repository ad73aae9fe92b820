"""Measures how fast a detector judges, whether its memory stays flat, and how long the first verdict takes.

    python bench/speed.py
    python bench/speed.py --detector ./bundle --files 100 --many 2000 --repeat 3
    python bench/speed.py --made-up vit --only speed
    python bench/speed.py --against ./earlier     # and another detector beside it, in the same rounds
    python bench/speed.py --ferretnet FOLDER --ladeda FOLDER      # and checkouts of published ones

Three questions, each answered on this machine, in this run:

1. Pictures per second of a scan (files to a results file, two threads that decode), by the runtime that
   `assay detectors --probe` finds here unless `--engine` names one, against

   - the same network in eager torch, called one picture at a time, and compiled by torch, in batches, with as many
     threads that decode ahead;
   - published detectors, one picture at a time and in their own batches, as `bench/public.py` runs them;
   - what limits it: decoding these files and cutting them to views, and nothing else; the networks alone on what was
     cut before; and the machine's own float32 matrix product.
2. Resident memory while many files are scanned.
3. Time from the command to the first verdict, and where it goes.

What else runs on the machine moves every figure, so the things that are compared take turns, round by round, and the
ratio is taken within a round. Trust ratios; a rate by itself says more about the hour than about the program.

The pictures are made from `samples/real`. Prints a table on standard error and one JSON object on standard output, and
writes nothing but a temporary folder; torch's compiler leaves headers of its own in the system's. Without torch the
comparisons are left out, and so is the share of the product.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import datetime
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table

import assay
from assay.errors import AssayError
from assay.image import counting
from assay.image.memory import keep
from assay.judge import bundle, probe
from assay.judge.engine import runtimes
from assay.judge.engines import RUNTIMES
from assay.judge.prepared import Prepared
from assay.judge.scan import expand, scan
from assay.judge.sink import Results
from assay.types import EngineName

SIDE = 512
"""Side of the pictures in pixels."""

PRODUCT = 2048
"""Side of the matrices whose product gives the machine's rate; the three of them take 48 MiB, more than most caches."""

STEP, SETTLED = 500, 1000
"""Memory is looked at every so many files; what the first thousand took is the base."""

FLAT = 0.10
"""Memory that grows by less than this share of the base counts as flat."""

BATCH, WORKERS = 8, 2
"""Pictures in one run of the networks, and threads that decode, as `assay scan` has them."""

PUBLISHED = {"FerretNet-S": 32, "Tiny-LaDeDa (WildRF)": 64}
"""Of `bench/public.py`, with the batches that their authors test in."""

NEAR = 1e-3
"""Compiled networks whose embeddings are further from eager torch's, relative to the largest, are not taken."""

NOT_GIVEN = "not given"

SAMPLES = Path(__file__).parent.parent / "samples" / "real"

_PRODUCT_SECONDS = 2.0

_REST = 0.3
"""Seconds between two measurements: idle threads of the one before may still spin."""

Measured = dict[str, Any]
Item = TypeVar("Item")
Made = TypeVar("Made")

# ── what is measured on ──────────────────────────────────────────────────────────────────────────────────────────────


def photographs() -> list[Image.Image]:
    """Those of the repository, in RGB."""
    found = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.jpg"))]
    if not found:
        raise SystemExit(f"no pictures in {SAMPLES}; run from a checkout that has its samples")
    return found


def pictures(folder: Path, count: int, seed: int = 0) -> None:
    """`count` different JPEG files of SIDE x SIDE px: turned and enlarged pieces of photographs, quality 75 to 95."""
    draw = np.random.default_rng(seed)
    found = photographs()
    folder.mkdir(parents=True)
    for number in range(count):
        photograph = found[number % len(found)]
        side = min(photograph.size)
        piece = draw.uniform(0.6, 1.0) * side
        left, top = (draw.uniform(0, extent - piece) for extent in photograph.size)
        cut = photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + piece, top + piece))
        turned = cut.transpose(Image.Transpose(int(draw.integers(7))))
        turned.save(folder / f"{number:05}.jpg", quality=int(draw.integers(75, 96)))


def linked(originals: Path, folder: Path, count: int) -> None:
    """`count` names for the files of `originals`, a thousand a folder."""
    files = sorted(originals.iterdir())
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06}.jpg").hardlink_to(files[number % len(files)])


def made_up(folder: Path, network: Literal["trace", "vit"] = "trace") -> Path:
    """A bundle with the shape of a detector and random numbers inside: its speed is right, its verdicts are not.

    Needs the extra "train".

    Args:
        network: "trace", a small convolutional network on up to nine crops of 128 px; "vit", CoDE's ViT-Tiny on one of
            224 px.
    """
    import torch

    from assay.image.view import View
    from assay.judge.card import Card, HeadCard, StreamCard
    from assay.judge.engine import runtime
    from assay.judge.heads import LinearHead
    from assay.judge.rule import EnsembleRule, Errors, Judge, Rows, StreamRule
    from assay.judge.seen import Seen
    from assay.learn.export import export
    from assay.learn.nn.backbones import build
    from assay.learn.recipe import Backbone
    from assay.recipes import code24

    torch.manual_seed(0)
    if network == "vit":
        (like,) = code24.RECIPE.streams
        view, backbone = like.view, like.backbone
    else:
        view, backbone = View(size=128, layout="grid", across=3), Backbone(name="trace_cnn", front="both")
    trunk = build(backbone, view.size)
    weights = np.random.default_rng(0).normal(size=trunk.dim)
    stream = StreamCard(
        name=network,
        view=view,
        trunk=network,
        head=HeadCard(kind="linear"),
        parameters=sum(parameter.numel() for parameter in trunk.parameters()),
        embedding=trunk.dim,
        backbone=f"{backbone.name} on {backbone.front}",
    )
    card = Card(
        name="made-up" if network == "trace" else f"made-up-{network}",
        version="0",
        description="Random numbers in the shape of a detector, to measure speed with. Its verdicts mean nothing.",
        recipe="none",
        created=datetime.date.today(),
        assay=assay.__version__,
        streams=(stream,),
        engine=runtime(),
        precision="fp16",
    )
    judge = Judge(
        streams={network: StreamRule(threshold=0.7, doubt_low=0.3, fpr=0.05)},
        ensemble=EnsembleRule(
            threshold=0.7,
            doubt_low=0.3,
            fpr=0.05,
            errors=Errors(false_fake=0.5, false_real=0.5, decided=1),
            rows=Rows(real=0, fake=0),
        ),
    )
    keys = np.arange(20_000, dtype=np.uint64)
    bundle.write(
        folder,
        card,
        judge,
        files=dict(export(trunk, view.size, network, "fp16")),
        heads={network: LinearHead(weights, 0.0)},
        seen=Seen(keys, keys, keys),
    )
    return folder


def ready(name: str, engine: EngineName, note: Callable[[str], None]) -> tuple[assay.Detector, Measured]:
    """A detector, and what runs it; "auto" measures that first, as `assay detectors --probe` does, and has loops that
    count compiled, as they are in a long scan."""
    if engine != "auto":
        return assay.load(name, engine=engine), {"runtime": engine}
    if bundle.read(bundle.find(name)).card.counts:
        return assay.load(name), {"runtime": f"counted by {counting.settle()}"}
    note(f"measuring what runs {name} fastest here")
    probed = probe.probe(bundle.read(bundle.find(name)))
    chosen = probe.remember(probed)
    found = {"runtime": chosen.engine, "threads": chosen.threads, "crops": chosen.crops}
    return assay.load(name), found | {"times_usual": _short(probed.chosen.times)}


# ── pictures per second ──────────────────────────────────────────────────────────────────────────────────────────────


def speed(
    detector: assay.Detector,
    folder: Path,
    scratch: Path,
    repeat: int,
    note: Callable[[str], None],
    other: assay.Detector | None = None,
    rough: assay.Detector | None = None,
    checkouts: dict[str, Path | None] | None = None,
) -> Measured:
    """Rounds of a scan and of all that it is compared with, in turns.

    Args:
        other, rough: further detectors whose scans take part; `rough` is the same one in bfloat16.
        checkouts: of published detectors, by the option of `bench/public.py`.
    """
    files = sorted(folder.iterdir())
    busy: dict[str, list[float]] = {}

    def paced(name: str, took: Callable[[], float]) -> Callable[[], float]:
        """Pictures a second; notes the processor time of each."""

        def measured() -> float:
            before = time.process_time()
            seconds = took()
            busy.setdefault(name, []).append((time.process_time() - before) / len(files))
            return len(files) / seconds

        return measured

    prepared = [detector.prepare(file) for file in files]
    ways: dict[str, Callable[[], float]] = {
        "scan": lambda: scanned(detector, folder, scratch),
        "decode": lambda: decoded(files, detector.prepare),
        "pillow": lambda: decoded(files, opened),
        "network": lambda: embedded(detector, prepared),
    }
    for name, more in (("other", other), ("rough", rough)):
        if more is not None:
            ways[name] = functools.partial(scanned, more, folder, scratch)
    eager = Eager.of(detector, note)
    batched: Batched | None = None
    if eager is not None:
        note("compiling the networks")
        batched = Batched(eager, files)
        if batched.failed:
            note(f"torch cannot compile the networks here: {batched.failed}")
        ways["eager"] = functools.partial(eager.took, files)
        ways["batched"] = functools.partial(batched.took, files)
    theirs, absent = published(checkouts or {})
    for one in theirs:
        ways[one.name] = functools.partial(one.took, files)
        ways[f"{one.name}, batches"] = functools.partial(one.took, files, one.batch)
    rounds = {name: paced(name, way) for name, way in ways.items()} | {"product": product}
    for warm in (product, *ways.values()):
        warm()
    rates: dict[str, list[float]] = {name: [] for name in rounds}
    for number in range(repeat):
        # Back and forth, so that a load that rises or falls favours none.
        for name in sorted(rounds, reverse=bool(number % 2)):
            time.sleep(_REST)
            rates[name].append(rounds[name]())
        note(f"round {number + 1} of {repeat}: " + ", ".join(f"{name} {rates[name][-1]:.4g}" for name in rounds))

    def over(name: str) -> Measured:
        return spread([a / b for a, b in zip(rates["scan"], rates[name], strict=True)])

    def figures(name: str) -> Measured:
        return {"pictures_per_second": spread(rates[name]), "cpu_seconds_per_picture": spread(busy[name])}

    alone = list(zip(rates["scan"], rates["decode"], rates["network"], strict=True))
    slower = min(("decode", "network"), key=lambda name: statistics.median(rates[name]))
    found: Measured = {"files": len(files), "side": SIDE, "rounds": repeat} | figures("scan")
    found |= {
        "product_gflops": spread([rate / 1e9 for rate in rates["product"]]),
        "decode": figures("decode"),
        "pillow": figures("pillow"),
        "decode_times_pillow": spread([a / b for a, b in zip(rates["decode"], rates["pillow"], strict=True)]),
        "network": figures("network"),
        "slower": slower,
        "share_of_slower": over(slower),
        "share_of_both": spread([scan * (1 / first + 1 / second) for scan, first, second in alone]),
        "published": [
            {
                "name": f"{one.name}{how}",
                **figures(f"{one.name}{how}"),
                "times": over(f"{one.name}{how}"),
                "batch": one.batch if how else 1,
            }
            for one in theirs
            for how in ("", ", batches")
        ]
        + [{"name": name, "note": why} for name, why in absent.items()],
    }
    if other is not None:
        found["other"] = figures("other") | {"times_other": over("other")}
    if rough is not None:
        found["bf16"] = figures("rough")
        if eager is not None:
            pairs = zip(rates["rough"], rates["eager"], strict=True)
            found["bf16"]["times_eager"] = spread([a / b for a, b in pairs])
    if eager is None or batched is None:
        return found | {"eager": None, "note": "no torch here: neither comparisons nor the share could be measured"}
    work = 2 * eager.macs
    weights = "random: the same architecture, which is what speed depends on"
    found["batched"] = figures("batched") | {
        "batch": BATCH,
        "compiled": not batched.failed,
        "compile_seconds": _short(batched.seconds),
        "note": batched.failed,
    }
    return found | {
        "eager": figures("eager") | {"threads": eager.threads, "weights": weights},
        "times_eager": over("eager"),
        "times_batched": over("batched"),
        "macs_per_picture": eager.macs,
        "share_of_product": spread([work * a / b for a, b in zip(rates["scan"], rates["product"], strict=True)]),
        "network_share_of_product": spread(
            [work * a / b for a, b in zip(rates["network"], rates["product"], strict=True)]
        ),
        "eager_share_of_product": spread([work * a / b for a, b in zip(rates["eager"], rates["product"], strict=True)]),
    }


def scanned(detector: assay.Detector, folder: Path, scratch: Path) -> float:
    """Seconds that one scan of a folder into a results file takes."""
    out = scratch / "results.jsonl"
    begun = time.perf_counter()
    with Results(out, "json", detector.sha256) as results:
        summary = scan(detector, expand([folder]), results)
    took = time.perf_counter() - begun
    out.unlink()
    if summary.failed or not summary.judged:
        raise SystemExit(f"{summary.failed} of the pictures could not be judged, {summary.judged} could")
    return took


def decoded(files: Sequence[Path], read: Callable[[Path], object]) -> float:
    """Seconds to decode these files and do nothing else, by as many threads as a scan has."""
    begun = time.perf_counter()
    for _ in ahead(files, read):
        pass
    return time.perf_counter() - begun


def opened(file: Path) -> npt.NDArray[np.uint8]:
    """A picture as a plain script reads it, (height, width, 3)."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def embedded(detector: assay.Detector, pictures: Sequence[Prepared]) -> float:
    """Seconds for the networks to look at pictures that were decoded and cut before, in a scan's batches."""
    begun = time.perf_counter()
    for start in range(0, len(pictures), BATCH):
        detector.embed_prepared(pictures[start : start + BATCH])
    return time.perf_counter() - begun


def ahead(items: Iterable[Item], work: Callable[[Item], Made]) -> Iterator[Made]:
    """What work makes of items, in their order, done by `WORKERS` threads a few items ahead."""
    drawing = iter(items)
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        first = itertools.islice(drawing, 2 * WORKERS)
        waiting = collections.deque(pool.submit(work, item) for item in first)
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in itertools.islice(drawing, 1))
            yield done


def parts(files: Sequence[Path], size: int) -> list[Sequence[Path]]:
    """The files by so many."""
    return [files[start : start + size] for start in range(0, len(files), size)]


def product() -> float:
    """Floating-point operations a second of NumPy's float32 matrix product, with its own threads."""
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((PRODUCT, PRODUCT), np.float32) for _ in range(2))
    out = np.empty_like(left)
    begun, count = time.perf_counter(), 0
    # Over seconds, not the best moment: the scan beside it has no choice of moments either.
    while (took := time.perf_counter() - begun) < _PRODUCT_SECONDS:
        np.matmul(left, right, out=out)
        count += 1
    return count * 2 * PRODUCT**3 / took


class Eager:
    """The detector's networks as a plain torch script would run them: read, cut, run, one picture after another.

    Attributes:
        macs: multiply-accumulates of all networks for one picture of SIDE x SIDE px.
        threads: of torch.
    """

    def __init__(self, networks: list[tuple[Any, Any]]) -> None:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        self._torch = torch
        self.networks = networks
        self.threads = torch.get_num_threads()
        counter = FlopCounterMode(display=False)
        with counter:
            self._run(np.zeros((SIDE, SIDE, 3), np.uint8))
        self.macs = counter.get_total_flops() // 2

    @classmethod
    def of(cls, detector: assay.Detector, note: Callable[[str], None]) -> Eager | None:
        """From a detector's card; None without torch, or where the card does not tell the architecture."""
        if importlib.util.find_spec("torch") is None or importlib.util.find_spec("timm") is None:
            note('torch is not installed: no comparison with it; pip install "assay[train]"')
            return None
        from assay.learn.nn.backbones import build

        networks = {}
        for stream in detector.card.streams:
            backbone = _backbone(detector, stream.name, stream.backbone)
            if (stream.trunk, stream.view) not in networks:
                networks[stream.trunk, stream.view] = (stream.view, build(backbone, stream.view.size).eval())
        return cls(list(networks.values()))

    def took(self, files: list[Path]) -> float:
        """Seconds for these files."""
        begun = time.perf_counter()
        for file in files:
            self._run(opened(file))
        return time.perf_counter() - begun

    def _run(self, pixels: npt.NDArray[np.uint8]) -> None:
        with self._torch.inference_mode():
            for view, network in self.networks:
                network(self._torch.from_numpy(view.tensor(view.crops(pixels)))).mean(dim=0).tolist()


class Batched:
    """The same networks as a careful torch script would run them: compiled, in batches, decoded ahead in threads.

    Where torch cannot compile a network here, or compiles it to one that gives something else, all run as they are.

    Args:
        files: of the first batch, which shows whether it can.

    Attributes:
        seconds: that compiling took.
        failed: why it came to nothing; empty where it did not.
    """

    def __init__(self, eager: Eager, files: Sequence[Path]) -> None:
        import torch

        self._torch = torch
        self._networks = eager.networks
        self.failed = ""
        batch = self._read(files[:BATCH])
        expected = self._run(batch)
        begun = time.perf_counter()
        # One shape, and weights that no longer change: what makes the fastest code.
        options: dict[str, Any] = {"freezing": True}
        self._networks = [
            (view, torch.compile(network, dynamic=False, options=options)) for view, network in eager.networks
        ]
        try:
            found = self._run(batch)
            if not all(map(_near, found, expected)):
                raise ValueError("what it compiled gives something else")
        except Exception as error:  # torch's errors share no root, and a compiler that is missing is none of them
            self.failed = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
            self._networks = eager.networks
        self.seconds = time.perf_counter() - begun

    def took(self, files: Sequence[Path]) -> float:
        """Seconds for these files."""
        begun = time.perf_counter()
        for batch in ahead(parts(files, BATCH), self._read):
            self._run(batch)
        return time.perf_counter() - begun

    def _read(self, files: Sequence[Path]) -> list[Any]:
        """For each network the crops of these pictures; a last batch is filled up, as another shape would compile
        anew."""
        shown = [opened(file) for file in files]
        shown += [shown[-1]] * (BATCH - len(shown))
        crops = [view.tensor(np.concatenate([view.crops(pixels) for pixels in shown])) for view, _ in self._networks]
        return [self._torch.from_numpy(views) for views in crops]

    def _run(self, batch: Sequence[Any]) -> list[npt.NDArray[np.float32]]:
        """Each network's mean embedding of each picture, (BATCH, d)."""
        found = []
        with self._torch.inference_mode():
            for (_, network), views in zip(self._networks, batch, strict=True):
                embedding = network(views)
                found.append(embedding.reshape(BATCH, -1, embedding.shape[-1]).mean(dim=1).numpy())
        return found


def _near(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> bool:
    return bool(np.abs(found - expected).max() <= NEAR * np.abs(expected).max())


@dataclasses.dataclass(frozen=True)
class Published:
    """A published detector from its checkout, as its authors' scripts run it.

    Args:
        batch: pictures that they test at a time.
        network, prepare: of `bench/public.py`.
    """

    name: str
    batch: int
    network: Any
    prepare: Callable[[Image.Image], Any]

    def took(self, files: Sequence[Path], batch: int = 1) -> float:
        """Seconds for these files, decoding included: one after the other, or in batches that are decoded ahead."""
        begun = time.perf_counter()
        made = map(self._prepared, parts(files, 1)) if batch == 1 else ahead(parts(files, batch), self._prepared)
        for views in made:
            self._run(views)
        return time.perf_counter() - begun

    def _prepared(self, files: Sequence[Path]) -> Any:
        import torch

        shown = []
        for file in files:
            with Image.open(file) as image:
                shown.append(self.prepare(image.convert("RGB")))
        return torch.stack(shown)

    def _run(self, views: Any) -> None:
        import torch

        with torch.inference_mode():
            self.network(views).sigmoid().flatten().tolist()


def published(checkouts: dict[str, Path | None]) -> tuple[list[Published], dict[str, str]]:
    """Those whose checkouts are given, and why the others are not there. A checkout that lacks something raises."""
    if not any(checkouts.values()):
        return [], dict.fromkeys(PUBLISHED, NOT_GIVEN)
    import public

    found, absent = [], {}
    for one in public.PUBLISHED:
        if one.name not in PUBLISHED:
            continue
        checkout = checkouts.get(one.option)
        if checkout is None:
            absent[one.name] = NOT_GIVEN
            continue
        try:
            read = public.load(one, checkout)
        except (AssayError, OSError) as error:
            raise SystemExit(f"{one.name} cannot be had from {checkout}: {error}") from None
        found.append(Published(one.name, PUBLISHED[one.name], read.network, read.prepare))
    return found, absent


def _backbone(detector: assay.Detector, stream: str, told: str) -> Any:
    from assay.learn.recipe import Backbone

    recipe: Any = detector.card.training.get("recipe")
    if isinstance(recipe, dict):
        for part in recipe.get("streams", ()):
            if part["name"] == stream:
                return Backbone.model_validate(part["backbone"] | {"pretrained": False, "weights": ""})
    name, _, front = told.partition(" on ")
    return Backbone.model_validate({"name": name, "front": front or "pixels"})


def spread(values: list[float]) -> Measured:
    """Median, lowest and highest of a figure's rounds."""
    return {"value": _short(statistics.median(values)), "low": _short(min(values)), "high": _short(max(values))}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def memory(detector: str, folder: Path, count: int, engine: str) -> Measured:
    """Resident memory of a scan of many files, in a process of its own."""
    if not Path("/proc/self/status").exists():
        return {"note": "this system does not tell a process its resident memory in /proc"}
    told = subprocess.run(
        [sys.executable, __file__, "--watch", str(folder), "--detector", detector, "--engine", engine],
        stdout=subprocess.PIPE,
        check=True,
    )
    samples: dict[str, list[float]] = json.loads(told.stdout)
    files, mib = np.array(samples["files"]), np.array(samples["mib"])
    late = files >= SETTLED
    if late.sum() < 2:
        return {
            "files": count,
            "mib": mib.tolist(),
            "note": f"too few files to tell; give --many {2 * SETTLED} or more",
        }
    base = float(mib[late][0])
    growth = float(mib[late].max()) - base
    slope = float(np.polyfit(files[late] / 1000, mib[late], 1)[0])
    return {
        "files": int(files[-1]),
        "base_mib": round(base, 1),
        "growth_mib": round(growth, 1),
        "growth": _short(growth / base),
        "mib_per_1000_files": round(slope, 3),
        "flat": growth < FLAT * base,
        "mib": [round(value, 1) for value in mib.tolist()],
        "every": STEP,
    }


def watch(detector: str, folder: Path, engine: EngineName) -> Measured:
    """Scan a folder as the command does and look at this process's memory on the way."""
    files: list[int] = []
    mib: list[float] = []

    def look(done: int) -> None:
        files.append(done)
        mib.append(_resident())

    keep()
    loaded = assay.load(detector, engine=engine)
    with tempfile.TemporaryDirectory() as scratch, Results(Path(scratch) / "r.jsonl", "json", loaded.sha256) as results:
        summary = scan(
            loaded,
            expand([folder]),
            results,
            progress=lambda tally: look(tally.done) if not tally.done % STEP else None,
        )
    if not files or files[-1] != summary.done:
        look(summary.done)
    return {"files": files, "mib": mib}


def _resident() -> float:
    """MiB of this process that are in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no line VmRSS")


# ── first verdict ────────────────────────────────────────────────────────────────────────────────────────────────────

_STAGES = """
import json, sys, time
marks = [("interpreter", time.time())]
def mark(name): marks.append((name, time.time()))
import numpy, PIL.Image
mark("numpy, pillow")
import pydantic
import assay.judge.rule
mark("pydantic and its models")
import onnxruntime
mark("onnxruntime")
import typer
mark("typer")
import assay.cli, assay.judge.detector, assay.judge.scan, assay.judge.sink
mark("the rest of assay")
import numpy as np
from assay.judge import bundle
read = bundle.read(bundle.find(sys.argv[2]))
mark("bundle read and checked")
detector = assay.judge.detector.Detector(read)
for stream in read.card.streams:
    size = stream.view.size
    detector.engine(stream.name).run(np.zeros((1, 3, size, size), np.float32))
mark("sessions loaded")
detector.judge(sys.argv[3])
mark("first judgement")
before = float(sys.argv[1])
took = {}
for name, at in marks:
    took[name] = at - before
    before = at
print(json.dumps(took))
"""


def start(detector: str, picture: Path, repeat: int, engine: str, other: str | None = None) -> Measured:
    """Seconds from the command to its first verdict, with a cold interpreter and warm disk caches.

    The interpreter alone, and the interpreter with the libraries that every run needs, take turns with it: no program
    on these libraries starts faster than that.
    """
    scan = [sys.executable, "-m", "assay", "scan", str(picture), "--engine", engine, "--json", "--detector"]
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "libraries": [sys.executable, "-c", "import numpy, PIL.Image, onnxruntime"],
        "verdict": [*scan, detector],
    }
    if other is not None:
        commands["other"] = [*scan, other]
    wall: dict[str, list[float]] = {name: [] for name in commands}
    busy: dict[str, list[float]] = {name: [] for name in commands}
    stages: dict[str, list[float]] = {}
    for number in range(repeat + 1):
        for name, command in commands.items():
            seconds, cpu = _command(command)
            if number:  # The first round only fills the disk's cache.
                wall[name].append(seconds)
                busy[name].append(cpu)
        arguments = [sys.executable, "-c", _STAGES, repr(time.time()), detector, str(picture)]
        told = subprocess.run(arguments, stdout=subprocess.PIPE, check=True)
        if number:
            for stage, took in json.loads(told.stdout).items():
                stages.setdefault(stage, []).append(took)
    found: Measured = {}
    if other is not None:
        found["other"] = {
            "seconds": spread(wall["other"]),
            "times_other": spread([a / b for a, b in zip(wall["verdict"], wall["other"], strict=True)]),
        }
    return found | {
        "seconds": spread(wall["verdict"]),
        "cpu_seconds": spread(busy["verdict"]),
        "python": {"seconds": spread(wall["python"]), "cpu_seconds": spread(busy["python"])},
        "libraries": {"seconds": spread(wall["libraries"]), "cpu_seconds": spread(busy["libraries"])},
        "times_libraries": spread([a / b for a, b in zip(wall["verdict"], wall["libraries"], strict=True)]),
        "stages": {stage: _short(statistics.median(took)) for stage, took in stages.items()},
    }


def _command(command: list[str]) -> tuple[float, float]:
    """Seconds until a command's first line (or its end, where it prints none), and the processor time of all of it."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as out:
        out.readline()
        seconds = time.perf_counter() - begun
        out.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return seconds, used.ru_utime + used.ru_stime


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def show(found: Measured, console: Console) -> None:
    """The figures as a table."""
    table = Table("", "value", "lowest to highest", title=f"{found['detector']['name']} on {found['machine']['cpu']}")

    def row(name: str, figure: Measured, unit: str = "", *, scale: float = 1) -> None:
        value, low, high = (f"{scale * figure[key]:.3g}" for key in ("value", "low", "high"))
        table.add_row(name, f"{value}{unit}", f"{low} to {high}")

    if "speed" in found:
        _show_speed(found["speed"], row, table)
    if "memory" in found:
        held = found["memory"]
        table.add_section()
        if "flat" in held:
            table.add_row(f"memory after {SETTLED} files", f"{held['base_mib']:.0f} MiB", "")
            table.add_row(
                f"most growth up to {held['files']} files",
                f"{held['growth_mib']:.1f} MiB",
                f"{100 * held['growth']:.1f} %, {held['mib_per_1000_files']:+.2f} MiB per 1,000: "
                + ("flat" if held["flat"] else "NOT flat"),
            )
        else:
            table.add_row("memory", "", held["note"])
    if "start" in found:
        first = found["start"]
        table.add_section()
        row("first verdict", first["seconds"], " s")
        row("  of processor time", first["cpu_seconds"], " s")
        row("Python and the libraries alone", first["libraries"]["seconds"], " s")
        if "other" in first:
            row("first verdict : the other's", first["other"]["times_other"], " x")
        for stage, seconds in first["stages"].items():
            table.add_row(f"  {stage}", f"{seconds:.2f} s", "")
    console.print(table)
    load, cores = found["machine"]["load"], found["machine"]["cores"]
    if load is not None and cores is not None and load > cores / 2:
        console.print(
            f"The machine was busy before this began (load {load} on {cores} cores). That slows most what waits for "
            "several threads at each step, as eager torch does: measure again when it is idle."
        )


def _show_speed(rate: Measured, row: Callable[..., None], table: Table) -> None:
    row("scan, pictures a second", rate["pictures_per_second"])
    if rate["eager"]:
        row("eager torch one at a time, pictures a second", rate["eager"]["pictures_per_second"])
        row("scan : eager torch", rate["times_eager"], " x")
        row(f"scan : {'compiled ' * rate['batched']['compiled']}torch in batches", rate["times_batched"], " x")
        row("scan's share of the matrix product's rate", rate["share_of_product"], " %", scale=100)
        row("the networks' alone", rate["network_share_of_product"], " %", scale=100)
    for one in rate["published"]:
        if "times" in one:
            row(f"scan : {one['name']}", one["times"], " x")
        else:
            table.add_row(one["name"], "", one["note"])
    if "bf16" in rate:
        row("scan in bfloat16, pictures a second", rate["bf16"]["pictures_per_second"])
    if "other" in rate:
        row("the other detector's scan, pictures a second", rate["other"]["pictures_per_second"])
        row("scan : the other's", rate["other"]["times_other"], " x")
    for name, what in (("decode", "decoding and cutting"), ("pillow", "Pillow"), ("network", "the networks")):
        row(f"{what} alone, pictures a second", rate[name]["pictures_per_second"])
    row(f"scan's share of the slower, which is {rate['slower']}", rate["share_of_slower"], " %", scale=100)
    row("of one after the other", rate["share_of_both"], " %", scale=100)
    row("matrix product, float32 GFLOP a second", rate["product_gflops"])


def machine() -> Measured:
    """What this ran on."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    libraries = ("numpy", "onnxruntime", "openvino", "pillow", "torch")
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {library: version for library in libraries for version in _versions(library)},
    }


def _versions(library: str) -> Iterator[str]:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        yield importlib.metadata.version(library)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", metavar="NAME|FOLDER", help="the default detector where none is named")
    parser.add_argument(
        "--made-up",
        choices=("trace", "vit"),
        nargs="?",
        const="trace",
        help="measure with random weights instead (needs torch): of a small convolutional network, or a ViT-Tiny",
    )
    parser.add_argument("--engine", choices=("auto", *RUNTIMES), default="auto", help="what runs the networks")
    parser.add_argument("--against", metavar="NAME|FOLDER", help="another detector, measured in the same rounds")
    parser.add_argument("--ferretnet", type=Path, metavar="FOLDER", help="a checkout, as bench/public.py takes it")
    parser.add_argument("--ladeda", type=Path, metavar="FOLDER", help="another")
    parser.add_argument("--files", type=int, default=200, help="pictures in each round")
    parser.add_argument("--many", type=int, default=10_000, help="files scanned to watch memory")
    parser.add_argument("--repeat", type=int, default=5, help="rounds of each measurement")
    parser.add_argument("--only", choices=("speed", "start", "memory"), action="append", help="once or more")
    parser.add_argument("--watch", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if min(asked.files, asked.many, asked.repeat) < 1:
        parser.error("--files, --many and --repeat must be 1 or more")
    if asked.made_up and asked.detector:
        parser.error("--made-up takes no --detector")
    if asked.watch is not None:
        print(json.dumps(watch(asked.detector, asked.watch, asked.engine)))
        return 0

    keep()  # as a command that judges does; what it is compared with in this process has it too
    console = Console(stderr=True, highlight=False)
    note = console.print
    wanted = asked.only or ["speed", "start", "memory"]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        # What is remembered of runtimes and of compiled code stays here, and what was before does not count.
        os.environ |= {"XDG_CACHE_HOME": str(scratch), "TORCHINDUCTOR_CACHE_DIR": str(scratch / "compiled")}
        begun = machine()
        try:
            place = made_up(scratch / "bundle", asked.made_up) if asked.made_up else bundle.find(asked.detector)
            detector, engine = ready(str(place), asked.engine, note)
            other = assay.load(asked.against) if asked.against else None
            rough = None
            if "openvino-bf16" in runtimes() and asked.engine != "openvino-bf16":
                rough = assay.load(place, engine="openvino-bf16")
        except AssayError as error:
            raise SystemExit(f"{error}; or say --made-up, to measure with random weights") from None
        found: Measured = {
            "detector": {"name": detector.name, "version": detector.version, "sha256": detector.sha256},
            "engine": engine,
            "machine": begun,
        }
        note(f"making {asked.files} pictures")
        pictures(scratch / "few", asked.files)
        if "speed" in wanted:
            checkouts = {"ferretnet": asked.ferretnet, "ladeda": asked.ladeda}
            found["speed"] = speed(detector, scratch / "few", scratch, asked.repeat, note, other, rough, checkouts)
        if "start" in wanted:
            note("starting the command anew, again and again")
            first = scratch / "few" / "00000.jpg"
            found["start"] = start(str(place), first, asked.repeat, asked.engine, asked.against)
        if "memory" in wanted:
            note(f"scanning {asked.many} files")
            linked(scratch / "few", scratch / "many", asked.many)
            found["memory"] = memory(str(place), scratch / "many", asked.many, asked.engine)
    show(found, console)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
