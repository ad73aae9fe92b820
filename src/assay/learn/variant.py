"""A bundle in another precision, written only if it judges as the original does (extra "export").

Heads, calibration and thresholds stay those of the original, to the bit. That is honest as long as scores hardly move,
and so scores are compared: on tuning rows, which thresholds were chosen on; test rows are never opened. What moves a
score by more than the bound is not written.

fp32 and fp16 say how weights are stored. int8 computes in 8 bits (`assay.learn.quantise`), with ranges from training
rows that are decoded and cut as for judging; where scores move too far, layers are kept in float, more from try to try.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import assay
from assay import metrics
from assay.data.manifest import select
from assay.data.order import permutation
from assay.data.table import Table
from assay.errors import BundleError, InputError, ManifestError
from assay.image.decode import decode
from assay.image.fingerprint import perceptual_hash
from assay.image.view import View
from assay.judge import bundle
from assay.judge.bundle import Bundle
from assay.judge.detector import Detector
from assay.judge.engine import runtime
from assay.judge.engines import Batch
from assay.judge.prepared import Prepared
from assay.judge.rule import Judge
from assay.judge.seen import Seen
from assay.learn import graph
from assay.learn.graph import Precision
from assay.learn.progress import Progress
from assay.learn.quantise import Quantiser
from assay.measure import resample
from assay.metrics import Floats, Interval
from assay.types import Label, Pixels, Sample

BOUND = 0.02
"""The most that a score may move."""

CALIBRATE = 64
"""Training pictures that ranges are taken from."""

SHARES = (0.1, 0.25, 0.5)
"""Of its layers, the frailest first, that a network keeps in float in the later tries."""

DEFAULT = ""
"""The way of judging that a detector has unless asked otherwise."""

_CROPS, _AT_ONCE, _BATCH = 4, 8, 16


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What became of the scores of one way of judging.

    Args:
        largest, mean: absolute change of a row's score; `largest` is infinite where a row has a score from one only.
        flips: rows whose verdict says another word.
        rows: judged by both.
        auc: the variant's AUC less the original's, bootstrapped by source; NaN without both classes.
    """

    largest: float
    mean: float
    flips: int
    rows: int
    auc: Interval

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not finite is None."""
        told = {"largest": metrics.finite(self.largest), "mean": metrics.finite(self.mean)}
        return told | {"flips": self.flips, "rows": self.rows, "auc_change": self.auc.to_dict()}


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One try.

    Args:
        what: in words.
        kept: of each trunk in int8, the numbers of the layers that stay in float, from 1; empty for other precisions.
        layers: of each such trunk, how many it has.
        bytes: of the bundle.
        changes: by way of judging: the default one, "head KIND" and "vote RULE".
    """

    what: str
    kept: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, int]
    bytes: int
    changes: Mapping[str, Change]

    @property
    def change(self) -> Change:
        """Of the default way of judging."""
        return self.changes[DEFAULT]

    def beyond(self, bound: float) -> tuple[str, ...]:
        """The ways of judging that move a score by more."""
        return tuple(way for way, change in self.changes.items() if not change.largest <= bound)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object."""
        return {
            "what": self.what,
            "kept": {trunk: list(kept) for trunk, kept in self.kept.items()},
            "layers": dict(self.layers),
            "bytes": self.bytes,
            "changes": {way or "default": change.to_dict() for way, change in self.changes.items()},
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What came of it.

    Args:
        folder: the variant's; None where no try held the bound.
        attempts: in order.
        taken: the one that was written.
        failed: tuning rows that could not be judged, with the reason.
    """

    folder: Path | None
    attempts: tuple[Attempt, ...]
    taken: Attempt | None
    failed: tuple[str, ...]


def variant(
    read: Bundle,
    rows: Iterable[Sample],
    out: Path,
    precision: Precision,
    *,
    bound: float = BOUND,
    calibrate: int = CALIBRATE,
    name: str = "",
    seed: int = 0,
    workers: int = 2,
    rounds: int = 1000,
) -> Made:
    """Write a bundle in another precision to `out`, if its scores stay within the bound; else nothing.

    Args:
        rows: with split "tune", labelled, and for int8 with split "train"; rows of other splits are left alone.
        precision: "fp32" or "fp16" as weights are stored, "int8" to compute in.
        bound: the most that a tuning row's score may move, in (0, 1].
        calibrate: training pictures at most that int8 takes its ranges from, >= 1.
        name: of the variant; NAME-PRECISION where none is given.
        seed: of the draw of these, and of the bootstrap.
        workers: threads that decode.
        rounds: of the bootstrap.

    Raises:
        ManifestError: there are no rows to compare or calibrate on.
        BundleError: kind "invalid": it computes in int8 already, has no layer that could, or `out` holds something
            else.
    """
    place = out.resolve()
    if place == read.folder.resolve() or (place.exists() and not bundle.replaceable(place)):
        raise BundleError(f"{out} is the original, or not a bundle; choose another folder", kind="invalid")
    table = Table.of(rows)
    tune = _labelled(select(table, split="tune"))
    original = _Judging(read, workers)
    calibrating = select(table, split="train") if precision == "int8" else tune[np.arange(0)]
    if precision == "int8" and not len(calibrating):
        raise ManifestError("int8 takes its ranges from training rows, and no row has the split train")
    labels = tune.labels.astype(np.int8)
    sources = [sample.source or f"\0{number}" for number, sample in enumerate(tune)]
    before = original.scores(tune, f"judging by {read.card.name}")
    attempts: list[Attempt] = []
    fallback: tuple[Attempt, Bundle] | None = None
    with tempfile.TemporaryDirectory(prefix="assay-export-") as scratch:
        tries = _Tries(read, precision, original, _drawn(calibrating, calibrate, seed), Path(scratch), workers)
        for number, (what, kept, files) in enumerate(tries):
            tried = _written(read, Path(scratch) / f"try-{number}", precision, files)
            after = _Judging(tried, workers).scores(tune, f"judging by {what}")
            attempt = Attempt(
                what,
                kept,
                tries.layers,
                sum(path.stat().st_size for path in tried.folder.iterdir()),
                {
                    way: compared(before.ways[way], after.ways[way], labels, sources, rounds, seed)
                    for way in before.ways
                },
            )
            attempts.append(attempt)
            beyond = attempt.beyond(bound)
            if DEFAULT not in beyond and (fallback is None or not beyond):
                fallback = attempt, tried
            if not beyond:
                break
        if fallback is None:
            return Made(None, tuple(attempts), None, before.failed)
        taken, tried = fallback
        _finished(read, tried, out, precision, taken, before, tries.seen, bound, name)
    return Made(out, tuple(attempts), taken, before.failed)


Way = tuple[Floats, tuple[str, ...]]
"""Scores, (rows,), NaN where there is none, and the verdicts' words."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Scores:
    ways: Mapping[str, Way]
    failed: tuple[str, ...]
    seen: Seen


class _Judging:
    """A bundle with all its ways to judge; each picture is cut and embedded once for all of them."""

    def __init__(self, read: Bundle, workers: int) -> None:
        # What is compared is what judges unless asked otherwise.
        fixed: dict[str, Any] = {"device": "cpu", "engine": "onnxruntime"}
        self.ways = {DEFAULT: Detector(read, **fixed)}
        self.ways |= {f"head {kind}": Detector(read, head=kind, **fixed) for kind in read.judge.alternatives}
        self.ways |= {f"vote {rule}": Detector(read, vote=rule, **fixed) for rule in read.judge.rules}
        self._workers = max(1, workers)

    def scores(self, rows: Table, what: str) -> _Scores:
        found: dict[str, tuple[list[float], list[str]]] = {way: ([], []) for way in self.ways}
        failed, seen = [], []
        for sample, prepared, phash in self.prepared(rows, what):
            if isinstance(prepared, InputError):
                failed.append(f"{sample.place}: {prepared}")
                for scores, words in found.values():
                    scores.append(math.nan)
                    words.append("")
                continue
            seen.append((prepared.sha256, sample.origin, phash))
            embeddings = self.ways[DEFAULT].embed_prepared([prepared])
            for way, detector in self.ways.items():
                (verdict,) = detector.judge_embedded([prepared], embeddings)
                found[way][0].append(math.nan if verdict.score is None else verdict.score)
                found[way][1].append(verdict.verdict.value)
        files, origins, phashes = zip(*seen, strict=True) if seen else ((), (), ())
        ways = {way: (np.array(scores), tuple(words)) for way, (scores, words) in found.items()}
        return _Scores(ways, tuple(failed), Seen.of(files, origins, phashes))

    def prepared(self, rows: Table, what: str) -> Iterator[tuple[Sample, Prepared | InputError, int | None]]:
        """Each row cut as for judging, or why it cannot be, and its perceptual hash."""
        detector = self.ways[DEFAULT]

        def one(sample: Sample) -> tuple[Sample, Prepared | InputError, int | None]:
            try:
                picture = decode(sample.place)
            except InputError as error:
                return sample, error, None
            return sample, detector.cut(picture, sample.place), perceptual_hash(picture.pixels)

        with Progress(what, len(rows)) as progress, concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
            for start in range(0, len(rows), _AT_ONCE):
                for made in pool.map(one, rows[start : start + _AT_ONCE]):
                    yield made
                    progress.step()


class _Tries:
    """What to try, one after another: words, layers that stay in float, and the trunks' files.

    Attributes:
        layers: of each trunk in int8.
        seen: what ranges were taken from.
    """

    def __init__(
        self, read: Bundle, precision: Precision, judging: _Judging, rows: Table, scratch: Path, workers: int
    ) -> None:
        self._read, self._precision, self._scratch = read, precision, scratch
        self._trunks = tuple(dict.fromkeys(stream.trunk for stream in read.card.streams))
        self.layers: dict[str, int] = {}
        self.seen = Seen()
        self._quantisers: dict[str, Quantiser] = {}
        models = {trunk: graph.load(read.folder, trunk) for trunk in self._trunks}
        for trunk, model in models.items():
            if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
                raise BundleError(
                    f"{read.card.name}: {trunk} computes in int8 already; export from the original", kind="invalid"
                )
        if precision != "int8":
            self._models = models
            return
        crops = self._crops(judging, rows)
        for trunk, model in models.items():
            folder = scratch / trunk
            folder.mkdir()
            self._quantisers[trunk] = Quantiser(model, _batches(crops[trunk]), folder)
        self.layers = {trunk: len(made.layers) for trunk, made in self._quantisers.items() if made.layers}
        if not self.layers:
            raise BundleError(f"{read.card.name} has no layer that could compute in int8", kind="invalid")

    def __iter__(self) -> Iterator[tuple[str, dict[str, tuple[int, ...]], dict[str, bytes]]]:
        if self._precision != "int8":
            files: dict[str, bytes] = {}
            for trunk, model in self._models.items():
                graph.widen(model)
                graph.narrow(model, self._precision)
                files |= graph.files(model, trunk)
            yield f"weights in {self._precision}", {}, files
            return
        for what, keep in self._keeps():
            if any(len(set(keep.get(trunk, ()))) < count for trunk, count in self.layers.items()):
                yield self._made(what, keep)

    def _keeps(self) -> Iterator[tuple[str, dict[str, Sequence[str]]]]:
        """Which layers of each trunk stay in float, from try to try."""
        layers = {trunk: made.layers for trunk, made in self._quantisers.items() if made.layers}
        yield "int8", {}
        yield "int8, first and last layer in float", {trunk: (mine[0], mine[-1]) for trunk, mine in layers.items()}
        if max(self.layers.values()) > 1:
            frail = self._frail()
            for share in SHARES:
                yield (
                    f"int8, {share:.0%} of the layers in float",
                    {trunk: frail[trunk][: math.ceil(share * len(mine))] for trunk, mine in layers.items()},
                )

    def _made(
        self, what: str, keep: Mapping[str, Sequence[str]]
    ) -> tuple[str, dict[str, tuple[int, ...]], dict[str, bytes]]:
        kept: dict[str, tuple[int, ...]] = {}
        files: dict[str, bytes] = {}
        for trunk, quantiser in self._quantisers.items():
            names = keep.get(trunk, ())
            files |= graph.files(quantiser.quantised(names), trunk)
            if quantiser.layers:
                kept[trunk] = tuple(n for n, layer in enumerate(quantiser.layers, 1) if layer in names)
        return what, kept, files

    def _frail(self) -> dict[str, list[str]]:
        """Each trunk's layers, first the one that moves its streams' logits most."""
        rules, heads = self._read.judge.streams, self._read.heads
        with Progress("looking for frail layers", sum(self.layers.values())) as progress:
            found = {}
            for trunk, quantiser in self._quantisers.items():
                mine = [stream for stream in self._read.card.streams if stream.trunk == trunk]

                def told(embedding: npt.NDArray[np.float32], mine: Sequence[Any] = mine) -> Floats:
                    raws = [rules[one.name].slope * heads[one.name].raw(one.own(embedding)) for one in mine]
                    return np.stack(raws, axis=1)

                found[trunk] = quantiser.frailest(told, progress.step)
        return found

    def _crops(self, judging: _Judging, rows: Table) -> dict[str, list[tuple[View, Pixels]]]:
        """For each trunk crops of calibration rows, a few of each picture."""
        crops: dict[str, list[tuple[View, Pixels]]] = {trunk: [] for trunk in self._trunks}
        seen = []
        for sample, prepared, phash in judging.prepared(rows, "reading calibration rows"):
            if isinstance(prepared, InputError):
                continue
            seen.append((prepared.sha256, sample.origin, phash))
            for stream in {(s.trunk, s.view): s for s in self._read.card.streams}.values():
                mine = prepared.crops.get(stream.view, ())
                some = np.unique(np.linspace(0, len(mine) - 1, min(_CROPS, len(mine))).round().astype(np.intp))
                crops[stream.trunk] += [(stream.view, mine[place]) for place in some]
        if lacking := [trunk for trunk, found in crops.items() if not found]:
            raise ManifestError(f"no training row shows anything to {', '.join(lacking)}, so int8 has no ranges for it")
        files, origins, phashes = zip(*seen, strict=True)
        self.seen = Seen.of(files, origins, phashes)
        return crops


def _batches(crops: Sequence[tuple[View, Pixels]]) -> Callable[[], Iterator[Batch]]:
    """Batches of crops of many pictures, as a network is shown them."""
    order = permutation(len(crops), "calibrating")

    def views() -> Iterator[Batch]:
        for start in range(0, len(order), _BATCH):
            some = [crops[place] for place in order[start : start + _BATCH]]
            yield np.concatenate([view.tensor(pixels[None]) for view, pixels in some])

    return views


def _labelled(tune: Table) -> Table:
    known = tune[tune.labels >= 0]
    for label in Label:
        if not (known.labels == label).any():
            raise ManifestError(
                f"scores are compared on tuning rows, and no labelled row of the split tune is {label.name.lower()}"
            )
    return known


def _drawn(rows: Table, most: int, seed: int) -> Table:
    """At most so many rows, of both classes alike as far as they go."""
    order = permutation(len(rows), "export", seed)
    labels = rows.labels[order]
    rank = np.empty(len(order), np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange(int((labels == label).sum()))
    return rows[np.sort(order[np.argsort(rank, kind="stable")[:most]])]


def compared(
    before: Way, after: Way, labels: npt.NDArray[np.int8], sources: Sequence[str], rounds: int = 1000, seed: int = 0
) -> Change:
    """What became of scores and verdicts of the same rows.

    Args:
        before, after: of each row.
        labels: (rows,), 1 = fake.
        sources: of each row, what the bootstrap draws by.
        rounds, seed: of the bootstrap.
    """
    (first, words), (second, others) = before, after
    there = np.isfinite(first) & np.isfinite(second)
    apart = np.abs(second[there] - first[there])
    lost = (np.isfinite(first) != np.isfinite(second)).any()
    clusters = [source for source, both in zip(sources, there, strict=True) if both]
    drawn = [
        resample.drawn(resample.AUC, labels[there], scores[there], clusters=clusters, rounds=rounds, seed=seed)
        for scores in (first, second)
    ]
    value = metrics.auc(labels[there], second[there]) - metrics.auc(labels[there], first[there])
    return Change(
        largest=math.inf if lost or not len(apart) else float(apart.max()),
        mean=float(apart.mean()) if len(apart) else math.nan,
        flips=sum(one != other for one, other in zip(words, others, strict=True)),
        rows=int(there.sum()),
        auc=resample.interval(value, drawn[1] - drawn[0], int(there.sum())),
    )


def _written(read: Bundle, folder: Path, precision: Precision, files: Mapping[str, bytes]) -> Bundle:
    card = read.card.model_copy(update={"precision": precision})
    if precision == "int8":
        # Counting without the graph would be exact.
        streams = tuple(stream.model_copy(update={"runs": None}) for stream in card.streams)
        card = card.model_copy(update={"streams": streams})
    return bundle.write(folder, card, read.judge, files=files, heads=read.heads, seen=read.seen)


def _finished(
    read: Bundle,
    tried: Bundle,
    out: Path,
    precision: Precision,
    taken: Attempt,
    before: _Scores,
    calibrated: Seen,
    bound: float,
    name: str,
) -> None:
    """The variant, with a card that says what it is."""
    card, change = read.card, taken.change
    beyond = taken.beyond(bound)
    label = f"{card.name} {card.version} ({card.sha256[:12]})"
    note = (
        f"A variant of {label} in {precision}. Heads, calibration and thresholds are the original's: no score of "
        f"{change.rows} tuning rows moved by more than {bound:g}. Figures on test rows are on the original's card and "
        "were not measured of this one."
    )
    if beyond:
        note += f" Left out, as scores moved further: {', '.join(beyond)}."
    told = {
        "of": {"name": card.name, "version": card.version, "sha256": card.sha256},
        "precision": precision,
        "what": taken.what,
        "rows": {"split": "tune", "judged": change.rows},
        "bound": bound,
        "largest_change": change.largest,
        "mean_change": change.mean,
        "verdicts_changed": change.flips,
        "auc_change": change.auc.to_dict(),
        **({"layers": dict(taken.layers)} if taken.layers else {}),
        **({"layers_in_float": {trunk: list(kept) for trunk, kept in taken.kept.items()}} if taken.layers else {}),
        **({"left_out": list(beyond)} if beyond else {}),
    }
    figures = {
        "largest change of a score": change.largest,
        "verdicts changed": change.flips,
        "AUC change": change.auc.to_dict(),
    }
    bundle.write(
        out,
        card.model_copy(
            update={
                "name": name or f"{card.name}-{precision}",
                "created": datetime.date.today(),
                "assay": assay.__version__,
                "engine": runtime(),
                "precision": precision,
                "streams": tried.card.streams,
                "figures": {"beside the original": figures},
                "notes": " ".join(filter(None, (note, card.notes))),
                "training": {**card.training, "variant": told},
            }
        ),
        _without(read.judge, beyond),
        files={path.name: path for path in tried.folder.iterdir() if path.suffix in (".onnx", ".weights")},
        heads=read.heads,
        seen=read.seen.joined(before.seen).joined(calibrated),
    )


def _without(judge: Judge, ways: Collection[str]) -> Judge:
    return judge.model_copy(
        update={
            "alternatives": {kind: rule for kind, rule in judge.alternatives.items() if f"head {kind}" not in ways},
            "rules": {name: rule for name, rule in judge.rules.items() if f"vote {name}" not in ways},
        }
    )
