"""How little it takes to turn a detector's verdict on purpose.

Three who might try: who has the detector's files and follows its gradient (PGD, on its mirror); who can only ask it for
scores, a few hundred times (Square); and chance, which has nothing (noise), to compare them with. Whoever made it, an
altered picture is rounded to whole levels, and the detector that ships judges it, also after it was saved as a JPEG.

The searches are those of the Adversarial Robustness Toolbox (extra "attack"; MIT licence): of the libraries that have
both attacks it is the one that is still released. It makes a folder .art in the user's home when it is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from assay.errors import MissingExtra
from assay.image.align import codec_round_trip
from assay.image.cut import cut
from assay.judge.detector import Detector
from assay.learn.mirror import Mirror
from assay.metrics import Floats, Interval, auc, bootstrap, exact, finite
from assay.types import Box, Label, Pixels, Verdict

Labels = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
Pictures = npt.NDArray[np.uint8]
"""Of one size: (n, height, width, 3)."""
Knows = Literal["nothing", "files", "scores"]
"""What an attack has of the detector."""

SIDE = 256
"""Pictures are attacked on the square of so many px in their middle, so that all have one size."""

QUALITY = 90
"""What altered pictures are saved as JPEG with, to see which attacks survive it."""

BATCH = 8
"""Pictures whose gradient is taken at a time."""

_EDGE = 1e-6


class Answers(NamedTuple):
    """What a detector says of n pictures, each (n,): P(fake), its threshold, and whether it calls them fake."""

    scores: Floats
    thresholds: Floats
    called: Flags


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What is attacked.

    Args:
        detector: it judges whatever an attack makes, and answers those who can only ask.
        mirror: of the same bundle, head and vote, for attacks that follow a gradient; None where it has none.
    """

    detector: Detector
    mirror: Mirror | None = None

    def judge(self, pictures: Pictures) -> Answers:
        """What the detector says. Raises ValueError where it cannot judge a picture, as that is no score."""
        verdicts = []
        for number, answer in enumerate(self.detector.judge_many(pictures)):
            if not isinstance(answer, Verdict) or answer.score is None:
                reason = "; ".join(answer.reasons) if isinstance(answer, Verdict) else answer.message
                raise ValueError(f"picture {number} has no score: {reason}")
            verdicts.append((answer.score, answer.threshold))
        scores, thresholds = np.array(verdicts, np.float64).reshape(-1, 2).T
        return Answers(scores, thresholds, scores >= thresholds)


class Moved(NamedTuple):
    """What an attack made.

    pictures: altered, of the same shape.
    asked: how many pictures the detector was shown for each, the first one included, (n,); 0 where it was not asked.
    turned: which of these was the first to turn its verdict, counted from 1, (n,); NaN where none was, or none asked.
    """

    pictures: Pictures
    asked: npt.NDArray[np.int64]
    turned: Floats


class Attack(Protocol):
    """A way to alter pictures so that they are taken for what they are not."""

    knows: ClassVar[Knows]

    @property
    def name(self) -> str:
        """What a table calls it."""

    @property
    def eps(self) -> int:
        """Most that a sample may move, in levels of 0–255."""

    def run(self, target: Target, pictures: Pictures, labels: Labels, seed: int) -> Moved:
        """Altered pictures, no sample of which has moved by more than `eps` levels.

        Args:
            labels: what the pictures are, 1 = fake, (n,); fakes are pushed towards real, reals towards fake.
            seed: the same seed gives the same pictures on the same machine.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Noise:
    """No attack: each sample moved up or down by `eps` levels, as chance has it.

    Args:
        eps: levels of 0–255, >= 0; 0 leaves pictures as they are.
    """

    knows: ClassVar[Knows] = "nothing"

    eps: int

    @property
    def name(self) -> str:
        return f"noise {self.eps}/255" if self.eps else "nothing"

    def run(self, target: Target, pictures: Pictures, labels: Labels, seed: int) -> Moved:
        signs = np.random.default_rng(seed).integers(0, 2, pictures.shape) * 2 - 1
        moved = np.clip(pictures + self.eps * signs, 0, 255).astype(np.uint8)
        return _unasked(moved)


@dataclasses.dataclass(frozen=True, slots=True)
class PGD:
    """Projected gradient descent within L-infinity, by somebody who has the detector's files.

    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, section 2.1: steps along
    the gradient's sign, each of 2.5 · eps / steps levels, from a random start.

    Args:
        eps: most that a sample may move, in levels of 0–255, >= 1.
        steps: >= 1.
        restarts: starts, >= 1; a later one is kept where it turns the mirror's verdict.
    """

    knows: ClassVar[Knows] = "files"

    eps: int
    steps: int = 20
    restarts: int = 2

    @property
    def name(self) -> str:
        return f"PGD {self.eps}/255"

    def run(self, target: Target, pictures: Pictures, labels: Labels, seed: int) -> Moved:
        """See `Attack`. Raises ValueError where the target has no mirror, MissingExtra where ART is not installed."""
        if target.mirror is None:
            raise ValueError(f"{self.name} follows a gradient: give the target a mirror")
        evasion, estimators = _library()
        if not len(pictures):
            return _unasked(pictures)
        threshold = float(target.judge(pictures[:1]).thresholds[0])
        device = next(target.mirror.parameters()).device.type
        model = estimators.PyTorchClassifier(
            model=_Margin(target.mirror, threshold),
            loss=nn.CrossEntropyLoss(),
            input_shape=(3, *pictures.shape[1:3]),
            nb_classes=2,
            clip_values=(0.0, 1.0),
            device_type="gpu" if device == "cuda" else "cpu",
        )
        attack = evasion.ProjectedGradientDescentPyTorch(
            model,
            eps=self.eps / 255,
            eps_step=2.5 * self.eps / self.steps / 255,
            max_iter=self.steps,
            num_random_init=self.restarts,
            batch_size=BATCH,
            verbose=False,
        )
        scaled = pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255
        with _drawing(seed):
            found = attack.generate(scaled, y=np.eye(2, dtype=np.float32)[labels])
        whole = np.rint(255 * found.transpose(0, 2, 3, 1)).astype(np.int64)
        # Rounding can only go too far where float32 did.
        near = np.clip(whole, pictures.astype(np.int64) - self.eps, pictures.astype(np.int64) + self.eps)
        return _unasked(np.clip(near, 0, 255).astype(np.uint8))


@dataclasses.dataclass(frozen=True, slots=True)
class Square:
    """Square attack within L-infinity, by somebody who can only ask the detector for scores.

    Andriushchenko et al., "Square attack: a query-efficient black-box adversarial attack via random search", ECCV 2020,
    section 3: squares of extreme colour at random places, kept where they help. Every picture is attacked by itself,
    and the search goes on until its queries are spent, also once the verdict has turned.

    Args:
        eps: most that a sample may move, in levels of 0–255, >= 1.
        queries: how many pictures the detector is shown for each, the unaltered one included, >= 3.
    """

    knows: ClassVar[Knows] = "scores"

    eps: int = 8
    queries: int = 100

    @property
    def name(self) -> str:
        return f"Square {self.eps}/255, {self.queries} queries"

    def run(self, target: Target, pictures: Pictures, labels: Labels, seed: int) -> Moved:
        """See `Attack`. Raises ValueError for fewer than three queries, MissingExtra where ART is not installed."""
        if self.queries < 3:
            raise ValueError(f"a Square attack takes three queries at least, not {self.queries}")
        evasion, estimators = _library()
        moved, asked, turned = np.empty_like(pictures), [], []
        for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            asking = _Asking(target.detector, Label(label))
            model = estimators.BlackBoxClassifierNeuralNetwork(
                asking.columns,
                input_shape=picture.shape,
                nb_classes=2,
                channels_first=False,
                clip_values=(0.0, 255.0),
            )
            attack = evasion.SquareAttack(
                model,
                # Its own loss stands still once the verdict has turned, and it would stop there.
                adv_criterion=lambda columns, _: np.zeros(len(columns), bool),
                loss=lambda batch, _, asking=asking: asking.margins(batch),
                # Beside one query an iteration: the picture as it is, and the stripes it begins with.
                max_iter=self.queries - 2,
                eps=self.eps,
                verbose=False,
            )
            with _drawing(seed, number):
                found = attack.generate(picture[None].astype(np.float32), y=np.eye(2)[[label]])
            moved[number] = _whole(found)[0]
            asked.append(asking.asked)
            turned.append(asking.turned)
        return Moved(moved, np.array(asked, np.int64), np.array(turned, np.float64))


class _Margin(nn.Module):
    """Of pictures (n, 3, height, width) in [0, 1] the log-odds of fake over those of the threshold, as the logits of
    two classes, (n, 2)."""

    def __init__(self, mirror: Mirror, threshold: float) -> None:
        super().__init__()
        self.mirror = mirror
        bar = min(max(threshold, _EDGE), 1 - _EDGE)
        self.bar = math.log(bar / (1 - bar))

    def forward(self, pictures: Tensor) -> Tensor:
        margin = self.mirror.log_odds(pictures) - self.bar
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


class _Asking:
    """A detector that is asked for the scores of pictures like one, and remembers what it said.

    A picture that is shown again costs no query: whoever asks has kept the answer.
    """

    def __init__(self, detector: Detector, label: Label) -> None:
        self._target = Target(detector)
        self._sign = 1.0 if label is Label.FAKE else -1.0
        self._known: dict[bytes, float] = {}
        self.turned = math.nan

    @property
    def asked(self) -> int:
        """How many pictures it was shown."""
        return len(self._known)

    def margins(self, batch: npt.NDArray[np.float32]) -> Floats:
        """How far pictures of the label, (n, height, width, 3) in [0, 255], are on its side of the threshold, (n,)."""
        return np.array([self._margin(picture) for picture in _whole(batch)])

    def columns(self, batch: npt.NDArray[np.float32]) -> Floats:
        """The same as scores of the two classes, (n, 2)."""
        margins = self._sign * self.margins(batch)
        return np.stack([-margins, margins], axis=1)

    def _margin(self, picture: Pixels) -> float:
        key = hashlib.sha256(picture.tobytes()).digest()
        if key not in self._known:
            said = self._target.judge(picture[None])
            self._known[key] = self._sign * float(said.scores[0] - said.thresholds[0])
            if bool(said.called[0]) != (self._sign > 0) and math.isnan(self.turned):
                self.turned = float(self.asked)
        return self._known[key]


def _library() -> tuple[Any, Any]:
    """ART's attacks, and what it wraps models in. They take seconds to import."""
    try:
        from art.attacks import evasion  # type: ignore[import-untyped]
        from art.estimators import classification  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("attacking a detector", "attack") from error
    return evasion, classification


@contextlib.contextmanager
def _drawing(*seed: int) -> Iterator[None]:
    """NumPy's global numbers, which ART draws from, seeded for the while and as they were afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            # Of ART's own way to turn tensors into arrays.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _whole(pictures: npt.NDArray[np.float32]) -> Pictures:
    return np.clip(np.rint(pictures), 0, 255).astype(np.uint8)


def _unasked(pictures: Pictures) -> Moved:
    return Moved(pictures, np.zeros(len(pictures), np.int64), np.full(len(pictures), math.nan))


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack did to a detector, at the detector's own threshold.

    Rates are of pictures that were rightly called before: fakes called fake, reals not called fake. Their intervals are
    exact (Clopper and Pearson), those of the AUC from the bootstrap.

    Args:
        attack: its name.
        knows: what it has of the detector.
        eps: most that a sample may have moved, in levels of 0–255.
        hidden: share of the fakes that are no longer called fake.
        accused: share of the reals that now are.
        turned: both together.
        saved: the same after JPEG, which turns some verdicts by itself: see the attack "nothing".
        survived: share of those turned that JPEG leaves turned.
        auc, auc_saved: of all pictures, altered, and altered and saved.
        linf: median over pictures of the largest change of a sample, in levels of 0–255.
        l2: median length of the change, of samples scaled to [0, 1].
        psnr: median peak signal-to-noise ratio, dB; infinite where nothing moved.
        queries: median number of the query that first turned a verdict, over those turned; NaN where none was asked.
        asked: most queries spent on one picture.
        seconds: a picture.
    """

    attack: str
    knows: Knows
    eps: int
    hidden: Interval
    accused: Interval
    turned: Interval
    saved: Interval
    survived: Interval
    auc: Interval
    auc_saved: Interval
    linf: float
    l2: float
    psnr: float
    queries: float
    asked: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        told: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            told[field.name] = value.to_dict() if isinstance(value, Interval) else value
            if isinstance(value, float):
                told[field.name] = finite(value)
        return told


ATTACKS: tuple[Attack, ...] = (
    Noise(0),
    Noise(8),
    *(PGD(eps) for eps in (1, 2, 4, 8)),
    *(Square(8, queries) for queries in (100, 500)),
)
"""What is measured where nothing else is asked for."""


def middle(pixels: Pixels, side: int = SIDE) -> Pixels | None:
    """The square of `side` px in a picture's middle, at full resolution; None where the picture is smaller."""
    height, width = pixels.shape[:2]
    if min(height, width) < side:
        return None
    left, top = (width - side) // 2, (height - side) // 2
    return cut(pixels, Box(left, top, left + side, top + side))


def measure(
    target: Target,
    pictures: Pictures,
    labels: npt.ArrayLike,
    attacks: Sequence[Attack] = ATTACKS,
    *,
    clusters: Sequence[object] | None = None,
    rounds: int = 1000,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Outcome]:
    """What each attack does to a detector on labelled pictures, in the order of `attacks`.

    All pictures are attacked, those that were wrongly called too: they count in the AUC alone.

    Args:
        pictures: (n, height, width, 3) uint8, n >= 1, that the detector was not made with.
        labels: 1 = fake, (n,).
        clusters: of each picture a name, such as its source, for the bootstrap (`metrics.bootstrap`).
        rounds, seed: of the bootstrap; the seed is the attacks' too.
        progress: called with (attack, attacks done, attacks) before each.

    Raises:
        ValueError: a picture cannot be judged, the target lacks the mirror that an attack needs, or labels are none.
        MissingExtra: ART is not installed.
    """
    given = np.asarray(labels)
    if given.shape != (len(pictures),) or not len(given) or not np.isin(given, (0, 1)).all():
        raise ValueError("labels must be 0 (real) or 1 (fake), one for each picture, of one picture at least")
    truth = given.astype(np.int8)
    right = target.judge(pictures).called == (truth == 1)
    found = []
    for number, attack in enumerate(attacks):
        if progress is not None:
            progress(attack.name, number, len(attacks))
        began = time.perf_counter()
        moved = attack.run(target, pictures, truth, seed)
        seconds = (time.perf_counter() - began) / len(pictures)
        after = target.judge(moved.pictures)
        again = target.judge(np.stack([codec_round_trip(picture, "JPEG", QUALITY) for picture in moved.pictures]))
        turned, saved = (right & (said.called != (truth == 1)) for said in (after, again))
        scored = [
            bootstrap(auc, truth, said.scores, clusters=clusters, rounds=rounds, seed=seed) for said in (after, again)
        ]
        linf, l2, psnr = _changes(pictures, moved.pictures)
        asked = moved.turned[turned & ~np.isnan(moved.turned)]
        found.append(
            Outcome(
                attack=attack.name,
                knows=attack.knows,
                eps=attack.eps,
                hidden=_share(turned, right & (truth == 1)),
                accused=_share(turned, right & (truth == 0)),
                turned=_share(turned, right),
                saved=_share(saved, right),
                survived=_share(saved, turned),
                auc=scored[0],
                auc_saved=scored[1],
                linf=float(np.median(linf)),
                l2=float(np.median(l2)),
                psnr=float(np.median(psnr)),
                queries=float(np.median(asked)) if len(asked) else math.nan,
                asked=int(moved.asked.max()),
                seconds=seconds,
            )
        )
    return found


def _share(hit: Flags, among: Flags) -> Interval:
    return exact(int((hit & among).sum()), int(among.sum()))


def _changes(before: Pictures, after: Pictures) -> tuple[Floats, Floats, Floats]:
    """Of each picture the largest change in levels, the length of the change in [0, 1], and the PSNR in dB."""
    change = (after.astype(np.float64) - before).reshape(len(before), -1)
    length = np.linalg.norm(change / 255, axis=1)
    with np.errstate(divide="ignore"):
        psnr = -20 * np.log10(length / math.sqrt(change.shape[1]))
    return np.abs(change).max(axis=1), length, psnr


# ── the card ─────────────────────────────────────────────────────────────────────────────────────────────────────────

OPENING = "It can be attacked on purpose: "
"""How the sentence on a card begins, by which an older one is found."""

MOST = 0.9
"""Of the attacks that have the files, the one of smallest changes that turns so many verdicts stands for all."""


def limits(known: Sequence[str], outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """A card's limits with the sentence on attacks at their end, in place of an older one.

    Args:
        known: the limits so far.
        outcomes: see `sentence`.
    """
    kept = [limit for limit in known if not limit.startswith(OPENING)]
    told = sentence(outcomes)
    return (*kept, told) if told else tuple(kept)


def sentence(outcomes: Sequence[Outcome]) -> str:
    """What attacks came to, for a layperson, in one sentence; empty where none knew anything of the detector."""
    by_files = sorted((one for one in outcomes if one.knows == "files"), key=lambda one: one.eps)
    by_asking = sorted((one for one in outcomes if one.knows == "scores"), key=lambda one: one.asked)
    parts = []
    if by_files:
        telling = next((one for one in by_files if one.turned.value >= MOST), by_files[-1])
        parts.append(f"who has its files turned its verdict on {_counted(telling)}")
    if by_asking:
        most = by_asking[-1]
        parts.append(f"who can only ask it for scores, {most.asked} times a picture, on {_counted(most)}")
    return OPENING + "; ".join(parts) + "." if parts else ""


def _counted(outcome: Outcome) -> str:
    turned, stayed = outcome.turned, outcome.survived
    if not turned.n:
        return "no picture, as it had called none rightly"
    told = (
        f"{_count(turned)} of {turned.n} pictures that it had called rightly, by changes of at most {outcome.eps} in "
        "255 of each colour value"
    )
    return f"{told} ({_count(stayed)} of them stayed turned after saving as JPEG)" if stayed.n else told


def _count(share: Interval) -> int:
    return round(share.value * share.n)
