"""Which runtime is fastest here: measured on request, remembered, and taken by `engine="auto"`.

Only a runtime that keeps scores is ever remembered (`SAME`). What is remembered holds for one bundle on one kind of
processor with these versions of the runtimes; elsewhere `recall` finds nothing, and ONNX Runtime judges as ever.
Judging reads the file and never writes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import io
import itertools
import json
import logging
import math
import os
import platform
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic
from PIL import Image

from assay.errors import BundleError, OutputError
from assay.judge.bundle import Bundle
from assay.judge.card import Hash, StreamCard
from assay.judge.engine import CROPS, CROPS_GPU, Engine, cores, runtimes
from assay.judge.engines import EXACT
from assay.metrics import finite
from assay.types import Pixels, Runtime

SAME = 1e-4
"""A runtime that could move a score by more is not taken by "auto"."""

WORTH = 1.05
"""Another way of running than the usual one is taken where it is faster by this factor, and was in every round."""

SECONDS = 5.0
"""About how long one detector is measured."""

FILE = "engines.json"

_ROUNDS, _MOST_ROUNDS = 3, 15
_VIEWS = 16
_BATCHES = (4, 8, 16)
_BYTES, _ENTRIES = 1 << 20, 500

_log = logging.getLogger(__name__)


class Setting(pydantic.BaseModel):
    """How to run a detector's networks.

    Args:
        engine: the runtime, one that keeps scores.
        threads: cores for one batch.
        crops: most crops in work at a time.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    engine: Literal["onnxruntime", "openvino"]
    threads: int = pydantic.Field(ge=1, le=4096)
    crops: int = pydantic.Field(ge=1, le=CROPS_GPU)


class _Entry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    detector: Hash
    machine: Hash
    setting: Setting


class _Kept(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    entries: Annotated[tuple[_Entry, ...], pydantic.Field(max_length=_ENTRIES)] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """One way of running a detector's networks.

    Args:
        engine, threads, crops: see `Setting`.
        rate, low, high: crops a second through all networks: median, lowest and highest of the rounds.
        times: the rate over that of ONNX Runtime as it runs by itself, in the same round; the median.
        least: the lowest of these.
        moves: the most that a stream's P(fake) of a crop could differ from there, in [0, 1]; NaN where the networks
            gave no number.
        failed: why it cannot run these networks; empty where it can. All figures are then NaN.
    """

    engine: Runtime
    threads: int
    crops: int
    rate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    times: float = math.nan
    least: float = math.nan
    moves: float = math.nan
    failed: str = ""

    @property
    def same(self) -> bool:
        """Whether "auto" may take it."""
        return not self.failed and self.engine in EXACT and self.moves <= SAME

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not a number is None."""
        told = dataclasses.asdict(self) | {"same": self.same}
        return {name: finite(value) if isinstance(value, float) else value for name, value in told.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Probed:
    """What was measured of one detector.

    Args:
        detector: the hash of its card.
        timings: ONNX Runtime as it runs by itself first.
        rounds: how often each was timed.
    """

    detector: str
    timings: tuple[Timing, ...]
    rounds: int

    @property
    def chosen(self) -> Timing:
        """The fastest of those that keep scores and are surely worth it; else the first."""
        worth = [timing for timing in self.timings if timing.same and timing.times >= WORTH and timing.least > 1]
        return max(worth, key=lambda timing: timing.times, default=self.timings[0])


def probe(bundle: Bundle, *, seconds: float = SECONDS, progress: Callable[[int, int], None] | None = None) -> Probed:
    """Time every runtime that is here on a bundle's networks, with all cores and one, in small and larger batches.

    Each way takes turns with ONNX Runtime as it runs by itself, on the same crops, so that other load on the machine
    hits both alike; networks are held twice at most. How far a score could move is bounded without regard to where it
    stands: P(fake) changes by at most a quarter of a stream's slope times the difference of its raw scores. What trunks
    only count takes no runtime and no part.

    Args:
        seconds: about how long it may take; a slow network takes longer, as each way is timed `_ROUNDS` times at least.
        progress: told (runtimes and numbers of threads done, all of them).

    Raises:
        BundleError: ONNX Runtime cannot run its networks, or it has none (kind "unknown").
    """
    if bundle.card.counts:
        raise BundleError(f"{bundle.card.name} only counts, which takes no runtime", kind="unknown")
    work = _Work(bundle)
    usual = work.engines("onnxruntime", cores())
    expected = work.raws(usual)
    groups = list(itertools.product(runtimes(), sorted({1, cores()}, reverse=True)))
    base: list[float] = []
    timings = []
    least = _MOST_ROUNDS
    for number, (engine, threads) in enumerate(groups):
        batches = [crops for crops in _BATCHES if (engine, threads, crops) != ("onnxruntime", cores(), CROPS)]
        try:
            other = work.engines(engine, threads)
            moves = work.apart(expected, work.raws(other))
        except BundleError as error:
            timings.append(Timing(engine, threads, batches[-1], failed=str(error)))
            continue
        begun = time.perf_counter()
        work.took(usual, CROPS)
        for crops in batches:
            work.took(other, crops)
        once = max(1e-9, time.perf_counter() - begun)
        rounds = min(_MOST_ROUNDS, max(_ROUNDS, int(seconds / len(groups) / once)))
        rates: list[list[float]] = [[] for _ in batches]
        ratios: list[list[float]] = [[] for _ in batches]
        for turn in range(rounds):
            # Back and forth, so that a load that rises or falls favours none.
            base.append(work.took(usual, CROPS))
            for place in range(len(batches)) if turn % 2 == 0 else reversed(range(len(batches))):
                took = work.took(other, batches[place])
                rates[place].append(work.crops / took)
                ratios[place].append(base[-1] / took)
        for crops, rate, ratio in zip(batches, rates, ratios, strict=True):
            told = statistics.median(rate), min(rate), max(rate), statistics.median(ratio), min(ratio)
            timings.append(Timing(engine, threads, crops, *told, moves))
        least = min(least, rounds)
        if progress is not None:
            progress(number + 1, len(groups))
    pace = [work.crops / took for took in base]
    first = Timing("onnxruntime", cores(), CROPS, statistics.median(pace), min(pace), max(pace), 1.0, 1.0, 0.0)
    return Probed(bundle.card.sha256, (first, *timings), least)


class _Work:
    """What is timed: crops that no camera took, of each view, through each trunk."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._runs: dict[tuple[str, int], list[StreamCard]] = {}
        for stream in (stream for stream in bundle.card.streams if stream.runs is None):
            self._runs.setdefault((stream.trunk, stream.view.size), []).append(stream)
        self._views = {run: streams[0].view.tensor(made_up(run[1])) for run, streams in self._runs.items()}
        self.crops = sum(len(views) for views in self._views.values())

    def engines(self, engine: Runtime, threads: int) -> dict[str, Engine]:
        trunks = dict.fromkeys(trunk for trunk, _ in self._views)
        return {trunk: Engine(self._bundle.folder, trunk, threads, "cpu", CROPS, engine) for trunk in trunks}

    def raws(self, engines: Mapping[str, Engine]) -> dict[str, npt.NDArray[np.float64]]:
        """Raw scores of each stream, (crops,)."""
        found: dict[str, npt.NDArray[np.float64]] = {}
        for run, streams in self._runs.items():
            embedding = engines[run[0]].run(self._views[run])
            found |= {stream.name: self._bundle.heads[stream.name].raw(stream.own(embedding)) for stream in streams}
        return found

    def apart(
        self, first: Mapping[str, npt.NDArray[np.float64]], second: Mapping[str, npt.NDArray[np.float64]]
    ) -> float:
        slopes = {name: rule.slope for name, rule in self._bundle.judge.streams.items()}
        bounds = [slopes[name] / 4 * np.abs(second[name] - first[name]).max() for name in first]
        return float(np.minimum(np.max(bounds), 1.0))

    def took(self, engines: Mapping[str, Engine], crops: int) -> float:
        """Seconds of one run of all networks, with so many crops in work at a time."""
        for engine in engines.values():
            engine.crops = crops
        begun = time.perf_counter()
        for (trunk, _), views in self._views.items():
            engines[trunk].run(views)
        return time.perf_counter() - begun


def made_up(side: int, count: int = _VIEWS) -> Pixels:
    """Pictures of soft colours under noise of several strengths, half of them saved as JPEG, (count, side, side, 3)."""
    draw = np.random.default_rng(0)
    out = np.empty((count, side, side, 3), np.uint8)
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        soft = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float64)
        noisy = soft + draw.normal(0, (0, 2, 6, 20)[number % 4], soft.shape)
        out[number] = np.clip(noisy, 0, 255).astype(np.uint8)
        if number % 2:
            file = io.BytesIO()
            Image.fromarray(out[number]).save(file, "JPEG", quality=80)
            out[number] = np.asarray(Image.open(file))
    return out


# ── what is remembered ───────────────────────────────────────────────────────────────────────────────────────────────


def place() -> Path:
    """The file that settings are remembered in, by the XDG base directories. It may not be there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay" / FILE


def recall(detector: str) -> Setting | None:
    """What was remembered for a detector on this machine, by the hash of its card; None where nothing was.

    A file that cannot be read as what `remember` writes is said to be so, and ignored.
    """
    mine = [entry for entry in _entries() if entry.detector == detector]
    if not mine:
        return None
    here = machine()
    return next((entry.setting for entry in mine if entry.machine == here), None)


def remember(probed: Probed) -> Setting:
    """Remember what a probe chose, in the place of what was remembered for that detector here.

    Raises:
        OutputError: kind "disk": the file cannot be written.
    """
    chosen = probed.chosen
    setting = Setting(engine=chosen.engine, threads=chosen.threads, crops=chosen.crops)
    mine = _Entry(detector=probed.detector, machine=machine(), setting=setting)
    others = [entry for entry in _entries() if (entry.detector, entry.machine) != (mine.detector, mine.machine)]
    _write(_Kept(entries=(*others[-(_ENTRIES - 1) :], mine)))
    return setting


def forget(detector: str | None = None) -> int:
    """Forget what was remembered for a detector, by the hash of its card, or for all; returns how many settings.

    Raises:
        OutputError: kind "disk": the file cannot be written.
    """
    entries = _entries()
    kept = [entry for entry in entries if detector is not None and entry.detector != detector]
    with _told():
        there = place().exists()
    if there and (len(kept) < len(entries) or not kept):
        if kept:
            _write(_Kept(entries=tuple(kept)))
        else:
            with _told():
                place().unlink()
    return len(entries) - len(kept)


def machine() -> str:
    """A hash of the processor, of how many of its cores this process may use, and of the runtimes' versions."""
    versions = {}
    for library in ("onnxruntime", "onnxruntime-gpu", "openvino"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[library] = importlib.metadata.version(library)
    told = [platform.system(), platform.machine(), _processor(), cores(), versions]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


_TELLING = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features")
_TELLING_ARM = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part")


def _processor() -> dict[str, str]:
    """Model and flags of the first processor, where the system tells them."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            first = list(itertools.takewhile(str.strip, lines))
    except OSError:
        return {"processor": platform.processor()}
    fields = dict(line.partition(":")[::2] for line in first)
    return {key.strip(): value.strip() for key, value in fields.items() if key.strip() in (*_TELLING, *_TELLING_ARM)}


def _entries() -> tuple[_Entry, ...]:
    kept = _read()
    return () if kept is None else kept.entries


def _read() -> _Kept | None:
    try:
        file = place()
    except RuntimeError:  # a user without a home remembers nothing
        return None
    try:
        with file.open("rb") as content:
            text = content.read(_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s cannot be read (%s), so it is ignored", file, error.strerror)
        return None
    try:
        if len(text) > _BYTES:
            raise ValueError("it is too large")
        return _Kept.model_validate_json(text)
    except ValueError as error:  # of pydantic too
        why = f"{error}".splitlines()[0]
        _log.warning("%s is not what assay remembers (%s), so it is ignored; --forget removes it", file, why)
        return None


def _write(kept: _Kept) -> None:
    with _told():
        file = place()
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.{secrets.token_hex(6)}.part")
        try:
            part.write_text(kept.model_dump_json(indent=1) + "\n", encoding="utf-8")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{place()} cannot be written ({error.strerror})", kind="disk") from error
    except RuntimeError as error:
        raise OutputError(f"nothing can be remembered: {error}; set XDG_CACHE_HOME", kind="disk") from error
