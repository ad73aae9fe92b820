"""Controls: what can be told about the classes without looking for traces of a generator.

If file format, size or subject alone separate the evaluated rows, a detector's figure on them may come from these and
not from the pixels' traces. Every evaluation therefore prints, on its own rows,

- each fact of the file alone, as an AUC;
- a classifier on all of them (*metadata*);
- a classifier on 16 × 16 px thumbnails (*thumbnail*): colours and subject, no fine trace.

A detector earns trust by what it adds to these.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from assay import metrics
from assay.errors import InputError
from assay.image import place as addresses
from assay.image.decode import decode
from assay.image.fingerprint import perceptual_hash
from assay.image.quiet import quiet
from assay.measure import logistic
from assay.metrics import Floats, Interval, Labels
from assay.types import Label

THUMBNAIL = 16
FOLDS = 5
FEWEST = 10
"""Rows a class needs before a classifier is fitted to them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What one look at a file gives: its identity, its container, and a picture too small to show a trace.

    Args:
        sha256: of the file's bytes.
        phash: perceptual hash of the pixels, or None where they are too flat.
        format: as decoded ("JPEG", "PNG", …).
        width, height: in px, upright.
        bytes: size of the file.
        jpeg_quality: estimate on the scale of libjpeg, 1–100; None where the file is no JPEG.
        exif: whether the file holds any EXIF. What it says is never read.
        thumbnail: uint8, shape (768,).
    """

    sha256: str
    phash: int | None
    format: str
    width: int
    height: int
    bytes: int
    jpeg_quality: int | None
    exif: bool
    thumbnail: npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """How well the classes are told apart without a trace: `auc` as it stands, and turned to the side above .5."""

    auc: Interval

    @property
    def oriented(self) -> float:
        """The larger of the AUC and 1 − AUC."""
        return max(self.auc.value, 1 - self.auc.value)

    def to_dict(self) -> dict[str, Any]:
        return self.auc.to_dict() | {"oriented": self.oriented if math.isfinite(self.auc.value) else None}


@dataclasses.dataclass(frozen=True, slots=True)
class Controls:
    """The controls of one evaluation.

    Args:
        alone: each fact of the file alone, larger read as fake. `format` has no order: its formats are ordered by the
            share of fakes among these very rows, which is the most that format alone can give. `jpeg_quality` is of
            the JPEG files only.
        metadata: the classifier on all facts of the file.
        thumbnail: the classifier on thumbnails.
        fitted: which rows the two classifiers were fitted on.
    """

    alone: dict[str, Control]
    metadata: Control
    thumbnail: Control
    fitted: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "alone": {name: control.to_dict() for name, control in self.alone.items()},
            "metadata": self.metadata.to_dict(),
            "thumbnail": self.thumbnail.to_dict(),
            "fitted": self.fitted,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A labelled picture that could be decoded."""

    label: Label
    source: str
    facts: Facts


def look(place: str | os.PathLike[str]) -> Facts:
    """Decode one file, or one address inside an archive, and keep what identifies and describes it.

    Raises:
        InputError: the file cannot be decoded.
    """
    picture = decode(place)
    name = os.fspath(place)
    archive, member = addresses.split(name)
    if member:
        data = addresses.read(name)
        size = len(data)
        quality, exif = _header(io.BytesIO(data))
    else:
        size, _ = addresses.stat(name)
        quality, exif = _header(Path(archive))
    small = Image.fromarray(picture.pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return Facts(
        sha256=picture.sha256,
        phash=perceptual_hash(picture.pixels),
        format=picture.format,
        width=picture.width,
        height=picture.height,
        bytes=size,
        jpeg_quality=quality,
        exif=exif,
        thumbnail=np.asarray(small).reshape(-1),
    )


def look_at_all(
    places: Sequence[str], progress: Callable[[int, int], None] | None = None, workers: int | None = None
) -> list[Facts | InputError]:
    """`look` at many files, in their order; a file that cannot be decoded gives its error.

    Args:
        places: paths, or addresses inside archives.
        progress: called with (done, total) after each file.
        workers: threads; by default one a core, four at most.
    """

    def one(place: str) -> Facts | InputError:
        try:
            return look(place)
        except InputError as error:
            return error

    found: list[Facts | InputError] = []
    with ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1)) as threads:
        try:
            for facts in threads.map(one, places):
                found.append(facts)
                if progress is not None:
                    progress(len(found), len(places))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def controls(
    rows: Sequence[Row], fit_rows: Sequence[Row] | None = None, *, rounds: int = 1000, seed: int = 0
) -> Controls:
    """Measure the controls on `rows`.

    Args:
        rows: the evaluated rows.
        fit_rows: rows to fit the two classifiers on, none of them evaluated: the detector's own training rows, best.
            Without them each of five folds of the evaluated rows is scored by a classifier fitted on the other four;
            all rows of one source stand in one fold where each class has two sources or more.
        rounds, seed: of the bootstrap.

    Raises:
        ValueError: a row to fit on is also evaluated.
    """
    labels = np.array([row.label for row in rows], dtype=np.int8)
    sources = [row.source or f"row {number}" for number, row in enumerate(rows)]

    def measured(kept: npt.NDArray[np.bool_], scores: Floats) -> Control:
        inside = np.flatnonzero(kept & ~np.isnan(scores))
        clusters = [sources[index] for index in inside.tolist()]
        return Control(
            metrics.bootstrap(metrics.auc, labels[inside], scores[inside], clusters=clusters, rounds=rounds, seed=seed)
        )

    everything = np.ones(len(rows), dtype=np.bool_)
    alone = {name: measured(everything, _column(rows, read)) for name, read in ALONE.items()}
    alone = {"format": measured(everything, _format_scores(rows, labels))} | alone
    folds, fitted = _folds(rows, labels, sources, fit_rows, seed)
    meta, small = _metadata, _thumbnails
    return Controls(
        alone=alone,
        metadata=measured(everything, _cross_fitted(rows, labels, fit_rows, folds, meta, ridge=1.0)),
        thumbnail=measured(everything, _cross_fitted(rows, labels, fit_rows, folds, small, ridge=300.0)),
        fitted=fitted,
    )


ALONE: dict[str, Callable[[Facts], float]] = {
    "pixels": lambda facts: float(facts.width * facts.height),
    "squareness": lambda facts: min(facts.width, facts.height) / max(facts.width, facts.height),
    "bytes_per_pixel": lambda facts: facts.bytes / (facts.width * facts.height),
    "jpeg_quality": lambda facts: math.nan if facts.jpeg_quality is None else float(facts.jpeg_quality),
    "exif": lambda facts: float(facts.exif),
}
"""The facts of a file that have an order, each read from `Facts`; NaN where it does not apply."""


def jpeg_quality(steps: Sequence[int]) -> int:
    """The libjpeg quality, 1–100, whose luminance table has the total nearest to that of `steps`.

    The total falls with the quality, so tables of other makers (cameras, Photoshop) find their equivalent.

    Args:
        steps: the 64 steps of a luminance table, in any order.
    """
    return 1 + int(np.argmin(np.abs(_totals() - sum(steps))))


@functools.cache
def _totals() -> npt.NDArray[np.int64]:
    """The sum of the luminance table that Pillow writes at each quality from 1 to 100."""
    totals = []
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            assert isinstance(image, JpegImageFile)
            totals.append(sum(image.quantization[0]))
    return np.array(totals, dtype=np.int64)


def _header(file: Path | io.BytesIO) -> tuple[int | None, bool]:
    """The JPEG quality and whether there is EXIF, from the file's header."""
    try:
        with quiet(), Image.open(file) as image:
            # Table 0 is the luminance's in every JPEG that keeps to JFIF.
            steps = image.quantization.get(0) if isinstance(image, JpegImageFile) else None
            return (None if steps is None else jpeg_quality(steps)), bool(image.getexif())
    except Exception:
        # The pixels decoded, so a header that Pillow cannot read here (a plugin's format, damaged EXIF) only means
        # that these two facts are not known.
        return None, False


def _column(rows: Sequence[Row], read: Callable[[Facts], float]) -> Floats:
    return np.array([read(row.facts) for row in rows], dtype=np.float64)


def _format_scores(rows: Sequence[Row], labels: Labels) -> Floats:
    """The share of fakes among the rows of each row's format."""
    shares = {}
    for name in {row.facts.format for row in rows}:
        shares[name] = float(labels[[row.facts.format == name for row in rows]].mean())
    return np.array([shares[row.facts.format] for row in rows], dtype=np.float64)


def _metadata(rows: Sequence[Row], formats: Sequence[str]) -> Floats:
    """Features of the file, shape (rows, 6 + formats)."""
    table = []
    for row in rows:
        facts = row.facts
        ordered = [
            math.log(facts.width * facts.height),
            ALONE["squareness"](facts),
            float(facts.width == facts.height),
            math.log(max(1, facts.bytes) / (facts.width * facts.height)),
            # Files without a quality are told apart by their format; the number only has to be the same for all.
            0.0 if facts.jpeg_quality is None else float(facts.jpeg_quality),
            float(facts.exif),
        ]
        table.append(ordered + [float(facts.format == name) for name in formats])
    return np.array(table, dtype=np.float64)


def _thumbnails(rows: Sequence[Row], _formats: Sequence[str]) -> Floats:
    return np.stack([row.facts.thumbnail for row in rows]).astype(np.float64)


def _cross_fitted(
    rows: Sequence[Row],
    labels: Labels,
    fit_rows: Sequence[Row] | None,
    folds: npt.NDArray[np.intp],
    features: Callable[[Sequence[Row], Sequence[str]], Floats],
    ridge: float,
) -> Floats:
    """P(fake) of each row by a classifier that has not seen it; NaN where none could be fitted."""
    scores = np.full(len(rows), math.nan)
    if not len(rows):
        return scores
    known = rows if fit_rows is None else fit_rows
    truth = labels if fit_rows is None else np.array([row.label for row in fit_rows], dtype=np.int8)
    formats = sorted({row.facts.format for row in known})
    table = features(rows, formats)
    fit_table = table if fit_rows is None else features(known, formats) if known else table[:0]
    for fold in np.unique(folds):
        inside = folds == fold
        outside = ~inside if fit_rows is None else np.ones(len(known), dtype=np.bool_)
        if min((truth[outside] == label).sum() for label in (0, 1)) < FEWEST:
            continue
        model = logistic.fit(fit_table[outside], truth[outside], ridge=ridge)
        scores[inside] = model.predict(table[inside])
    return scores


def _folds(
    rows: Sequence[Row], labels: Labels, sources: Sequence[str], fit_rows: Sequence[Row] | None, seed: int
) -> tuple[npt.NDArray[np.intp], str]:
    """The fold of each row, and a sentence on what the classifiers are fitted on."""
    folds = np.zeros(len(rows), dtype=np.intp)
    if fit_rows is not None:
        shared = {row.facts.sha256 for row in fit_rows} & {row.facts.sha256 for row in rows}
        if shared:
            raise ValueError(f"{len(shared)} rows to fit the controls on are also evaluated; leave them out")
        return folds, f"on {len(fit_rows)} other rows"
    by_class = [
        sorted({source for source, of in zip(sources, labels.tolist(), strict=True) if of == label}) for label in (0, 1)
    ]
    fewest = min(len(names) for names in by_class)
    random = np.random.default_rng(seed)
    if fewest < 2:
        for label in (0, 1):
            inside = np.flatnonzero(labels == label)
            folds[random.permutation(inside)] = np.arange(len(inside)) % FOLDS
        return (
            folds,
            f"on the evaluated rows, {FOLDS} folds (a class has a single source, so sources are not kept apart)",
        )
    count = min(FOLDS, fewest)
    # Each source, the largest first, goes to the fold that holds least of its class, so no fold lacks one.
    sizes = Counter(zip(labels.tolist(), sources, strict=True))
    fold_of: dict[str, int] = {}
    for label, names in enumerate(by_class):
        load = [0] * count
        for name in names:
            if name in fold_of:
                load[fold_of[name]] += sizes[label, name]
        for name in sorted(set(names) - set(fold_of), key=lambda name: (-sizes[label, name], name)):
            fold_of[name] = int(np.argmin(load))
            load[fold_of[name]] += sizes[label, name]
    folds[:] = [fold_of[source] for source in sources]
    return folds, f"on the evaluated rows, {count} folds, whole sources in one fold"
