"""Sets of face crops and of pictures with masked eyes, with a detector that knows where the face is."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from assay.data.derivations import Source
from assay.data.derivations.eyes import MaskedEyes
from assay.data.derivations.faces import FaceCrops, Search
from assay.data.derive import derive
from assay.errors import ManifestError, RecipeError
from assay.image import eyes, faces
from assay.image.align import encode
from assay.image.decode import decode
from assay.image.faces import Face
from assay.types import Box, Label, Pixels, Sample


def face(left: int, top: int, side: int, score: float = 0.95) -> Face:
    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * side, top + y * side

    marks = (at(0.3, 0.4), at(0.7, 0.4), at(0.5, 0.6), at(0.35, 0.8), at(0.65, 0.8))
    return Face(Box(left, top, left + side, top + side), score, marks)


BIG, SMALL = face(20, 10, 60), face(100, 50, 30, 0.99)


@dataclasses.dataclass(frozen=True)
class Knows:
    """Finds the faces it was told of in every picture of 160 × 100 px, whatever it shows."""

    faces: tuple[Face, ...] = (SMALL, BIG)

    @property
    def name(self) -> str:
        return f"knows {len(self.faces)}"

    def detect(self, pixels: Pixels) -> list[Face]:
        return list(self.faces) if pixels.shape[:2] == (100, 160) else []


PIXELS: Pixels = np.random.default_rng(0).integers(1, 256, (100, 160, 3), np.uint8)
BOTH = Search(detector=Knows())
NONE = Search(detector=Knows(()))


def source(pixels: Pixels = PIXELS) -> Source:
    return Source(Sample("a.png", Label.REAL), encode(pixels, "PNG", 100), FaceCrops(search=BOTH).limits)


RNG = np.random.default_rng(0)


def test_the_largest_face_is_cropped_with_its_margin_and_stored_without_loss() -> None:
    (piece,) = FaceCrops(search=BOTH).derive(source(), RNG).pieces
    np.testing.assert_array_equal(decode(piece.data).pixels, faces.crop(PIXELS, BIG, 1.3))
    assert piece.groups == {"face": "11 1 89 79", "reason": ""}
    assert decode(piece.data).format == "PNG"


def test_a_picture_without_a_face_is_kept_whole_and_says_why() -> None:
    (piece,) = FaceCrops(search=NONE).derive(source(), RNG).pieces
    np.testing.assert_array_equal(decode(piece.data).pixels, PIXELS)
    assert piece.groups == {"face": "", "reason": "no face found"}


def test_a_face_under_a_ninth_of_the_picture_is_not_cropped() -> None:
    small = Search(detector=Knows((SMALL,)))
    (piece,) = FaceCrops(search=small).derive(source(), RNG).pieces
    np.testing.assert_array_equal(decode(piece.data).pixels, PIXELS)
    assert "covers 5.6%" in piece.groups["reason"]
    (piece,) = FaceCrops(search=small, least=0.05).derive(source(), RNG).pieces
    assert piece.groups["reason"] == ""


def test_all_faces_are_cropped_the_largest_first() -> None:
    pieces = FaceCrops(which="all", search=BOTH).derive(source(), RNG).pieces
    assert [decode(piece.data).width for piece in pieces] == [78, 39]
    assert FaceCrops(which="all", search=NONE).derive(source(), RNG).reason == "no face found"


def test_a_crop_has_its_pictures_origin_and_label(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "set" / "a.png")
    sample = Sample(str(tmp_path / "set" / "a.png"), Label.FAKE, generator="gan", subject="id1", split="test")
    crops = derive([sample], tmp_path / "out", FaceCrops(which="all", search=BOTH), workers=1).table
    assert [row.generator for row in crops] == ["gan", "gan"]
    assert [row.subject for row in crops] == ["id1", "id1"]
    assert len(set(crops.column("origin").tolist())) == 1
    assert len(set(crops.column("sha256").tolist())) == 2


def test_masked_copies_are_black_where_the_eyes_are_and_only_there() -> None:
    (piece,) = MaskedEyes(search=BOTH).derive(source(), RNG).pieces
    masked = decode(piece.data).pixels
    covered = np.zeros((100, 160), bool)
    for found in (BIG, SMALL):
        for box in eyes.boxes_of_centres(found):
            covered[max(0, box.top) : box.bottom, max(0, box.left) : box.right] = True
    assert covered[34, 38]
    np.testing.assert_array_equal(masked.any(axis=2), ~covered)
    np.testing.assert_array_equal(masked[~covered], PIXELS[~covered])
    assert piece.groups == {"eyes": "masked"}


def test_a_picture_whose_eyes_cannot_be_found_is_left_out_of_the_masked_set() -> None:
    assert MaskedEyes(search=NONE).derive(source(), RNG).reason == "no face found"


def test_eyes_are_masked_in_training_rows_only(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rows = []
    for number, split in enumerate(("train", "tune", "test", "")):
        path = tmp_path / "set" / f"{number}.png"
        Image.fromarray(PIXELS ^ number).save(path)
        rows.append(Sample(str(path), Label.REAL, split=split))
    result = derive(rows, tmp_path / "out", MaskedEyes(search=BOTH), workers=0)
    assert result.table.column("split").tolist() == ["train", ""]
    assert list(result.left_out.values()) == [2]
    with pytest.raises(ManifestError, match="eyes are masked in training only"):
        derive(rows[1:3], tmp_path / "none", MaskedEyes(search=BOTH), workers=0)


def test_the_folder_remembers_with_which_detector_it_was_made() -> None:
    for derivation in (FaceCrops, MaskedEyes):
        assert derivation(search=BOTH).fingerprint() != derivation(search=NONE).fingerprint()
        assert derivation().parameters()["search"].startswith("mtcnn")
        without = dataclasses.replace(BOTH, retry=False)
        assert derivation(search=BOTH).fingerprint() != derivation(search=without).fingerprint()


def test_the_detector_that_comes_with_the_extra_finds_a_face_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    file = io.BytesIO()
    Image.fromarray(data.astronaut()[20:220, 130:330]).save(file, "PNG")
    (tmp_path / "set" / "a.png").write_bytes(file.getvalue())
    row = derive([Sample(str(tmp_path / "set" / "a.png"), None)], tmp_path / "out", FaceCrops(), workers=1).table[0]
    left, top, right, bottom = map(int, row.groups["face"].split())
    assert left < 92 < right
    assert top < 100 < bottom
    assert Image.open(row.place).size == (right - left, bottom - top)


def test_values_that_do_not_hold_are_refused() -> None:
    with pytest.raises(RecipeError, match="no choice of faces"):
        FaceCrops(which="both")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"margin 0\.5"):
        FaceCrops(margin=0.5)
    with pytest.raises(RecipeError, match="least 2"):
        FaceCrops(least=2)
    with pytest.raises(RecipeError, match="no lossless format"):
        FaceCrops(form="JPEG")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="no lossless format"):
        MaskedEyes(form="JPEG")  # type: ignore[arg-type]
