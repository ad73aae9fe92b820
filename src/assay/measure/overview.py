"""One stream's embedding, written to a folder: arrays, figures, and t-SNE pictures by label and by generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assay.errors import MissingExtra
from assay.measure import embedding, gather
from assay.measure import manifold as manifolds
from assay.measure.embedding import Figures
from assay.measure.evaluate import UNNAMED
from assay.measure.gather import Embedding
from assay.measure.manifold import Manifold
from assay.measure.scatter import svg
from assay.measure.tsne import FEWEST, PERPLEXITY, Plane, tsne
from assay.types import Label

BY = ("label", "generator")
"""What the pictures are coloured by."""


class Overview(NamedTuple):
    """What was found of one stream.

    Args:
        part: its embedding.
        figures: of the labelled rows.
        manifold: how its fakes lie to one another, or why that was not measured.
        drawn: rows in the pictures; 0 where there are too few for one, or none was asked for.
        perplexity: of the t-SNE, as used.
        seed: of the t-SNE, its rows and the intervals.
        files: names of what was written.
    """

    part: Embedding
    figures: Figures
    manifold: Manifold | str
    drawn: int
    perplexity: float
    seed: int
    files: tuple[str, ...]

    @property
    def unlabelled(self) -> int:
        """Rows that are in the arrays but in no figure."""
        return len(self.part.samples) - self.figures.n_real - self.figures.n_fake

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        return {
            "shared": list(self.part.shared),
            "width": int(self.part.vectors.shape[1]),
            "n": len(self.part.samples),
            "unlabelled": self.unlabelled,
            "seen": int(self.part.seen.sum()),
            "not_applicable": [trouble.to_dict() for trouble in self.part.not_applicable],
            **self.figures.to_dict(),
            "manifold": {"skipped": self.manifold} if isinstance(self.manifold, str) else self.manifold.to_dict(),
            "tsne": {"n": self.drawn, "perplexity": self.perplexity, "seed": self.seed} if self.drawn else None,
            "files": list(self.files),
        }


def overview(
    part: Embedding,
    folder: Path,
    *,
    title: str,
    most: int = 2000,
    perplexity: float = PERPLEXITY,
    seed: int = 0,
    rounds: int = 1000,
) -> Overview:
    """Measure one stream's embedding and write `STREAM.npz`, `STREAM.label.svg` and `STREAM.generator.svg`.

    Args:
        folder: where to; what an earlier view left there under these names is replaced or removed.
        title: of the pictures.
        most: rows in the t-SNE at most, half of each class; 0 for no picture.
        perplexity: see `assay.measure.tsne.tsne`.
        seed: of the t-SNE, its rows, the clusters and the intervals.
        rounds: of the bootstrap.

    Raises:
        MissingExtra: a picture is to be drawn and there is no scikit-learn.
        OutputError: a file cannot be written (kind "disk").
    """
    labels = part.labels
    known = np.flatnonzero(labels != gather.UNKNOWN)
    sources, generators = ([column[row] for row in known] for column in (part.sources, part.generators))
    figures = embedding.figures(part.vectors[known], labels[known], sources, generators, rounds=rounds, seed=seed)
    manifold = _manifold(part, rounds, seed)
    drawn = known[embedding.alike(labels[known], most, seed)]
    pictures = {f"{part.stream}.{by}.svg": "" for by in BY}
    points = None
    used = 0.0
    if len(drawn) < FEWEST:
        # Those of an earlier view would pass for this one's.
        for name in pictures:
            (folder / name).unlink(missing_ok=True)
        drawn, pictures = drawn[:0], {}
    else:
        plane = tsne(part.vectors[drawn], perplexity=perplexity, seed=seed)
        used = plane.perplexity
        points = np.full((len(labels), 2), np.nan)
        points[drawn] = plane.points
        pictures = dict(zip(pictures, _pictures(part, drawn, plane, title, seed), strict=True))
    for name, text in pictures.items():
        write(folder / name, text)
    arrays = f"{part.stream}.npz"
    gather.save(part, folder / arrays, points)
    return Overview(part, figures, manifold, len(drawn), used, seed, (arrays, *pictures))


def write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all. Raises OutputError (kind "disk") where that fails."""
    gather.put(path, lambda file: file.write(text.encode()))


def _manifold(part: Embedding, rounds: int, seed: int) -> Manifold | str:
    """How the fakes lie to one another, or why that can't be measured."""
    fakes = np.flatnonzero(part.labels == Label.FAKE)
    sources, generators = ([column[row] for row in fakes] for column in (part.sources, part.generators))
    if not any(generators):
        return "no fake's generator is named" if len(fakes) else "there are no fakes"
    try:
        return manifolds.figures(part.vectors[fakes], sources, generators, rounds=rounds, seed=seed)
    except MissingExtra as error:
        return str(error)


def _pictures(part: Embedding, drawn: npt.NDArray[np.intp], plane: Plane, title: str, seed: int) -> list[str]:
    rows = [part.samples[row] for row in drawn]
    words = ["fake" if row.label == Label.FAKE else "real" for row in rows]
    makers = [(row.generator or UNNAMED) if word == "fake" else word for row, word in zip(rows, words, strict=True)]
    note = (
        f"t-SNE of the embedding, perplexity {plane.perplexity:.3g}, seed {seed}; "
        "distances between clusters, and their sizes, mean nothing"
    )
    return [
        svg(
            plane.points,
            groups,
            title=f"{title}, by {by}",
            note=note,
            hollow=part.seen[drawn],
            hollow_means="outline: seen in making the detector",
            first=first,
        )
        for by, groups, first in zip(BY, (words, makers), (("real", "fake"), ("real",)), strict=True)
    ]
