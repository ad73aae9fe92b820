"""The networks at work: one thread that judges what waits together, and one that explains.

Verdicts are those of `Detector.judge`. A clip comes in parts; each is seen as it comes, and what is left of it, numbers
without pixels, is judged at the end.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import InputError
from assay.judge.detector import Detector, Embeddings
from assay.judge.explain import Explanation, explain
from assay.judge.prepared import Prepared, Watched, joined
from assay.judge.scorecam import Toward
from assay.serve import wire
from assay.serve.queue import Over, Turns, batches
from assay.types import Pixels, Verdict

Ran = Callable[[int, int, float], None]
"""Told of each run of the networks: pictures, crops, seconds."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A picture, or a part of a clip, that is to be seen."""

    detector: int
    picture: Prepared
    seen: concurrent.futures.Future[Any]
    """A Verdict, or the Embeddings of a part."""

    @property
    def still(self) -> bool:
        return self.picture.frame_count == 1

    @property
    def crops(self) -> int:
        return sum(map(len, self.picture.crops.values()))


class Networks:
    """The detectors of a server. Usable from several threads.

    Args:
        detectors: those that judge, by their numbers.
        crops: that are judged together, more or less; a picture's are never parted.
        linger: seconds that the first picture waits for others.
        coming: whether any are on their way; it waits for none otherwise.
        ran: told of each run.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        *,
        crops: int = 32,
        linger: float = 0.004,
        coming: Callable[[], bool] = lambda: True,
        ran: Ran = lambda pictures, crops, seconds: None,
    ) -> None:
        self.detectors = tuple(detectors)
        self._crops, self._linger, self._coming, self._ran = crops, linger, coming, ran
        self._turns: Turns[_Waiting] = Turns()
        self._thread = threading.Thread(target=self._work, name="assay-networks", daemon=True)
        self._explaining = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="assay-explain")

    def __len__(self) -> int:
        """How many pictures wait."""
        return len(self._turns)

    def start(self) -> None:
        """Loads every network by running it once, and begins.

        Raises:
            BundleError: a network cannot be run.
        """
        for detector in self.detectors:
            detector.warm()
        self._thread.start()

    def stop(self) -> None:
        """Returns when what waits is judged. Stopping twice does nothing."""
        self._turns.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._explaining.shutdown(wait=True, cancel_futures=True)

    def judge(self, client: str, detector: int, picture: Prepared) -> concurrent.futures.Future[Verdict]:
        """The verdict on a still picture, in the client's turn."""
        return self._put(client, detector, picture)

    def watch(self, client: str, detector: int) -> Clip:
        """Takes the parts of a clip."""
        return Clip(self, client, detector)

    def explain(
        self,
        detector: int,
        pixels: Pixels,
        toward: Toward,
        over: threading.Event,
    ) -> concurrent.futures.Future[Explanation]:
        """Where a detector looked in pixels, (height, width, 3) uint8; one at a time.

        Args:
            over: set when nobody waits any more; its error is Over then.
        """
        return self._explaining.submit(self._explained, detector, pixels, toward, over)

    def _explained(self, detector: int, pixels: Pixels, toward: Toward, over: threading.Event) -> Explanation:
        def check(trunk: str, done: int, total: int) -> None:
            if over.is_set():
                raise Over

        check("", 0, 0)
        return explain(self.detectors[detector], pixels, toward=toward, progress=check)

    def _put(self, client: str, detector: int, picture: Prepared) -> concurrent.futures.Future[Any]:
        waiting = _Waiting(detector, picture, concurrent.futures.Future())
        self._turns.put(client, waiting)
        return waiting.seen

    def _work(self) -> None:
        kinds = batches(
            self._turns,
            lambda each: each.crops,
            lambda each: each.detector,
            self._crops,
            self._linger,
            self._coming,
        )
        for batch in kinds:
            wanted = [each for each in batch if each.seen.set_running_or_notify_cancel()]
            if wanted:
                self._run(wanted)

    def _run(self, batch: Sequence[_Waiting]) -> None:
        begun = time.perf_counter()
        # Parts of clips last, so that what belongs to the stills comes first.
        ordered = sorted(batch, key=lambda each: not each.still)
        try:
            results = list(zip(ordered, _seen(self.detectors[batch[0].detector], ordered), strict=True))
        except BaseException as error:
            if len(batch) == 1:
                batch[0].seen.set_exception(error)
                return
            for each in batch:  # one of them is to blame, and the others are not
                self._run([each])
            return
        self._ran(len(batch), sum(each.crops for each in batch), time.perf_counter() - begun)
        for each, result in results:
            each.seen.set_result(result)


class Clip:
    """A clip that is judged part by part, for one thread. `Networks.watch` makes it."""

    def __init__(self, networks: Networks, client: str, detector: int) -> None:
        self._networks, self._client, self._detector = networks, client, detector
        self._parts: list[Prepared] = []
        self._embeddings: list[Embeddings] = []

    def take(self, part: Prepared, most: int) -> None:
        """Lets the networks see a part, and waits for it.

        Args:
            most: frames that may be judged.

        Raises:
            InputError: too_many_frames.
            BundleError: the networks can't be run.
        """
        if self._parts and part.frame_numbers[0] <= self._parts[-1].frame_numbers[-1]:
            self._parts.clear()  # the clip was begun anew
            self._embeddings.clear()
        if sum(len(each.frame_numbers) for each in (*self._parts, part)) > most:
            raise InputError(
                f"more than {most:,} frames are to be judged; ask for fewer: a longer `every`, or a shorter clip",
                kind="too_many_frames",
            )
        embeddings: Embeddings = self._networks._put(self._client, self._detector, part).result()
        self._embeddings.append(embeddings)
        self._parts.append(wire.bare(part))

    def verdict(self) -> Verdict:
        """Of all parts, at least one."""
        detector = self._networks.detectors[self._detector]
        whole = wire.bare(joined([Watched(part, {}) for part in self._parts]).picture)
        together: dict[Any, list[npt.NDArray[np.float32]]] = {}
        for embeddings in self._embeddings:
            for run, rows in embeddings.items():
                together.setdefault(run, []).append(rows)
        return detector.judge_embedded([whole], {run: np.concatenate(rows) for run, rows in together.items()})[0]


def _seen(detector: Detector, batch: Sequence[_Waiting]) -> list[Verdict | Embeddings]:
    """The verdicts on stills, which come first, and the embeddings of parts."""
    embeddings = detector.embed_prepared([each.picture for each in batch])
    taken = dict.fromkeys(embeddings, 0)
    for each in batch:
        if each.still:
            taken = {run: place + len(each.picture.crops.get(run[1], ())) for run, place in taken.items()}
    stills = [each.picture for each in batch if each.still]
    results: list[Verdict | Embeddings] = []
    if stills:
        results += detector.judge_embedded(stills, {run: rows[: taken[run]] for run, rows in embeddings.items()})
    for each in batch[len(stills) :]:
        mine: Embeddings = {}
        for run in embeddings:
            if run[1] in each.picture.crops:
                end = taken[run] + len(each.picture.crops[run[1]])
                mine[run], taken[run] = embeddings[run][taken[run] : end], end
        results.append(mine)
    return results
