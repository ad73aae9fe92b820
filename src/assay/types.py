"""The nouns that every part of assay shares.

One convention holds everywhere: **label 1 = fake, score = P(fake) in [0, 1]**. Whatever the outside world says is
converted in the one place that reads it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""A picture's samples, shape (height, width, 3), sRGB, the right way up."""

Runtime = Literal["onnxruntime", "openvino", "openvino-bf16"]
"""What runs graphs. "openvino-bf16" multiplies in bfloat16, where the processor can; its scores differ."""

EngineName = Literal["auto", Runtime]
"""What may be asked for: a runtime, or the one that is taken unless something else was found to be faster here."""


class Label(enum.IntEnum):
    """What a picture is known to be."""

    REAL = 0
    FAKE = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright picture; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """One decoded input: the pixels a person sees, and where they came from.

    Args:
        frames: one array a frame, each (height, width, 3) uint8 sRGB, upright. A still picture has one. All frames
            of one input have the same shape.
        frame_numbers: the place of each of `frames` in the file, counted from 0.
        frame_count: how many frames the file holds (only some of them may have been decoded).
        times: seconds of each of `frames` since the first frame of the clip; empty for stills, and for animations and
            clips that have none.
        sha256: hash of the file's bytes (of the pixels where there was no file), 64 hexadecimal digits.
        format: the container as decoded ("JPEG", "PNG", …; "array" for pixels handed over in memory), never the
            file's extension.
    """

    frames: tuple[Pixels, ...]
    sha256: str
    format: str
    frame_numbers: tuple[int, ...] = (0,)
    frame_count: int = 1
    times: tuple[float, ...] = ()

    @property
    def pixels(self) -> Pixels:
        """The first decoded frame."""
        return self.frames[0]

    @property
    def width(self) -> int:
        return int(self.frames[0].shape[1])

    @property
    def height(self) -> int:
        return int(self.frames[0].shape[0])


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One row of a data set: where a picture is and what is known of it.

    Args:
        place: path of the file, or an address inside an archive (`assay.image.place`).
        label: what it is, or None where that is not known.
        generator: name of what made a fake; empty for reals.
        source: where it was collected (a camera, a site, a data set).
        subject: who or what it shows; several are joined by "+", as in a face swap.
        video: the clip it is a frame of.
        frame: its place in that clip, counted from 0.
        origin: identity of the picture it was derived from, as a SHA-256. Crops, re-encodings, frames and degraded
            copies of one file share it. Empty until the file's own hash is taken.
        sha256: of the file's bytes, 64 hexadecimal digits; empty where it was not taken.
        split: "train", "tune" (early stopping, calibration, thresholds) or "test".
        groups: any further columns (a subgroup, a licence, a compression).
    """

    place: str
    label: Label | None
    generator: str = ""
    source: str = ""
    subject: str = ""
    video: str = ""
    frame: int | None = None
    origin: str = ""
    sha256: str = ""
    split: str = ""
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Ruling(enum.StrEnum):
    """The word of a verdict."""

    REAL = "real"
    FAKE = "fake"
    UNCERTAIN = "uncertain"


@dataclasses.dataclass(frozen=True, slots=True)
class StreamScore:
    """One stream's part in a verdict.

    Args:
        name: the stream.
        score: calibrated P(fake) in [0, 1], or None where the stream does not apply.
        reason: why it does not apply; empty where it does.
        views: P(fake) of each view (crop) the score is made of, in the order of the view's boxes.
        faces: where each view is a face, its square in the picture and the word that it alone would get, in the same
            order; empty for other streams. A square may reach beyond the picture.
    """

    name: str
    score: float | None
    reason: str = ""
    views: tuple[float, ...] = ()
    faces: tuple[tuple[Box, Ruling], ...] = ()

    @property
    def applies(self) -> bool:
        return self.score is not None

    def to_dict(self) -> dict[str, Any]:
        if self.score is None:
            return {"name": self.name, "applies": False, "reason": self.reason}
        told: dict[str, Any] = {"name": self.name, "score": self.score}
        if self.faces:
            told["faces"] = [
                {"box": [box.left, box.top, box.right, box.bottom], "score": score, "verdict": str(word)}
                for (box, word), score in zip(self.faces, self.views, strict=True)
            ]
        return told


@dataclasses.dataclass(frozen=True, slots=True)
class Glimpse:
    """One face in one frame of a clip.

    Args:
        frame: the frame's number, counted from 0.
        time: its seconds since the first frame; None where the clip has no times.
        box: around the face, in px of the frame.
        score: P(fake) of this face alone, in [0, 1].
    """

    frame: int
    time: float | None
    box: Box
    score: float

    def to_dict(self) -> dict[str, Any]:
        box = self.box
        told: dict[str, Any] = {"frame": self.frame} if self.time is None else {"frame": self.frame, "time": self.time}
        return told | {"box": [box.left, box.top, box.right, box.bottom], "score": self.score}


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """One person's face through a clip, as far as it could be followed (`assay.judge.tracks`).

    Args:
        number: counted from 1 in the order in which tracks begin.
        faces: the face in each judged frame that shows it, at least one, in the frames' order.
        score: P(fake) in [0, 1] of all of them together.
        verdict: the word that this score alone would get.
        deviation: standard deviation of the faces' scores.
        counts: whether it has a say in the clip's verdict.
    """

    number: int
    faces: tuple[Glimpse, ...]
    score: float
    verdict: Ruling
    deviation: float
    counts: bool = True

    def to_dict(self) -> dict[str, Any]:
        return {
            "track": self.number,
            "score": self.score,
            "verdict": str(self.verdict),
            "counts": self.counts,
            "consistency": consistency([face.score for face in self.faces]),
            "faces": [face.to_dict() for face in self.faces],
        }


def consistency(scores: Sequence[float]) -> dict[str, float]:
    """How steady scores are over time, at least one: "deviation", their standard deviation, and "change", the mean
    absolute change from one to the next (0 where there is one alone)."""
    steps = np.abs(np.diff(scores))
    change = float(steps.mean()) if len(steps) else 0.0
    return {"deviation": round(float(np.std(scores)), 6), "change": round(change, 6)}


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says of one picture or clip.

    Args:
        verdict: fake, real or uncertain.
        score: calibrated P(fake) in [0, 1]; None where no stream applied, and then the verdict is "uncertain".
        threshold: a score at or above it is called fake.
        doubt: the band [low, high) of scores that are called uncertain; high is `threshold`, low = high where the
            detector leaves nothing open.
        fpr: the false-positive rate that `threshold` was chosen for on tuning rows.
        streams: each stream's part.
        reasons: short sentences, the most important first.
        detector: name, version and sha256 of the bundle.
        input: what was judged: a path, or "<bytes>", "<image>", "<array>".
        sha256, width, height: of the input.
        frames: (frame number, score) of each judged frame where the input has several. A frame in which no stream has
            anything to judge is left out.
        times: seconds of each of `frames` since the first frame of the clip; empty where they are not known.
        tracks: the faces that streams of faces judged, followed through the clip; empty for stills.
    """

    verdict: Ruling
    score: float | None
    threshold: float
    doubt: tuple[float, float]
    fpr: float
    streams: tuple[StreamScore, ...]
    reasons: tuple[str, ...]
    detector: Mapping[str, str]
    input: str
    sha256: str
    width: int
    height: int
    frames: tuple[tuple[int, float], ...] = ()
    times: tuple[float, ...] = ()
    tracks: tuple[Track, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready object. Keys stay from version to version; more may be added."""
        line: dict[str, Any] = {
            "input": self.input,
            "sha256": self.sha256,
            "verdict": str(self.verdict),
            "score": self.score,
            "threshold": self.threshold,
            "doubt": list(self.doubt),
            "fpr": self.fpr,
            "streams": [stream.to_dict() for stream in self.streams],
            "reasons": list(self.reasons),
            "detector": dict(self.detector),
            "width": self.width,
            "height": self.height,
        }
        if self.frames:
            line["frames"] = [{"frame": number, "score": score} for number, score in self.frames]
            for frame, time in zip(line["frames"], self.times, strict=False):
                frame["time"] = time
            line["consistency"] = consistency([score for _, score in self.frames])
        if self.tracks:
            line["tracks"] = [track.to_dict() for track in self.tracks]
        return line


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """An input that could not be judged. Never a score."""

    input: str
    kind: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        return {"input": self.input, "error": {"kind": self.kind, "message": self.message}}
