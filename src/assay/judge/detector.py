"""The detector: decode, cut, run, judge. One path from a file to a verdict, for one picture or a million."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import math
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from assay.errors import BundleError, InputError, MissingExtra
from assay.image.decode import DEFAULT, Limits, Source, decode, parts
from assay.image.faces import Face
from assay.image.mtcnn import look
from assay.image.view import View
from assay.judge import film, probe, tracks
from assay.judge.bundle import Bundle
from assay.judge.card import Card, StreamCard
from assay.judge.engine import Device, Engine, on_gpu
from assay.judge.film import Faces
from assay.judge.heads import Head
from assay.judge.prepared import Prepared as Prepared
from assay.judge.prepared import Raws, Watched, joined, of_faces, sighted
from assay.judge.rule import DIGITS, Bar, EnsembleRule, Judge, Pool
from assay.judge.seen import Seen
from assay.judge.skip import Skip
from assay.types import Box, EngineName, Failure, Picture, Pixels, Ruling, StreamScore, Track, Verdict

if TYPE_CHECKING:
    from assay.judge.explain import Explanation

DISAGREE = 0.5
"""Crops whose P(fake) differ by at least so much are named in the verdict's reasons."""

SKIPPED = "left out, as it could not have changed the verdict"
"""Why a stream has no part where streams may be left out."""

Embeddings = dict[tuple[str, View], npt.NDArray[np.float32]]
"""For each trunk and view: (crops of all pictures that have the view, in their order; dim)."""


class _Over(Exception):
    """Nobody waits for a clip any more."""


class Detector:
    """A bundle, ready to judge. Make one with `assay.load`; it may be used from several threads.

    Args:
        bundle: as read.
        head: the kind of head that judges, of every stream that has it; None for the default ones.
        vote: the rule by which the streams vote; None for the default one.
        skip: leave out streams that cannot change the verdict (`assay.judge.skip`), also the search for faces where it
            is one of faces. Clips and animations are judged by all.
        threads: cores for the networks; None for all physical ones that this process may use.
        device: "auto", "cpu" or "cuda".
        engine: what runs the networks. "auto" takes what `assay.judge.probe` remembered for this bundle here, with its
            threads and crops where `threads` does not say otherwise, and ONNX Runtime where it remembered nothing or
            a GPU is taken; and counts what trunks only count without any of them (`assay.image.counting`).

    Raises:
        BundleError: kind "unknown": it has no such head or rule, or its streams cannot be left out.
        AssayError, MissingExtra: as `assay.judge.engine.Engine` has them.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        head: str | None = None,
        vote: str | None = None,
        skip: bool = False,
        threads: int | None = None,
        device: Device = "auto",
        engine: EngineName = "auto",
    ) -> None:
        self._bundle = bundle
        self._rules = bundle.chosen(head, vote)
        self._streams = tuple(stream for stream in bundle.card.streams if stream.name in self._rules.streams)
        # Asking for the default head or rule by name changes nothing.
        self._choice = "" if self._rules == bundle.chosen() else head or vote or ""
        self._asked = "vote" if head is None else "head"
        self._skip = self._rules.skip if skip else None
        if skip and self._skip is None:
            raise BundleError(
                f"{self.card.name}: no stream of it can be left out; judge without skipping", kind="unknown"
            )
        trunks = {stream.trunk: stream.runs for stream in bundle.card.streams}
        crops: int | None = None
        if engine != "auto":
            trunks = dict.fromkeys(trunks)
        else:
            engine = "onnxruntime"
            found = None if bundle.card.counts or on_gpu(device) else probe.recall(bundle.card.sha256)
            if found is not None:
                engine, threads, crops = found.engine, threads or found.threads, found.crops
        self._rough = engine == "openvino-bf16"
        self._engines = {
            trunk: Engine(bundle.folder, trunk, threads, device, crops, engine, counting)
            for trunk, counting in trunks.items()
        }
        self._runs: dict[tuple[str, View], list[StreamCard]] = {}
        for stream in self._streams:
            self._runs.setdefault((stream.trunk, stream.view), []).append(stream)

    def __repr__(self) -> str:
        return f"<assay.Detector {self.name} {self.version} {self.sha256[:12]}>"

    @property
    def card(self) -> Card:
        """What it is."""
        return self._bundle.card

    @property
    def rules(self) -> Judge:
        """Calibration, thresholds and doubt band of the streams that judge."""
        return self._rules

    @property
    def streams(self) -> tuple[StreamCard, ...]:
        """The streams that judge: those on its card with the head that was chosen."""
        return self._streams

    @property
    def seen(self) -> Seen:
        """What it was trained and tuned on."""
        return self._bundle.seen

    @property
    def name(self) -> str:
        """The name on its card; NAME-KIND where another head than the default one judges, NAME-RULE where the streams
        vote by another rule, and -skip behind it where streams may be left out, -bf16 where networks multiply in
        bfloat16."""
        return "-".join(filter(None, (self.card.name, self._choice, *self._otherwise)))

    @property
    def version(self) -> str:
        """The version on its card."""
        return self.card.version

    @property
    def sha256(self) -> str:
        """The hash of its card, which holds the hashes of all its files.

        Where another head or rule than the default one judges, or streams may be left out, or networks multiply in
        bfloat16, it is a hash of that and its name: scores of two heads or rules do not belong in one table, and are
        told apart by this.
        """
        # A rule that one stream decides goes by that stream's name, which may be that of a head.
        asked = self._choice if self._asked == "head" or not self._choice else f"vote {self._choice}"
        told = " ".join(filter(None, (self.card.sha256, asked, *self._otherwise)))
        return self.card.sha256 if told == self.card.sha256 else hashlib.sha256(told.encode()).hexdigest()

    @property
    def _otherwise(self) -> tuple[str, ...]:
        """What moves scores beside the choice of a head or rule."""
        return ("skip" if self._skip else "", "bf16" if self._rough else "")

    @property
    def threshold(self) -> float:
        """A score at or above it is called fake."""
        return self.rules.ensemble.threshold

    @property
    def doubt(self) -> tuple[float, float]:
        """The band [low, high) of scores that are called uncertain; high is `threshold`."""
        return self.rules.ensemble.doubt_low, self.rules.ensemble.threshold

    @property
    def fpr(self) -> float:
        """The false-positive rate that `threshold` was chosen for, in (0, 1)."""
        return self.rules.ensemble.fpr

    def engine(self, stream: str) -> Engine:
        """What runs a stream's trunk. Raises KeyError for an unknown stream."""
        return self._engines[self._stream(stream).trunk]

    def warm(self) -> None:
        """Load what judges, by a black crop for each stream. Raises BundleError where a network can't be run."""
        for stream in self._streams:
            side = stream.view.size
            self.engine(stream.name).embed(stream.view, np.zeros((1, side, side, 3), np.uint8))

    def head(self, stream: str) -> Head:
        """A stream's head. Raises KeyError for an unknown stream."""
        return self._bundle.heads[stream]

    def raw(self, stream: str, embedding: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """A stream's raw scores, shape (n,), of its trunk's embeddings, shape (n, d): any real numbers, higher = more
        fake. Raises KeyError for an unknown stream."""
        return self.head(stream).raw(self._stream(stream).own(embedding))

    def judge(self, source: Source, limits: Limits = DEFAULT, *, every: float | None = None) -> Verdict:
        """The verdict on one picture or clip. Of a clip a few frames are held at a time, however long it is.

        Args:
            source: a path, a file's bytes, a Pillow image or a uint8 array (height, width, 3).
            limits: what decoding it may cost, and how many frames of a clip are judged.
            every: of a video one frame every so many seconds is judged instead (`assay.image.decode.parts`).

        Raises:
            InputError: it could not be decoded; `kind` says why.
            BundleError: the detector's networks can't be run.
            ValueError: `every` is out of range.
        """
        return self._verdicts([self._begun(source, limits, every)])[0]

    def explain(self, source: Source, **options: Any) -> Explanation:
        """The verdict on one picture, and where it looked.

        Args:
            source: as for `judge`.
            options: as for `assay.judge.explain.explain`, which says what may be raised too.
        """
        # It stands above the detector.
        from assay.judge.explain import explain

        return explain(self, source, **options)

    def judge_pictures(self, pictures: Sequence[tuple[str, Picture]]) -> list[Verdict]:
        """Verdicts on decoded pictures, each with the name its verdict will carry, in one batch."""
        return self.judge_prepared([self.cut(picture, name, first=True) for name, picture in pictures])

    def judge_many(
        self,
        sources: Iterable[Source],
        *,
        limits: Limits = DEFAULT,
        batch: int = 8,
        workers: int = 2,
        prefetch: int | None = None,
        every: float | None = None,
    ) -> Iterator[Verdict | Failure]:
        """A verdict, or a failure, for each source, in their order.

        The next pictures are decoded while the networks look at these. `sources` is drawn from as needed, at most
        `batch + prefetch` ahead, and memory does not grow with their number. If drawing from it raises, everything
        drawn until then is judged first.

        Args:
            sources: anything that `judge` takes.
            limits: what decoding one of them may cost.
            batch: pictures in one run of the networks, >= 1.
            workers: threads that decode, >= 1. Each holds one whole picture at a time, or part of a clip, which it lets
                the networks see as well.
            prefetch: pictures decoded ahead, as crops; None for one batch and one a worker.
            every: as in `judge`.

        Raises:
            BundleError: the detector's networks can't be run.
            ValueError: `every` is out of range.
        """
        ahead = batch + workers if prefetch is None else prefetch
        drawing = iter(sources)
        waiting: collections.deque[tuple[str, concurrent.futures.Future[Prepared | Watched]]] = collections.deque()
        stopped: Exception | None = None
        over = threading.Event()
        pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="assay-decode")
        try:
            while True:
                while stopped is None and len(waiting) < ahead + batch:
                    try:
                        source = next(drawing)
                    except Exception as error:
                        stopped = error
                    else:
                        waiting.append((name_of(source), pool.submit(self._begun, source, limits, every, over)))
                if not waiting:
                    break
                taken = [waiting.popleft() for _ in range(min(batch, len(waiting)))]
                yield from self._judged(taken)
        finally:
            over.set()
            pool.shutdown(wait=True, cancel_futures=True)
        if not isinstance(stopped, StopIteration):
            assert stopped is not None
            raise stopped

    def _judged(
        self, taken: Sequence[tuple[str, concurrent.futures.Future[Prepared | Watched]]]
    ) -> list[Verdict | Failure]:
        results: list[Prepared | Watched | Failure] = []
        for name, future in taken:
            try:
                results.append(future.result())
            except InputError as error:
                results.append(Failure(name, error.kind, str(error)))
        verdicts = iter(self._verdicts([result for result in results if not isinstance(result, Failure)]))
        return [result if isinstance(result, Failure) else next(verdicts) for result in results]

    def _verdicts(self, results: Sequence[Prepared | Watched]) -> list[Verdict]:
        """Verdicts on pictures, in one batch, and on clips that were watched."""
        pictures = iter(self.judge_prepared([each for each in results if isinstance(each, Prepared)]))
        return [
            next(pictures) if isinstance(each, Prepared) else self._verdict(each.picture, each.raws) for each in results
        ]

    def _begun(
        self, source: Source, limits: Limits, every: float | None, over: threading.Event | None = None
    ) -> Prepared | Watched:
        """A source as far as it is seen by itself: a picture cut; a clip cut, embedded and scored part by part."""
        name = name_of(source)
        seen: list[Watched] = []
        still: Prepared | None = None
        with contextlib.closing(parts(source, limits, every=every, needed=self._needed)) as coming:
            for part in coming:
                if over is not None and over.is_set():
                    raise _Over
                if seen and part.frame_numbers[0] <= seen[-1].picture.frame_numbers[-1]:
                    seen.clear()  # the clip was begun anew
                if part.frame_count == 1:
                    still = self.cut(part, name, first=True)
                else:
                    seen.append(self._watched(self.cut(part, name)))
                del part  # before the next one is decoded
        return joined(seen) if still is None else still

    def _watched(self, part: Prepared) -> Watched:
        (raws,) = self._raws([part], self.embed_prepared([part]), self._runs)
        return Watched(dataclasses.replace(part, crops={}), raws)

    def prepare(self, source: Source, limits: Limits = DEFAULT) -> Prepared:
        """Decode and cut one source, a clip's frames all at once. Raises InputError where it can't be decoded."""
        return self.cut(decode(source, limits, needed=self._needed), name_of(source))

    def _needed(self, width: int, height: int) -> list[Box] | None:
        """What the views look at in a picture of that size; None for all of it."""
        boxes: list[Box] = []
        for view in dict.fromkeys(view for _, view in self._runs):
            mine = view.needed(width, height)
            if mine is None:
                return None
            boxes += mine
        return boxes

    def cut(self, picture: Picture, name: str, *, first: bool = False) -> Prepared:
        """The crops of a decoded picture; its pixels are not kept.

        Args:
            name: what the verdict will call it.
            first: where streams may be left out, only what the first ones are shown; the pixels are kept, and
                `judge_prepared` cuts the rest of them where it has to.
        """
        views = list(dict.fromkeys(view for _, view in self._runs))
        bare = Prepared(
            input=name,
            sha256=picture.sha256,
            width=picture.width,
            height=picture.height,
            frame_numbers=picture.frame_numbers,
            frame_count=picture.frame_count,
            crops={},
            boxes={},
            absent={},
            times=picture.times,
        )
        if not first or self._skip is None or picture.frame_count > 1:
            return self._shown(bare, views, picture.frames)
        soon = {self._stream(name).view for name in self._skip.order[0]}
        whole = dataclasses.replace(bare, later=picture.frames)
        return self._shown(whole, [view for view in views if view in soon], picture.frames)

    @staticmethod
    def _shown(picture: Prepared, views: Sequence[View], frames: Sequence[Pixels]) -> Prepared:
        """The picture with further views cut from its frames."""
        width, height = picture.width, picture.height
        absent = {view: reason for view in views if (reason := view.why_not(width, height)) and not of_faces(view)}
        faces: list[tuple[Face, ...]] = [() for _ in frames]
        wanting = [view for view in views if of_faces(view)]
        if wanting:
            try:
                faces = [look(frame) for frame in frames]
            except MissingExtra as error:
                absent |= dict.fromkeys(wanting, str(error))
            else:
                for view in wanting:
                    reasons = [view.why_not(width, height, found) for found in faces]
                    absent |= {view: reasons[0]} if all(reasons) else {}
        there = [view for view in views if view not in absent]
        each = list(zip(frames, faces, strict=True))
        shown = {view: [view.crops(*frame) for frame in each] for view in there}
        crops = {view: parts[0] if len(parts) == 1 else np.concatenate(parts) for view, parts in shown.items()}
        boxes = {view: tuple(view.boxes(width, height, found) for _, found in each) for view in there}
        cut = dataclasses.replace(
            picture,
            crops={**picture.crops, **crops},
            boxes={**picture.boxes, **boxes},
            absent={**picture.absent, **absent},
        )
        if not wanting or picture.frame_count == 1:
            return cut
        return sighted(cut, [view for view in there if of_faces(view)], each)

    def judge_prepared(self, pictures: Sequence[Prepared]) -> list[Verdict]:
        """Verdicts on prepared pictures, in their order; each trunk runs once over the crops of all of them, or of
        those that it may matter to where streams can be left out."""
        if self._skip is not None:
            return self._judge_skipping(self._skip, pictures)
        return self.judge_embedded(pictures, self.embed_prepared(pictures))

    def _judge_skipping(self, skip: Skip, pictures: Sequence[Prepared]) -> list[Verdict]:
        """Group after group of streams, each on the pictures that it may still matter to."""
        shown = list(pictures)
        raws: list[dict[str, Raws]] = [{} for _ in pictures]
        settled: list[float | None] = [None] * len(pictures)
        for done, group in enumerate(skip.order):
            going = [row for row in range(len(shown)) if settled[row] is None]
            views = dict.fromkeys(self._stream(name).view for name in group)
            for row in going:
                missing = [view for view in views if view not in shown[row].crops and view not in shown[row].absent]
                shown[row] = self._shown(shown[row], missing, shown[row].later)
            mine = [shown[row] for row in going]
            runs = {run: streams for run, streams in self._runs.items() if any(s.name in group for s in streams)}
            for row, found in zip(going, self._raws(mine, self.embed_prepared(mine, runs), runs), strict=True):
                raws[row] |= found
                if done + 1 < len(skip.order) and shown[row].frame_count == 1:
                    rules = self.rules.streams
                    scores = {name: rules[name].score(np.concatenate(raw)) for name, raw in raws[row].items()}
                    finite = {name: score for name, score in scores.items() if math.isfinite(score)}
                    settled[row] = skip.settled(self.rules, done + 1, finite)
        parts = zip(shown, raws, settled, strict=True)
        return [self._verdict(picture, raw, score) for picture, raw, score in parts]

    def embed_prepared(self, pictures: Sequence[Prepared], runs: Collection[tuple[str, View]] = ()) -> Embeddings:
        """What each trunk makes of the crops of prepared pictures; some trunks and views only, where `runs` names
        them."""
        found: Embeddings = {}
        for trunk, view in runs or self._runs:
            crops = [picture.crops[view] for picture in pictures if view in picture.crops]
            if crops:
                whole = crops[0] if len(crops) == 1 else np.concatenate(crops)
                found[trunk, view] = self._engines[trunk].embed(view, whole)
        return found

    def judge_embedded(self, pictures: Sequence[Prepared], embeddings: Embeddings) -> list[Verdict]:
        """Verdicts on pictures whose embeddings are there: `embed_prepared` of this detector, or of one that judges by
        another head of the same bundle."""
        found = self._raws(pictures, embeddings, self._runs)
        return [self._verdict(picture, raw) for picture, raw in zip(pictures, found, strict=True)]

    def _raws(
        self,
        pictures: Sequence[Prepared],
        embeddings: Embeddings,
        runs: Mapping[tuple[str, View], Sequence[StreamCard]],
    ) -> list[dict[str, Raws]]:
        """Of each picture, the raw scores of the streams that apply to it."""
        raws: list[dict[str, Raws]] = [{} for _ in pictures]
        for (trunk, view), streams in runs.items():
            rows = [row for row, picture in enumerate(pictures) if view in picture.crops]
            if not rows:
                continue
            embedding = embeddings[trunk, view]
            ends = np.cumsum([len(boxes) for row in rows for boxes in pictures[row].boxes[view]])[:-1]
            for stream in streams:
                parts = iter(np.split(self.raw(stream.name, embedding), ends))
                for row in rows:
                    raws[row][stream.name] = list(itertools.islice(parts, len(pictures[row].frame_numbers)))
        return raws

    def _verdict(self, picture: Prepared, raws: Mapping[str, Raws], settled: float | None = None) -> Verdict:
        """The verdict; where some streams were left out, on the score that is `settled` without them."""
        people: dict[str, Faces] = {}
        links = tracks.link(picture.sights)
        if links:
            picture, raws, people = film.followed(picture, raws, self._streams, links)
        streams = tuple(
            self._stream_score(stream, picture, raws.get(stream.name), people.get(stream.name))
            for stream in self._streams
        )
        scores = {stream.name: stream.score for stream in streams if stream.score is not None}
        bar = self.rules.bar(scores)
        score = self.rules.vote(scores) if scores else None
        if settled is not None:
            bar, score = self.rules.ensemble, settled
        places, frames = self._frame_scores(picture, {name: raws[name] for name in scores}, people)
        found = film.tracks(
            people,
            self.rules,
            picture.frame_numbers,
            picture.times,
            [
                dict(zip(numbers, sight.boxes, strict=True))
                for numbers, sight in zip(links, picture.sights, strict=True)
            ],
        )
        times = tuple(picture.times[place] for place in places) if picture.times else ()
        word = Ruling.UNCERTAIN if score is None else bar.ruling(score)
        return Verdict(
            verdict=word,
            score=score,
            threshold=bar.threshold,
            doubt=(bar.doubt_low, bar.threshold),
            fpr=bar.fpr,
            streams=streams,
            reasons=tuple(
                itertools.chain(
                    self._main_reasons(score, bar, streams),
                    film.told(word, frames, times, picture.frame_count),
                    self._reasons(picture, streams, people, found) if score is not None else (),
                )
            ),
            detector=self._signature(),
            input=picture.input,
            sha256=picture.sha256,
            width=picture.width,
            height=picture.height,
            frames=frames,
            times=times,
            tracks=found,
        )

    def _signature(self) -> dict[str, str]:
        signature = {"name": self.name, "version": self.version, "sha256": self.sha256}
        signature |= {self._asked: self._choice} if self._choice else {}
        return signature if self.sha256 == self.card.sha256 else signature | {"card": self.card.sha256}

    def _stream_score(
        self, stream: StreamCard, picture: Prepared, raws: Raws | None, people: Faces | None
    ) -> StreamScore:
        if raws is None:
            return StreamScore(stream.name, None, picture.absent.get(stream.view, SKIPPED))
        every = np.concatenate(raws)
        if not np.isfinite(every).all():
            return StreamScore(stream.name, None, "its network gave no finite number for this picture")
        rule = self.rules.streams[stream.name]
        views = tuple(round(value, DIGITS) for value in rule.probability(every).tolist())
        faces: tuple[tuple[Box, Ruling], ...] = ()
        if of_faces(stream.view):
            squares = itertools.chain(*picture.boxes[stream.view])
            words = [rule.ruling(value) for value in views]
            faces = tuple(zip(squares, words, strict=True))
        score = rule.score(every if people is None else people.pooled())
        return StreamScore(stream.name, score, views=views, faces=faces)

    def _frame_scores(
        self, picture: Prepared, raws: Mapping[str, Raws], people: Mapping[str, Faces]
    ) -> tuple[list[int], tuple[tuple[int, float], ...]]:
        """Which of a clip's judged frames have a score, and these, with the frames' numbers."""
        places: list[int] = []
        found: list[tuple[int, float]] = []
        for place, number in enumerate(picture.frame_numbers if picture.frame_count > 1 else ()):
            heard = {name: people[name].frame(place) if name in people else raws[name][place] for name in raws}
            scores = {name: self.rules.streams[name].score(rows) for name, rows in heard.items() if len(rows)}
            if scores:
                places.append(place)
                found.append((number, self.rules.vote(scores)))
        return places, tuple(found)

    def _main_reasons(self, score: float | None, bar: Bar, streams: Sequence[StreamScore]) -> Iterator[str]:
        absent = [stream for stream in streams if not stream.applies]
        if score is None:
            yield f"not judged: {'; '.join(dict.fromkeys(stream.reason for stream in absent))}"
            return
        yield self._main_reason(score, bar)
        for stream in absent:
            yield f"{stream.name} has no part in this: {stream.reason}"

    def _reasons(
        self,
        picture: Prepared,
        streams: Sequence[StreamScore],
        people: Mapping[str, Faces],
        found: Sequence[Track],
    ) -> Iterator[str]:
        for stream in streams:
            pool = self.rules.streams[stream.name].pool
            if stream.name in people:
                yield from film.deciding(stream.name, people[stream.name], found, pool)
            elif len(stream.faces) > 1 and picture.frame_count == 1:
                yield _deciding(stream, pool)
            elif stream.views and max(stream.views) - min(stream.views) >= DISAGREE:
                yield f"the crops disagree: {stream.name} gives {min(stream.views):.2f} to {max(stream.views):.2f}"
        views = [self._stream(stream.name).view for stream in streams if stream.applies]
        size = max((view.size for view in views if not view.resized), default=0)
        if min(picture.width, picture.height) < size:
            yield (
                f"the picture is small, {picture.width} x {picture.height} px: "
                f"it was mirrored at its edges to fill {size} px, which makes the score less sure"
            )

    def _main_reason(self, score: float, bar: Bar) -> str:
        chosen = f"set so that at most {100 * bar.fpr:g} % of real pictures are called fake"
        if isinstance(bar, EnsembleRule) and (bar.slope is not None or bar.method == "tenths"):
            # Votes take few values, so the rate that is asked for may lie between two of them.
            chosen += f" ({100 * bar.errors.false_fake:.2g} % of those it was tuned on were)"
        high, low = bar.threshold, bar.doubt_low
        if score >= high:
            return f"score {_shown(score, high)} is at or above the threshold {_shown(high, score)}, {chosen}"
        if score >= low:
            band = f"between {_shown(low, score)} and {_shown(high, score)}"
            return f"score {_shown(score, low, high)} lies {band}: too close to call"
        reason = f"score {_shown(score, low)} is below {_shown(low, score)}"
        if bar is self.rules.ensemble:
            reason += f", as {100 * self.rules.ensemble.errors.false_real:.2g} % of the fakes it was tuned on are"
        return reason

    def _stream(self, name: str) -> StreamCard:
        for stream in self.card.streams:
            if stream.name == name:
                return stream
        raise KeyError(name)


def _deciding(stream: StreamScore, pool: Pool) -> str:
    """Which of several faces a stream's score comes from."""
    told = f"{len(stream.faces)} faces were judged"
    if pool != "max":
        return f"{told}; the score of {stream.name} is made of all of them"
    place = int(np.argmax(stream.views))
    box, _ = stream.faces[place]
    return (
        f"{told}; the one at x {box.left}-{box.right}, y {box.top}-{box.bottom} px looks most fake and decides for "
        f"{stream.name}, with {stream.views[place]:.2f}"
    )


def name_of(source: Source) -> str:
    """What a verdict calls its input: a path, or "<bytes>", "<image>", "<array>"."""
    if isinstance(source, Image.Image):
        return "<image>"
    if isinstance(source, np.ndarray):
        return "<array>"
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    return os.fsdecode(source)


def _shown(value: float, *others: float) -> str:
    """A number with two digits, or as many as it takes to tell it from the others."""
    for digits in range(2, DIGITS + 1):
        text = f"{value:.{digits}f}"
        if all(value == other or text != f"{other:.{digits}f}" for other in others):
            break
    return text
