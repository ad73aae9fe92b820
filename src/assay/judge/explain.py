"""Where a detector looked: each stream's map over the picture, what each crop says, where its class token looks.

Maps are Score-CAM's (`assay.judge.scorecam`), made crop by crop and laid where the crops lie; where crops overlap their
mean holds. A map says which places a crop's score rests on, not how high that score is: crops that look real have
a map too. What each crop says by itself stands in `Look.tiles`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import BundleError, unknown
from assay.image.decode import DEFAULT, Limits, Source, one, parts
from assay.image.view import View
from assay.judge import attention as attending
from assay.judge import scorecam
from assay.judge.card import StreamCard
from assay.judge.detector import Detector, name_of
from assay.judge.engine import Engine
from assay.judge.scorecam import CHANNELS, Masked, Toward
from assay.types import Box, Pixels, StreamScore, Verdict

Map = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]

NINTHS = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)
"""Parts of a picture, row by row."""

_AT_ONCE = 4
"""Crops explained together: a transformer's attention is tokens² numbers a head and crop."""

_NAMED, _MOST, _EVEN = 3, 0.5, 1 / 6


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Where one stream looked.

    Args:
        name: the stream.
        score: its P(fake) in [0, 1], of all frames, or None where it does not apply.
        reason: why there is no map; empty where there is one.
        boxes: of its crops, in px of the picture; they may reach beyond it.
        scores: P(fake) of each crop.
        map: (height, width) float32 in [0, 1]: 1 where most of what was asked for lies, 0 where least, and where no
            crop shows the picture.
        tiles: (height, width) float32: mean P(fake) of the crops that show a pixel, NaN where none does.
        attention: (height, width) float32 in [0, 1], as `map`, of the class token of a transformer; else None.
        entropies: of that attention, in nats, of each crop; empty where there is none.
    """

    name: str
    score: float | None
    reason: str = ""
    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    map: Map | None = None
    tiles: Map | None = None
    attention: Map | None = None
    entropies: tuple[float, ...] = ()

    @property
    def entropy(self) -> float | None:
        """Mean entropy over the crops, in nats."""
        return float(np.mean(self.entropies)) if self.entropies else None

    @property
    def seen(self) -> npt.NDArray[np.bool_] | None:
        """Which pixels its crops show."""
        return None if self.tiles is None else ~np.isnan(self.tiles)

    def sentences(self, toward: Toward) -> tuple[str, ...]:
        """Its part in words."""
        return tuple(_told(self, toward))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object, without the maps."""
        if self.map is None or self.seen is None:
            return {"name": self.name, "score": self.score, "reason": self.reason}
        told: dict[str, Any] = {
            "name": self.name,
            "score": self.score,
            "crops": [
                {"box": [box.left, box.top, box.right, box.bottom], "score": score}
                for box, score in zip(self.boxes, self.scores, strict=True)
            ],
            "shown": float(self.seen.mean()),
            "parts": ninths(self.map),
        }
        if self.entropies:
            told["attention"] = {"entropy": self.entropy, "entropies": list(self.entropies)}
        return told


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Where a detector looked in one picture, or in one frame of a clip.

    Args:
        verdict: on all of the input.
        pixels: the frame that was looked into, (height, width, 3) uint8.
        frame: its number: the one that was asked for, or else of several the one that says most clearly what was.
        toward: what was asked for: what speaks for "fake", or for "real".
        channels: most channels asked a crop; None for all.
        streams: the streams that were asked for, in the detector's order.
        time: the frame's seconds since the first of the clip; None where it has none.
    """

    verdict: Verdict
    pixels: Pixels
    frame: int
    toward: Toward
    channels: int | None
    streams: tuple[Look, ...]
    time: float | None = None

    @property
    def drawn(self) -> tuple[Look, ...]:
        """The streams that have a map."""
        return tuple(look for look in self.streams if look.map is not None)

    @property
    def map(self) -> Map | None:
        """The mean of the streams' maps, (height, width) float32 in [0, 1]; None where none has one."""
        maps = [look.map for look in self.drawn if look.map is not None]
        return np.mean(maps, axis=0, dtype=np.float32) if maps else None

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Which pixels any stream was shown, (height, width)."""
        shown = np.zeros(self.pixels.shape[:2], np.bool_)
        for look in self.drawn:
            if look.seen is not None:
                shown |= look.seen
        return shown

    @property
    def sentences(self) -> tuple[str, ...]:
        """Each stream's part in words."""
        return tuple(line for look in self.streams for line in look.sentences(self.toward))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object, without the maps."""
        return {
            "verdict": self.verdict.to_dict(),
            "frame": self.frame,
            **({} if self.time is None else {"time": self.time}),
            "toward": self.toward,
            "channels": self.channels,
            "streams": [look.to_dict() for look in self.streams],
            "sentences": list(self.sentences),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What an .npz holds: of each stream that has a map `NAME.map`, `NAME.tiles`, `NAME.boxes` (n, 4: left, top,
        right, bottom), `NAME.scores` (n,) and, of transformers, `NAME.attention` and `NAME.entropies` (n,); and
        `streams`, their names, and `score`, NaN where there is none."""
        score = self.verdict.score
        found: dict[str, npt.NDArray[Any]] = {
            "streams": np.array([look.name for look in self.drawn], np.str_),
            "score": np.asarray(np.nan if score is None else score),
        }
        for look in self.drawn:
            boxes = [(box.left, box.top, box.right, box.bottom) for box in look.boxes]
            of: dict[str, Any] = {"map": look.map, "tiles": look.tiles, "boxes": np.array(boxes)}
            of["scores"] = np.array(look.scores)
            if look.attention is not None:
                of |= {"attention": look.attention, "entropies": np.array(look.entropies)}
            found |= {f"{look.name}.{field}": array for field, array in of.items()}
        return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """What a view shows of a frame."""

    frame: Pixels
    view: View
    boxes: tuple[Box, ...]
    crops: Pixels


def explain(
    detector: Detector,
    source: Source,
    *,
    streams: Collection[str] | None = None,
    channels: int | None = CHANNELS,
    toward: Toward = "fake",
    frame: int | None = None,
    time: float | None = None,
    every: float | None = None,
    limits: Limits = DEFAULT,
    progress: Progress | None = None,
) -> Explanation:
    """Judge one picture and show where the detector looked.

    Of a clip one frame is looked into, whether it is among those that are judged or not. The verdict is the clip's.

    Args:
        source: a path, a file's bytes, a Pillow image or a uint8 array (height, width, 3).
        streams: names of the streams to look into; None for all that judge. The verdict is that of all either way.
        channels: most channels of a trunk's feature map that are asked a crop, the ones that vary most; None for all.
        toward: what the maps show: what speaks for "fake", or for "real".
        frame: number of the frame to look into, counted from 0; None for the one that says most clearly what is asked.
        time: the second at which it is shown, instead of its number.
        every: as in `Detector.judge`.
        limits: what decoding may cost.
        progress: told (trunk, done, total) masked runs.

    Raises:
        InputError: it could not be decoded, or has no such frame; `kind` says why.
        BundleError: kind "unknown" (the detector has no such stream), "missing" (it has no explaining graph), or its
            networks can't be run.
        ValueError: `channels` is below 1, or both `frame` and `time` are given.
    """
    if channels is not None and channels < 1:
        raise ValueError(f"{channels} channels ask nothing; give 1 or more, or None for all")
    if frame is not None and time is not None:
        raise ValueError("a frame by its number or by its second, not by both")
    chosen = _chosen(detector, streams)
    asked = None if frame is None and time is None else one(source, limits, frame=frame, time=time)
    with contextlib.closing(parts(source, limits, every=every)) as shown:
        picture = next(shown)
    if picture.frame_count == 1:
        prepared = detector.cut(picture, name_of(source))
        verdict = alone = detector.judge_prepared([prepared])[0]
    else:
        verdict = detector.judge(source, limits, every=every)
        number = _clearest(verdict, toward, picture.frame_numbers[0])
        picture = asked or one(source, limits, frame=number)
        still = dataclasses.replace(picture, frame_numbers=(0,), frame_count=1)
        prepared = detector.cut(still, name_of(source))
        # By all streams, as all frames of a clip are.
        alone = detector.judge_embedded([prepared], detector.embed_prepared([prepared]))[0]
    scores = {stream.name: stream for stream in verdict.streams}
    here = {stream.name: stream for stream in alone.streams}
    runs: dict[tuple[str, View], list[StreamCard]] = {}
    for card in chosen:
        runs.setdefault((card.trunk, card.view), []).append(card)
    found: dict[str, Look] = {}
    for (trunk, view), cards in runs.items():
        told = None if progress is None else functools.partial(progress, trunk)
        for name in (card.name for card in cards):
            reason = f"in the frame that was looked into: {here[name].reason}"
            found[name] = Look(name, scores[name].score, reason if scores[name].applies else scores[name].reason)
        there = {card.name: here[card.name] for card in cards if scores[card.name].applies and here[card.name].applies}
        if there:
            shows = _Shown(picture.pixels, view, prepared.boxes[view][0], prepared.crops[view])
            looks = _run(detector, there, shows, channels, toward, told)
            found |= {name: dataclasses.replace(look, score=scores[name].score) for name, look in looks.items()}
    return Explanation(
        verdict=verdict,
        pixels=picture.pixels,
        frame=picture.frame_numbers[0],
        toward=toward,
        channels=channels,
        streams=tuple(found[card.name] for card in chosen),
        time=picture.times[0] if picture.times else None,
    )


def ninths(map: Map) -> dict[str, float]:
    """The share of a map that lies in each ninth of the picture, by its name in `NINTHS`; all 0 where the map is."""
    rows = np.array_split(map.astype(np.float64), 3, axis=0)
    sums = [[float(part.sum()) for part in np.array_split(row, 3, axis=1)] for row in rows]
    total = sum(itertools.chain(*sums)) or 1.0
    pairs = zip(itertools.chain(*NINTHS), itertools.chain(*sums), strict=True)
    return {name: value / total for name, value in pairs}


def spread(
    maps: Sequence[npt.NDArray[Any]], boxes: Sequence[Box], height: int, width: int
) -> tuple[Map, npt.NDArray[np.bool_]]:
    """Maps of crops laid over a picture.

    Args:
        maps: of each crop, (h, w); enlarged to its box.
        boxes: where the crops lie, in px; what reaches beyond the picture is mirrored there, and dropped.
        height, width: of the picture.

    Returns:
        (height, width) float32, the mean of the crops that show a pixel and 0 where none does; and whether one does.
    """
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for map, box in zip(maps, boxes, strict=True):
        left, top = max(box.left, 0), max(box.top, 0)
        right, bottom = min(box.right, width), min(box.bottom, height)
        large = scorecam.enlarged(map.astype(np.float32), box.height, box.width)
        total[top:bottom, left:right] += large[top - box.top : bottom - box.top, left - box.left : right - box.left]
        count[top:bottom, left:right] += 1
    return np.asarray(total / np.maximum(count, 1), np.float32), count > 0


def _chosen(detector: Detector, names: Collection[str] | None) -> list[StreamCard]:
    known = [card.name for card in detector.streams]
    for name in names or ():
        if name not in known:
            raise BundleError(unknown(f"stream of {detector.name}", name, known), kind="unknown")
    return [card for card in detector.streams if names is None or card.name in names]


def _clearest(verdict: Verdict, toward: Toward, first: int) -> int:
    """The number of the frame to look into; the first that was judged where none has a score."""
    if not verdict.frames:
        return first
    number, _ = (max if toward == "fake" else min)(verdict.frames, key=lambda frame: frame[1])
    return number


def _run(
    detector: Detector,
    streams: Mapping[str, StreamScore],
    shown: _Shown,
    channels: int | None,
    toward: Toward,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Look]:
    """The looks of streams that apply and share a trunk and a view: its runs are shared."""
    boxes = shown.boxes
    found: dict[str, Look] = {}
    masked, attended = _masked(detector.engine(next(iter(streams))), shown, channels, progress)
    size = shown.frame.shape[:2]
    attention = None if attended is None else _stretched(*spread(list(attended), boxes, *size))
    entropies = () if attended is None else tuple(attending.entropy(attended).tolist())
    for name, stream in streams.items():
        tiles, seen = spread([np.full((1, 1), score) for score in stream.views], boxes, *size)
        try:
            maps = masked.maps(functools.partial(detector.raw, name), toward)
        except ValueError as error:
            found[name] = Look(name, stream.score, str(error))
            continue
        found[name] = Look(
            name,
            stream.score,
            boxes=boxes,
            scores=stream.views,
            map=_stretched(*spread(list(maps), boxes, *size)),
            tiles=np.where(seen, tiles, np.float32(np.nan)),
            attention=attention,
            entropies=entropies,
        )
    return found


def _masked(
    engine: Engine, shown: _Shown, channels: int | None, progress: Callable[[int, int], None] | None
) -> tuple[Masked, npt.NDArray[np.float64] | None]:
    """What masked copies of the crops gave, and where a class token looks in each."""
    tensor = shown.view.tensor(shown.crops)
    features, attended = [], []
    for start in range(0, len(tensor), _AT_ONCE):
        explained = engine.explain(tensor[start : start + _AT_ONCE])
        features.append(explained["features"])
        if "attention" in explained:
            attended.append(attending.of_class_token(explained["attention"], *explained["features"].shape[2:]))
    masked = scorecam.ask(engine, tensor, np.concatenate(features), channels=channels, progress=progress)
    return masked, np.concatenate(attended) if attended else None


def _stretched(map: Map, seen: npt.NDArray[np.bool_]) -> Map:
    """A map over what was seen, stretched to [0, 1]; zeros where it does not vary, and where nothing was seen."""
    low, high = map[seen].min(), map[seen].max()
    if high <= low:
        return np.zeros_like(map)
    return np.where(seen, (map - low) / (high - low), np.float32(0))


def _told(look: Look, toward: Toward) -> Iterator[str]:
    """A stream's part in words."""
    if look.map is None or look.seen is None:
        yield f"{look.name} shows nothing: {look.reason}"
        return
    height, width = look.map.shape
    count = len(look.boxes)
    shown = f"{look.name} was shown {look.seen.mean():.0%} of the picture in {count} crop{'s' if count > 1 else ''}"
    if count > 1:
        most = look.boxes[int(np.argmax(look.scores))]
        shown += (
            f"; they give {min(look.scores):.2f} to {max(look.scores):.2f}, the most {_where(most, width, height)}: "
            f"x {max(most.left, 0)}-{min(most.right, width)}, y {max(most.top, 0)}-{min(most.bottom, height)} px"
        )
    yield shown
    yield f"what speaks for {toward} to {look.name} {_lies(ninths(look.map))}"
    if look.entropy is not None:
        yield f"the attention of its class token has an entropy of {look.entropy:.2f} nats"


def _lies(parts: dict[str, float]) -> str:
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    if ordered[0][1] == 0:
        return "lies nowhere: its map does not vary"
    if ordered[0][1] < _EVEN:
        return "is spread over the picture: no part stands out"
    named: list[str] = []
    held = 0.0
    for name, share in ordered[:_NAMED]:
        if held < _MOST:
            named.append(f"{name} {share:.0%}")
            held += share
    return f"lies above all here: {', '.join(named)}"


def _where(box: Box, width: int, height: int) -> str:
    """The ninth of the picture that a box's middle lies in."""
    column = min(2, max(0, 3 * (box.left + box.right) // (2 * width)))
    row = min(2, max(0, 3 * (box.top + box.bottom) // (2 * height)))
    return f"at the {NINTHS[row][column]}"
