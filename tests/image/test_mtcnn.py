"""The detector finds what the wheel's own code finds, and survives what that code does not."""

from __future__ import annotations

import importlib.util
import io
import math
import subprocess
import sys
import threading
from collections.abc import Iterator

import cv2
import mtcnnruntime
import numpy as np
import pytest
import skimage.data
from PIL import Image

from assay.errors import MissingExtra, RecipeError
from assay.image import mtcnn
from assay.image.faces import Face, Found, find
from assay.image.mtcnn import Mtcnn, look, shared, thinned
from assay.types import Box, Pixels

EYES = ((203.3, 100.8), (246.2, 102.8))
"""Middles of the astronaut's irises, marked by hand."""


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def detector() -> Mtcnn:
    return Mtcnn()


@pytest.fixture(scope="module")
def loose() -> Mtcnn:
    return Mtcnn(score=0.7)


@pytest.fixture(scope="module")
def wheel() -> mtcnnruntime.MTCNN:
    return mtcnnruntime.MTCNN()


def variants(pixels: Pixels) -> dict[str, Pixels]:
    image = Image.fromarray(pixels)
    return {
        "as it is": pixels,
        "mirrored": np.ascontiguousarray(pixels[:, ::-1]),
        "third": np.asarray(image.resize((171, 171), Image.Resampling.BOX)),
        "turned": np.asarray(image.rotate(15)),
        "grey": np.asarray(image.convert("L").convert("RGB")),
        "dark": (pixels * 0.3).astype(np.uint8),
        "tight": np.ascontiguousarray(pixels[20:220, 120:320]),
        "two": np.concatenate([pixels[:300, 100:330], pixels[:300, 330:99:-1]], axis=1),
    }


NAMES = ("as it is", "mirrored", "third", "turned", "grey", "dark", "tight", "two")


def theirs(wheel: mtcnnruntime.MTCNN, pixels: Pixels) -> list[tuple[list[float], float, list[tuple[float, float]]]]:
    boxes, points = wheel.detect(np.ascontiguousarray(pixels[:, :, ::-1]))
    return [
        (box[:4].tolist(), float(box[4]), list(zip(marks[:5].tolist(), marks[5:].tolist(), strict=True)))
        for box, marks in sorted(zip(boxes, points, strict=True), key=lambda pair: -pair[0][4])
    ]


@pytest.mark.parametrize("name", NAMES)
def test_with_the_same_resampling_it_is_the_wheels_cascade(
    name: str, astronaut: Pixels, loose: Mtcnn, wheel: mtcnnruntime.MTCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boxes to the pixel that they are rounded to, landmarks to a tenth of a pixel, scores to 1e-4."""
    monkeypatch.setattr(mtcnn, "_resized", lambda image, size: cv2.resize(np.asarray(image), size))
    monkeypatch.setattr(
        mtcnn,
        "_cut",
        lambda image, box, size: cv2.resize(
            np.asarray(image.crop((int(box[0]), int(box[1]), int(box[2]) + 1, int(box[3]) + 1))),
            (size, size),
            interpolation=cv2.INTER_AREA,
        ),
    )
    pixels = variants(astronaut)[name]
    height, width = pixels.shape[:2]
    ours, reference = loose.detect(pixels), theirs(wheel, pixels)
    assert len(ours) == len(reference) > 0
    for face, (edges, score, points) in zip(ours, reference, strict=True):
        left, top, right, bottom = edges
        clipped = (max(0, left), max(0, top), min(width, right + 1), min(height, bottom + 1))
        seen = (face.box.left, face.box.top, face.box.right, face.box.bottom)
        assert max(abs(a - b) for a, b in zip(seen, clipped, strict=True)) <= 0.6
        assert face.score == pytest.approx(score, abs=1e-4)
        assert max(math.dist(a, b) for a, b in zip(face.landmarks, points, strict=True)) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_with_its_own_resampling_it_finds_the_same_faces_nearly_in_the_same_places(
    name: str, astronaut: Pixels, loose: Mtcnn, wheel: mtcnnruntime.MTCNN
) -> None:
    pixels = variants(astronaut)[name]
    ours, reference = loose.detect(pixels), theirs(wheel, pixels)
    assert len(ours) == len(reference) > 0
    for face in ours:
        apart = min(
            max(math.dist(a, b) for a, b in zip(face.landmarks, points, strict=True)) for _, _, points in reference
        )
        assert apart <= 0.05 * max(face.box.width, face.box.height)


def test_the_eyes_are_where_they_were_marked_by_hand(astronaut: Pixels, detector: Mtcnn) -> None:
    (face,) = detector.detect(astronaut)
    assert max(math.dist(a, b) for a, b in zip(face.landmarks[:2], EYES, strict=True)) < 2
    left, right, nose, left_mouth, right_mouth = face.landmarks
    assert left[0] < nose[0] < right[0]
    assert left_mouth[0] < right_mouth[0]
    assert left[1] < nose[1] < left_mouth[1]


@pytest.mark.parametrize("factor", [0.3, 0.5, 2, 5])
def test_places_scale_with_the_picture(factor: float, astronaut: Pixels, detector: Mtcnn) -> None:
    side = round(512 * factor)
    pixels = np.asarray(Image.fromarray(astronaut).resize((side, side)))
    (face,) = detector.detect(pixels)
    for seen, true in zip(face.landmarks[:2], EYES, strict=True):
        assert math.dist(seen, [(place + 0.5) * factor - 0.5 for place in true]) < 3 * max(1, factor)


def test_several_faces_come_the_best_first(astronaut: Pixels, detector: Mtcnn) -> None:
    pixels = np.tile(astronaut[20:220, 120:320], (2, 3, 1))
    faces = detector.detect(pixels)
    assert len(faces) == 6
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    assert {(face.box.left // 200, face.box.top // 200) for face in faces} == {(x, y) for x in range(3) for y in (0, 1)}


@pytest.mark.parametrize("name", ["coffee", "chelsea", "text", "rocket", "brick", "page"])
def test_pictures_without_a_face_have_none(name: str, detector: Mtcnn) -> None:
    pixels = np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))
    assert find(pixels, detector).faces == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (11, 11), (12, 12), (19, 20), (21, 21), (400, 2), (10, 30_000)])
def test_tiny_and_narrow_pictures_have_no_face(shape: tuple[int, int], detector: Mtcnn) -> None:
    assert detector.detect(np.full((*shape, 3), 128, np.uint8)) == []


def test_a_face_smaller_than_what_is_looked_for_is_found_in_the_doubled_picture(
    astronaut: Pixels, detector: Mtcnn
) -> None:
    pixels = np.asarray(Image.fromarray(astronaut[30:210, 130:310]).resize((20, 20), Image.Resampling.BOX))
    assert detector.detect(pixels) == []
    found = find(pixels, detector)
    assert found.how == "doubled"
    assert math.dist(found.faces[0].landmarks[0], ((EYES[0][0] - 130) / 9 - 0.5, (EYES[0][1] - 30) / 9 - 0.5)) < 1


def test_a_face_that_leaves_the_picture_keeps_its_place_where_the_wheels_code_moves_it(
    astronaut: Pixels, detector: Mtcnn, wheel: mtcnnruntime.MTCNN
) -> None:
    """That code clips its squares to the picture after the network has looked at all of them."""
    pixels = np.ascontiguousarray(astronaut[60:200, 210:330])
    wanted = [(x - 210, y - 60) for x, y in EYES]
    (face,) = detector.detect(pixels)
    ((_, _, points),) = theirs(wheel, pixels)
    assert max(math.dist(a, b) for a, b in zip(face.landmarks[:2], wanted, strict=True)) < 3
    assert max(math.dist(a, b) for a, b in zip(points[:2], wanted, strict=True)) > 5
    assert face.box.left == 0


def test_a_face_that_is_cut_off_is_found_with_a_border_around_it(astronaut: Pixels, detector: Mtcnn) -> None:
    pixels = np.ascontiguousarray(astronaut[88:158, 190:260])
    assert detector.detect(pixels) == []
    found = find(pixels, detector)
    assert found.how == "padded"
    (face,) = found.faces
    assert math.dist(face.landmarks[0], (EYES[0][0] - 190, EYES[0][1] - 88)) < 3


def test_a_face_in_fog_is_found_when_its_levels_are_stretched(astronaut: Pixels, detector: Mtcnn) -> None:
    fog = (astronaut[10:230, 110:330] * 0.06 + 190).astype(np.uint8)
    assert detector.detect(fog) == []
    assert find(fog, detector).how == "stretched"


def test_large_pictures_are_shrunk_before_the_search(astronaut: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, sides = Mtcnn(longest=256), []
    level = mtcnn._resized
    monkeypatch.setattr(mtcnn, "_resized", lambda image, size: sides.append(max(size)) or level(image, size))
    (face,) = detector.detect(np.tile(astronaut, (1, 1, 1)))
    assert max(sides) <= 256 * 12 / 20 + 1
    assert math.dist(face.landmarks[0], EYES[0]) < 4


def test_a_higher_score_is_asked_for_and_given(loose: Mtcnn) -> None:
    pixels = np.asarray(Image.fromarray(skimage.data.camera()).convert("RGB"))
    scores = [face.score for face in loose.detect(pixels)]
    assert min(scores) < 0.9 <= max(scores)
    assert [face.score for face in Mtcnn(score=0.9).detect(pixels)] == [score for score in scores if score >= 0.9]


def test_the_name_changes_with_every_setting_that_changes_what_is_found() -> None:
    names = {Mtcnn().name, Mtcnn(score=0.8).name, Mtcnn(smallest=30).name, Mtcnn(longest=800).name}
    assert len(names) == 4
    assert Mtcnn(threads=2).name == Mtcnn().name


@pytest.mark.parametrize("setting", [{"score": 0.5}, {"score": 1.1}, {"smallest": 5}, {"longest": 10}, {"threads": 0}])
def test_settings_out_of_range_are_refused(setting: dict) -> None:
    with pytest.raises(RecipeError, match="give"):
        Mtcnn(**setting)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"assay\[faces\]"):
        Mtcnn()


def test_opencv_and_the_wheels_code_stay_unimported() -> None:
    code = (
        "import sys; from assay.image.mtcnn import Mtcnn; Mtcnn(); print(*{'cv2', 'mtcnnruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout + done.stderr).strip() == ""


def test_threads_may_search_at_once(astronaut: Pixels, detector: Mtcnn) -> None:
    pictures = [np.ascontiguousarray(astronaut[y : y + 240, 100:340]) for y in range(0, 40, 10)]
    alone = [detector.detect(pixels) for pixels in pictures]
    together: list[list[Face]] = [[] for _ in pictures]

    def work(number: int) -> None:
        for _ in range(3):
            together[number] = detector.detect(pictures[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_the_same_picture_gives_the_same_faces_after_a_lossless_file(astronaut: Pixels, detector: Mtcnn) -> None:
    file = io.BytesIO()
    Image.fromarray(astronaut[:250, 100:350]).save(file, "PNG")
    again = np.asarray(Image.open(file))
    assert detector.detect(again) == detector.detect(np.ascontiguousarray(astronaut[:250, 100:350]))


def test_thinning_keeps_the_best_of_boxes_that_overlap() -> None:
    boxes = np.array([[0, 0, 9, 9, 0.8], [1, 0, 10, 9, 0.9], [40, 40, 49, 49, 0.7], [42, 42, 45, 45, 0.95]], np.float32)
    assert thinned(boxes, 0.5).tolist() == [3, 1, 2]
    assert thinned(boxes, 0.5, of_smaller=True).tolist() == [3, 1]
    assert thinned(boxes, 0.9).tolist() == [3, 1, 0, 2]
    assert thinned(np.zeros((0, 5), np.float32), 0.5).tolist() == []


def test_a_flood_of_proposals_is_bounded() -> None:
    rng = np.random.default_rng(0)
    left = rng.integers(0, 100_000, (50_000, 2))
    boxes = np.concatenate([left, left + 5, rng.random((50_000, 1))], axis=1).astype(np.float32)
    kept = thinned(boxes, 0.5)
    assert len(kept) <= 512
    assert boxes[kept[0], 4] == boxes[:, 4].max()


def test_boxes_are_clipped_to_the_picture(astronaut: Pixels, detector: Mtcnn) -> None:
    pixels = np.ascontiguousarray(astronaut[60:200, 210:330])
    (face,) = detector.detect(pixels)
    assert isinstance(face.box, Box)
    assert face.box.left >= 0
    assert face.box.right <= 120
    assert face.box.bottom <= 140


# ── one search a picture


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of the pictures that `look` searches, each of which shows one face, in place of the search."""
    shapes: list[tuple[int, ...]] = []

    def found(pixels: Pixels, detector: Mtcnn) -> Found:
        shapes.append(pixels.shape)
        return Found((Face(Box(0, 0, len(shapes), 1), 0.99, ((0, 0),) * 5),), "plain")

    mtcnn.forget()
    monkeypatch.setattr(mtcnn, "find", found)
    yield shapes
    mtcnn.forget()


def grey(value: int, width: int = 8, height: int = 6) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


def test_a_look_finds_what_the_search_with_its_retries_does(astronaut: Pixels, detector: Mtcnn) -> None:
    cut_off = np.ascontiguousarray(astronaut[88:158, 190:260])
    mtcnn.forget()
    for pixels in (astronaut, cut_off):
        assert look(pixels) == find(pixels, detector).faces
        assert len(look(pixels)) == 1
    assert look(grey(128)) == ()
    mtcnn.forget()


def test_there_is_one_search_for_each_least_score() -> None:
    assert shared() is shared()
    assert shared().name == Mtcnn().name
    assert shared(0.8).name == Mtcnn(score=0.8).name


def test_a_picture_is_searched_once_however_often_it_is_looked_at(searched: list[tuple[int, ...]]) -> None:
    first = look(grey(1))
    assert look(grey(1)) == first
    assert len(searched) == 1
    assert look(grey(2)) != first
    assert len(searched) == 2
    mtcnn.forget()
    assert look(grey(1)) != first
    assert len(searched) == 3


def test_that_nothing_was_found_is_kept_too(searched: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(mtcnn, "find", lambda pixels, detector: calls.append(1) or Found(()))
    assert (look(grey(1)), look(grey(1)), len(calls)) == ((), (), 1)


def test_pictures_of_the_same_bytes_and_another_shape_are_not_taken_for_each_other(
    searched: list[tuple[int, ...]],
) -> None:
    faces = {look(grey(7, *size)) for size in ((8, 6), (6, 8), (48, 1))}
    assert len(faces) == len(searched) == 3


def test_how_a_picture_lies_in_memory_changes_nothing(searched: list[tuple[int, ...]]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    assert look(pixels[::2, ::2]) == look(np.ascontiguousarray(pixels[::2, ::2])) == look(pixels[::2, ::2].copy("F"))
    assert searched == [(6, 8, 3)]


def test_what_was_found_is_kept_of_so_many_pictures_and_the_oldest_goes_first(
    searched: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtcnn, "KEPT", 3)
    for value in range(4):
        look(grey(value))
    assert len(mtcnn._found) == 3
    for value in (1, 2, 3):
        look(grey(value))
    assert len(searched) == 4
    look(grey(0))
    assert (len(searched), len(mtcnn._found)) == (5, 3)


def test_threads_that_look_at_once_see_the_same(searched: list[tuple[int, ...]]) -> None:
    found: dict[int, tuple[Face, ...]] = {}

    def work(number: int) -> None:
        for value in range(5):
            look(grey(value))
        found[number] = tuple(face for value in range(5) for face in look(grey(value)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found.values())) == 1


def test_without_the_extra_a_look_names_it_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mtcnn.forget()
    shared.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingExtra, match=r"assay\[faces\]"):
            look(grey(1, 30, 30))
    assert mtcnn._found == {}
    # Once it is installed, what could not be done before is done.
    assert look(grey(1, 30, 30)) == ()
