"""Whether a head over the frames of a clip is worth more than the mean of the frames' scores, on clips made of stills.

    python bench/temporal.py --detector FOLDER --data MANIFEST
    python bench/temporal.py --detector FOLDER --data MANIFEST --people 60 --json FILE

No labelled clips are at hand, so they are made. Each real photograph that shows a face gives one real clip: the part
around its face moves smoothly, pans, grows and shrinks a little, turns a little, and goes through H.264 at a quality
drawn for the person. Of the same movement, at the same quality, two fakes are made, in which the face of every frame is
blended over itself (`assay.image.selfblend`): "steady" by one draw for the whole clip, "flicker" by a new draw for each
frame. One half of the people are fitted on, the other tested on; see `assay.learn.temporal` for the heads.

Photographs are those of the splits tune and test, where the manifest has splits, which the detector's network has not
learnt from. "own" is the mean of the detector's own raw scores.

What such clips can't show: anything that moves by itself. Nothing speaks, blinks, or turns out of the picture's plane,
no light changes and no background; a real clip here is a photograph that is slid about, so that what tells a real
film's frames apart (grain, focus, expression) is absent, and a head that learns "nothing changes but by sliding" would
fail on one. Steady blends are steadier than any face swap, flickering ones flicker more. Nor has a network drawn
anything. A lead on "flicker" says that such a head can see what a mean cannot; it says nothing of how often real fakes
flicker.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

import assay
from assay.data import manifest
from assay.errors import InputError
from assay.image.cut import cut
from assay.image.decode import decode
from assay.image.faces import Face
from assay.image.mtcnn import look
from assay.image.selfblend import SelfBlend
from assay.learn import temporal
from assay.learn.temporal import Embedded, Worth
from assay.measure.clips import FRAMES
from assay.metrics import Interval
from assay.types import Box, Label, Pixels, Sample

REAL, STEADY, FLICKER = KINDS = ("real", "steady", "flicker")
SIDE = 256
LEAST = 64
"""px a face must have, the longer side of its box."""
AROUND = 2.2
"""Side of the part that is shown over the longer side of the face's box."""
QUALITY = (18, 32)
"""Bounds of H.264's constant rate factor."""
RATE = 15

Matrix = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", help="a name or a bundle's folder; the one that ships unless given")
    parser.add_argument("--data", required=True, metavar="MANIFEST")
    parser.add_argument("--stream", help="whose network and head; the first on the card unless given")
    parser.add_argument("--people", type=int, default=60, help="photographs, each of a person of its own")
    parser.add_argument("--length", type=int, default=30, help="frames of a clip")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of these, that are looked at")
    parser.add_argument("--top", type=int, help="frames the highest few are; a fifth unless given")
    parser.add_argument("--rounds", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the clips there")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    detector = assay.load(asked.detector, threads=asked.threads, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        samples = [
            sample
            for number, (row, pixels, face) in enumerate(portraits(asked.data, asked.people, asked.seed))
            for sample in made(folder, number, row, pixels, face, asked.length, asked.seed)
        ]
        clips = temporal.embed(detector, samples, stream=asked.stream, frames=asked.frames)
    found = {
        kind: compared(clips, kinds, asked.top, asked.rounds, asked.seed)
        for kind, kinds in ((STEADY, (STEADY,)), (FLICKER, (FLICKER,)), ("both", (STEADY, FLICKER)))
    }
    told = {
        "detector": f"{detector.name} {detector.version}",
        "people": len(samples) // len(KINDS),
        "clips": len(clips),
        "without a frame": len(clips.without),
        "frames": asked.frames,
    }
    for name, value in told.items():
        print(f"{name}: {value}")
    for kind, worth in found.items():
        show(kind, worth)
    if asked.json:
        asked.json.write_text(json.dumps(told | {kind: one.to_dict() for kind, one in found.items()}, indent=1) + "\n")


def compared(clips: Embedded, kinds: Sequence[str], top: int | None, rounds: int, seed: int) -> Worth:
    """Both heads on reals and some kinds of fakes; the same half of the people is fitted on, whatever the kinds."""
    wanted = {REAL, *kinds}
    parts = [
        part.take(np.flatnonzero([name.rpartition(" ")[2] in wanted for name in part.names]))
        for part in temporal.split(clips, 0.5, seed)
    ]
    return temporal.compare(parts[0], parts[1], top=top, rounds=rounds, seed=seed)


def portraits(data: str, most: int, seed: int) -> Iterator[tuple[Sample, Pixels, Face]]:
    """Real photographs with their largest face, drawn at random, one of each person that is named."""
    table = manifest.read(data)
    rows = [row for row in table if row.label is Label.REAL and row.split in ("tune", "test", "")]
    met = set[str]()
    for place in np.random.default_rng(seed).permutation(len(rows)).tolist():
        row = rows[place]
        if len(met) == most:
            return
        try:
            pixels = decode(row.place).pixels
        except InputError:
            continue
        faces = [face for face in look(pixels) if max(face.box.width, face.box.height) >= LEAST]
        who = row.subject or row.origin or row.place
        if faces and who not in met:
            met.add(who)
            yield row, pixels, max(faces, key=lambda face: face.area)


def made(
    folder: Path, number: int, row: Sample, pixels: Pixels, face: Face, length: int, seed: int
) -> Iterator[Sample]:
    """The three clips of one photograph."""
    rng = np.random.default_rng((seed, number))
    quality = int(rng.integers(QUALITY[0], QUALITY[1] + 1))
    blending = int(rng.integers(2**32))
    moves = list(path(face, length, rng))
    part = around(face)
    patch = Image.fromarray(cut(pixels, part))
    shown = [moved(patch, part, move) for move in moves]
    faces = [carried(face, move) for move in moves]
    blend = SelfBlend()
    for kind in KINDS:
        frames = shown
        if kind != REAL:
            draws = [(blending, place if kind == FLICKER else 0) for place in range(length)]
            frames = [
                blend(frame, [one], np.random.default_rng(draw))
                for frame, one, draw in zip(shown, faces, draws, strict=True)
            ]
        place = folder / f"{number:04d}-{kind}.mp4"
        write(place, frames, quality)
        yield Sample(
            place=str(place),
            label=Label(kind != REAL),
            generator="" if kind == REAL else f"self-blended, {kind}",
            source=row.source,
            subject=f"person {number}",
            video=f"{number} {kind}",
        )


def path(face: Face, length: int, rng: np.random.Generator) -> Iterator[Matrix]:
    """Of each frame the map from px of the clip to px of the photograph, (2, 3): slow waves of place, size, angle."""
    box = face.box
    span = AROUND * max(box.width, box.height)
    middle = np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])
    waves = rng.uniform(0.3, 1.0, 4)
    starts = rng.uniform(0, 2 * math.pi, 4)
    reach = rng.uniform(0.3, 1.0, 4) * (0.06, 0.06, 0.06, math.radians(5))
    for time in np.linspace(0, 2 * math.pi, length):
        across, down, growth, angle = (reach * np.sin(waves * time + starts)).tolist()
        scale = span * math.exp(growth) / SIDE
        turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        at = middle + span * np.array([across, down])
        yield np.column_stack([turn, at - turn @ (SIDE / 2, SIDE / 2)])


def around(face: Face) -> Box:
    """All that the clip may show of the photograph; beyond its edges it is mirrored."""
    box = face.box
    x, y, half = box.left + box.width // 2, box.top + box.height // 2, round(AROUND * max(box.width, box.height))
    return Box(x - half, y - half, x + half, y + half)


def moved(patch: Image.Image, part: Box, move: Matrix) -> Pixels:
    """One frame."""
    # Where a frame shows less than the photograph has, plain sampling would alias.
    step = max(1, int(math.hypot(*move[:, 0])))
    small = patch.reduce(step)
    matrix = np.column_stack([move[:, :2], move[:, 2] - (part.left, part.top)]) / step
    frame = small.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix.ravel().tolist(), Image.Resampling.BICUBIC)
    return np.asarray(frame)


def carried(face: Face, move: Matrix) -> Face:
    """The face in px of the frame."""
    back = np.linalg.inv(move[:, :2])

    def there(points: Any) -> Matrix:
        placed: Matrix = (np.asarray(points, np.float64) - move[:, 2]) @ back.T
        return placed

    box = face.box
    corners = there([(x, y) for x in (box.left, box.right) for y in (box.top, box.bottom)])
    (left, top), (right, bottom) = np.rint(corners.min(axis=0)).astype(int), np.rint(corners.max(axis=0)).astype(int)
    one, two, three, four, five = ((float(x), float(y)) for x, y in there(face.landmarks))
    return Face(Box(int(left), int(top), int(right), int(bottom)), face.score, (one, two, three, four, five))


def write(place: Path, frames: Sequence[Pixels], quality: int) -> None:
    with av.open(str(place), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": str(quality), "preset": "fast"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))


def show(kind: str, worth: Worth) -> None:
    chosen = worth.chosen
    print(
        f"\n{kind}: fitted on {worth.fitted[0]} real and {worth.fitted[1]} fake clips, tested on {worth.n_real} and "
        f"{worth.n_fake} of other people; {chosen.steps} steps, decay {chosen.decay:g}, ridge {chosen.ridge:g} "
        f"({chosen.folds}; cross-entropy {chosen.loss:.3f}, linear head's mean {chosen.linear_loss:.3f})"
    )
    for name, auc in worth.auc.items():
        lead = worth.difference.get(name)
        more = f"; temporal head {told(lead, '+')}, DeLong p {worth.delong[name].p:.3f}" if lead else ""
        print(f"  {name:<9} AUC {told(auc)}{more}")


def told(found: Interval, sign: str = "") -> str:
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


if __name__ == "__main__":
    main()
