"""A small head over the frames of a clip, and whether it is worth more than the mean of the frames' scores.

What a detector's network makes of each judged frame stands in a row of its own, (clips, frames, dim), missing frames
masked. The head (*ours*; the masked-eye paper, arXiv 2410.05466, and GenConViT, arXiv 2307.07036, take the mean of 15
frames' scores) brings each frame down to a few numbers, mixes neighbours by a depthwise convolution over time, attends
to some frames and also sees how much the numbers vary over the clip: an edge that flickers moves them, one that stays
does not. So few parameters learn in seconds on a CPU, from some dozens of clips.

Against it stands a linear head on the same embeddings, fitted on the same clips' frames, whose scores are put together
as `assay.measure.clips` does it: by mean, median, the highest few, maximum. All that is chosen (how long the head
learns and how strongly its weights decay; the linear head's ridge) is chosen on folds that leave whole people, or
sources, out; what is told is told of people whom neither has met.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay import metrics
from assay.errors import BundleError, InputError, ManifestError, OverlapError, RecipeError, unknown
from assay.image.decode import Limits, decode
from assay.judge.card import StreamCard
from assay.judge.detector import Detector, Prepared
from assay.measure import logistic, resample
from assay.measure.clips import FRAMES, aggregate, grouped, person, spread
from assay.measure.evaluate import Progress, Trouble
from assay.measure.folds import by_source
from assay.measure.paired import Delong, delong
from assay.metrics import Floats, Interval, Labels
from assay.types import Picture, Sample

WAYS = ("mean", "median", "top", "max")
"""How the linear head's scores of frames are put together (`assay.measure.clips.aggregate`)."""

TEMPORAL = "temporal"

DECAYS = (0.1, 10.0)
"""AdamW's weight decay: of these one is chosen."""
RIDGES = (1.0, 30.0, 1000.0)
"""Of the linear head."""

_LEAST = 1e-6


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Clips as a network sees their frames.

    Args:
        vectors: (clips, frames, dim) float32; 0 where there is no frame.
        there: whether a clip has that frame, (clips, frames); at least one each.
        labels: 1 = fake, (clips,).
        people: whom each shows first, or its source; a name of its own where neither is known.
        names: of the clips.
        own: the raw scores of the detector's own head, any numbers, higher = more fake, (clips, frames); NaN where
            there is no frame.
        without: clips of which nothing could be embedded, with the reason.
    """

    vectors: npt.NDArray[np.float32]
    there: npt.NDArray[np.bool_]
    labels: Labels
    people: tuple[str, ...]
    names: tuple[str, ...]
    own: Floats
    without: tuple[Trouble, ...] = ()

    def __post_init__(self) -> None:
        shape = self.vectors.shape[:2]
        if self.there.shape != shape or self.own.shape != shape or len(self.labels) != shape[0]:
            raise ValueError(f"{self.there.shape}, {self.own.shape}, {len(self.labels)} against {shape}")
        if not self.there.any(axis=1).all():
            raise ValueError("a clip without a frame has no place here")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.intp]) -> Embedded:
        """Some of the clips."""
        chosen = rows.tolist()
        return dataclasses.replace(
            self,
            vectors=self.vectors[rows],
            there=self.there[rows],
            labels=self.labels[rows],
            people=tuple(self.people[row] for row in chosen),
            names=tuple(self.names[row] for row in chosen),
            own=self.own[rows],
        )


def embed(
    detector: Detector,
    samples: Sequence[Sample],
    *,
    stream: str | None = None,
    frames: int = FRAMES,
    progress: Progress | None = None,
) -> Embedded:
    """The judged frames of labelled clips, as one of a detector's networks sees them.

    Of a frame's crops the largest face counts where the stream looks at faces, else their mean. A frame without one is
    missing. Rows are clips as in `assay.measure.clips`; nothing is refused here.

    Args:
        samples: labelled rows; others are left out.
        stream: whose network and head; None for the first on the card.
        frames: of each clip, evenly, >= 1.
        progress: told how far it is.

    Raises:
        BundleError: no such stream (kind "unknown"), or its network can't be run.
        ManifestError: no clip could be embedded.
    """
    card = _stream(detector, stream)
    clips = grouped(spread([row for row in samples if row.label is not None], frames))
    found, kept, without = list[list[_Frame | str]](), list[Sample](), list[Trouble]()
    for done, rows in enumerate(clips, 1):
        seen = _looked(detector, card, rows, frames)
        if any(isinstance(frame, _Frame) for frame in seen):
            found.append(seen)
            kept.append(rows[0])
        else:
            reason = next((frame for frame in seen if isinstance(frame, str)), "no frame")
            without.append(Trouble(rows[0].video or rows[0].place, "not_applicable", reason))
        if progress is not None:
            progress("embedding clips", done, len(clips))
    if not kept:
        because = f": {without[0].place}: {without[0].message}" if without else ""
        raise ManifestError(f"of {len(clips)} labelled clips none could be embedded{because}")
    longest = max(map(len, found))
    vectors = np.zeros((len(kept), longest, card.embedding), np.float32)
    own = np.full((len(kept), longest), np.nan)
    for row, seen in enumerate(found):
        for place, frame in enumerate(seen):
            if isinstance(frame, _Frame):
                vectors[row, place], own[row, place] = frame.vector, frame.raw
    return Embedded(
        vectors=vectors,
        there=~np.isnan(own),
        labels=np.array([int(row.label or 0) for row in kept], np.int8),
        people=tuple(person(row) or f"\0{number}" for number, row in enumerate(kept)),
        names=tuple(row.video or row.place for row in kept),
        own=own,
        without=tuple(without),
    )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """What the network makes of a frame, (dim,), and its head's raw score."""

    vector: npt.NDArray[np.float32]
    raw: float


def _stream(detector: Detector, name: str | None) -> StreamCard:
    for card in detector.streams:
        if name in (None, card.name):
            return card
    raise BundleError(unknown("stream", str(name), [card.name for card in detector.streams]), kind="unknown")


def _looked(detector: Detector, card: StreamCard, rows: Sequence[Sample], frames: int) -> list[_Frame | str]:
    """Every frame of a clip, or why there is nothing of it."""
    shown = list[Prepared | str]()
    numbers = set[int]()
    for row in rows:
        # Further crops of a frame, smaller faces, come after the first.
        if row.frame is not None and row.frame in numbers:
            continue
        numbers |= set() if row.frame is None else {row.frame}
        try:
            picture = decode(row.place, Limits(frames=frames, video_frames=frames))
        except InputError as error:
            shown.append(str(error))
            continue
        for pixels in picture.frames:
            frame = detector.cut(Picture((pixels,), picture.sha256, picture.format), row.place)
            shown.append(frame if card.view in frame.crops else frame.absent.get(card.view, "left out"))
    cut = [frame for frame in shown if isinstance(frame, Prepared)]
    if not cut:
        return [str(frame) for frame in shown]
    run = card.trunk, card.view
    whole = detector.embed_prepared(cut, [run])[run]
    ends = np.cumsum([len(frame.crops[card.view]) for frame in cut])[:-1]
    crops = iter(np.split(whole, ends))
    return [frame if isinstance(frame, str) else _joined(detector, card, frame, next(crops)) for frame in shown]


def _joined(detector: Detector, card: StreamCard, prepared: Prepared, crops: npt.NDArray[np.float32]) -> _Frame | str:
    """One frame of what the trunk makes of its crops."""
    if card.view.layout == "faces":
        [boxes] = prepared.boxes[card.view]
        largest = max(range(len(boxes)), key=lambda place: boxes[place].width * boxes[place].height)
        crops = crops[largest : largest + 1]
    vector, raw = card.own(crops).mean(axis=0, dtype=np.float64), float(detector.raw(card.name, crops).mean())
    if not (np.isfinite(vector).all() and np.isfinite(raw)):
        return "its network gave no finite number for this picture"
    return _Frame(vector.astype(np.float32), raw)


# ── the head ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Temporal(nn.Module):
    """One logit of a clip's frames; above 0 = fake.

    Embeddings are standardised and projected; a depthwise convolution adds what neighbours in time say; attention
    weighs the frames. Beside this weighted mean stands how much each number varies over the clip's frames.

    Args:
        dim: of an embedding.
        width: numbers a frame is brought down to.
        kernel: frames the convolution spans, odd.
        dropout: share of a frame's numbers left out in training.
    """

    def __init__(self, dim: int, width: int = 32, kernel: int = 3, dropout: float = 0.2) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise RecipeError(f"a kernel of {kernel} frames has no middle; give an odd number")
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.project = nn.Linear(dim, width)
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.attend = nn.Linear(width, 1)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(2 * width, 1)

    def standardise(self, vectors: Tensor, there: Tensor) -> None:
        """Take mean and spread of the frames that are there, (clips, frames, dim) and (clips, frames), for all that
        comes later."""
        frames = vectors[there]
        self.mean = frames.mean(dim=0)
        # A number that never changes tells nothing, and is not to be blown up.
        spread = frames.std(dim=0, correction=0)
        self.scale = torch.where(spread > _LEAST, spread, torch.ones_like(spread))

    def forward(self, vectors: Tensor, there: Tensor) -> Tensor:
        """Logits, (clips,).

        Args:
            vectors: (clips, frames, dim); what stands where a frame is missing does not matter.
            there: which frames there are, (clips, frames), at least one a clip.
        """
        known = there.unsqueeze(-1)
        standard = torch.where(known, (vectors - self.mean) / self.scale, 0.0)
        seen = torch.where(known, self.drop(functional.gelu(self.project(standard))), 0.0)
        mixed = self.mix(seen.transpose(1, 2)).transpose(1, 2)
        seen = torch.where(known, seen + mixed, 0.0)
        weights = self.attend(seen).masked_fill(~known, -torch.inf).softmax(dim=1)
        count = known.sum(dim=1)
        middle = seen.sum(dim=1) / count
        varies = torch.where(known, (seen - middle.unsqueeze(1)).square(), 0.0).sum(dim=1) / count
        # The root's slope has no end at 0, where a clip has one frame.
        pooled = torch.cat([(weights * seen).sum(dim=1), (varies + _LEAST).sqrt()], dim=1)
        logits: Tensor = self.out(pooled).squeeze(1)
        return logits


@dataclasses.dataclass(frozen=True, slots=True)
class Learning:
    """How the head learns: cross-entropy, both classes alike, AdamW, all clips in every step.

    Args:
        steps: at most; as many as suit the folds are taken.
        every: steps between looks at a fold.
        rate: learning rate, which falls to 0 over `steps` by a cosine.
        width, kernel, dropout: as `Temporal` takes them.
        decays: of the weights; one is chosen.
        ridges: of the linear head; one is chosen.
        folds: at most.

    Raises:
        RecipeError: a number that does not hold.
    """

    steps: int = 120
    every: int = 10
    rate: float = 3e-3
    width: int = 32
    kernel: int = 3
    dropout: float = 0.2
    decays: tuple[float, ...] = DECAYS
    ridges: tuple[float, ...] = RIDGES
    folds: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.every <= self.steps:
            raise RecipeError(f"a look every {self.every} of {self.steps} steps does not hold")
        if self.rate <= 0 or self.width < 1 or self.folds < 2:
            raise RecipeError("rate must be above 0, width 1 or more, folds 2 or more")
        if not self.decays or not self.ridges or min(self.decays) < 0 or min(self.ridges) <= 0:
            raise RecipeError("give decays of 0 or more and ridges above 0, at least one of each")


PLAIN = Learning()


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """What the folds chose.

    Args:
        steps, decay: of the temporal head.
        ridge: of the linear head.
        loss, linear_loss: cross-entropy of clips, both classes alike, on people left out, of each; of the linear head
            by the mean of its frames' scores.
        folds: in words.
    """

    steps: int
    decay: float
    ridge: float
    loss: float
    linear_loss: float
    folds: str

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Both heads, fitted on the same clips."""

    temporal: Temporal
    linear: logistic.Logistic
    chosen: Chosen

    def scores(self, clips: Embedded, top: int | None = None) -> dict[str, Floats]:
        """P(fake) of each clip, (clips,), by each of `WAYS` and by the temporal head.

        Args:
            top: how many frames "top" takes; None for one in five, rounded up.
        """
        frames = _frame_scores(self.linear, clips)
        found = {way: _pooled(frames, way, top) for way in WAYS}
        return found | {TEMPORAL: _predicted(self.temporal, clips)}


def fit(clips: Embedded, learning: Learning = PLAIN, *, seed: int = 0) -> Fitted:
    """Fit both heads, with what is chosen chosen on folds of whole people.

    Args:
        clips: of both classes.
        seed: of the head's first weights and of dropout.

    Raises:
        ManifestError: fewer than two clips of a class.
    """
    labels = clips.labels
    if np.bincount(labels, minlength=2).min() < 2:
        raise ManifestError("a head over clips needs two or more of each class to be chosen on folds")
    folds = by_source(labels, clips.people, most=learning.folds)
    looks = range(learning.every, learning.steps + 1, learning.every)
    losses = {(steps, decay): 0.0 for decay in learning.decays for steps in looks}
    linear = dict.fromkeys(learning.ridges, 0.0)
    for fold in range(folds.count):
        held = clips.take(np.flatnonzero(folds.number == fold))
        others = clips.take(np.flatnonzero(folds.number != fold))
        if len(set(others.labels.tolist())) < 2 or not len(held):
            continue
        weight = len(held) / len(clips)
        for decay in learning.decays:
            for steps, head in _trained(others, decay, learning, seed):
                losses[steps, decay] += weight * _loss(_predicted(head, held), held.labels)
        for ridge in learning.ridges:
            means = _pooled(_frame_scores(_linear(others, ridge), held), "mean", None)
            linear[ridge] += weight * _loss(means, held.labels)
    (steps, decay), loss = min(losses.items(), key=lambda item: item[1])
    ridge, linear_loss = min(linear.items(), key=lambda item: item[1])
    heads = dict(_trained(clips, decay, learning, seed, until=steps))
    chosen = Chosen(steps, decay, ridge, loss, linear_loss, str(folds))
    return Fitted(heads[steps], _linear(clips, ridge), chosen)


def _trained(
    clips: Embedded, decay: float, learning: Learning, seed: int, until: int | None = None
) -> Iterator[tuple[int, Temporal]]:
    """The head after every few steps; the same for the same seed, whatever stands in the process's own generator."""
    vectors, there = torch.from_numpy(clips.vectors), torch.from_numpy(clips.there)
    labels = torch.from_numpy(clips.labels.astype(np.float32))
    alike = torch.from_numpy(_alike(clips.labels).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Temporal(clips.vectors.shape[2], learning.width, learning.kernel, learning.dropout)
        head.standardise(vectors, there)
        optimiser = torch.optim.AdamW(head.parameters(), lr=learning.rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, learning.steps)
        for step in range(1, (until or learning.steps) + 1):
            head.train()
            optimiser.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(head(vectors, there), labels, weight=alike)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if step % learning.every == 0:
                yield step, copy.deepcopy(head).eval()


@torch.no_grad()
def _predicted(head: Temporal, clips: Embedded) -> Floats:
    logits = head.eval()(torch.from_numpy(clips.vectors), torch.from_numpy(clips.there))
    return np.asarray(torch.sigmoid(logits).double().numpy(), np.float64)


def _linear(clips: Embedded, ridge: float) -> logistic.Logistic:
    labels = np.repeat(clips.labels, clips.there.sum(axis=1))
    return logistic.fit(clips.vectors[clips.there], labels, ridge=ridge)


def _frame_scores(head: logistic.Logistic, clips: Embedded) -> Floats:
    """P(fake) of each frame, (clips, frames), NaN where there is none."""
    found = np.full(clips.there.shape, np.nan)
    found[clips.there] = head.predict(clips.vectors[clips.there])
    return found


def _pooled(frames: Floats, way: str, top: int | None) -> Floats:
    return np.array([aggregate(row[~np.isnan(row)], way, top) for row in frames])


def _alike(labels: Labels) -> Floats:
    """Weights under which both classes count alike; 1 where there is one alone."""
    counts = np.bincount(labels, minlength=2)
    return np.asarray(len(labels) / (np.count_nonzero(counts) * counts[labels]), np.float64)


def _loss(scores: Floats, labels: Labels) -> float:
    """Cross-entropy, both classes alike."""
    right = np.where(labels == 1, scores, 1 - scores).clip(_LEAST, 1)
    return float((_alike(labels) * -np.log(right)).mean())


# ── what it is worth ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class Worth:
    """What a temporal head has over aggregates of the same frames, on people it has not met.

    Args:
        n_real, n_fake: clips tested on.
        fitted: (real, fake) clips fitted on.
        chosen: what the folds chose.
        auc: of the linear head's frames by each of `WAYS`, of the "temporal" head, and "own", the mean of the raw
            scores of the detector's own head. Intervals are bootstrapped by person.
        difference: the temporal head's AUC less that of each of the others; each round draws the same clips for both.
        delong: DeLong's test of the same, which takes clips for independent.
    """

    n_real: int
    n_fake: int
    fitted: tuple[int, int]
    chosen: Chosen
    auc: dict[str, Interval]
    difference: dict[str, Interval]
    delong: dict[str, Delong]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object; what is not defined is None, never NaN."""
        return {
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "fitted": {"real": self.fitted[0], "fake": self.fitted[1]},
            "chosen": self.chosen.to_dict(),
            "auc": {name: found.to_dict() for name, found in self.auc.items()},
            "difference": {name: found.to_dict() for name, found in self.difference.items()},
            "delong": {name: found.to_dict() for name, found in self.delong.items()},
        }


def compare(
    clips: Embedded,
    test: Embedded,
    learning: Learning = PLAIN,
    *,
    top: int | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> Worth:
    """Fit both heads on some clips and compare them on clips of other people.

    Args:
        test: none of the people of `clips`.
        top: how many frames "top" takes; None for one in five, rounded up.
        rounds, seed: of the bootstrap; `seed` also of the head's first weights.

    Raises:
        ManifestError: fewer than two clips of a class to fit on.
        OverlapError: somebody is in both.
    """
    met = set(clips.people)
    both = [name for name, who in zip(test.names, test.people, strict=True) if who in met]
    if both:
        raise OverlapError(
            f"{len(both)} of {len(test)} clips to test on show people that the heads were fitted on, such as {both[0]}",
            both,
        )
    fitted = fit(clips, learning, seed=seed)
    scores = fitted.scores(test, top) | {"own": _pooled(test.own, "mean", None)}
    rest = {name: found for name, found in scores.items() if name != TEMPORAL}
    counts = [np.bincount(part.labels, minlength=2).tolist() for part in (clips, test)]
    return Worth(
        n_real=counts[1][0],
        n_fake=counts[1][1],
        fitted=(counts[0][0], counts[0][1]),
        chosen=fitted.chosen,
        auc={
            name: resample.bootstrap(resample.AUC, test.labels, found, clusters=test.people, rounds=rounds, seed=seed)
            for name, found in scores.items()
        },
        difference={name: _difference(test, found, scores[TEMPORAL], rounds, seed) for name, found in rest.items()},
        delong={name: delong(test.labels, found, scores[TEMPORAL]) for name, found in rest.items()},
    )


def _difference(test: Embedded, first: Floats, second: Floats, rounds: int, seed: int) -> Interval:
    before, now = (
        resample.drawn(resample.AUC, test.labels, scores, clusters=test.people, rounds=rounds, seed=seed)
        for scores in (first, second)
    )
    value = metrics.auc(test.labels, second) - metrics.auc(test.labels, first)
    return resample.interval(value, now - before, len(test))


def split(clips: Embedded, share: float = 0.5, seed: int = 0) -> tuple[Embedded, Embedded]:
    """Clips to fit on and clips to test on, no person in both.

    Args:
        share: of the people to fit on, in (0, 1).
        seed: of the draw.
    """
    people = sorted(set(clips.people))
    drawn = np.random.default_rng(seed).permutation(len(people))[: round(share * len(people))]
    mine = {people[place] for place in drawn.tolist()}
    inside = np.array([who in mine for who in clips.people], np.bool_)
    return clips.take(np.flatnonzero(inside)), clips.take(np.flatnonzero(~inside))


def joined(parts: Iterable[Embedded]) -> Embedded:
    """The clips of several, one after the other; those with fewer frames lack the last."""
    every = list(parts)
    longest = max(part.there.shape[1] for part in every)

    def padded(array: npt.NDArray[Any], fill: Any) -> npt.NDArray[Any]:
        missing = longest - array.shape[1]
        return np.pad(array, [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)], constant_values=fill)

    return Embedded(
        vectors=np.concatenate([padded(part.vectors, 0) for part in every]),
        there=np.concatenate([padded(part.there, False) for part in every]),
        labels=np.concatenate([part.labels for part in every]),
        people=tuple(itertools.chain(*(part.people for part in every))),
        names=tuple(itertools.chain(*(part.names for part in every))),
        own=np.concatenate([padded(part.own, np.nan) for part in every]),
        without=tuple(itertools.chain(*(part.without for part in every))),
    )
