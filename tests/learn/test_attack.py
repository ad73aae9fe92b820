"""Attacks on a detector that calls bright pictures fake: what each can reach is known to the level."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

import assay
from assay.errors import MissingExtra
from assay.judge import bundle
from assay.learn import attack
from assay.learn.attack import OPENING, PGD, Knows, Moved, Noise, Outcome, Pictures, Square, Target, measure
from assay.learn.mirror import Mirror
from assay.metrics import exact

SIDE = 32

EDGE = 127
"""The darkest grey that the detector calls fake."""

CAREFUL = Square(eps=8, queries=100)


def grey(*levels: int) -> Pictures:
    """Pictures of one grey each."""
    return np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in levels])


@pytest.fixture
def target(bundle_folder: Path) -> Target:
    read = bundle.read(bundle_folder)
    return Target(assay.Detector(read, threads=1, device="cpu"), Mirror(read))


@dataclasses.dataclass
class Watched:
    """A detector that only answers, and what it was shown and said."""

    detector: Any
    shown: list[npt.NDArray[np.uint8]] = dataclasses.field(default_factory=list)
    scores: list[float] = dataclasses.field(default_factory=list)

    def judge_many(self, sources: Iterable[npt.NDArray[np.uint8]]) -> list[Any]:
        pictures = list(sources)
        answers = list(self.detector.judge_many(pictures))
        self.shown += pictures
        self.scores += [answer.score for answer in answers]
        return answers


@pytest.fixture
def watched(target: Target) -> Watched:
    return Watched(target.detector)


def asking(watched: Watched) -> Target:
    detector: Any = watched
    return Target(detector)


def test_the_edge_is_where_the_tests_say(target: Target) -> None:
    assert target.judge(grey(EDGE - 1, EDGE)).called.tolist() == [False, True]


# ── PGD ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("eps", [1, 2, 4])
def test_pgd_turns_the_verdicts_that_its_levels_reach_and_no_others(target: Target, eps: int) -> None:
    fakes = grey(*(EDGE + more for more in range(6)))
    reals = grey(*(EDGE - 1 - less for less in range(6)))
    pictures, labels = np.concatenate([fakes, reals]), np.array([1] * 6 + [0] * 6, np.int8)
    moved = PGD(eps).run(target, pictures, labels, seed=0)
    # The score rises with every sample, so the best that can be done is to move all of them as far as may be.
    expected = np.concatenate([fakes - np.uint8(eps), reals + np.uint8(eps)])
    assert np.array_equal(moved.pictures, expected)
    called = target.judge(moved.pictures).called
    assert called.tolist() == [more >= eps for more in range(6)] + [less < eps for less in range(6)]
    assert not moved.asked.any()
    assert np.isnan(moved.turned).all()


def test_pgd_stays_within_whole_levels_and_the_range_of_samples(target: Target) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    pictures[:, :4], pictures[:, -4:] = 0, 255
    for eps in (1, 8):
        moved = PGD(eps, steps=4, restarts=1).run(target, pictures, np.array([0, 1, 1], np.int8), seed=0)
        change = moved.pictures.astype(int) - pictures
        assert moved.pictures.dtype == np.uint8
        assert np.abs(change).max() == eps
        assert change[0].min() >= 0
        assert change[1:].max() <= 0


def test_few_steps_do_not_reach_the_corner(target: Target) -> None:
    pictures, labels = grey(EDGE + 1), np.array([1], np.int8)
    one = PGD(16, steps=100, restarts=1).run(target, pictures, labels, seed=0)
    assert one.pictures.max() == EDGE + 1 - 16
    # Steps of 2.5 · eps / steps from a random start: those that start highest stay above the corner.
    assert PGD(16, steps=2, restarts=1).run(target, pictures, labels, seed=0).pictures.max() == EDGE + 1 - 16


def test_pgd_needs_a_mirror(target: Target) -> None:
    with pytest.raises(ValueError, match="PGD 2/255 follows a gradient: give the target a mirror"):
        PGD(2).run(Target(target.detector), grey(EDGE), np.array([1], np.int8), seed=0)


# ── Square ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("label", "level"), [(1, EDGE + 1), (0, EDGE - 2)])
def test_square_turns_a_verdict_by_asking_alone(watched: Watched, label: int, level: int) -> None:
    pictures = grey(level)
    moved = CAREFUL.run(asking(watched), pictures, np.array([label], np.int8), seed=0)
    assert Target(watched.detector).judge(moved.pictures).called.tolist() == [not label]
    assert np.abs(moved.pictures.astype(int) - pictures).max() == 8
    # The first query shows the picture as it is; the verdict turned at the one that is named, and at none before.
    called = [score >= 0.7 for score in watched.scores]
    assert np.array_equal(watched.shown[0], pictures[0])
    assert moved.turned[0] == called.index(not label) + 1 > 1
    # What comes back is the best of all that was shown.
    best = min(watched.scores) if label else max(watched.scores)
    assert watched.detector.judge(moved.pictures[0]).score == best


@pytest.mark.parametrize("queries", [3, 40])
def test_square_shows_no_more_pictures_than_it_may_and_none_twice(watched: Watched, queries: int) -> None:
    pictures = grey(EDGE + 60, EDGE - 60)
    moved = Square(eps=4, queries=queries).run(asking(watched), pictures, np.array([1, 0], np.int8), seed=0)
    assert queries - 3 <= moved.asked.min() <= moved.asked.max() <= queries
    assert len(watched.shown) == moved.asked.sum()
    assert len({picture.tobytes() for picture in watched.shown}) == len(watched.shown)
    assert np.isnan(moved.turned).all()
    assert np.abs(np.array([shown.astype(int).mean() for shown in watched.shown]) - EDGE).min() > 50


def test_square_goes_on_until_its_queries_are_spent_though_the_verdict_has_turned(watched: Watched) -> None:
    moved = CAREFUL.run(asking(watched), grey(EDGE), np.array([1], np.int8), seed=0)
    assert moved.turned[0] < 20
    assert moved.asked[0] > 90
    assert min(watched.scores) < 0.97 * watched.scores[int(moved.turned[0]) - 1]


def test_square_attacks_a_picture_that_is_wrongly_called_too(watched: Watched) -> None:
    CAREFUL.run(asking(watched), grey(EDGE - 10), np.array([1], np.int8), seed=0)
    assert min(watched.scores) < 0.95 * watched.scores[0]


def test_a_square_attack_takes_three_queries(watched: Watched) -> None:
    with pytest.raises(ValueError, match="three queries at least, not 2"):
        Square(queries=2).run(asking(watched), grey(0), np.array([1], np.int8), seed=0)


# ── chance ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_noise_moves_samples_both_ways_and_nothing_leaves_them(target: Target) -> None:
    pictures, labels = grey(100, 255), np.array([0, 1], np.int8)
    moved = Noise(8).run(target, pictures, labels, seed=0)
    assert set(np.unique(moved.pictures)) == {92, 108, 247, 255}
    assert abs(float(moved.pictures[0].mean()) - 100) < 0.6
    assert np.array_equal(Noise(0).run(target, pictures, labels, seed=0).pictures, pictures)


@pytest.mark.parametrize("made", [Noise(4), PGD(4, steps=2, restarts=1), Square(4, 12)], ids=lambda made: made.name)
def test_a_seed_says_it_all_and_the_global_numbers_stay_as_they_were(target: Target, made: attack.Attack) -> None:
    pictures, labels = grey(EDGE, EDGE - 1), np.array([1, 0], np.int8)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = made.run(target, pictures, labels, seed=1)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.random(7)  # noqa: NPY002
    assert np.array_equal(made.run(target, pictures, labels, seed=1).pictures, first.pictures)
    if not isinstance(made, PGD):
        assert not np.array_equal(made.run(target, pictures, labels, seed=2).pictures, first.pictures)


@pytest.mark.parametrize("made", [PGD(4), Square(4, 12)], ids=lambda made: made.name)
def test_without_the_library_the_extra_is_named(
    target: Target, made: attack.Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "art.attacks", None)
    with pytest.raises(MissingExtra, match=r"assay\[attack\]"):
        made.run(target, grey(0), np.array([0], np.int8), seed=0)


# ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Put:
    """An attack that puts other pictures in the place of those it is given."""

    knows: ClassVar[Knows] = "scores"

    pictures: Pictures
    eps: int = 0
    name: str = "put"

    def run(self, target: Target, pictures: Pictures, labels: Any, seed: int) -> Moved:
        turned = np.array([math.nan] * (len(pictures) - 2) + [5.0, 7.0])
        return Moved(self.pictures, np.full(len(pictures), 9), turned)


LABELS = [1, 1, 1, 1, 0, 0, 0]
BEFORE = grey(200, 190, 180, 90, 160, 60, 50)
"""Three of four fakes and two of three reals are rightly called."""


def put(target: Target, *levels: int) -> Outcome:
    [outcome] = measure(target, BEFORE, LABELS, [Put(grey(*levels))], rounds=20)
    return outcome


def test_rates_are_of_what_was_rightly_called(target: Target) -> None:
    found = put(target, 100, 100, 180, 200, 50, 210, 60)
    assert found.hidden == exact(2, 3)
    assert found.accused == exact(1, 2)
    assert found.turned == exact(3, 5)
    # The greys survive JPEG as they are.
    assert found.saved == exact(3, 5)
    assert found.survived == exact(3, 3)


def test_nothing_turns_nothing_and_leaves_the_auc(target: Target) -> None:
    [found] = measure(target, BEFORE, LABELS, [Noise(0)], rounds=20)
    assert (found.turned.value, found.turned.n, found.saved.value) == (0, 5, 0)
    assert math.isnan(found.survived.value)
    # Of twelve pairs the fake of 90 loses one, to the real of 160.
    assert found.auc.value == found.auc_saved.value == pytest.approx(11 / 12)
    assert (found.linf, found.l2, found.psnr, found.asked) == (0, 0, math.inf, 0)
    assert math.isnan(found.queries)


def test_the_auc_is_of_all_pictures_altered(target: Target) -> None:
    assert put(target, 10, 20, 30, 40, 50, 60, 70).auc.value == 0
    assert put(target, 10, 20, 30, 80, 50, 60, 70).auc.value == pytest.approx(3 / 12)
    assert put(target, 10, 20, 30, 80, 50, 60, 70).auc.n == 7


def test_changes_are_told_as_medians_in_their_units(target: Target) -> None:
    # Moved by 0, 1, 2, 3, 4, 5 and 51 levels.
    found = put(target, 200, 189, 178, 87, 156, 55, 101)
    assert found.linf == 3
    assert found.l2 == pytest.approx(3 / 255 * math.sqrt(3 * SIDE * SIDE))
    assert found.psnr == pytest.approx(20 * math.log10(255 / 3))
    assert found.asked == 9


def test_queries_are_the_median_over_verdicts_that_turned(target: Target) -> None:
    # The last two are the ones that told when they turned; first both do, then one.
    assert put(target, 200, 190, 180, 90, 160, 210, 210).queries == 6
    assert put(target, 200, 190, 180, 90, 160, 60, 210).queries == 7
    assert math.isnan(put(target, 100, 190, 180, 90, 160, 60, 50).queries)


def test_an_attack_that_jpeg_undoes_is_told_apart(target: Target) -> None:
    # JPEG blurs the colour of blue dots into the black between them, and what would be darker than black is black: the
    # whole gets brighter. Beside the dots, the brightest grey with which the picture is not called fake.
    dots = np.random.default_rng(0).random((SIDE, SIDE // 2)) < 0.5
    tries = grey(*range(256))
    tries[:, :, : SIDE // 2] = np.where(dots[..., None], [0, 0, 255], 0)
    dotted = tries[int(np.argmax(target.judge(tries).called)) - 1]
    moved = np.concatenate([dotted[None], grey(100), BEFORE[2:]])
    [found] = measure(target, BEFORE, LABELS, [Put(moved)], rounds=20)
    assert found.hidden == exact(2, 3)
    assert found.saved == exact(1, 5)
    assert found.survived == exact(1, 2)


def test_all_attacks_are_measured_in_their_order_with_seconds_and_progress(target: Target) -> None:
    told: list[tuple[str, int, int]] = []
    attacks = (Noise(2), PGD(2, steps=2, restarts=1), Square(2, 8))
    found = measure(
        target, BEFORE, LABELS, attacks, rounds=10, progress=lambda *state: told.append(state), clusters=list("abcdefg")
    )
    assert [one.attack for one in found] == ["noise 2/255", "PGD 2/255", "Square 2/255, 8 queries"]
    assert [one.knows for one in found] == ["nothing", "files", "scores"]
    assert told == [(one.attack, number, 3) for number, one in enumerate(found)]
    assert all(one.seconds > 0 and one.linf == 2 for one in found)
    assert json.loads(json.dumps([one.to_dict() for one in found], allow_nan=False))[1]["turned"]["n"] == 5


def test_a_picture_that_cannot_be_judged_is_no_score(target: Target) -> None:
    with pytest.raises(ValueError, match="picture 0 has no score: not judged: the picture is 8 x 8 px"):
        measure(target, np.zeros((1, 8, 8, 3), np.uint8), [0], [Noise(0)])


@pytest.mark.parametrize("labels", [[1], [1, 2], [0.5, 1], []])
def test_labels_are_zero_or_one_for_each_picture(target: Target, labels: list[float]) -> None:
    with pytest.raises(ValueError, match="labels must be 0"):
        measure(target, grey(1, 2), labels, [Noise(0)])


def test_the_middle_is_cut_at_full_resolution_and_what_is_smaller_is_not() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (41, 60, 3), dtype=np.uint8)
    found = attack.middle(picture, 20)
    assert found is not None
    assert np.array_equal(found, picture[10:30, 20:40])
    assert attack.middle(picture, 42) is None
    assert attack.middle(picture, 41) is not None


# ── the card ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def outcome(target: Target) -> Callable[..., Outcome]:
    """`outcome(knows, eps, turned, n)`: one that turned so many of n."""
    made = put(target, *[100] * 7)

    def make(knows: Knows, eps: int, turned: int, n: int = 20, asked: int = 0) -> Outcome:
        stayed = exact(min(3, turned), turned)
        return dataclasses.replace(made, knows=knows, eps=eps, turned=exact(turned, n), survived=stayed, asked=asked)

    return make


def test_a_card_s_sentence_tells_the_smallest_changes_that_turn_nearly_all(outcome: Callable[..., Outcome]) -> None:
    pgd = [outcome("files", 8, 20), outcome("files", 1, 9), outcome("files", 2, 18), outcome("files", 4, 19)]
    square = [outcome("scores", 8, 3, asked=100), outcome("scores", 8, 11, asked=498)]
    told = attack.sentence([outcome("nothing", 8, 5), *pgd, *square])
    assert told == (
        f"{OPENING}who has its files turned its verdict on 18 of 20 pictures that it had called rightly, by changes of "
        "at most 2 in 255 of each colour value (3 of them stayed turned after saving as JPEG); who can only ask it for "
        "scores, 498 times a picture, on 11 of 20 pictures that it had called rightly, by changes of at most 8 in 255 "
        "of each colour value (3 of them stayed turned after saving as JPEG)."
    )
    assert "on 9 of 20 pictures" in attack.sentence(pgd[1:2])
    assert attack.sentence([outcome("nothing", 8, 5)]) == ""
    assert "on no picture, as it had called none rightly" in attack.sentence([outcome("files", 1, 0, 0)])
    assert "on 0 of 20 pictures that it had called rightly, by" in attack.sentence([outcome("files", 1, 0)])


def test_a_card_has_one_such_sentence_the_last(outcome: Callable[..., Outcome]) -> None:
    once = attack.limits(("It is small.", "It is new."), [outcome("files", 1, 20)])
    assert once[:2] == ("It is small.", "It is new.")
    assert len(once) == 3
    twice = attack.limits((once[2], "It is small.", once[2]), [outcome("files", 1, 19)])
    assert len(twice) == 2
    assert twice[0] == "It is small."
    assert "19 of 20" in twice[1]
