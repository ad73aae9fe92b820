"""What one run of an arm gave: every test row's score under every condition and head, and what the run cost.

Figures are not kept, scores are: whatever is asked of them later (another statistic, a pairing with another arm) needs
no new run.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

import assay
from assay.data.table import Table
from assay.errors import InputError, ManifestError, RecipeError
from assay.image.decode import decode
from assay.judge import bundle
from assay.judge.detector import Detector, Prepared
from assay.measure.controls import look_at_all
from assay.measure.evaluate import Progress, overlaps
from assay.measure.gather import gather
from assay.measure.overview import overview
from assay.measure.robustness import Condition
from assay.studies.study import DEFAULT
from assay.types import Picture, Sample

NAME = "result.json"

_BATCH = 8

TSNE, ROUNDS = 600, 500
"""Rows of a t-SNE picture at most, and bootstrap rounds, of a look at embeddings."""


class Row(pydantic.BaseModel):
    """A test row as the figures need it: `group` is its value of the column that figures are broken down by."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    place: str
    label: int = pydantic.Field(ge=0, le=1)
    source: str = ""
    group: str = ""


class Cost(pydantic.BaseModel):
    """What a run took.

    Args:
        parameters: of the trunks.
        steps: of all stages together.
        views: that the networks were shown.
        cpu_seconds: of this process and its loaders, decoding and fitting included; None where the run was taken up
            after a break, of which nothing is known.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    parameters: int
    steps: int
    views: int
    cpu_seconds: float | None = None


class Result(pydantic.BaseModel):
    """A finished run.

    Args:
        study, arm, seed: which.
        without: the value that its training left out; empty for none.
        detector: hash of the bundle's card.
        rows: the test rows that were judged.
        scores: by head (or rule of a vote, or stream), then by condition: P(fake) of each row, None where it has none.
        thresholds: of each head: what it calls fake.
        embedding: by stream, how it sets the test rows apart; empty where that was not asked for.
        probes: what was looked at beside (`assay.studies.probes`): by probe, line and figure, its value with interval.
        seen: test rows left out because the detector was made with them, or with something that looks the same.
        failed: test rows left out because they cannot be decoded.
        cost: of the run.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    study: str
    arm: str
    seed: int
    without: str = ""
    detector: str
    rows: tuple[Row, ...]
    scores: dict[str, dict[str, tuple[float | None, ...]]]
    thresholds: dict[str, float] = {}
    embedding: dict[str, dict[str, Any]] = {}
    probes: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    seen: int = 0
    failed: int = 0
    cost: Cost

    def save(self, folder: Path) -> None:
        """Write `result.json`, whole or not at all."""
        part = folder / f".{NAME}.part"
        part.write_text(json.dumps(self.model_dump(mode="json"), allow_nan=False), "utf-8")
        part.replace(folder / NAME)

    @classmethod
    def load(cls, folder: Path) -> Result | None:
        """What `save` left, None where there is nothing.

        Raises:
            RecipeError: it cannot be read.
        """
        file = folder / NAME
        if not file.exists():
            return None
        try:
            return cls.model_validate_json(file.read_bytes())
        except pydantic.ValidationError as error:
            raise RecipeError(f"{file} cannot be read; remove it, and the run is measured again") from error


@dataclasses.dataclass(frozen=True)
class Measured:
    """What judging gave; the fields are those of `Result`."""

    detector: str
    rows: tuple[Row, ...]
    scores: dict[str, dict[str, tuple[float | None, ...]]]
    thresholds: dict[str, float]
    embedding: dict[str, dict[str, Any]]
    seen: int
    failed: int


def heads_of(folder: Path, wanted: Sequence[str]) -> dict[str, Detector]:
    """A detector for each wanted kind of head, rule of a vote or stream that a bundle holds, judging so alone.

    `DEFAULT` is the bundle as it ships.

    Raises:
        BundleError: it cannot be read.
        RecipeError: it holds none of them.
    """
    read = bundle.read(folder)
    kinds = dict.fromkeys(stream.head.kind for stream in read.card.streams)
    options: dict[str, dict[str, Any]] = {DEFAULT: {}}
    options |= {kind: {"head": kind} if len(kinds) > 1 else {} for kind in kinds}
    if read.judge.rules:
        options |= {name: {"vote": name} for name in (read.judge.ensemble.method, *read.judge.rules)}
    chosen = [name for name in wanted if name in options]
    if not chosen:
        held = ", ".join(name for name in options if name != DEFAULT)
        raise RecipeError(f"{folder} holds {held} and none of the heads asked for: {', '.join(wanted)}")
    return {name: assay.load(folder, **options[name]) for name in chosen}


def measure(
    folder: Path,
    tested: Table,
    conditions: Mapping[str, Condition],
    heads: Sequence[str],
    by: str,
    progress: Progress | None = None,
    *,
    overviews: Path | None = None,
) -> Measured:
    """Judge test rows with a bundle under each condition.

    A picture is decoded and altered once for all heads. Rows that the detector was made with (file, origin, or what
    looks the same) and rows that cannot be decoded are left out and counted. Of a file with several frames the first
    is altered and judged.

    Args:
        tested: labelled rows.
        by: the column whose values become `Row.group`; rows that lack it have the empty group.
        progress: told (condition, done, total).
        overviews: where a look at the embeddings of the clean rows goes; None for none.

    Raises:
        ManifestError: no row is left.
    """
    detectors = heads_of(folder, heads)
    # With all streams that vote: whatever judges looks at some of what it cuts and embeds.
    first = assay.load(folder)
    samples = list(tested)
    facts = look_at_all([sample.place for sample in samples])
    known = {row for row, _ in overlaps(first, samples, facts)}
    broken = {row for row, fact in enumerate(facts) if isinstance(fact, InputError)}
    kept = [sample for row, sample in enumerate(samples) if row not in known and row not in broken]
    if not kept:
        raise ManifestError(
            f"none of {len(samples)} test rows can be measured: {len(known)} were seen in training, {len(broken)} "
            "cannot be decoded"
        )
    column = tested.column(by).tolist() if by in tested.columns else [""] * len(samples)
    groups = [column[row] for row in range(len(samples)) if row not in known and row not in broken]
    scores: dict[str, dict[str, tuple[float | None, ...]]] = {head: {} for head in detectors}
    for name, condition in conditions.items():
        found = _judged(first, detectors, kept, condition, name, progress)
        for head, values in found.items():
            scores[head][name] = tuple(values)
    rows = tuple(
        Row(place=sample.place, label=int(sample.label or 0), source=sample.source, group=group)
        for sample, group in zip(kept, groups, strict=True)
    )
    thresholds = {head: detector.threshold for head, detector in detectors.items()}
    looks = {} if overviews is None else _overviews(first, kept, overviews)
    return Measured(first.card.sha256, rows, scores, thresholds, looks, len(known), len(broken))


def _overviews(detector: Detector, samples: Sequence[Sample], folder: Path) -> dict[str, dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    views = [
        overview(part, folder, title=part.stream, most=TSNE, rounds=ROUNDS)
        for part in gather(detector, samples).streams
    ]
    return {view.part.stream: view.to_dict() for view in views}


def _judged(
    cut: Detector,
    detectors: Mapping[str, Detector],
    samples: Sequence[Sample],
    condition: Condition,
    name: str,
    progress: Progress | None,
) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {head: [] for head in detectors}
    for start, batch in _batches(samples):
        prepared = [_prepared(cut, sample, condition) for sample in batch]
        there = [each for each in prepared if each is not None]
        # The heads of a bundle have views and trunk in common, so what one detector cut and embedded serves the others.
        embeddings = cut.embed_prepared(there)
        for head, detector in detectors.items():
            verdicts = iter(detector.judge_embedded(there, embeddings))
            found[head] += [None if each is None else _finite(next(verdicts).score) for each in prepared]
        if progress is not None:
            progress(name, start + len(batch), len(samples))
    return found


def _batches(samples: Sequence[Sample]) -> Iterator[tuple[int, list[Sample]]]:
    for start in range(0, len(samples), _BATCH):
        yield start, list(itertools.islice(samples, start, start + _BATCH))


def _prepared(detector: Detector, sample: Sample, condition: Condition) -> Prepared | None:
    try:
        picture = decode(sample.place)
        changed = Picture((condition(picture.pixels),), picture.sha256, picture.format)
    except InputError:
        return None
    return detector.cut(changed, sample.place)


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None
