"""Makes a film in which two people are seen, one of them fake, and measures how it is judged.

    python bench/film.py --seconds 600 --side 1080 --folder FOLDER --out film.json
    python bench/film.py --seconds 20 --side 480

The film: 30 frames a second, 16 : 9, `--side` px high, H.264 in MP4. Two faces move on two paths over a background that
moves too; every 20 to 40 s a cut to another background, after which the two may have changed sides, or one is missing;
in the middle 30 s show nobody. (In a film under 5 minutes all these times shrink alike.) One of the two is fake:
self-blended (`assay.image.selfblend`), with an edge that flickers slightly from frame to frame. A film hangs on its
faces, its size, its length and the seed alone.

Faces: by default the astronaut that scikit-image's wheel carries (NASA, public domain), which is the only portrait at
hand, and the same picture mirrored, drawn out and in grey, which is the fake one. So by default the two look alike, and
telling them apart by their looks is made hard; `--faces REAL FAKE` takes two other portraits. A pasted portrait is no
film of a person: it neither turns nor speaks, and an edge of its paste runs around the real one too, outside the face.
What is measured is the judging of videos, not how well swaps are found.

Measured, each run in a process of its own:

- frames judged a second, and a second of film for a second of judging, one frame in each `--every` seconds and at the
  default of 15 frames;
- peak memory, of the whole film and of its first tenth: flat if both are alike;
- tracks: how many there are, the share of glimpses whose track is that person's (a track is of the person whom most of
  its glimpses show, as the known paths say), how often a person goes on in another track, and what the glimpses of the
  real and of the fake person score on average;
- what another container or codec changes in the verdict and the score, on the first tenth: the very packets in MKV, and
  the same frames as VP9 in WebM and as MPEG-4 in AVI.

Making all files of a film of 10 minutes takes a processor core some 12 minutes; with `--folder` they stay, and a
further run judges them again. Needs the extras "video" and "faces", and scikit-image. Prints a table on standard error;
with `--out`, JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

import assay
from assay.image import faces, mtcnn
from assay.image.decode import decode
from assay.image.faces import Face
from assay.image.selfblend import SelfBlend
from assay.types import Box, Pixels

RATE = 30
"""Frames a second."""

CUTS, NOBODY = (20.0, 40.0), 30.0
"""Seconds between cuts, and of the stretch without faces, in a film of 5 minutes and more."""

WHOLE = 300.0

TALL = 0.22
"""Height of a face's box, in heights of the film."""

AROUND = 2.2
"""Side of the portrait that is pasted, over the longer side of its face's box."""

FLICKERS = 12
"""Versions of the fake face, shown to and fro."""

CODECS = {
    "mp4": ("libx264", {"preset": "ultrafast", "crf": "23"}),
    "webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0"}),
    "avi": ("mpeg4", {"qmin": "3", "qmax": "5"}),
}
"""Cheap to encode, and good enough that a face stays a face."""

PEOPLE = ("real", "fake")


@dataclasses.dataclass(frozen=True)
class Scene:
    """What is seen between two cuts.

    Args:
        first, last: numbers of its frames; the last is the next scene's first.
        people: those who are seen, from left to right: 0 is real, 1 is fake.
        seed: of its background and paths.
    """

    first: int
    last: int
    people: tuple[int, ...]
    seed: int


def scenes(seconds: float, seed: int) -> list[Scene]:
    """The whole film, cut by cut."""
    draw, unit = np.random.default_rng(seed), min(1.0, seconds / WHOLE)
    end = round(seconds * RATE)
    bare = (round((seconds - NOBODY * unit) / 2 * RATE), round((seconds + NOBODY * unit) / 2 * RATE))
    cuts, at = [0], 0
    while at < end:
        at = min(end, at + max(1, round(float(draw.uniform(*CUTS)) * unit * RATE)))
        cuts.append(at)
    cuts = sorted({*(at for at in cuts if not bare[0] < at < bare[1]), *bare})
    made = []
    for number, (first, last) in enumerate(itertools.pairwise(cuts)):
        # Everybody first, so that the shortest film shows both; then one is missing in every fourth scene.
        pair = (0, 1) if draw.random() < 0.5 else (1, 0)
        people = () if first == bare[0] else pair[:1] if number % 4 == 3 else pair
        made.append(Scene(first, last, people, int(draw.integers(2**31))))
    return made


class Film:
    """A film's frames, and where its people are.

    Args:
        portraits: of the real person and of the fake one, as they are: the fake is blended here.
        seconds, side: length, and height in px (even).
        seed: of cuts, backgrounds, paths and the blend.

    Raises:
        SystemExit: a portrait shows no face.
    """

    def __init__(self, portraits: Sequence[Pixels], seconds: float, side: int, seed: int) -> None:
        self.height, self.width = side, 2 * round(side * 8 / 9)
        self.scenes = scenes(seconds, seed)
        self.count = self.scenes[-1].last
        real, fake = (_cast(portrait, round(TALL * side)) for portrait in portraits)
        self._boxes = (real.face.box, fake.face.box)
        self._sprites = ([_pasteable(real)], [_pasteable(version) for version in _flickering(fake, seed)])

    def box(self, frame: int, person: int) -> Box | None:
        """The face's box of a person in a frame, in px; None where the person is not seen."""
        corner = self._corner(self._scene(frame), frame, person)
        if corner is None:
            return None
        box, (left, top) = self._boxes[person], corner
        return Box(box.left + left, box.top + top, box.right + left, box.bottom + top)

    def frames(self, count: int | None = None) -> Iterator[Pixels]:
        """Every frame, or the first `count`: (height, width, 3) uint8, a new array each time."""
        for scene in self.scenes:
            backdrop = self._backdrop(scene)
            for number in range(scene.first, min(scene.last, self.count if count is None else count)):
                yield self._frame(scene, backdrop, number)

    def _scene(self, frame: int) -> Scene:
        return next(scene for scene in self.scenes if frame < scene.last)

    def _backdrop(self, scene: Scene) -> Pixels:
        """A picture larger than the film, smooth but for a trace of grain, over which the camera wanders."""
        draw = np.random.default_rng(scene.seed)
        coarse = Image.fromarray(draw.integers(30, 220, (5, 8, 3), np.uint8))
        smooth = coarse.resize((self.width * 5 // 4, self.height * 5 // 4), Image.Resampling.BICUBIC)
        grain = draw.integers(-1, 2, (smooth.height, smooth.width, 1), np.int16)
        backdrop: Pixels = np.clip(np.asarray(smooth, np.int16) + grain, 0, 255).astype(np.uint8)
        return backdrop

    def _frame(self, scene: Scene, backdrop: Pixels, number: int) -> Pixels:
        turn = (number - scene.first) / RATE / 7
        down = round((0.5 + 0.5 * math.sin(turn)) * (len(backdrop) - self.height))
        across = round((0.5 + 0.5 * math.cos(turn)) * (backdrop.shape[1] - self.width))
        frame: Pixels = backdrop[down : down + self.height, across : across + self.width].copy()
        for person in scene.people:
            corner = self._corner(scene, number, person)
            assert corner is not None
            versions = self._sprites[person]
            step = number % (2 * len(versions))
            pixels, clear = versions[min(step, 2 * len(versions) - 1 - step)]
            rows = slice(corner[1], corner[1] + len(pixels))
            columns = slice(corner[0], corner[0] + pixels.shape[1])
            # 8 bits of share: pasted in whole numbers, which is fast.
            frame[rows, columns] = (frame[rows, columns] * clear + pixels) >> 8
        return frame

    def _corner(self, scene: Scene, frame: int, person: int) -> tuple[int, int] | None:
        """Left and upper edge of a person's portrait."""
        if person not in scene.people:
            return None
        place = scene.people.index(person)
        seconds, phase = (frame - scene.first) / RATE, scene.seed % 7 + 2 * place
        side = len(self._sprites[person][0][0])
        room = self.width / 2 - side, self.height - side
        x = room[0] * (0.5 + 0.45 * math.sin(0.9 * seconds + phase)) + place * self.width / 2
        y = room[1] * (0.5 + 0.45 * math.sin(0.6 * seconds + 2 * phase))
        return round(x), round(y)


@dataclasses.dataclass(frozen=True)
class Cast:
    """Who plays.

    Args:
        pixels: the square around the face, (side, side, 3) uint8; mirrored where it reaches beyond the portrait.
        face: in px of the square.
        reach: how far the portrait goes left, up, right and down from the middle, in halves of the square's side.
    """

    pixels: Pixels
    face: Face
    reach: tuple[float, float, float, float]


Sprite = tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]
"""A portrait times its share, and 256 less the share: (side, side, 3) and (side, side, 1)."""


def _cast(portrait: Pixels, tall: int) -> Cast:
    """The largest face of a portrait with what surrounds it, so large that the face's box is `tall` px high."""
    largest = _largest(portrait)
    square, box = faces.crop(portrait, largest, AROUND), faces.crop_box(largest, AROUND)
    side = 2 * round(len(square) * tall / largest.box.height / 2)
    sized = np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.LANCZOS))
    height, width = portrait.shape[:2]
    beyond = (-box.left, -box.top, box.right - width, box.bottom - height)
    left, top, right, bottom = (min(1.0, 1 - 2 * most / len(square)) for most in beyond)
    return Cast(sized, _largest(sized), (left, top, right, bottom))


def _largest(portrait: Pixels) -> Face:
    found = faces.find(portrait, mtcnn.shared(mtcnn.SCORE)).faces
    if not found:
        raise SystemExit("a portrait shows no face that is found; give others with --faces")
    return max(found, key=lambda face: face.area)


def _flickering(cast: Cast, seed: int) -> Iterator[Cast]:
    """The same blend, drawn alike, with a little more or less of its bend and shift in each version."""
    for version in range(FLICKERS):
        more = 1 + 0.3 * version / FLICKERS
        blend = SelfBlend(shapes=("face",), ratios=(1.0,), bend=0.04 * more, shift=(0.03 * more, 0.015 * more))
        yield dataclasses.replace(cast, pixels=blend(cast.pixels, [cast.face], np.random.default_rng(seed)))


def _pasteable(cast: Cast) -> Sprite:
    """A portrait that fades out in a circle, and within it where the portrait ends: its mirrored part is not shown."""
    along = np.linspace(-1, 1, len(cast.pixels))
    left, top, right, bottom = cast.reach
    across, down = np.where(along < 0, along / left, along / right), np.where(along < 0, along / top, along / bottom)
    away = np.hypot(across, down[:, None])
    share = np.rint(256 * np.clip((1 - away) / 0.15, 0, 1)).astype(np.uint16)[..., None]
    return cast.pixels * share, np.uint16(256) - share


def default_faces() -> list[Pixels]:
    """The astronaut, and what is made of her: mirrored, drawn out, grey."""
    real: Pixels = np.asarray(skimage.data.astronaut())[:300, 60:420]  # type: ignore[no-untyped-call]
    image = ImageOps.mirror(ImageOps.grayscale(Image.fromarray(real))).convert("RGB")
    return [real, np.asarray(image.resize((image.width, image.height * 6 // 5)))]


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode(pictures: Iterator[Pixels], path: Path) -> None:
    """Writes a video in the codec that its suffix stands for."""
    name, options = CODECS[path.suffix[1:]]
    with av.open(str(path), "w") as file:
        stream: Any = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = file.add_stream(name, rate=RATE, options=options)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 2 * RATE
                stream.codec_context.thread_count = 1
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def rewrap(path: Path, other: Path) -> None:
    """The very packets of a video, in another container."""
    with av.open(str(path)) as file, av.open(str(other), "w") as out:
        video = file.streams.video[0]
        stream = out.add_stream_from_template(video)
        for packet in file.demux(video):
            if packet.size:
                packet.stream = stream
                out.mux(packet)


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def peak() -> float:
    """Most memory that this process has held, in MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        # In bytes on macOS, which has no /proc.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    # Not ru_maxrss, which begins at what the parent held when it started this process.
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def judge_here(path: str, bundle: str, every: float | None) -> dict[str, Any]:
    """Judges a video in this process, for `judged`."""
    detector = assay.load(bundle) if bundle else assay.load()
    detector.judge(np.full((256, 256, 3), 128, np.uint8))
    before, begun = peak(), time.perf_counter()
    verdict = detector.judge(path) if every is None else detector.judge(path, every=every)
    return {
        "took": time.perf_counter() - begun,
        "before": before,
        "peak": peak(),
        "verdict": str(verdict.verdict),
        "score": verdict.score,
        "tracks": [
            [
                (seen.frame, seen.score, seen.box.left, seen.box.top, seen.box.right, seen.box.bottom)
                for seen in track.faces
            ]
            for track in verdict.tracks
        ],
    }


def judged(path: Path, frames: int, bundle: str, every: float | None) -> dict[str, Any]:
    """What judging a video of so many frames costs and gives, in a process of its own."""
    command = [sys.executable, "-P", __file__, "--judge", str(path), "--detector", bundle]
    done = subprocess.run(
        command + ([] if every is None else ["--every", str(every)]), stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    looked = min(15, frames) if every is None else math.ceil(frames / RATE / every)
    return found | {"looked": looked, "rate": looked / found["took"], "pace": frames / RATE / found["took"]}


def told_apart(film: Film, tracks: Sequence[Sequence[Sequence[Any]]]) -> dict[str, Any]:
    """How tracks agree with the known paths, and what each person's glimpses score on average.

    A glimpse is (frame, score, left, top, right, bottom).
    """
    seen: list[tuple[int, int, int]] = []
    scores: tuple[list[float], list[float]] = ([], [])
    strays = right = 0
    for number, track in enumerate(tracks):
        people = Counter[int]()
        for frame, score, *edges in track:
            person = _person(film, frame, edges)
            if person is None:
                strays += 1
            else:
                people[person] += 1
                scores[person].append(score)
                seen.append((person, frame, number))
        right += max(people.values(), default=0)
    # A switch: a person's next glimpse lies in another track than the one before.
    ordered = itertools.pairwise(sorted(seen))
    switches = sum(one[0] == other[0] and one[2] != other[2] for one, other in ordered)
    glimpses = len(seen)
    return {
        "tracks": len(tracks),
        "glimpses": glimpses,
        "right": right / glimpses if glimpses else None,
        "switches": switches,
        "strays": strays,
        "scores": {name: float(np.mean(of)) if of else None for name, of in zip(PEOPLE, scores, strict=True)},
    }


def _person(film: Film, frame: int, edges: Sequence[int]) -> int | None:
    """Whose face the middle of a box lies in."""
    x, y = (edges[0] + edges[2]) / 2, (edges[1] + edges[3]) / 2
    for person in range(len(PEOPLE)):
        box = film.box(frame, person)
        if box is not None and box.left <= x < box.right and box.top <= y < box.bottom:
            return person
    return None


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What another container or codec changes."""
    both = one["score"] is not None and other["score"] is not None
    return {
        "verdict": one["verdict"] if one["verdict"] == other["verdict"] else f"{one['verdict']} > {other['verdict']}",
        "score_differs": abs(one["score"] - other["score"]) if both else None,
    }


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def made(film: Film, folder: Path, stamp: str) -> dict[str, tuple[Path, int]]:
    """The files, each with how many frames it has: those that are there are not made again."""
    tenth = max(1, film.count // 10)
    wanted = {"whole": ("mp4", film.count), "tenth": ("mp4", tenth), "VP9": ("webm", tenth), "MPEG-4": ("avi", tenth)}
    files = {}
    for name, (suffix, count) in wanted.items():
        files[name] = (folder / f"{stamp}-{name}.{suffix}", count)
        _write(files[name][0], lambda path, count=count: encode(film.frames(count), path))  # type: ignore[misc]
    files["MKV"] = (folder / f"{stamp}-MKV.mkv", tenth)
    _write(files["MKV"][0], lambda path: rewrap(files["tenth"][0], path))
    return files


def _write(path: Path, make: Callable[[Path], None]) -> None:
    if not path.exists():
        begun, part = time.perf_counter(), path.with_stem(f"part-{path.stem}")
        make(part)
        part.replace(path)
        size = path.stat().st_size / 2**20
        print(f"{path.name}: {size:.0f} MiB in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)


def measure(film: Film, files: dict[str, tuple[Path, int]], bundle: str, every: float) -> dict[str, Any]:
    runs = {
        name: judged(*files[of], bundle, step)
        for name, of, step in (
            ("whole", "whole", every),
            ("whole, 15 frames", "whole", None),
            ("tenth", "tenth", every),
            *((name, name, every) for name in ("MKV", "VP9", "MPEG-4")),
        )
    }
    for run in runs.values():
        run["told_apart"] = told_apart(film, run.pop("tracks"))
    return {"runs": runs, "against_tenth": {name: compare(runs["tenth"], runs[name]) for name in list(runs)[3:]}}


def shown(found: dict[str, Any]) -> list[Table]:
    """The tables that are printed."""
    cost = Table("film", "looked at", "frames/s", "film s/s", "before MiB", "peak MiB", "verdict", "score")
    tracks = Table("film", "tracks", "glimpses", "right person", "switches", "no person", *PEOPLE)
    for name, run in found["runs"].items():
        score = "" if run["score"] is None else f"{run['score']:.3f}"
        memory = (f"{run['before']:.0f}", f"{run['peak']:.0f}")
        cost.add_row(
            name, str(run["looked"]), f"{run['rate']:.1f}", f"{run['pace']:.1f}", *memory, run["verdict"], score
        )
        apart = run["told_apart"]
        share = "" if apart["right"] is None else f"{apart['right']:.1%}"
        counts = (str(apart[key]) for key in ("tracks", "glimpses"))
        scores = ("" if mean is None else f"{mean:.3f}" for mean in apart["scores"].values())
        tracks.add_row(name, *counts, share, str(apart["switches"]), str(apart["strays"]), *scores)
    against = Table("against the tenth in MP4", "verdict", "score differs by")
    for name, change in found["against_tenth"].items():
        differs = "" if change["score_differs"] is None else f"{change['score_differs']:.4f}"
        against.add_row(name, change["verdict"], differs)
    return [cost, tracks, against]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the film")
    parser.add_argument("--side", type=int, default=1080, help="height of the film in px")
    parser.add_argument("--faces", type=Path, nargs=2, metavar=("REAL", "FAKE"), help="portraits; FAKE is blended here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", default="", help="a bundle; the shipped one where none is given")
    parser.add_argument("--every", type=float, help="seconds from one judged frame to the next; 1 where none is given")
    parser.add_argument("--folder", type=Path, help="where films stay and are found again")
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--judge", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.judge:
        print(json.dumps(judge_here(asked.judge, asked.detector, asked.every)))
        return 0
    portraits = [decode(path).pixels for path in asked.faces] if asked.faces else default_faces()
    film = Film(portraits, asked.seconds, asked.side, asked.seed)
    content = hashlib.sha256(b"".join(portrait.tobytes() for portrait in portraits)).hexdigest()
    stamp = f"film-{asked.seconds:g}-{asked.side}-{asked.seed}-{content[:8]}"
    every = 1.0 if asked.every is None else asked.every
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(film, made(film, folder, stamp), asked.detector, every)
    told = {"seconds": asked.seconds, "side": asked.side, "seed": asked.seed, "every": every, "stamp": stamp, **found}
    console = Console(stderr=True)
    for table in shown(found):
        console.print(table)
    if asked.out:
        asked.out.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
