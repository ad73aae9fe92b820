"""Results of a scan, counted one by one: memory stays the same for ten of them and for ten million."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from assay.types import Ruling

BINS = 20
"""Of the histogram, each 0.05 wide."""

WORDS = (Ruling.FAKE, Ruling.UNCERTAIN, Ruling.REAL)
"""The verdicts in the order in which rows are shown."""

_LONGEST = 2000
_LONGEST_NAME = 1 << 15
"""Longer ones are no path of any system."""
_LISTED = 20
"""Most reasons, and streams, of one result."""
_KINDS = 50
"""Most different detectors, thresholds and kinds of failure that are told apart."""


class Bar(NamedTuple):
    """What scores were compared with: fake from `threshold`, real below `low`; `fpr` is what it was chosen for."""

    threshold: float
    low: float
    fpr: float


class Maker(NamedTuple):
    """What judged; `card` is the hash of its card."""

    name: str
    version: str
    sha256: str
    card: str


class Judged(NamedTuple):
    """A result that is shown.

    Args:
        number: its place in the file, from 1.
        name: what was judged, whole.
        told: reasons, then what its streams and frames say.
        width, height: in px; 0 where not told.
    """

    number: int
    name: str
    word: Ruling
    score: float | None
    told: tuple[str, ...]
    sha256: str
    width: int
    height: int


class Failed(NamedTuple):
    """An input that could not be judged."""

    number: int
    name: str
    kind: str
    message: str


@dataclasses.dataclass
class Tally:
    """What a scan found.

    Args:
        words: how many results say which verdict.
        without: how many of the uncertain ones have no score, as nothing applied.
        kinds: how many inputs failed in which way.
        bins: of each verdict, how many scores lie in each of `BINS` steps of [0, 1].
        bars, makers: what judged, and how often.
        rows: those shown, in order: fake, uncertain, real, each by score from the highest; equal ones as in the file.
        failures: those shown, the first of the file.
        unfinished: whether the last record was cut off and left out.
    """

    words: Counter[Ruling] = dataclasses.field(default_factory=Counter)
    without: int = 0
    kinds: Counter[str] = dataclasses.field(default_factory=Counter)
    bins: dict[Ruling, list[int]] = dataclasses.field(default_factory=lambda: {word: [0] * BINS for word in WORDS})
    bars: Counter[Bar | None] = dataclasses.field(default_factory=Counter)
    makers: Counter[Maker | None] = dataclasses.field(default_factory=Counter)
    rows: list[Judged] = dataclasses.field(default_factory=list)
    failures: list[Failed] = dataclasses.field(default_factory=list)
    unfinished: bool = False

    @property
    def judged(self) -> int:
        return sum(self.words.values())

    @property
    def failed(self) -> int:
        return sum(self.kinds.values())


def tally(lines: Iterable[Mapping[str, Any] | None], most: int, progress: Callable[[int], None] | None = None) -> Tally:
    """Count results.

    Args:
        lines: as JSON lines hold them; None for an unfinished one.
        most: rows and failures kept, each, >= 0.
        progress: told how many were counted.

    Raises:
        ValueError: one is no result; the message says which.
    """
    found = Tally()
    heap: list[tuple[tuple[int, float, int], Judged]] = []
    for number, line in enumerate(lines, 1):
        if line is None:
            found.unfinished = True
            continue
        try:
            _count(found, heap, most, number, line)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"result {number} is not one of assay scan ({what})") from error
        if progress is not None and number % 1000 == 0:
            progress(number)
    found.rows = [row for _, row in sorted(heap, key=lambda item: item[0], reverse=True)]
    return found


def _count(
    found: Tally, heap: list[tuple[tuple[int, float, int], Judged]], most: int, number: int, line: Mapping[str, Any]
) -> None:
    name = _cut(_text(line["input"]), _LONGEST_NAME)
    if "error" in line:
        kind, message = _text(line["error"]["kind"]), _text(line["error"]["message"])
        _add(found.kinds, kind[:_LONGEST], "(others)")
        if len(found.failures) < most:
            found.failures.append(Failed(number, name, _cut(kind), _cut(message)))
        return
    word, score = Ruling(line["verdict"]), line["score"]
    if score is not None:
        score = _within(score)
        found.bins[word][min(int(score * BINS), BINS - 1)] += 1
    else:
        found.without += 1
    found.words[word] += 1
    threshold, fpr = _number(line["threshold"]), _within(line["fpr"])
    low, _ = line["doubt"]
    _add(found.bars, Bar(threshold, _number(low), fpr), None)
    about = line["detector"]
    signed = about["name"], about["version"], about["sha256"]
    maker = Maker(*(_text(told)[:_LONGEST] for told in (*signed, about.get("card", about["sha256"]))))
    _add(found.makers, maker, None)
    key = -WORDS.index(word), -1.0 if score is None else score, -number
    if len(heap) < most:
        heapq.heappush(heap, (key, _judged(number, name, word, score, line)))
    elif most and key > heap[0][0]:
        heapq.heapreplace(heap, (key, _judged(number, name, word, score, line)))


def _judged(number: int, name: str, word: Ruling, score: float | None, line: Mapping[str, Any]) -> Judged:
    told = [_cut(_text(reason)) for reason in _few(line["reasons"])]
    told += [_stream(each) for each in _few(line.get("streams", []))]
    if frames := line.get("frames"):
        scores = [_within(frame["score"]) for frame in frames]
        told.append(f"{len(scores)} frames judged, from {min(scores):.2f} to {max(scores):.2f}")
    if tracks := line.get("tracks"):
        told.append(f"{len(tracks)} faces followed")
    width, height = (int(_number(line[side] or 0)) for side in ("width", "height"))
    return Judged(number, name, word, score, tuple(told), _text(line["sha256"]), width, height)


def _stream(told: Mapping[str, Any]) -> str:
    name = _cut(_text(told["name"]))
    if told.get("score") is None:
        return f"{name}: {_cut(_text(told.get('reason', 'does not apply')))}"
    faces = told.get("faces")
    return f"{name}: {_within(told['score']):.3f}" + (f", {len(faces)} faces" if faces else "")


def _add(counter: Counter[Any], key: object, others: object) -> None:
    counter[key if key in counter or len(counter) < _KINDS else others] += 1


def _cut(words: str, most: int = _LONGEST) -> str:
    return words if len(words) <= most else f"{words[:most]} … ({len(words) - most} more characters)"


def _few(told: object) -> list[Any]:
    if not isinstance(told, list | tuple):
        raise ValueError(f"{type(told).__name__} where a list belongs")
    return list(told[:_LISTED])


def _text(told: object) -> str:
    if not isinstance(told, str):
        raise ValueError(f"{type(told).__name__} where a text belongs")
    return told


def _number(told: object) -> float:
    if isinstance(told, bool) or not isinstance(told, int | float) or not math.isfinite(told):
        raise ValueError(f"{_cut(str(told))[:40]} where a number belongs")
    return float(told)


def _within(told: object) -> float:
    value = _number(told)
    if not 0 <= value <= 1:
        raise ValueError(f"{value} where a number from 0 to 1 belongs")
    return value
