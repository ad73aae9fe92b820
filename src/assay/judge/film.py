"""The rule for clips: how the faces and frames of one become a score, and how that is told.

A stream that judges whole pictures pools the crops of all frames, as it pools those of one picture. A stream that
judges faces asks for each person first: of a track (`assay.judge.tracks`) the mean over its frames counts, and across
tracks the stream's own pool, so that with "max" the most fake person decides, however few frames show it, and with
"mean" all people weigh alike, however many frames show them. *Paper*: the mean over 15 frames (GenConViT, arXiv
2307.07036). The raw scores are averaged, as the stream's calibration takes them. *Ours*: all that goes beyond one
person.

One frame's mistake must not accuse a film (*ours*): where `ENOUGH` frames or more were judged and some track is seen in
two or more of them, a track that is seen in a single one has no say. It is reported all the same. A frame without a
face has no score from such a stream.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from assay.judge.card import StreamCard
from assay.judge.prepared import Prepared, Raws
from assay.judge.rule import Judge, Pool
from assay.types import Box, Glimpse, Ruling, Track, Verdict, consistency

ENOUGH = 5
"""Judged frames from which on a single one is little."""

LONGEST = 60
"""Signs of a line of scores over time."""

_NAMED = 3
_LEVELS = "▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """What a stream says of the faces of a clip.

    Args:
        raws: of each judged frame, the raw scores of its faces.
        tracks: of each judged frame, the track of each of these faces.
        heard: the tracks that have a say.
    """

    raws: Raws
    tracks: tuple[tuple[int, ...], ...]
    heard: frozenset[int]

    @classmethod
    def of(cls, raws: Raws, tracks: Sequence[tuple[int, ...]]) -> Faces:
        seen = collections.Counter(number for frame in tracks for number in set(frame))
        often = [number for number, frames in seen.items() if frames > 1 and len(tracks) >= ENOUGH]
        return cls(raws, tuple(tracks), frozenset(often or seen))

    def means(self) -> dict[int, float]:
        """The mean raw score of each track."""
        of: dict[int, list[float]] = {}
        for raws, tracks in zip(self.raws, self.tracks, strict=True):
            for number, raw in zip(tracks, raws.tolist(), strict=True):
                of.setdefault(number, []).append(raw)
        return {number: float(np.mean(raws)) for number, raws in of.items()}

    def pooled(self) -> list[float]:
        """What the stream's rule is given: one raw score for each track that has a say."""
        return [mean for number, mean in self.means().items() if number in self.heard]

    def frame(self, place: int) -> npt.NDArray[np.float64]:
        """The raw scores of a frame's faces that have a say."""
        return self.raws[place][[number in self.heard for number in self.tracks[place]]]

    def find(self, number: int, place: int) -> float | None:
        """The raw score of a track's face in a frame; None where the frame does not show it."""
        return float(self.raws[place][self.tracks[place].index(number)]) if number in self.tracks[place] else None


def followed(
    picture: Prepared, raws: Mapping[str, Raws], streams: Sequence[StreamCard], links: Sequence[tuple[int, ...]]
) -> tuple[Prepared, dict[str, Raws], dict[str, Faces]]:
    """A clip whose faces were followed, and what each stream of faces says of them. Where a clip shows faces, a frame
    without one does not stand in for them.

    Args:
        picture, raws: a clip, and the raw scores by stream.
        links: as `assay.judge.tracks.link` gives them.
    """
    boxes, heard, people = dict(picture.boxes), dict(raws), dict[str, Faces]()
    for stream in streams:
        shown = picture.shown.get(stream.view, ())
        if not any(place is not None for frame in shown for place in frame):
            continue
        there = [None not in frame for frame in shown]
        squares = zip(picture.boxes[stream.view], there, strict=True)
        boxes[stream.view] = tuple(each if faces else () for each, faces in squares)
        said = [raw if faces else raw[:0] for raw, faces in zip(raws[stream.name], there, strict=True)]
        heard[stream.name] = said
        if np.isfinite(np.concatenate(said)).all():
            people[stream.name] = Faces.of(
                said,
                [
                    tuple(link[place] for place in frame if place is not None)
                    for link, frame in zip(links, shown, strict=True)
                ],
            )
    return dataclasses.replace(picture, boxes=boxes), heard, people


def tracks(
    streams: Mapping[str, Faces],
    rules: Judge,
    numbers: Sequence[int],
    times: Sequence[float],
    boxes: Sequence[Mapping[int, Box]],
) -> tuple[Track, ...]:
    """The tracks of a clip, by what its streams of faces say, where there are several by their vote.

    Args:
        streams: of each stream of faces that applies, what it says.
        numbers, times: of the judged frames; no times where they are not known.
        boxes: of each judged frame, where its faces are, by track.
    """
    found = []
    means = {name: faces.means() for name, faces in streams.items()}
    places: dict[int, set[int]] = {}
    for faces in streams.values():
        for place, track in ((place, track) for place, frame in enumerate(faces.tracks) for track in frame):
            places.setdefault(track, set()).add(place)
    for track in sorted(places):
        glimpses = []
        for place in sorted(places[track]):
            raws = {name: faces.find(track, place) for name, faces in streams.items()}
            scores = {name: rules.streams[name].score([raw]) for name, raw in raws.items() if raw is not None}
            time = times[place] if times else None
            glimpses.append(Glimpse(numbers[place], time, boxes[place][track], rules.vote(scores)))
        own = {name: rules.streams[name].score([mean[track]]) for name, mean in means.items() if track in mean}
        score = rules.vote(own)
        found.append(
            Track(
                number=track + 1,
                faces=tuple(glimpses),
                score=score,
                verdict=rules.bar(own).ruling(score),
                deviation=consistency([glimpse.score for glimpse in glimpses])["deviation"],
                counts=any(track in faces.heard for faces in streams.values()),
            )
        )
    return tuple(found)


# ── in words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def told(word: Ruling, frames: Sequence[tuple[int, float]], times: Sequence[float], count: int) -> Iterator[str]:
    """How many of a clip's `count` frames were judged, and which of them speak most for the verdict, where others speak
    less."""
    if not frames:
        return
    scores = [score for _, score in frames]
    yield (f"{len(frames)} of {count} frames were judged; their scores run from {min(scores):.2f} to {max(scores):.2f}")
    named = min(_NAMED, len(frames) - 1)
    if word is not Ruling.UNCERTAIN and named:
        sign = -1 if word is Ruling.FAKE else 1
        order = sorted(range(len(frames)), key=lambda place: sign * scores[place])[:named]
        most = [f"{frame(frames[place][0], times[place] if times else None)} {scores[place]:.2f}" for place in order]
        yield f"most {word}: {', '.join(most)}"


def deciding(stream: str, faces: Faces, found: Sequence[Track], pool: Pool) -> Iterator[str]:
    """Which of several tracks a stream's score comes from, and which have no say in it."""
    means = faces.means()
    if len(means) < 2:
        return
    mine = {track.number - 1: track for track in found if track.number - 1 in means}
    heard = [number for number in mine if number in faces.heard]
    told = f"{len(means)} faces were followed through the clip"
    if pool == "max" or len(heard) == 1:
        first = max(heard, key=lambda number: means[number])
        how = "looks most fake and decides" if len(heard) > 1 else "alone decides"
        track = mine[first]
        yield f"{told}; track {track.number} ({seen(track)}) {how} for {stream}, with {track.score:.2f}"
    else:
        yield f"{told}; the score of {stream} is made of {'all' if len(heard) == len(means) else len(heard)} of them"
    silent = [f"{track.number}" for number, track in mine.items() if number not in faces.heard]
    if silent:
        several = len(silent) > 1
        named = f"tracks {', '.join(silent)}" if several else f"track {silent[0]}"
        yield (
            f"{named} {'have' if several else 'has'} no say for {stream}: seen in a single frame"
            f"{' each' if several else ''}"
        )


def seen(track: Track) -> str:
    """When a track is seen, and in how many frames."""
    first, last, count = track.faces[0], track.faces[-1], len(track.faces)
    frames = f"{count} frame{'s' if count > 1 else ''}"
    if first.time is None or last.time is None:
        return f"frame {first.frame}, {frames}" if count == 1 else f"frames {first.frame}-{last.frame}, {frames}"
    return f"{first.time:.2f} s, {frames}" if count == 1 else f"{first.time:.2f}-{last.time:.2f} s, {frames}"


def course(verdict: Verdict) -> str:
    """A clip's scores over time in one line: each sign the highest of its stretch, from 0 to 1; empty where there are
    fewer than two frames."""
    if len(verdict.frames) < 2:
        return ""
    scores = [score for _, score in verdict.frames]
    ends = [verdict.times[0], verdict.times[-1]] if verdict.times else [verdict.frames[0][0], verdict.frames[-1][0]]
    places = np.array(verdict.times or [number for number, _ in verdict.frames], np.float64) - ends[0]
    signs = min(LONGEST, len(scores))
    highest = np.full(signs, -1.0)
    np.maximum.at(highest, np.minimum((places * signs / (ends[1] - ends[0])).astype(np.int64), signs - 1), scores)
    line = "".join(_LEVELS[min(7, int(8 * score))] if score >= 0 else " " for score in highest)
    first, last = (f"{end:.2f} s" if verdict.times else f"frame {end}" for end in ends)
    return f"{first} {line} {last}, lowest {min(scores):.2f}, highest {max(scores):.2f}"


def described(track: Track) -> str:
    """A track in one line."""
    silent = "" if track.counts else ", no say"
    return f"track {track.number}: {seen(track)}, {track.score:.3f} {track.verdict} ± {track.deviation:.3f}{silent}"


def frame(number: int, time: float | None) -> str:
    """A frame by its number, and its second where that is known."""
    return f"frame {number}" if time is None else f"frame {number} ({time:.2f} s)"
